//! Datagrams as values: captured, changed, and sent again under any source.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::MutableIpv4Packet;
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::udp::{MutableUdpPacket, ipv4_checksum, ipv6_checksum};

use super::error::{Doing, Result, fail};
use super::host::Host;
use super::process::Running;
use super::programs::program;
use crate::wait;

const UDP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// A UDP datagram with its ends; of other protocols an address pair with port 0 and the bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// Source.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// The same bytes from somebody else.
    #[must_use]
    pub fn from(&self, from: SocketAddr) -> Self {
        Self { from, ..self.clone() }
    }

    /// The same bytes to somewhere else.
    #[must_use]
    pub fn to(&self, to: SocketAddr) -> Self {
        Self { to, ..self.clone() }
    }

    /// The same with bit `number` of the payload turned round.
    #[must_use]
    pub fn with_bit_flipped(&self, number: usize) -> Self {
        let mut flipped = self.clone();
        flipped.payload[number / 8] ^= 1 << (number % 8);
        flipped
    }

    /// The whole IP packet.
    pub fn to_ip_packet(&self) -> Result<Vec<u8>> {
        let packet = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.to_ipv4(from, to),
            (IpAddr::V6(from), IpAddr::V6(to)) => self.to_ipv6(from, to),
            _ => return fail(format!("{} and {} are of two families", self.from, self.to)),
        };
        packet.map_or_else(|| fail(format!("{} bytes are too many", self.payload.len())), Ok)
    }

    fn to_ipv4(&self, from: std::net::Ipv4Addr, to: std::net::Ipv4Addr) -> Option<Vec<u8>> {
        let mut bytes = vec![0; IPV4_HEADER + UDP_HEADER + self.payload.len()];
        let mut udp = self.udp(bytes.get_mut(IPV4_HEADER..)?)?;
        udp.set_checksum(ipv4_checksum(&udp.to_immutable(), &from, &to));
        let total = u16::try_from(bytes.len()).ok()?;
        let mut ip = MutableIpv4Packet::new(&mut bytes)?;
        ip.set_version(4);
        ip.set_header_length(5);
        ip.set_total_length(total);
        ip.set_ttl(64);
        ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
        ip.set_source(from);
        ip.set_destination(to);
        Some(bytes) // the kernel fills in the header's checksum
    }

    fn to_ipv6(&self, from: std::net::Ipv6Addr, to: std::net::Ipv6Addr) -> Option<Vec<u8>> {
        let mut bytes = vec![0; IPV6_HEADER + UDP_HEADER + self.payload.len()];
        let length = u16::try_from(bytes.len() - IPV6_HEADER).ok()?;
        let mut udp = self.udp(bytes.get_mut(IPV6_HEADER..)?)?;
        udp.set_checksum(ipv6_checksum(&udp.to_immutable(), &from, &to));
        let mut ip = MutableIpv6Packet::new(&mut bytes)?;
        ip.set_version(6);
        ip.set_payload_length(length);
        ip.set_hop_limit(64);
        ip.set_next_header(IpNextHeaderProtocols::Udp);
        ip.set_source(from);
        ip.set_destination(to);
        Some(bytes)
    }

    fn udp<'a>(&self, space: &'a mut [u8]) -> Option<MutableUdpPacket<'a>> {
        let length = u16::try_from(space.len()).ok()?;
        let mut udp = MutableUdpPacket::new(space)?;
        udp.set_source(self.from.port());
        udp.set_destination(self.to.port());
        udp.set_length(length);
        udp.set_payload(&self.payload);
        Some(udp)
    }

    /// `SRC DST HEX`, as the helper program writes and reads it.
    pub fn from_line(line: &str) -> Result<Self> {
        let mut words = line.splitn(3, ' ');
        let (Some(from), Some(to), Some(payload)) = (words.next(), words.next(), words.next())
        else {
            return fail(format!("not a datagram: {line:?}"));
        };
        Ok(Self { from: from.parse()?, to: to.parse()?, payload: Self::unhex(payload)? })
    }

    /// `DST HEX`, as the helper program reads it.
    fn without_source(&self) -> String {
        let line = self.to_string();
        line.split_once(' ').map_or(String::new(), |(_, rest)| rest.to_owned())
    }

    /// The bytes of a hexadecimal text.
    pub fn unhex(text: &str) -> Result<Vec<u8>> {
        let pair = |start| text.get(start..start + 2).unwrap_or("odd");
        let starts = (0..text.len()).step_by(2);
        starts.map(|start| u8::from_str_radix(pair(start), 16).doing("hexadecimal text")).collect()
    }
}

impl fmt::Display for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.from, self.to)?;
        self.payload.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which way a captured packet went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// It came in.
    In,
    /// The host sent it.
    Out,
}

/// A captured packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Which way it went.
    pub direction: Direction,
    /// IP protocol number.
    pub protocol: u8,
    /// What it was.
    pub datagram: Datagram,
}

impl Seen {
    const UDP: u8 = 17;
    const ICMPV6: u8 = 58;

