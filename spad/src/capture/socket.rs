//! Packet sockets: filtered and locked before they can receive anything.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Once;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use tracing::warn;

use super::filter;
use crate::sys::packet;

/// Room for packets that wait for the gatekeeper, in bytes, for each family: for
/// more than 10 000 knocks at 2304 bytes each, which is what the kernel counts for
/// one that a network card put into half a page. It is taken only while they wait.
const ROOM: usize = 24 << 20;

/// Which IP a socket hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which their sockets are passed on.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn ethertype(self) -> u16 {
        match self {
            Self::V4 => 0x0800,
            Self::V6 => 0x86dd,
        }
    }
}

/// A socket that receives knocks of `family` to `port`, on the interfaces with
/// these indices or on any, and nothing else, ever: the filter cannot be
/// changed any more.
///
/// # Errors
/// Without `CAP_NET_RAW`.
pub fn open(family: Family, port: u16, interfaces: Option<&[u32]>) -> io::Result<OwnedFd> {
    // Protocol 0 receives nothing until it is bound, which comes last.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
    packet::attach_filter(&socket, &filter::program(family, port, interfaces))?;
    packet::lock_filter(&socket)?;
    make_room(&socket)?;
    packet::bind(&socket, family.ethertype())?;
    Ok(socket)
}

/// Lets a burst of knocks wait, since each takes the gatekeeper a while.
fn make_room(socket: &OwnedFd) -> io::Result<()> {
    static TOLD: Once = Once::new();
    // The kernel doubles what it is asked for, to cover its own overhead.
    let half = ROOM / 2;
    if sockopt::set_socket_recv_buffer_size_force(socket, half).is_ok() {
        return Ok(());
    }
    // In a user namespace only as much as the host allows everybody.
    sockopt::set_socket_recv_buffer_size(socket, half)?;
    let room = sockopt::socket_recv_buffer_size(socket)?;
    if room < ROOM {
        TOLD.call_once(|| {
            warn!(
                room,
                "knocks that come in a burst may be lost: here the host limits how many can wait; \
                on the host run: sysctl net.core.rmem_max={half}"
            );
        });
    }
    Ok(())
}
