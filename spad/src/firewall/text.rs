//! A ruleset as text that `nft -f` of Debian 12 (nftables 1.0.6) reads, and
//! that means the same as what is sent.

use super::encode::prefix_mask;
use super::ruleset::{
    AddressType, Chain, Datatype, Direction, Field, Helper, Hook, Limit, Many, PortRange, Rule,
    Ruleset, Set, Side, Stage, State, Statement, TABLE, Unit,
};
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// TCP flags in the order of their bits.
const FLAG_NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        writeln!(f, "\tcomment \"{}\"", self.comment)?;
        writeln!(f, "\t# with own-table, where the kernel can: flags owner, persist")?;
        for helper in &self.helpers {
            write!(f, "\n{helper}")?;
        }
        for set in &self.sets {
            write!(f, "\n{set}")?;
        }
        for chain in &self.chains {
            write!(f, "\n{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl Display for Helper {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, protocol } = self;
        writeln!(f, "\tct helper {name} {{\n\t\ttype \"{name}\" protocol {protocol}\n\t}}")
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tset {} {{", self.name)?;
        writeln!(f, "\t\ttype {}", joined(&self.key))?;
        writeln!(f, "\t\tsize {}", self.size)?;
        let dynamic = if self.dynamic { "dynamic," } else { "" };
        let interval = if self.interval { "interval," } else { "" };
        writeln!(f, "\t\tflags {dynamic}{interval}timeout")?;
        if let Some(timeout) = self.timeout {
            writeln!(f, "\t\ttimeout {}s", timeout.as_secs())?;
        }
        if let Some(limit) = self.limit {
            writeln!(f, "\t\tlimit rate {limit}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(hook) = &self.hook {
            writeln!(f, "\t\t{hook}")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Prerouting => "prerouting",
            Stage::Input => "input",
            Stage::Forward => "forward",
            Stage::Output => "output",
            Stage::Postrouting => "postrouting",
        };
        let kind = if self.nat { "nat" } else { "filter" };
        write!(f, "type {kind} hook {stage} priority {}; policy accept;", self.priority)
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, statement) in self.statements.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{statement}")?;
        }
        if !self.comment.is_empty() {
            write!(f, " comment \"{}\"", self.comment)?;
        }
        Ok(())
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromLoopback => f.write_str("iif \"lo\""),
            Self::FromBridge => f.write_str("meta iifkind \"bridge\""),
            Self::NoTrack => f.write_str("notrack"),
            Self::ToLoopback => f.write_str("oif \"lo\""),
            Self::FromInterface(name) => write!(f, "iifname \"{name}\""),
            Self::ToInterface(name) => write!(f, "oifname \"{name}\""),
            Self::SentTo(Many::Broadcast) => f.write_str("meta pkttype broadcast"),
            Self::SentTo(Many::Multicast) => f.write_str("meta pkttype multicast"),
            Self::Icmp(kind) => write!(f, "icmp type {kind}"),
            Self::Icmpv6(kind) => write!(f, "icmpv6 type {kind}"),
            Self::Igmp => f.write_str("meta l4proto 2"),
            Self::HopLimit(limit) => write!(f, "ip6 hoplimit {limit}"),
            Self::WrongWay => f.write_str("fib saddr . iif oif missing"),
            Self::NoWayBack => f.write_str("fib saddr oif missing"),
            Self::Ipv4 => f.write_str("meta nfproto ipv4"),
            Self::Ipv6 => f.write_str("meta nfproto ipv6"),
            Self::Protocol(protocol) => write!(f, "meta l4proto {protocol}"),
            Self::Port(protocol, side, ports) => {
                write!(f, "{protocol} {}port {ports}", side.letter())
            }
            Self::TcpFlags { mask, set } => {
                write!(f, "tcp flags & ({}) == {}", flags(*mask), flags(*set))
            }
            Self::Within(side, network) => {
                write!(f, "{} {}addr {network}", family(network.address()), side.letter())
            }
            Self::Routed(side, kind) => write!(f, "fib {}addr type {kind}", side.letter()),
            Self::RoutedHere(side, kind) => {
                write!(f, "fib {}addr . iif type {kind}", side.letter())
            }
            Self::Labelled(bit) => write!(f, "ct label {bit}"),
            Self::Direction(Direction::Original) => f.write_str("ct direction original"),
            Self::Direction(Direction::Reply) => f.write_str("ct direction reply"),
            Self::SourceTranslated => f.write_str("ct status & snat != 0"),
            Self::DestinationTranslated => f.write_str("ct status & dnat != 0"),
            Self::Assured => f.write_str("ct status & assured != 0"),
            Self::State(states) => write!(f, "ct state {}", listed(states)),
            Self::NotBefore(time) => {
                write!(f, "meta time >= {}", time.as_millis().div_ceil(1000))
            }
            Self::Marked(bits) => write!(f, "meta mark & {bits:#010x} == {bits:#010x}"),
            Self::InSet(key, set) => write!(f, "{} @{set}", joined(key)),
            Self::Update(key, set) => write!(f, "update @{set} {{ {} }}", joined(key)),
            Self::MoreOften(key, set, limit) => {
                write!(f, "add @{set} {{ {} limit rate over {limit} }}", joined(key))
            }
            Self::NoMoreThan(limit) => write!(f, "limit rate {limit}"),
            Self::Mark(bits) => write!(f, "meta mark set meta mark | {bits:#010x}"),
            Self::Unmark(bits) => write!(f, "meta mark set meta mark & {:#010x}", !bits),
            Self::Help(name) => write!(f, "ct helper set \"{name}\""),
            Self::Log(prefix) => write!(f, "log prefix \"{prefix}\""),
            Self::DestinationNat(to, Some(port)) => {
                write!(f, "dnat {} to {}", family(*to), SocketAddr::new(*to, *port))
            }
            Self::DestinationNat(to, None) => write!(f, "dnat {} to {to}", family(*to)),
            Self::SourceNat(from) => write!(f, "snat {} to {from}", family(*from)),
            Self::Masquerade => f.write_str("masquerade"),
            Self::Label(bit) => write!(f, "ct label set {bit}"),
            Self::Counter => f.write_str("counter"),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(side) => write!(f, "ip {}addr", side.letter()),
            Self::Ipv6(side) => write!(f, "ip6 {}addr", side.letter()),
            Self::Ipv4Net(len) => write!(f, "ip saddr & {}", mask4(*len)),
            Self::Ipv6Net(len) => write!(f, "ip6 saddr & {}", mask6(*len)),
            Self::Protocol => f.write_str("meta l4proto"),
            Self::Port(side) => write!(f, "th {}port", side.letter()),
        }
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} burst {} packets", self.count, self.unit, self.burst)
    }
}

