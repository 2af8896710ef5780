//! When packets pass the wire, by the time stamps of the kernel. A program's own clock is read
//! before the call that sends, and when the program has its turn again: it has the program's
//! share in it, and that of whoever else wants the processor.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::sockopt::Timestamping;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, TimestampingFlag, Timestamps, recvmsg, setsockopt,
};
use nix::sys::time::TimeSpec;
use spa_tests::Result;
use spa_tests::lab::{Doing, fail};

/// Has what comes to this socket stamped as it comes from the wire, and what it sends, if
/// `sent`, as it is handed to the interface.
pub(crate) fn stamp(socket: &impl AsFd, sent: bool) -> Result {
    let mut flags = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE;
    if sent {
        flags |= TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY;
    }
    setsockopt(socket, Timestamping, &flags).doing("asking for time stamps")
}

/// A socket that has the kernel go on with stamps while it is there. To begin, and to end, takes
/// the kernel a while, during which packets have none; and all processors stop for it.
pub(crate) fn keep_stamping() -> Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0").doing("a socket")?;
    stamp(&socket, false)?;
    Ok(socket)
}

/// When the first packet that is still in the queue was sent, since 1970.
pub(crate) fn sent_at(socket: &impl AsFd) -> Result<Duration> {
    match receive(socket, &mut [], MsgFlags::MSG_ERRQUEUE)? {
        Some((_, at)) => Ok(at),
        None => fail("the kernel has not stamped what was sent"),
    }
}

/// The next packet's length, and when it came, since 1970; `None` where there is no packet.
pub(crate) fn arrived(socket: &impl AsFd, packet: &mut [u8]) -> Result<Option<(usize, Duration)>> {
    receive(socket, packet, MsgFlags::empty())
}

fn receive(
    socket: &impl AsFd,
    packet: &mut [u8],
    flags: MsgFlags,
) -> Result<Option<(usize, Duration)>> {
    // For a stamp, and for what the kernel says beside it of a packet that was sent.
    let mut room = cmsg_space!(Timestamps, [u8; 64]);
    let mut slices = [IoSliceMut::new(packet)];
    let fd = socket.as_fd().as_raw_fd();
    let flags = flags | MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<()>(fd, &mut slices, Some(&mut room), flags) {
        Ok(message) => message,
        Err(Errno::EAGAIN) => return Ok(None),
        Err(error) => return Err(error).doing("receiving"),
    };
    let stamp = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampsns(stamps) => Some(stamps.system),
        _ => None,
    });
    match stamp {
        Some(at) => Ok(Some((message.bytes, since_1970(at)?))),
        None => fail("a packet without a time stamp"),
    }
}

fn since_1970(at: TimeSpec) -> Result<Duration> {
    Ok(Duration::new(u64::try_from(at.tv_sec())?, u32::try_from(at.tv_nsec())?))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_packet_is_stamped_when_it_leaves_and_when_it_comes() {
        let _stamping = keep_stamping().unwrap();
        // The kernel begins with it a moment later.
        std::thread::sleep(Duration::from_millis(200));
        let [from, to] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        stamp(&from, true).unwrap();
        stamp(&to, false).unwrap();
        assert_eq!(arrived(&to, &mut [0; 9]).unwrap(), None, "nothing is there");
        assert!(sent_at(&from).is_err(), "nothing was sent");
        let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let before = now();
        from.send_to(b"knock", to.local_addr().unwrap()).unwrap();
        let after = now();
        let left = sent_at(&from).unwrap();
        let (len, came) = arrived(&to, &mut [0; 9]).unwrap().unwrap();
        assert_eq!(len, 5);
        assert!(before <= left && left <= came && came <= after, "{before:?} {left:?} {came:?}");
    }
}
