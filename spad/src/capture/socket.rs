//! Packet sockets: filtered and locked before they can receive anything.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::filter;
use crate::sys::packet;

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
    // Room for some thousand knocks, should the gatekeeper be held up.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20)?;
    packet::bind(&socket, family.ethertype())?;
    Ok(socket)
}