impl Display for Unit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        })
    }
}

impl Display for State {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "invalid",
            Self::Established => "established",
            Self::Related => "related",
            Self::New => "new",
            Self::Untracked => "untracked",
        })
    }
}

impl Display for Datatype {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Address => "ipv4_addr",
            Self::Ipv6Address => "ipv6_addr",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
        })
    }
}

impl Display for AddressType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Broadcast => "broadcast",
            Self::Anycast => "anycast",
            Self::Multicast => "multicast",
        })
    }
}

impl Display for PortRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.first() == self.last() {
            true => write!(f, "{}", self.first()),
            false => write!(f, "{}-{}", self.first(), self.last()),
        }
    }
}

impl Side {
    fn letter(self) -> char {
        match self {
            Self::Source => 's',
            Self::Destination => 'd',
        }
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn joined<T: Display>(parts: &[T]) -> String {
    let parts: Vec<String> = parts.iter().map(T::to_string).collect();
    parts.join(" . ")
}

fn listed<T: Display>(parts: &[T]) -> String {
    let parts: Vec<String> = parts.iter().map(T::to_string).collect();
    parts.join(",")
}

fn mask4(len: u8) -> Ipv4Addr {
    <[u8; 4]>::try_from(prefix_mask(4, len)).map_or(Ipv4Addr::BROADCAST, Ipv4Addr::from)
}

fn mask6(len: u8) -> Ipv6Addr {
    <[u8; 16]>::try_from(prefix_mask(16, len)).map_or(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from)
}

fn flags(bits: u8) -> String {
    let names: Vec<&str> = (0..8).filter(|i| bits >> i & 1 == 1).map(|i| FLAG_NAMES[i]).collect();
    if names.is_empty() { "0x0".to_owned() } else { names.join(" | ") }
}
