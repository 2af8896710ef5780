//! Knocks are heard before they come here; here they end, without an answer
//! and without an entry in connection tracking.

use super::base::{accept, addressed_to_us, base, drop, dynamic, goto, jump, regular, rule};
use super::{GUARD, LAST, RAW};
use crate::firewall::ruleset::{
    AddressType, Chain, Direction, Field, PortRange, Rule, Set, Side, Stage, Statement,
};
use spa_proto::Protocol;
use std::time::Duration;

const PEERS4: &str = "knock_peers4";
const PEERS6: &str = "knock_peers6";

/// Longer than conntrack remembers a UDP flow (120 s), so that no reply is lost.
const PEERS_TIMEOUT: Duration = Duration::from_secs(180);
const PEERS_SIZE: u32 = 16_384;

pub(super) fn sets() -> [Set; 2] {
    let set = |name, address: fn(Side) -> Field| {
        let key = [address(Side::Source), Field::Port(Side::Source)];
        dynamic(name, &key, PEERS_TIMEOUT, PEERS_SIZE)
    };
    [set(PEERS4, Field::Ipv4), set(PEERS6, Field::Ipv6)]
}

pub(super) fn chains(port: u16) -> Vec<Chain> {
    vec![
        base("knock_prerouting", Stage::Prerouting, RAW, arriving(port)),
        regular("knock_here", here()),
        regular("knock_bridged", bridged()),
        base("knock_input", Stage::Input, GUARD, delivered(port)),
        base("knock_output", Stage::Output, LAST, own_flow(port)),
        base("knock_postrouting", Stage::Postrouting, LAST, translated_flow(port)),
        regular("knock_peer", remember_peer()),
        regular("spoofed", spoofed()),
    ]
}

/// A UDP packet with the knock port at this end.
fn knock_port(port: u16, side: Side) -> Statement {
    Statement::Port(Protocol::Udp, side, PortRange::single(port))
}

/// Before conntrack, so that a knock leaves no entry there.
fn arriving(port: u16) -> Vec<Rule> {
    vec![
        rule([knock_port(port, Side::Source), jump("spoofed")]),
        rule([knock_port(port, Side::Destination), jump("knock_here")]),
    ]
}

/// No answer either, unless a flow of ours uses the port.
fn here() -> Vec<Rule> {
    let peer = |address: Field, set: &str| {
        let key = vec![address, Field::Port(Side::Source)];
        accept([Statement::InSet(key, set.to_owned())])
    };
    let mut rules = vec![
        peer(Field::Ipv4(Side::Source), PEERS4),
        peer(Field::Ipv6(Side::Source), PEERS6),
        rule([Statement::FromBridge, goto("knock_bridged")]),
    ];
    rules.extend(addressed_to_us(&[Statement::Drop]));
    rules
}

/// With `br_netfilter` packets pass here before they reach the bridge, where
/// nobody has heard them yet: they are dropped at input instead.
fn bridged() -> Vec<Rule> {
    addressed_to_us(&[Statement::NoTrack, Statement::Accept])
}

/// What was let through before because nobody could tell whose it is.
fn delivered(port: u16) -> Vec<Rule> {
    let knock = || knock_port(port, Side::Destination);
    vec![accept([knock(), Statement::Direction(Direction::Reply)]), drop([knock()])]
}

/// Flows of this host's own programs that use the knock port. What it forwards
/// does not pass here: nobody else can add a peer by writing our port.
fn own_flow(port: u16) -> Vec<Rule> {
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

/// Packets from outside in our own name. Where they are forwarded, conntrack
/// would take the receiver's packets to our ports for answers to a flow of ours.
fn spoofed() -> Vec<Rule> {
    let ways = [
        Statement::Routed(Side::Source, AddressType::Local),
        Statement::RoutedHere(Side::Source, AddressType::Local),
    ];
    ways.map(|way| drop([way])).into()
}
