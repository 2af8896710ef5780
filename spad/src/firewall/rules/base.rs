//! What the rules of all rooms are made with.

use crate::firewall::plan::{Ports, Service};
use crate::firewall::ruleset::{
    AddressType, Chain, Datatype, Field, Hook, Rule, Set, Side, Stage, Statement,
};
use spa_proto::{Prefix, Protocol};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

const SYN: u8 = 0x02;
const FIN_SYN_RST_ACK: u8 = 0x17;

/// A base chain that leaves loopback traffic alone.
pub(super) fn base(name: &str, stage: Stage, priority: i32, mut rules: Vec<Rule>) -> Chain {
    let loopback = match stage {
        Stage::Prerouting | Stage::Input | Stage::Forward => Statement::FromLoopback,
        Stage::Output | Stage::Postrouting => Statement::ToLoopback,
    };
    rules.insert(0, accept([loopback]));
    Chain { hook: Some(Hook { nat: false, stage, priority }), ..regular(name, rules) }
}

/// A base chain that translates addresses.
pub(super) fn nat(name: &str, stage: Stage, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { hook: Some(Hook { nat: true, stage, priority }), ..regular(name, rules) }
}

pub(super) fn regular(name: &str, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), hook: None, rules }
}

/// Every rule counts the packets that it applies to.
pub(super) fn rule(statements: impl IntoIterator<Item = Statement>) -> Rule {
    let mut statements: Vec<_> = statements.into_iter().collect();
    let last = statements.last().is_some_and(Statement::ends_the_rule);
    let at = statements.len() - usize::from(last);
    statements.insert(at, Statement::Counter);
    Rule { statements, comment: String::new() }
}

/// The packet passes if all of it matches.
pub(super) fn accept(matches: impl IntoIterator<Item = Statement>) -> Rule {
    rule(matches.into_iter().chain([Statement::Accept]))
}

/// The packet is gone if all of it matches.
pub(super) fn drop(matches: impl IntoIterator<Item = Statement>) -> Rule {
    rule(matches.into_iter().chain([Statement::Drop]))
}

pub(super) fn jump(chain: impl Into<String>) -> Statement {
    Statement::Jump(chain.into())
}

pub(super) fn goto(chain: impl Into<String>) -> Statement {
    Statement::Goto(chain.into())
}

/// One rule for each range of ports of the services: the ports, then the rest.
/// `nft list` shows the service's name beside it.
pub(super) fn each_port<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    side: Side,
    then: impl Fn(&Service, &Ports) -> Option<Vec<Statement>>,
) -> Vec<Rule> {
    let named = |service: &Service, ports: &Ports| {
        let matched = Statement::Port(ports.protocol, side, ports.range);
        let then = then(service, ports)?;
        let comment = service.name.to_string();
        Some(Rule { comment, ..rule(std::iter::once(matched).chain(then)) })
    };
    let of = |service: &'a Service| service.ports.iter().filter_map(move |p| named(service, p));
    services.into_iter().flat_map(of).collect()
}

/// Only for the ports of one protocol.
pub(super) fn only(
    protocol: Protocol,
    then: Vec<Statement>,
) -> impl Fn(&Service, &Ports) -> Option<Vec<Statement>> {
    move |_, ports| (ports.protocol == protocol).then(|| then.clone())
}

/// One rule for each way in which a packet can be for this host. Everything
/// else is on its way to somebody else and none of our business.
pub(super) fn addressed_to_us(then: &[Statement]) -> Vec<Rule> {
    use AddressType::{Anycast, Broadcast, Local, Multicast};
    let ways = [
        Statement::Routed(Side::Destination, Local),
        Statement::Routed(Side::Destination, Broadcast),
        Statement::Routed(Side::Destination, Anycast),
        Statement::Routed(Side::Destination, Multicast),
        // Finds the addresses of a VRF, of which the main tables know nothing.
        Statement::RoutedHere(Side::Destination, Local),
        // Link-local addresses are never routed, and kernels differ in what they
        // call them without an interface.
        Statement::Within(Side::Destination, link_local()),
    ];
    let with_then = |way| rule(std::iter::once(way).chain(then.iter().cloned()));
    ways.into_iter().map(with_then).collect()
}

/// IPv6 link-local addresses, fe80::/10.
pub(super) fn link_local() -> Prefix {
    Prefix::of(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10)
}

/// The segment that opens a TCP connection.
pub(super) fn opening_segment() -> Statement {
    Statement::TcpFlags { mask: FIN_SYN_RST_ACK, set: SYN }
}

/// No segment that asks for a connection.
pub(super) fn no_syn() -> Statement {
    Statement::TcpFlags { mask: SYN, set: 0 }
}

/// A set to which rules add.
pub(super) fn dynamic(name: impl Into<String>, key: &[Field], timeout: Duration, size: u32) -> Set {
    Set {
        name: name.into(),
        key: key.iter().map(|field| field.datatype()).collect::<Vec<Datatype>>(),
        dynamic: true,
        interval: false,
        limit: None,
        timeout: Some(timeout),
        size,
    }
}
