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
            ports: tcp_ports(&input.services),
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
        base("knock_prerouting", Stage::Prerouting, RAW, vec![to_knock_port(input, "knock_here")]),
        regular("knock_here", knock_here()),
        base("guard_prerouting", Stage::Prerouting, GUARD, to_services(input, "guard_here")),
        regular("guard_here", guard_here()),
        base("guard_input", Stage::Input, GUARD, guard_input(input)),
        regular("guard", guard(input)),
        regular("guard_granted", granted(input.label_bit)),
        regular("knock_input", knock_input()),
        base("knock_output", Stage::Output, LAST, own_flow(input.knock_port)),
        base("knock_postrouting", Stage::Postrouting, LAST, translated_flow(input.knock_port)),
        regular("knock_peer", remember_peer()),
    ]
}

/// A base chain that leaves loopback traffic alone.
fn base(name: &str, stage: Stage, priority: i32, mut rules: Vec<Rule>) -> Chain {
    if matches!(stage, Stage::Prerouting | Stage::Input) {
        rules.insert(0, rule([Statement::FromLoopback, Statement::Accept]));
    }
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

fn to_knock_port(input: &GuardInput, chain: &str) -> Rule {
    let port = PortRange::single(input.knock_port);
    rule([Statement::Port(Protocol::Udp, Side::Destination, port), jump(chain)])
}

fn to_services(input: &GuardInput, chain: &str) -> Vec<Rule> {
    input.services.iter().flat_map(|service| to_service(service, chain)).collect()
}

fn to_service<'a>(service: &'a Protected, chain: &'a str) -> impl Iterator<Item = Rule> + 'a {
    service.ports.iter().map(move |ports| Rule {
        comment: printable(&service.name),
        ..rule([Statement::Port(service.protocol, Side::Destination, *ports), jump(chain)])
    })
}

/// A comment that nft reads back whatever the name is.
fn printable(name: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_. ".contains(*c);
    name.chars().filter(allowed).take(64).collect()
}

/// Before conntrack: no entry, no answer, unless a flow of ours uses the port.
fn knock_here() -> Vec<Rule> {
    let peer = |address: Field, set: &str| {
        let key = vec![address, Field::Port(Side::Source)];
        rule([Statement::InSet(key, set.to_owned()), Statement::Accept])
    };
    let mut rules =
        vec![peer(Field::Ipv4(Side::Source), PEERS4), peer(Field::Ipv6(Side::Source), PEERS6)];
    rules.extend(addressed_to_us(&[Statement::Counter, Statement::Drop]));
    rules
}

fn guard_here() -> Vec<Rule> {
    addressed_to_us(&[goto("guard")])
}

/// One rule for each way in which a packet can be for this host. Everything
/// else is on its way to somebody else and none of our business.
fn addressed_to_us(then: &[Statement]) -> Vec<Rule> {
    use AddressType::{Anycast, Broadcast, Local, Multicast};
    let ways = [
        Statement::Destination(Local),
        Statement::Destination(Broadcast),
        Statement::Destination(Anycast),
        Statement::Destination(Multicast),
        // Finds the addresses of a VRF, of which the main tables know nothing.
        Statement::DestinationHere(Local),
    ];
    // Link-local addresses are never routed, and kernels differ in what they
    // call them without an interface.
    let link_local = Statement::Within(Side::Destination, Network::LINK_LOCAL);
    let with_then = |way| rule(std::iter::once(way).chain(then.iter().cloned()));
    ways.into_iter().chain([link_local]).map(with_then).collect()
}

fn guard_input(input: &GuardInput) -> Vec<Rule> {
    let mut rules = to_services(input, "guard");
    rules.push(to_knock_port(input, "knock_input"));
    rules
}

/// What `knock_prerouting` let through because it could not tell whose it is.
fn knock_input() -> Vec<Rule> {
    vec![rule([Statement::Direction(Direction::Reply), Statement::Accept]), drop()]
}

/// Who may talk to a protected service.
fn guard(input: &GuardInput) -> Vec<Rule> {
    let opening = Statement::TcpFlags { mask: FIN_SYN_RST_ACK, set: SYN };
    let mut rules = vec![
        rule([Statement::Labelled(input.label_bit), Statement::Accept]),
        // An answer to a flow that this host began from the service's port.
        rule([Statement::Direction(Direction::Reply), Statement::Accept]),
    ];
    rules.extend(input.trusted.iter().map(trusted));
    rules.push(rule([opening, goto("guard_granted")]));
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

/// Flows of this host's own programs that use the knock port. What it forwards
/// does not pass here: nobody else can add a peer by writing our port.
fn own_flow(knock_port: u16) -> Vec<Rule> {
    vec![rule([
        Statement::ToOutside,
        Statement::Port(Protocol::Udp, Side::Source, PortRange::single(knock_port)),
        Statement::Direction(Direction::Original),
        jump("knock_peer"),
    ])]
}

/// Flows of others that this host's source NAT has put on the knock port.
fn translated_flow(knock_port: u16) -> Vec<Rule> {
    vec![rule([
        Statement::ToOutside,
        Statement::Port(Protocol::Udp, Side::Source, PortRange::single(knock_port)),
        Statement::Direction(Direction::Original),
        Statement::SourceTranslated,
        jump("knock_peer"),
    ])]
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

fn tcp_ports(services: &[Protected]) -> Vec<PortRange> {
    let tcp = services.iter().filter(|s| s.protocol == Protocol::Tcp);
    tcp.flat_map(|s| s.ports.iter().copied()).collect()
}
