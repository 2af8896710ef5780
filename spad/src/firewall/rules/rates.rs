//! Public services with a rate: new connections over it are dropped, source by
//! source, each service for itself. An IPv6 source is its /64, which is what
//! one customer has.

use super::base::{addressed_to_us, dynamic, each_port, jump, opening_segment, regular, rule};
use crate::firewall::plan::{Access, Plan, Service};
use crate::firewall::ruleset::{Chain, Field, Limit, Rule, Set, Side, State, Statement};
use spa_proto::Protocol;
use std::time::Duration;

/// How many sources each service remembers.
const SIZE: u32 = 65_536;
/// How many bits of an IPv6 address make one source.
const IPV6_SOURCE: u8 = 64;

/// The sets of a service, IPv4 and IPv6.
pub(crate) fn set_names(service: &Service) -> [String; 2] {
    [4, 6].map(|family| format!("rate{family}_{}", service.name))
}

fn limited(plan: &Plan) -> impl Iterator<Item = (&Service, Limit)> {
    plan.services.iter().filter_map(|service| match service.access {
        Access::Public(Some(limit)) => Some((service, limit)),
        _ => None,
    })
}

fn sources() -> [Field; 2] {
    [Field::Ipv4(Side::Source), Field::Ipv6Net(IPV6_SOURCE)]
}

pub(super) fn sets(plan: &Plan) -> Vec<Set> {
    let sets = |(service, limit): (&Service, Limit)| {
        let [name4, name6] = set_names(service);
        let [v4, v6] = sources();
        [
            dynamic(name4, &[v4], full_again(limit), SIZE),
            dynamic(name6, &[v6], full_again(limit), SIZE),
        ]
    };
    limited(plan).flat_map(sets).collect()
}

/// After that time without a connection there is nothing left to remember.
fn full_again(limit: Limit) -> Duration {
    let seconds = u64::from(limit.burst) * u64::from(limit.unit.seconds());
    Duration::from_secs(seconds.div_ceil(u64::from(limit.count)).max(1))
}

/// Where a packet to a public service with a rate goes, if it is for this host.
pub(super) fn dispatch(plan: &Plan) -> Vec<Rule> {
    let services = limited(plan).map(|(service, _)| service);
    each_port(services, Side::Destination, |service, ports| {
        let begins = match ports.protocol {
            Protocol::Tcp => opening_segment(),
            Protocol::Udp => Statement::State(&[State::New]),
        };
        Some(vec![begins, jump(here(service))])
    })
}

pub(super) fn chains(plan: &Plan) -> Vec<Chain> {
    let chains = |(service, limit): (&Service, Limit)| {
        let inner = format!("rate_{}", service.name);
        [
            regular(&here(service), addressed_to_us(&[super::base::goto(inner.clone())])),
            regular(&inner, over(plan, service, limit)),
        ]
    };
    limited(plan).flat_map(chains).collect()
}

fn here(service: &Service) -> String {
    format!("rate_here_{}", service.name)
}

fn over(plan: &Plan, service: &Service, limit: Limit) -> Vec<Rule> {
    let trusted = plan
        .trusted
        .iter()
        .map(|network| super::base::accept([Statement::Within(Side::Source, *network)]));
    let over = set_names(service).into_iter().zip(sources()).map(|(set, source)| {
        rule([Statement::MoreOften(vec![source], set, limit), Statement::Drop])
    });
    trusted.chain(over).collect()
}
