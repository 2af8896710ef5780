//! Guard mode: shuts the protected services to everyone without a grant, and
//! says nothing about the rest of the traffic.
//!
//! Two nets, one behind the other. `guard_prerouting` sees the port that the
//! sender wrote, before anybody's destination NAT: what is published from
//! there to elsewhere is covered too. `guard_input` sees the port that a packet
//! is delivered to, behind anybody's redirect. Neither asks for the state of
//! the connection, so that `notrack` opens nothing.

use super::network::Network;
use super::ruleset::{
    AddressType, Chain, Datatype, Direction, Existing, Field, Hook, PortRange, Rule, Ruleset, Set,
    Side, Stage, Statement,
};
use spa_proto::Protocol;
use std::time::Duration;

/// Begins the comment of every table that a spad has made.
pub(crate) const MARK: &str = "spad ";
/// Raised when a later spad could not read what an earlier one has left.
const COMMENT: &str = "spad guard, format 1";

pub(crate) const GRANTS4: &str = "grants4";
pub(crate) const GRANTS6: &str = "grants6";
const EXISTING4: &str = "existing4";
const EXISTING6: &str = "existing6";
const PEERS4: &str = "knock_peers4";
const PEERS6: &str = "knock_peers6";

/// As long as conntrack remembers an established TCP connection that is silent.
const EXISTING_TIMEOUT: Duration = Duration::from_secs(5 * 24 * 3600);
const EXISTING_SIZE: u32 = 131_072;
/// Longer than conntrack remembers a UDP flow (120 s), so that no reply is lost.
const PEERS_TIMEOUT: Duration = Duration::from_secs(180);
const PEERS_SIZE: u32 = 16_384;

/// Before conntrack (−200) and whoever else works at "raw".
const RAW: i32 = -300;
/// After conntrack, before destination NAT (−100).
const GUARD: i32 = -150;
/// After source NAT (100).
const LAST: i32 = 250;

const SYN: u8 = 0x02;
const FIN_SYN_RST_ACK: u8 = 0x17;

/// What the guard ruleset is built from.
#[derive(Clone, Debug)]
pub struct GuardInput {
    /// UDP port on which knocks are heard.
    pub knock_port: u16,
    /// The services to shut.
    pub services: Vec<Protected>,
    /// Networks that need no knock.
    pub trusted: Vec<Network>,
    /// Bit of the conntrack label, 0 to 127, that marks connections made
    /// through a grant. Nobody else on the host may set it.
    pub label_bit: u8,
    /// How many elements each of the grant sets can hold.
    pub set_size: u32,
}

/// One protected service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// Its name in the configuration; `nft list` shows it beside the rule.
    pub name: String,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Its ports.
    pub ports: Vec<PortRange>,
}

/// The guard ruleset for `input`.
#[must_use]
pub fn ruleset(input: &GuardInput) -> Ruleset {
    Ruleset {
        comment: COMMENT.to_owned(),
        sets: sets(input.set_size),
        chains: chains(input),
        existing: Some(Existing {
            tcp: ports(&input.services, Protocol::Tcp),
            udp: ports(&input.services, Protocol::Udp),
            set4: EXISTING4.to_owned(),
            set6: EXISTING6.to_owned(),
        }),
    }
}

fn sets(grants: u32) -> Vec<Set> {
    use Datatype::{Ipv4Address, Ipv6Address, Port, Protocol};
    let set = |name: &str, key: &[Datatype], timeout: Option<Duration>, size| Set {
        name: name.to_owned(),
        key: key.to_vec(),
        dynamic: timeout.is_some(),
        timeout,
        size,
    };
    let existing = Some(EXISTING_TIMEOUT);
    let peers = Some(PEERS_TIMEOUT);
    vec![
        set(GRANTS4, &[Ipv4Address, Protocol, Port], None, grants),
        set(GRANTS6, &[Ipv6Address, Protocol, Port], None, grants),
        set(EXISTING4, &[Ipv4Address, Port, Ipv4Address, Port], existing, EXISTING_SIZE),
        set(EXISTING6, &[Ipv6Address, Port, Ipv6Address, Port], existing, EXISTING_SIZE),
        set(PEERS4, &[Ipv4Address, Port], peers, PEERS_SIZE),
        set(PEERS6, &[Ipv6Address, Port], peers, PEERS_SIZE),
    ]
}

fn chains(input: &GuardInput) -> Vec<Chain> {
    vec![
        base("knock_prerouting", Stage::Prerouting, RAW, knock_prerouting(input.knock_port)),
        regular("knock_here", knock_here()),
        regular("knock_bridged", knock_bridged()),
        base("guard_prerouting", Stage::Prerouting, GUARD, guard_prerouting(&input.services)),
        regular("guard_here", guard_here()),
        base("guard_input", Stage::Input, GUARD, guard_input(input)),
        regular("guard", guard(input)),
        regular("guard_granted", granted(input.label_bit)),
        regular("guard_spoofed", spoofed()),
        regular("knock_input", knock_input()),
        base("guard_output", Stage::Output, GUARD, own_connections(input)),
        base("knock_output", Stage::Output, LAST, own_knock_flow(input.knock_port)),
        base("knock_postrouting", Stage::Postrouting, LAST, translated_flow(input.knock_port)),
        regular("knock_peer", remember_peer()),
    ]
}

