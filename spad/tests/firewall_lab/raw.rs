//! Packets that no honest program sends, made byte by byte.

use super::Host;
use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
    setsockopt, socket, sockopt,
};
use nix::unistd::Pid;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const HOP_BY_HOP: u8 = 0;
pub const FRAGMENT: u8 = 44;
pub const DESTINATION_OPTIONS: u8 = 60;

pub const ICMP: u8 = 1;

/// Sends IP packets, headers included, from a host. They arrive in this order.
pub fn send(host: &Host, packets: &[Vec<u8>]) {
    host.run(|| {
        stay_on(0);
        for packet in packets {
            Sender::new(packet[0] >> 4 == 4).send(packet);
        }
    });
}

/// Binds this thread to a processor.
pub fn stay_on(cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &one)).expect("a processor");
}

/// Sends packets of one family from the host that it was made on.
pub struct Sender(OwnedFd);

impl Sender {
    pub fn new(ipv4: bool) -> Self {
        let family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
        let fd = fd.expect("a raw socket");
        setsockopt(&fd, sockopt::Broadcast, &true).expect("broadcast");
        Self(fd)
    }

    pub fn send(&self, packet: &[u8]) {
        let sent = if packet[0] >> 4 == 4 {
            let to: [u8; 4] = packet[16..20].try_into().expect("an address");
            let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::from(to), 0));
            sendto(self.0.as_raw_fd(), packet, &to, MsgFlags::empty())
        } else {
            let to: [u8; 16] = packet[24..40].try_into().expect("an address");
            let link = if to[0] >= 0xfe { if_nametoindex("c0").expect("the cable") } else { 0 };
            let to = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::from(to), 0, 0, link));
            sendto(self.0.as_raw_fd(), packet, &to, MsgFlags::empty())
        };
        assert_eq!(sent, Ok(packet.len()));
    }
}

/// An ICMP echo request.
pub fn icmp_echo() -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 1, 0, 1];
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// An ICMP message that the quoted packet was too big.
pub fn icmp_too_big(quoted: &[u8], mtu: u16) -> Vec<u8> {
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&quoted[..28]);
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// A TCP segment without data, for the packet of these addresses.
pub fn tcp(from: (IpAddr, u16), to: (IpAddr, u16), flags: u8) -> Vec<u8> {
    let mut segment = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    segment.extend(1000_u32.to_be_bytes());
    segment.extend(2000_u32.to_be_bytes());
    segment.extend([0x50, flags, 4, 0, 0, 0, 0, 0]);
    with_checksum(segment, 16, from.0, to.0, TCP)
}

/// A UDP datagram.
pub fn udp(from: (IpAddr, u16), to: (IpAddr, u16), data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len() + 8).expect("a length");
    let mut datagram = [from.1, to.1, len, 0].map(u16::to_be_bytes).concat();
    datagram.extend(data);
    with_checksum(datagram, 6, from.0, to.0, UDP)
}

/// An IPv4 or IPv6 packet.
pub fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ip4(from, to, protocol, (7, 0, false), payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => ip6(from, to, protocol, payload),
        _ => panic!("two families"),
    }
}

/// The packet in fragments, cut at this offset of its payload, a multiple of 8.
pub fn fragments(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    payload: &[u8],
    cut: usize,
) -> Vec<Vec<u8>> {
    let (first, second) = payload.split_at(cut);
    let id = 4000 + u16::try_from(payload.len() + cut).expect("an id");
    let piece = |offset: usize, more: bool, data: &[u8]| {
        let offset = u16::try_from(offset).expect("an offset");
        match (from, to) {
            (IpAddr::V4(f), IpAddr::V4(t)) => ip4(f, t, protocol, (id, offset / 8, more), data),
            (IpAddr::V6(f), IpAddr::V6(t)) => {
                let place = (offset | u16::from(more)).to_be_bytes();
                let mut header = vec![protocol, 0, place[0], place[1], 0, 0];
                header.extend(id.to_be_bytes());
                header.extend(data);
                ip6(f, t, FRAGMENT, &header)
            }
            _ => panic!("two families"),
        }
    };
    vec![piece(0, true, first), piece(cut, false, second)]
}

fn ip4(
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    (id, offset, more): (u16, u16, bool),
    payload: &[u8],
) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 20).expect("a length");
    let place = offset | if more { 0x2000 } else { 0 };
    let mut packet = vec![0x45, 0];
    packet.extend([len, id, place].map(u16::to_be_bytes).concat());
    packet.extend([64, protocol, 0, 0]);
    packet.extend([from.octets(), to.octets()].concat());
    packet.extend(payload);
    packet
}

fn ip6(from: Ipv6Addr, to: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a length").to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], next_header, 64];
    packet.extend([from.octets(), to.octets()].concat());
    packet.extend(payload);
    packet
}

fn with_checksum(mut bytes: Vec<u8>, at: usize, from: IpAddr, to: IpAddr, protocol: u8) -> Vec<u8> {
    let octets = |address| match address {
        IpAddr::V4(a) => Ipv4Addr::octets(&a).to_vec(),
        IpAddr::V6(a) => Ipv6Addr::octets(&a).to_vec(),
    };
    let mut covered = [octets(from), octets(to)].concat();
    let len = u16::try_from(bytes.len()).expect("a length").to_be_bytes();
    covered.extend([0, protocol, len[0], len[1]]);
    covered.extend(&bytes);
    bytes[at..at + 2].copy_from_slice(&checksum(&covered).to_be_bytes());
    bytes
}

fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("sixteen bits")
}
