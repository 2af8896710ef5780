//! What the machine says of itself: that it was restored from a snapshot
//! (protocol §7, rule R5). The kernel's `vmgenid` driver tells of a changed
//! generation id by a uevent, from Linux 6.10 on.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::ready;

/// The multicast group of the kernel's own uevents.
const KERNEL: u32 = 1;

/// Hears the kernel's uevents.
pub(super) struct Machine {
    events: AsyncFd<OwnedFd>,
}

impl Machine {
    pub(super) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let uevents = Some(netlink::KOBJECT_UEVENT);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, uevents)?;
        // Room for a storm of devices that come and go, beyond what a process may have without
        // privileges: one that was lost counts as news of a restore.
        set_socket_recv_buffer_size_force(&socket, 1 << 20)
            .or_else(|_| set_socket_recv_buffer_size(&socket, 1 << 20))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
        Ok(Self { events: ready::register(socket, Interest::READABLE)? })
    }

    /// Waits until the machine has been restored. Where events were lost, one
    /// of them may have said so.
    pub(super) async fn restored(machine: Option<&Self>) -> io::Result<()> {
        match machine {
            Some(machine) => machine.events.async_io(Interest::READABLE, look).await,
            None => std::future::pending().await,
        }
    }
}

/// Reads events until one says so, or there is none.
fn look(socket: &OwnedFd) -> io::Result<()> {
    let mut event = [0; 8192];
    loop {
        match recv(socket, &mut event, RecvFlags::DONTWAIT) {
            Ok((_, len)) if is_restored(event.get(..len).unwrap_or(&event)) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::NOBUFS) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A uevent is a list of texts, each ended by a zero byte.
fn is_restored(event: &[u8]) -> bool {
    event.split(|byte| *byte == 0).any(|text| text == b"NEW_VMGENID=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_generation_is_noticed_and_nothing_else() {
        let event =
            b"change@/devices/virtual/misc/vmgenid\0ACTION=change\0NEW_VMGENID=1\0SEQNUM=9\0";
        assert!(is_restored(event));
        for other in
            [&b""[..], b"\0\0", b"add@/x\0SYNTH_ARG_NEW_VMGENID=1\0", b"add@/x\0NEW_VMGENID=1x\0"]
        {
            assert!(!is_restored(other));
        }
    }
}