    fn from_line(line: &str) -> Result<Self> {
        let mut words = line.splitn(3, ' ');
        let direction = if words.next() == Some("in") { Direction::In } else { Direction::Out };
        let protocol = words.next().unwrap_or_default().parse()?;
        let datagram = Datagram::from_line(words.next().unwrap_or_default())?;
        Ok(Self { direction, protocol, datagram })
    }

    /// Whether it is the talk that every IPv6 link has: neighbours, routers, multicast groups.
    pub fn is_housekeeping(&self) -> bool {
        let kind = self.datagram.payload.first();
        self.protocol == 0 // hop-by-hop: multicast listener reports
            || self.protocol == Self::ICMPV6 && kind.is_some_and(|kind| *kind >= 130)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.direction == Direction::In { "in" } else { "out" };
        write!(f, "{direction} {} {}", self.protocol, self.datagram)
    }
}

/// A capture of all IP packets on a host, which goes on until it is dropped.
pub struct Capture(Running);

impl Capture {
    /// Everything so far.
    pub fn all(&self) -> Result<Vec<Seen>> {
        let text = self.0.stdout();
        // The last line may be cut: the helper is writing it.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter(|line| *line != "ready").map(Seen::from_line).collect()
    }

    /// What came in so far and is not [housekeeping](Seen::is_housekeeping).
    pub fn incoming(&self) -> Result<Vec<Seen>> {
        let mut all = self.all()?;
        all.retain(|seen| seen.direction == Direction::In && !seen.is_housekeeping());
        Ok(all)
    }

    /// UDP datagrams to this port so far, either way.
    pub fn udp_to(&self, port: u16) -> Result<Vec<Datagram>> {
        let mut all = self.all()?;
        all.retain(|seen| seen.protocol == Seen::UDP && seen.datagram.to.port() == port);
        Ok(all.into_iter().map(|seen| seen.datagram).collect())
    }

    /// The first `count` datagrams to this port, once they are there.
    pub fn wait_for_udp(&self, port: u16, count: usize) -> Result<Vec<Datagram>> {
        let what = format!("{count} datagrams to port {port}");
        wait::until_some(&what, wait::SOON, || {
            let found = self.udp_to(port)?;
            Ok((found.len() >= count).then_some(found))
        })
    }
}

/// Sends datagrams from an ordinary socket, the moment it is told to.
pub struct Sender(Running);

impl Sender {
    /// Their `from` plays no part.
    pub fn send(&mut self, datagrams: &[Datagram]) -> Result {
        let lines: Vec<_> = datagrams.iter().map(Datagram::without_source).collect();
        if lines.is_empty() { Ok(()) } else { self.0.write_line(&lines.join("\n")) }
    }
}

impl Host {
    /// Starts a [`Sender`] on this host.
    pub fn sender(&self) -> Result<Sender> {
        let path = program(HELPER)?;
        Ok(Sender(self.spawn([&*path.to_string_lossy(), "send"])?))
    }

    /// Runs the lab's helper program.
    pub(crate) fn helper(&self, words: &[&str], input: &str) -> Result<super::Output> {
        let path = program(HELPER)?;
        let path = path.to_string_lossy();
        self.run_with_input([&[&*path], words].concat(), input)?.ok()
    }

    /// Starts the lab's helper program and waits until it says so.
    pub(crate) fn start_helper(&self, words: &[&str], ready: &str) -> Result<Running> {
        let path = program(HELPER)?;
        let mut running = self.spawn([&[&*path.to_string_lossy()], words].concat())?;
        running.wait_for(ready, Duration::from_secs(10))?;
        Ok(running)
    }

    /// Captures everything this host sends and receives, before any firewall of its own.
    pub fn capture(&self) -> Result<Capture> {
        Ok(Capture(self.start_helper(&["capture"], "ready")?))
    }

    /// Sends datagrams from an ordinary socket; their `from` plays no part.
    pub fn send_udp(&self, datagrams: &[Datagram]) -> Result {
        let lines = datagrams.iter().map(|datagram| datagram.without_source() + "\n");
        self.helper(&["send"], &lines.collect::<String>())?;
        Ok(())
    }

    /// Sends datagrams with exactly the source they name, whoever it belongs to.
    pub fn send_forged(&self, datagrams: &[Datagram]) -> Result {
        let lines = datagrams.iter().map(|datagram| format!("{datagram}\n"));
        self.helper(&["forge"], &lines.collect::<String>())?;
        Ok(())
    }

    /// Sends the first segments of TCP connections, from ports of an address that may be somebody
    /// else's.
    pub fn send_forged_syns(&self, from: IpAddr, to: SocketAddr, ports: Range<u16>) -> Result {
        let [first, count] = [ports.start, ports.end - ports.start].map(|n| n.to_string());
        self.helper(&["syns", &from.to_string(), &to.to_string(), &first, &count], "")?;
        Ok(())
    }

    /// Sends `count` datagrams of random bytes, the same ones for the same seed.
    pub fn send_junk(&self, to: SocketAddr, count: u32, seed: u64) -> Result {
        self.helper(&["junk", &to.to_string(), &count.to_string(), &seed.to_string()], "")?;
        Ok(())
    }
}

/// Name of the helper program.
pub(super) const HELPER: &str = "spa-lab-helper";