/// A base chain that leaves loopback traffic alone.
fn base(name: &str, stage: Stage, priority: i32, mut rules: Vec<Rule>) -> Chain {
    let loopback = match stage {
        Stage::Prerouting | Stage::Input => Statement::FromLoopback,
        Stage::Output | Stage::Postrouting => Statement::ToLoopback,
    };
    rules.insert(0, rule([loopback, Statement::Accept]));
    Chain { hook: Some(Hook { stage, priority }), ..regular(name, rules) }
}

fn regular(name: &str, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), hook: None, rules }
}

fn rule(statements: impl IntoIterator<Item = Statement>) -> Rule {
    Rule { statements: statements.into_iter().collect(), comment: String::new() }
}

fn jump(chain: &str) -> Statement {
    Statement::Jump(chain.to_owned())
}

fn goto(chain: &str) -> Statement {
    Statement::Goto(chain.to_owned())
}

fn drop() -> Rule {
    rule([Statement::Counter, Statement::Drop])
}

/// A UDP packet with the knock port at this end.
fn knock_port(port: u16, side: Side) -> Statement {
    Statement::Port(Protocol::Udp, side, PortRange::single(port))
}

/// One rule for each range of ports of the services: the ports, then the rest.
fn each_service<'a>(
    services: impl IntoIterator<Item = &'a Protected>,
    side: Side,
    then: &[Statement],
) -> Vec<Rule> {
    let rule = |service: &Protected, ports: &PortRange| Rule {
        comment: printable(&service.name),
        ..rule([&[Statement::Port(service.protocol, side, *ports)], then].concat())
    };
    let services = services.into_iter();
    services.flat_map(|s| s.ports.iter().map(move |ports| rule(s, ports))).collect()
}

fn of(services: &[Protected], protocol: Protocol) -> impl Iterator<Item = &Protected> {
    services.iter().filter(move |service| service.protocol == protocol)
}

/// A comment that nft reads back whatever the name is.
fn printable(name: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_. ".contains(*c);
    name.chars().filter(allowed).take(64).collect()
}

/// Before conntrack, so that a knock leaves no entry there.
fn knock_prerouting(port: u16) -> Vec<Rule> {
    vec![
        rule([knock_port(port, Side::Source), jump("guard_spoofed")]),
        rule([knock_port(port, Side::Destination), jump("knock_here")]),
    ]
}

/// No answer either, unless a flow of ours uses the port.
fn knock_here() -> Vec<Rule> {
    let peer = |address: Field, set: &str| {
        let key = vec![address, Field::Port(Side::Source)];
        rule([Statement::InSet(key, set.to_owned()), Statement::Accept])
    };
    let mut rules = vec![
        peer(Field::Ipv4(Side::Source), PEERS4),
        peer(Field::Ipv6(Side::Source), PEERS6),
        rule([Statement::FromBridge, goto("knock_bridged")]),
    ];
    rules.extend(addressed_to_us(&[Statement::Counter, Statement::Drop]));
    rules
}

/// With `br_netfilter` packets pass here before they reach the bridge, where
/// nobody has heard them yet: they are dropped at input instead.
fn knock_bridged() -> Vec<Rule> {
    addressed_to_us(&[Statement::NoTrack, Statement::Accept])
}

fn guard_prerouting(services: &[Protected]) -> Vec<Rule> {
    let udp = of(services, Protocol::Udp);
    let mut rules = each_service(udp, Side::Source, &[jump("guard_spoofed")]);
    rules.extend(each_service(services, Side::Destination, &[jump("guard_here")]));
    rules
}

fn guard_here() -> Vec<Rule> {
    // An answer to a flow that source NAT has put on the port: it goes on to
    // whom the flow belongs to. If that is this host, the second net sees it.
    let translated = [Statement::Direction(Direction::Reply), Statement::SourceTranslated];
    let mut rules = vec![rule(translated.into_iter().chain([Statement::Accept]))];
    rules.extend(addressed_to_us(&[goto("guard")]));
    rules
}

/// Packets from outside in our own name. Where they are forwarded, conntrack
/// would take the receiver's packets to our ports for answers to a flow of ours.
fn spoofed() -> Vec<Rule> {
    let ways = [
        Statement::Routed(Side::Source, AddressType::Local),
        Statement::RoutedHere(Side::Source, AddressType::Local),
    ];
    ways.map(|way| rule([way, Statement::Counter, Statement::Drop])).into()
}

