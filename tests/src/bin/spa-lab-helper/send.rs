//! Sending datagrams, from an ordinary socket or with a made-up source.

use std::io::stdin;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};

use spa_tests::Result;
use spa_tests::lab::{Datagram, Doing, fail};

/// Lines `DST HEX` from standard input, sent from one socket for each family.
pub(crate) fn datagrams() -> Result {
    let (mut v4, mut v6) = (None, None);
    for line in stdin().lines() {
        let line = line?;
        let Some((to, payload)) = line.split_once(' ') else { return fail("want DST HEX") };
        let to: SocketAddr = to.parse()?;
        let slot = if to.is_ipv4() { &mut v4 } else { &mut v6 };
        let socket = open_once(slot, to)?;
        socket.send_to(&Datagram::unhex(payload)?, to).doing(format!("sending to {to}"))?;
    }
    Ok(())
}

fn open_once(slot: &mut Option<UdpSocket>, to: SocketAddr) -> Result<&UdpSocket> {
    if slot.is_none() {
        *slot = Some(UdpSocket::bind((unspecified(to), 0))?);
    }
    slot.as_ref().map_or_else(|| fail("no socket"), Ok)
}

/// The address that stands for any of the same family.
pub(crate) fn unspecified(to: SocketAddr) -> IpAddr {
    if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Lines `SRC DST HEX` from standard input, sent with exactly that source.
pub(crate) fn forged() -> Result {
    let (mut v4, mut v6) = (None, None);
    for line in stdin().lines() {
        let line = line?;
        let datagram = Datagram::from_line(&line)?;
        let slot = if datagram.to.is_ipv4() { &mut v4 } else { &mut v6 };
        if slot.is_none() {
            *slot = Some(raw_socket(datagram.to.ip())?);
        }
        if let Some(socket) = slot {
            send_raw(socket, &datagram)?;
        }
    }
    Ok(())
}

pub(crate) fn raw_socket(to: IpAddr) -> Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).doing("raw socket")
}

fn send_raw(socket: &OwnedFd, datagram: &Datagram) -> Result {
    let packet = datagram.to_ip_packet()?;
    // A raw socket wants port 0 in the address: the real one is in the packet.
    let to = SockaddrStorage::from(SocketAddr::new(datagram.to.ip(), 0));
    sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty())
        .doing(format!("sending from {} to {}", datagram.from, datagram.to))?;
    Ok(())
}

/// `count` datagrams of random bytes and lengths, with knock-sized ones among them.
pub(crate) fn junk(to: SocketAddr, count: u32, seed: u64) -> Result {
    let socket = UdpSocket::bind((unspecified(to), 0))?;
    let mut random = XorShift(seed | 1);
    for number in 0..count {
        let length = if number % 2 == 0 { KNOCK } else { random.below(1400) };
        let bytes: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        // The sender's own queue may be full: that is the pace at which the link takes them.
        while socket.send_to(&bytes, to).is_err() {
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// Length of a knock: junk of any other is refused by that alone.
const KNOCK: usize = 336;

/// Random enough for junk, and the same in every run.
struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()])) % limit
    }
}
