//! A ruleset as plain data: what `rules` builds, `text` prints, `encode` turns
//! into netlink messages and tests compare. It covers what our rulesets need,
//! not all of nftables.

use super::grant_set::GrantSet;
use spa_proto::{Prefix, Protocol, Timestamp};
use std::net::IpAddr;
use std::time::Duration;

/// The name of our table, of the family `inet`.
pub const TABLE: &str = "spad";

/// A table with its sets, chains and rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// The table's comment: the mark by which a later spad knows it for ours.
    pub comment: String,
    /// The sets, each before the rules that use it.
    pub sets: Vec<Set>,
    /// Those of them that hold grants.
    pub grants: Vec<GrantSet>,
    /// Helpers of connection tracking that rules put connections in the care of.
    pub helpers: Vec<Helper>,
    /// The chains, base and regular.
    pub chains: Vec<Chain>,
    /// What becomes of connections that are there before the first ruleset.
    pub existing: Option<Existing>,
}

/// Connections that live on when the table is made for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// TCP ports whose connections are looked for.
    pub tcp: Vec<PortRange>,
    /// UDP ports whose flows conntrack has to forget, so that they can be labelled.
    pub udp: Vec<PortRange>,
    /// The set that takes the IPv4 ones, keyed by source, source port,
    /// destination, destination port.
    pub set4: String,
    /// The set that takes the IPv6 ones.
    pub set6: String,
}

/// A helper of connection tracking, as an object of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// What the kernel calls it, and the object too: `ftp`, `tftp`, `sip`…
    pub name: String,
    /// Of which transport protocol the connections are.
    pub protocol: Protocol,
}

/// How often something may happen: a bucket of `burst` that fills up by `count`
/// each `unit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How often in a unit; at least 1.
    pub count: u32,
    /// One of those that nft has a word for.
    pub unit: Unit,
    /// How often at once; at least 1.
    pub burst: u32,
}

/// A unit of time in a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3600 s.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
}

/// A named set whose elements time out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name, unique in the table.
    pub name: String,
    /// The fields of its key.
    pub key: Vec<Datatype>,
    /// Whether rules add to it.
    pub dynamic: bool,
    /// Whether its elements are ranges.
    pub interval: bool,
    /// How often each element matches.
    pub limit: Option<Limit>,
    /// Lifetime of an element for which none is given; `None` is for ever.
    pub timeout: Option<Duration>,
    /// How many elements it can hold.
    pub size: u32,
}

/// The type of one field of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// An IPv4 address.
    Ipv4Address,
    /// An IPv6 address.
    Ipv6Address,
    /// A transport protocol's number.
    Protocol,
    /// A port.
    Port,
}

/// A chain and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name, unique in the table.
    pub name: String,
    /// Where the kernel calls it; `None` for one that is jumped to. The policy
    /// of a base chain is always to accept.
    pub hook: Option<Hook>,
    /// Evaluated in this order.
    pub rules: Vec<Rule>,
}

/// The place of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Whether it translates addresses; then it sees only the first packet of
    /// each connection.
    pub nat: bool,
    /// The stage on a packet's way.
    pub stage: Stage,
    /// Lower is earlier. Conntrack works at −200, destination NAT at −100,
    /// source NAT at 100.
    pub priority: i32,
}

/// A stage on a packet's way through the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Arrived, not yet routed.
    Prerouting,
    /// To be delivered on this host.
    Input,
    /// On its way through this host.
    Forward,
    /// Made by this host.
    Output,
    /// About to leave.
    Postrouting,
}

/// Statements from left to right; the first match that fails ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Matches and actions.
    pub statements: Vec<Statement>,
    /// Shown by `nft list`; empty for none.
    pub comment: String,
}

