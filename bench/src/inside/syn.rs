//! SYNs without a connection behind them: whether a port lets a new connection in, asked every few
//! microseconds. The kernel itself resets what comes of an answer, since it knows of no socket.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pnet_packet::Packet;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::tcp::{MutableTcpPacket, TcpFlags, TcpPacket, ipv4_checksum, ipv6_checksum};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use spa_tests::Result;
use spa_tests::lab::{Doing, fail};

use super::wire;

/// First of the source ports, which nobody else uses: above what the kernel gives to sockets.
const FIRST_PORT: u16 = 61_000;
const PORTS: u16 = 4_000;

/// Asks one port from one address.
pub(crate) struct Syn {
    socket: Socket,
    from: IpAddr,
    to: SocketAddr,
    port: u16,
}

impl Syn {
    /// Sends from `from`, an address of this host, to `to`.
    pub(crate) fn new(from: IpAddr, to: SocketAddr) -> Result<Self> {
        let domain = if from.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::TCP)).doing("a raw socket")?;
        socket.bind(&SockAddr::from(SocketAddr::new(from, 0))).doing(format!("being {from}"))?;
        wire::stamp(&socket, false)?;
        Ok(Self { socket, from, to, port: 0 })
    }

    /// Asks once, from another port than last time.
    pub(crate) fn ask(&mut self) -> Result {
        self.port = (self.port + 1) % PORTS;
        let Some(segment) = self.segment(FIRST_PORT + self.port) else {
            return fail("no room for a SYN");
        };
        // A raw socket wants port 0 in the address: the real one is in the segment.
        let to = SockAddr::from(SocketAddr::new(self.to.ip(), 0));
        self.socket.send_to(&segment, &to).doing("sending a SYN")?;
        Ok(())
    }

    fn segment(&self, from: u16) -> Option<[u8; 20]> {
        let mut bytes = [0; 20];
        let mut segment = MutableTcpPacket::new(&mut bytes)?;
        segment.set_source(from);
        segment.set_destination(self.to.port());
        segment.set_sequence(u32::from(from) << 16);
        segment.set_data_offset(5);
        segment.set_flags(TcpFlags::SYN);
        segment.set_window(1024);
        let checksum = match (self.from, self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                ipv4_checksum(&segment.to_immutable(), &from, &to)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                ipv6_checksum(&segment.to_immutable(), &from, &to)
            }
            _ => return None,
        };
        segment.set_checksum(checksum);
        Some(bytes)
    }

    /// When the server's first welcome came, since 1970; `None` where there was none since this
    /// was last asked.
    pub(crate) fn answered(&self) -> Result<Option<Duration>> {
        let mut first = None;
        let mut packet = [0; 256];
        while let Some((len, at)) = wire::arrived(&self.socket, &mut packet)? {
            let welcome = packet.get(..len).is_some_and(|packet| self.is_welcome(packet));
            first = first.or(welcome.then_some(at));
        }
        Ok(first)
    }

    fn is_welcome(&self, packet: &[u8]) -> bool {
        // Only of IPv4 does a raw socket give the IP header.
        let segment = match self.from {
            IpAddr::V4(_) => Ipv4Packet::new(packet).map(|ip| ip.payload().to_vec()),
            IpAddr::V6(_) => Some(packet.to_vec()),
        };
        segment.as_deref().and_then(TcpPacket::new).is_some_and(|tcp| {
            tcp.get_flags() & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN | TcpFlags::ACK
                && tcp.get_source() == self.to.port()
                && (FIRST_PORT..FIRST_PORT + PORTS).contains(&tcp.get_destination())
        })
    }
}
