//! Ending TCP connections of this host's own programs, by `sock_diag`: the
//! program learns at once that its connection is gone, and the other end gets
//! a reset.

use super::dialogue::Dialogue;
use super::wire::Message;
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use std::io;
use std::net::{IpAddr, SocketAddr};

// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;
/// The kernel's word for "whatever the cookie".
const NO_COOKIE: Cookie = [0xff; 8];

const HEADER: u32 = 16;
/// `struct inet_diag_req_v2`.
const REQUEST: u32 = 56;

/// What tells a socket from a later one with the same ends.
type Cookie = [u8; 8];

/// The TCP sockets of this host.
pub(crate) struct Sockets(Dialogue);

impl Sockets {
    /// # Errors
    /// Where the kernel has no `sock_diag`.
    pub(crate) fn open() -> io::Result<Self> {
        Dialogue::open(NETLINK_SOCK_DIAG).map(Self)
    }

    /// Ends the connection between these two ends. False if no program of this
    /// host has one, or the kernel cannot do this (`CONFIG_INET_DIAG_DESTROY`).
    pub(crate) fn end(&mut self, local: SocketAddr, remote: SocketAddr) -> bool {
        let Some(cookie) = self.find(local, remote) else { return false };
        self.0.ask(request(SOCK_DESTROY, local, remote, cookie), |_| {}).is_ok()
    }

    /// The kernel looks a connection up as it would for a packet, and where
    /// there is none it finds whoever listens on that port: that one must live.
    fn find(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<Cookie> {
        let mut found = None;
        let query = request(SOCK_DIAG_BY_FAMILY, local, remote, NO_COOKIE);
        self.0.ask(query, |answer| found = connection(answer, local, remote)).ok()?;
        found
    }
}

/// A `struct inet_diag_req_v2` behind a netlink header. IPv4 also finds IPv6
/// sockets that talk to IPv4.
fn request(kind: u16, local: SocketAddr, remote: SocketAddr, cookie: Cookie) -> Vec<u8> {
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut message = Vec::new();
    message.extend((HEADER + REQUEST).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message.extend([0; 8]); // sequence and port number
    message.extend([family, TCP, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes()); // in any state
    message.extend([local.port(), remote.port()].map(u16::to_be_bytes).concat());
    message.extend([local.ip(), remote.ip()].map(address).concat());
    message.extend([0; 4]); // on any interface
    message.extend(cookie);
    message
}

fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(a) => a.octets(),
        IpAddr::V4(a) => {
            let mut padded = [0; 16];
            padded[..4].copy_from_slice(&a.octets());
            padded
        }
    }
}

/// The cookie in a `struct inet_diag_msg`, if it is about the connection that
/// was asked for.
fn connection(answer: &Message<'_>, local: SocketAddr, remote: SocketAddr) -> Option<Cookie> {
    let message = answer.payload();
    let (&state, ports) = (message.get(1)?, message.get(4..8)?);
    let wanted = [local.port(), remote.port()].map(u16::to_be_bytes).concat();
    if state == TCP_LISTEN || ports != wanted {
        return None;
    }
    message.get(44..52)?.try_into().ok()
}