/// One match or action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// The packet came in through the loopback interface.
    FromLoopback,
    /// The packet came in through a bridge, or is about to.
    FromBridge,
    /// The packet leaves through the loopback interface.
    ToLoopback,
    /// The packet came in through the interface of this name.
    FromInterface(String),
    /// The packet leaves through the interface of this name.
    ToInterface(String),
    /// The packet was sent to more than one host.
    SentTo(Many),
    /// A message of ICMP of this type.
    Icmp(u8),
    /// A message of ICMPv6 of this type.
    Icmpv6(u8),
    /// Group management, of IPv4 multicast.
    Igmp,
    /// An IPv6 packet that may pass so many routers: with 255 it has passed none.
    HopLimit(u8),
    /// The packet did not come in by the interface that leads back to its source.
    WrongWay,
    /// No interface at all leads back to the packet's source.
    NoWayBack,
    /// An IPv4 packet.
    Ipv4,
    /// An IPv6 packet.
    Ipv6,
    /// The transport protocol.
    Protocol(Protocol),
    /// The transport protocol and one of its two ports.
    Port(Protocol, Side, PortRange),
    /// These TCP flags, of those in the mask.
    TcpFlags {
        /// The flags that are looked at.
        mask: u8,
        /// Those of them that are set.
        set: u8,
    },
    /// One of the two addresses lies in this network.
    Within(Side, Prefix),
    /// What the routing tables call one of the two addresses.
    Routed(Side, AddressType),
    /// The same, as seen from the interface that the packet came in by.
    RoutedHere(Side, AddressType),
    /// The connection carries this label bit.
    Labelled(u8),
    /// The packet goes the way of its connection's first one, or the other.
    Direction(Direction),
    /// The connection's source address or port is translated.
    SourceTranslated,
    /// The connection's destination address or port is translated.
    DestinationTranslated,
    /// The connection has got beyond its opening, both ways.
    Assured,
    /// Connection tracking calls the packet one of these.
    State(&'static [State]),
    /// The wall clock shows this time, or a later one.
    NotBefore(Timestamp),
    /// The packet carries all bits of this mark.
    Marked(u32),
    /// The fields, together, are an element of the set.
    InSet(Vec<Field>, String),
    /// Adds the fields to the set, or begins their lifetime anew.
    Update(Vec<Field>, String),
    /// The source of these fields does it more often than that; remembers each
    /// in the set.
    MoreOften(Vec<Field>, String, Limit),
    /// All packets that come here together do it no more often than that.
    NoMoreThan(Limit),
    /// Gives the connection this label bit.
    Label(u8),
    /// Gives the packet the bits of this mark, beside those that it has.
    Mark(u32),
    /// Takes the bits of this mark from the packet.
    Unmark(u32),
    /// Puts the connection in the care of the helper of this name.
    Help(String),
    /// Writes a line about the packet to the kernel's log, with this in front.
    Log(String),
    /// Keeps the packet out of connection tracking.
    NoTrack,
    /// Counts packets and bytes.
    Counter,
    /// Sends the connection to this address instead, and to this port if there
    /// is one.
    DestinationNat(IpAddr, Option<u16>),
    /// Lets the connection appear to come from this address.
    SourceNat(IpAddr),
    /// Lets the connection appear to come from the interface that it leaves by.
    Masquerade,
    /// Ends the base chain: the packet passes.
    Accept,
    /// Ends everything: the packet is gone.
    Drop,
    /// Goes on in another chain, and comes back if that does not decide.
    Jump(String),
    /// Goes on in another chain, without coming back.
    Goto(String),
}

/// What connection tracking calls a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It fits no connection, and begins none.
    Invalid,
    /// Of a connection that has been answered.
    Established,
    /// It begins a connection that another one has announced.
    Related,
    /// It begins a connection.
    New,
    /// Somebody keeps it out of connection tracking.
    Untracked,
}

/// More than one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// All hosts of a network.
    Broadcast,
    /// The members of a group.
    Multicast,
}

/// Which end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// A value of a packet, as a field of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// An IPv4 address; no match for IPv6 packets.
    Ipv4(Side),
    /// An IPv6 address; no match for IPv4 packets.
    Ipv6(Side),
    /// The source's first bits, this many, as an IPv4 address.
    Ipv4Net(u8),
    /// The source's first bits, this many, as an IPv6 address.
    Ipv6Net(u8),
    /// The transport protocol's number.
    Protocol,
    /// A port. The rule, or the way to it, makes sure that there are ports.
    Port(Side),
}

/// What the routing tables say of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressType {
    /// One of this host's own.
    Local,
    /// A broadcast address of one of its networks.
    Broadcast,
    /// Several hosts' address, this one's among them.
    Anycast,
    /// A multicast group.
    Multicast,
}

/// Which way of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// That of its first packet.
    Original,
    /// The other.
    Reply,
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl Statement {
    /// Whether nothing can come behind it.
    pub(crate) fn ends_the_rule(&self) -> bool {
        let verdict = matches!(self, Self::Accept | Self::Drop | Self::Jump(_) | Self::Goto(_));
        let nat = matches!(self, Self::DestinationNat(..) | Self::SourceNat(_) | Self::Masquerade);
        verdict || nat
    }
}

impl Limit {
    /// Once, and not again before a week is over.
    pub const ONCE: Self = Self { count: 1, unit: Unit::Week, burst: 1 };
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Week];

    /// Its length in seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 24 * 3600,
            Self::Week => 7 * 24 * 3600,
        }
    }
}

impl State {
    /// `NF_CT_STATE_*_BIT` of `linux/netfilter/nf_conntrack_common.h`.
    pub(crate) const fn bit(self) -> u32 {
        match self {
            Self::Invalid => 1,
            Self::Established => 2,
            Self::Related => 4,
            Self::New => 8,
            Self::Untracked => 64,
        }
    }
}

impl Ruleset {
    /// The TCP ports that it shuts.
    #[must_use]
    pub fn shut_ports(&self) -> &[PortRange] {
        self.existing.as_ref().map_or(&[], |existing| &existing.tcp)
    }
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// A single port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// A range, or `None` if it is turned round.
    #[must_use]
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The lowest port.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` is one of them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl Datatype {
    /// Length of the value in bytes, without the padding to four.
    pub(crate) fn len(self) -> u32 {
        match self {
            Self::Ipv4Address => 4,
            Self::Ipv6Address => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }
}

impl Field {
    /// The type of this field's values.
    pub(crate) fn datatype(self) -> Datatype {
        match self {
            Self::Ipv4(_) | Self::Ipv4Net(_) => Datatype::Ipv4Address,
            Self::Ipv6(_) | Self::Ipv6Net(_) => Datatype::Ipv6Address,
            Self::Protocol => Datatype::Protocol,
            Self::Port(_) => Datatype::Port,
        }
    }
}