/// One rule for each way in which a packet can be for this host. Everything
/// else is on its way to somebody else and none of our business.
fn addressed_to_us(then: &[Statement]) -> Vec<Rule> {
    use AddressType::{Anycast, Broadcast, Local, Multicast};
    let ways = [
        Statement::Routed(Side::Destination, Local),
        Statement::Routed(Side::Destination, Broadcast),
        Statement::Routed(Side::Destination, Anycast),
        Statement::Routed(Side::Destination, Multicast),
        // Finds the addresses of a VRF, of which the main tables know nothing.
        Statement::RoutedHere(Side::Destination, Local),
    ];
    // Link-local addresses are never routed, and kernels differ in what they
    // call them without an interface.
    let link_local = Statement::Within(Side::Destination, Network::LINK_LOCAL);
    let with_then = |way| rule(std::iter::once(way).chain(then.iter().cloned()));
    ways.into_iter().chain([link_local]).map(with_then).collect()
}

fn guard_input(input: &GuardInput) -> Vec<Rule> {
    let mut rules = each_service(&input.services, Side::Destination, &[jump("guard")]);
    rules.push(rule([knock_port(input.knock_port, Side::Destination), jump("knock_input")]));
    rules
}

/// What `knock_prerouting` let through because it could not tell whose it is.
fn knock_input() -> Vec<Rule> {
    vec![rule([Statement::Direction(Direction::Reply), Statement::Accept]), drop()]
}

/// Who may talk to a protected service.
fn guard(input: &GuardInput) -> Vec<Rule> {
    let mut rules = vec![
        rule([Statement::Labelled(input.label_bit), Statement::Accept]),
        // An answer to a datagram that this host sent from the service's port.
        // Not so for TCP: after its entry is gone, one more segment of the
        // server's would make a connection that was cut look like one of ours.
        rule([
            Statement::Protocol(Protocol::Udp),
            Statement::Direction(Direction::Reply),
            Statement::Accept,
        ]),
    ];
    rules.extend(input.trusted.iter().map(trusted));
    rules.push(rule([opening_segment(), goto("guard_granted")]));
    rules.push(rule([Statement::Protocol(Protocol::Udp), goto("guard_granted")]));
    rules.push(existing(Field::Ipv4, EXISTING4));
    rules.push(existing(Field::Ipv6, EXISTING6));
    rules.push(drop());
    rules
}

fn trusted(network: &Network) -> Rule {
    rule([Statement::Within(Side::Source, *network), Statement::Accept])
}

/// Connections from before the first ruleset; never a new one on their tuple.
fn existing(address: fn(Side) -> Field, set: &str) -> Rule {
    let end = |side| [address(side), Field::Port(side)];
    let key = [end(Side::Source), end(Side::Destination)].concat();
    rule([
        Statement::TcpFlags { mask: SYN, set: 0 },
        Statement::InSet(key.clone(), set.to_owned()),
        Statement::Update(key, set.to_owned()),
        Statement::Accept,
    ])
}

/// The packet that opens a connection: from a granted source, or not at all.
fn granted(label_bit: u8) -> Vec<Rule> {
    let from = |address: Field, set: &str| {
        let key = vec![address, Field::Protocol, Field::Port(Side::Destination)];
        rule([
            Statement::InSet(key, set.to_owned()),
            Statement::Label(label_bit),
            Statement::Counter,
            Statement::Accept,
        ])
    };
    vec![from(Field::Ipv4(Side::Source), GRANTS4), from(Field::Ipv6(Side::Source), GRANTS6), drop()]
}

/// The segment that opens a TCP connection.
fn opening_segment() -> Statement {
    Statement::TcpFlags { mask: FIN_SYN_RST_ACK, set: SYN }
}

/// Connections that this host itself begins from a protected port pass as if
/// through a grant.
fn own_connections(input: &GuardInput) -> Vec<Rule> {
    let tcp = of(&input.services, Protocol::Tcp);
    each_service(tcp, Side::Source, &[opening_segment(), Statement::Label(input.label_bit)])
}

/// Flows of this host's own programs that use the knock port. What it forwards
/// does not pass here: nobody else can add a peer by writing our port.
fn own_knock_flow(port: u16) -> Vec<Rule> {
    let original = Statement::Direction(Direction::Original);
    vec![rule([knock_port(port, Side::Source), original, jump("knock_peer")])]
}

/// Flows of others that this host's source NAT has put on the knock port.
fn translated_flow(port: u16) -> Vec<Rule> {
    let original = Statement::Direction(Direction::Original);
    let translated = Statement::SourceTranslated;
    vec![rule([knock_port(port, Side::Source), original, translated, jump("knock_peer")])]
}

fn remember_peer() -> Vec<Rule> {
    let remember = |address: Field, set: &str| {
        let key = vec![address, Field::Port(Side::Destination)];
        rule([Statement::Update(key, set.to_owned())])
    };
    vec![
        remember(Field::Ipv4(Side::Destination), PEERS4),
        remember(Field::Ipv6(Side::Destination), PEERS6),
    ]
}

fn ports(services: &[Protected], protocol: Protocol) -> Vec<PortRange> {
    of(services, protocol).flat_map(|service| service.ports.iter().copied()).collect()
}
