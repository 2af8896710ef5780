//! Public services with a rate: new connections over it are dropped, source by
//! source, each service for itself. An IPv6 source is its /64, which is what
//! one customer has. Where a set is full, those that it does not know pass: a
//! flood from forged addresses must not shut everybody out.

use super::base::{
    addressed_to_us, drop, dynamic, each_port, goto, jump, opening_segment, regular,
};
use super::guard;
use crate::firewall::plan::{Access, Plan, Service};
use crate::firewall::ruleset::{Chain, Field, Limit, Rule, Set, Side, State, Statement};
use spa_proto::{Prefix, Protocol, ServiceName};
use std::net::IpAddr;
use std::time::Duration;

/// How many sources each service remembers.
const SIZE: u32 = 65_536;
/// How many bits of an IPv6 address make one source.
const IPV6_SOURCE: u8 = 64;

const PREFIXES: [&str; 2] = ["rate4_", "rate6_"];

/// The sets of a service, IPv4 and IPv6.
pub(crate) fn set_names(service: ServiceName) -> [String; 2] {
    PREFIXES.map(|prefix| format!("{prefix}{service}"))
}

/// Whether a set is one of these.
pub(crate) fn is_set(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What counts as one source with this address.
pub(crate) fn source(address: IpAddr) -> Prefix {
    Prefix::of(address, if address.is_ipv4() { 32 } else { IPV6_SOURCE })
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
        let [name4, name6] = set_names(service.name);
        let window = Duration::from_secs(limit.unit.seconds().into());
        let [v4, v6] = sources();
        [dynamic(name4, &[v4], window, SIZE), dynamic(name6, &[v6], window, SIZE)]
    };
    limited(plan).flat_map(sets).collect()
}

/// A source is remembered for one unit of time, beginning with its first
/// connection. A bucket that fills up by less than one in that time lets
/// through as many as there may be and not one more.
fn within_unit(limit: Limit) -> Limit {
    Limit { count: 1, unit: limit.unit, burst: limit.count }
}

/// Where a packet to a public service with a rate goes, if it is for this host.
pub(super) fn dispatch(plan: &Plan) -> Vec<Rule> {
    let services = limited(plan).map(|(service, _)| service);
    each_port(services, Side::Destination, |service, ports| {
        let begins = match ports.protocol {
            Protocol::Tcp => opening_segment(),
            // Somebody's `notrack` is no way around.
            Protocol::Udp => Statement::State(&[State::New, State::Untracked]),
        };
        Some(vec![begins, jump(here(service))])
    })
}

pub(super) fn chains(plan: &Plan) -> Vec<Chain> {
    let chains = |(service, limit): (&Service, Limit)| {
        let inner = format!("rate_{}", service.name);
        [
            regular(&here(service), addressed_to_us(&[goto(inner.clone())])),
            regular(&inner, over(plan, service, limit)),
        ]
    };
    limited(plan).flat_map(chains).collect()
}

fn here(service: &Service) -> String {
    format!("rate_here_{}", service.name)
}

fn over(plan: &Plan, service: &Service, limit: Limit) -> Vec<Rule> {
    let trusted = plan.trusted.iter().map(guard::trusted);
    let over = set_names(service.name)
        .into_iter()
        .zip(sources())
        .map(|(set, source)| drop([Statement::MoreOften(vec![source], set, within_unit(limit))]));
    trusted.chain(over).collect()
}
