//! A ruleset as text that `nft -f` of Debian 12 (nftables 1.0.6) reads, and
//! that means the same as what is sent.

use super::ruleset::{
    AddressType, Chain, Datatype, Direction, Field, Hook, PortRange, Rule, Ruleset, Set, Side,
    Stage, Statement, TABLE,
};
use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

/// TCP flags in the order of their bits.
const FLAG_NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        writeln!(f, "\tcomment \"{}\"", self.comment)?;
        writeln!(f, "\t# spad also sets: flags owner, persist")?;
        for set in &self.sets {
            write!(f, "\n{set}")?;
        }
        for chain in &self.chains {
            write!(f, "\n{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tset {} {{", self.name)?;
        writeln!(f, "\t\ttype {}", joined(&self.key))?;
        writeln!(f, "\t\tsize {}", self.size)?;
        let dynamic = if self.dynamic { "dynamic," } else { "" };
        writeln!(f, "\t\tflags {dynamic}timeout")?;
        if let Some(timeout) = self.timeout {
            writeln!(f, "\t\ttimeout {}s", timeout.as_secs())?;
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
            Stage::Output => "output",
            Stage::Postrouting => "postrouting",
        };
        write!(f, "type filter hook {stage} priority {}; policy accept;", self.priority)
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
            Self::Protocol(protocol) => write!(f, "meta l4proto {protocol}"),
            Self::Port(protocol, side, ports) => {
                write!(f, "{protocol} {}port {ports}", side.letter())
            }
            Self::TcpFlags { mask, set } => {
                write!(f, "tcp flags & ({}) == {}", flags(*mask), flags(*set))
            }
            Self::Within(side, network) => {
                let family = if matches!(network.address(), IpAddr::V4(_)) { "ip" } else { "ip6" };
                write!(f, "{family} {}addr {network}", side.letter())
            }
            Self::Routed(side, kind) => write!(f, "fib {}addr type {kind}", side.letter()),
            Self::RoutedHere(side, kind) => {
                write!(f, "fib {}addr . iif type {kind}", side.letter())
            }
            Self::Labelled(bit) => write!(f, "ct label {bit}"),
            Self::Direction(Direction::Original) => f.write_str("ct direction original"),
            Self::Direction(Direction::Reply) => f.write_str("ct direction reply"),
            Self::SourceTranslated => f.write_str("ct status & snat != 0"),
            Self::InSet(key, set) => write!(f, "{} @{set}", joined(key)),
            Self::Update(key, set) => write!(f, "update @{set} {{ {} }}", joined(key)),
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
            Self::Protocol => f.write_str("meta l4proto"),
            Self::Port(side) => write!(f, "th {}port", side.letter()),
        }
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

fn joined<T: Display>(parts: &[T]) -> String {
    let parts: Vec<String> = parts.iter().map(T::to_string).collect();
    parts.join(" . ")
}

fn flags(bits: u8) -> String {
    let names: Vec<&str> = (0..8).filter(|i| bits >> i & 1 == 1).map(|i| FLAG_NAMES[i]).collect();
    if names.is_empty() { "0x0".to_owned() } else { names.join(" | ") }
}
