//! Everything that a host sends and receives, a line each.

use std::io::{Write, stdout};
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use pnet_packet::Packet;
use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols as Protocols};
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::udp::UdpPacket;

use spa_tests::Result;
use spa_tests::lab::{Datagram, Direction, Doing, Seen};

/// `sll_pkttype` of what this host sends itself.
const PACKET_OUTGOING: u8 = 4;

/// Prints `ready`, then every IP packet on every interface until it is killed.
pub(crate) fn print_all() -> Result {
    let kind = SockType::Datagram; // without link layer
    let socket = socket(AddressFamily::Packet, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .doing("packet socket")?;
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))
        .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &(4 << 20)))?;
    let mut buffer = [0; 65536];
    let mut out = stdout().lock();
    writeln!(out, "ready")?;
    loop {
        let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?;
        let outgoing = from.is_some_and(|link| link.pkttype() == PACKET_OUTGOING);
        let direction = if outgoing { Direction::Out } else { Direction::In };
        if let Some(seen) = dissect(direction, &buffer[..length]) {
            writeln!(out, "{seen}")?;
            out.flush()?;
        }
    }
}

fn dissect(direction: Direction, packet: &[u8]) -> Option<Seen> {
    match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new(packet)?;
            let (from, to) = (ip.get_source().into(), ip.get_destination().into());
            Some(transport(direction, ip.get_next_level_protocol(), [from, to], ip.payload()))
        }
        6 => {
            let ip = Ipv6Packet::new(packet)?;
            let (from, to) = (ip.get_source().into(), ip.get_destination().into());
            Some(transport(direction, ip.get_next_header(), [from, to], ip.payload()))
        }
        _ => None,
    }
}

fn transport(
    direction: Direction,
    protocol: IpNextHeaderProtocol,
    [from, to]: [IpAddr; 2],
    bytes: &[u8],
) -> Seen {
    let udp = UdpPacket::new(bytes).filter(|_| protocol == Protocols::Udp);
    let ports = udp.as_ref().map_or((0, 0), |udp| (udp.get_source(), udp.get_destination()));
    let payload = udp.as_ref().map_or(bytes, |udp| udp.payload());
    let datagram = Datagram {
        from: (from, ports.0).into(),
        to: (to, ports.1).into(),
        payload: payload.to_vec(),
    };
    Seen { direction, protocol: protocol.0, datagram }
}
