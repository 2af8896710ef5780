//! TCP connections begun in somebody else's name.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::MutableIpv4Packet;
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::tcp::{MutableTcpPacket, TcpFlags, ipv4_checksum, ipv6_checksum};

use spa_tests::Result;
use spa_tests::lab::fail;

use crate::send::raw_socket;

const TCP_HEADER: u16 = 20;

/// A SYN from each of `count` ports of `from`, beginning with `first`.
pub(crate) fn forged(from: IpAddr, to: SocketAddr, first: u16, count: u16) -> Result {
    let socket = raw_socket(to.ip())?;
    // A raw socket wants port 0 in the address: the real one is in the packet.
    let target = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
    for port in (first..).take(count.into()) {
        let Some(packet) = packet(SocketAddr::new(from, port), to) else {
            return fail(format!("{from} and {to} are of two families"));
        };
        // The sender's own queue may be full: that is the pace at which the link takes them.
        while sendto(socket.as_raw_fd(), &packet, &target, MsgFlags::empty()).is_err() {
            std::thread::yield_now();
        }
    }
    Ok(())
}

fn packet(from: SocketAddr, to: SocketAddr) -> Option<Vec<u8>> {
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut bytes = vec![0; 20 + usize::from(TCP_HEADER)];
            let mut tcp = syn(bytes.get_mut(20..)?, from, to)?;
            tcp.set_checksum(ipv4_checksum(&tcp.to_immutable(), &source, &destination));
            let mut ip = MutableIpv4Packet::new(&mut bytes)?;
            ip.set_version(4);
            ip.set_header_length(5);
            ip.set_total_length(20 + TCP_HEADER);
            ip.set_ttl(64);
            ip.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
            ip.set_source(source);
            ip.set_destination(destination);
            Some(bytes) // the kernel fills in the header's checksum
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut bytes = vec![0; 40 + usize::from(TCP_HEADER)];
            let mut tcp = syn(bytes.get_mut(40..)?, from, to)?;
            tcp.set_checksum(ipv6_checksum(&tcp.to_immutable(), &source, &destination));
            let mut ip = MutableIpv6Packet::new(&mut bytes)?;
            ip.set_version(6);
            ip.set_payload_length(TCP_HEADER);
            ip.set_hop_limit(64);
            ip.set_next_header(IpNextHeaderProtocols::Tcp);
            ip.set_source(source);
            ip.set_destination(destination);
            Some(bytes)
        }
        _ => None,
    }
}

fn syn(space: &mut [u8], from: SocketAddr, to: SocketAddr) -> Option<MutableTcpPacket<'_>> {
    let mut tcp = MutableTcpPacket::new(space)?;
    tcp.set_source(from.port());
    tcp.set_destination(to.port());
    tcp.set_sequence(1);
    tcp.set_data_offset(5);
    tcp.set_flags(TcpFlags::SYN);
    tcp.set_window(u16::MAX);
    Some(tcp)
}
