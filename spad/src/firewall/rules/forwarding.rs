//! What goes through a managed host: connections made through a grant, those to
//! public services of inner hosts, and those that the networks behind it make.

use super::base::{accept, base, drop, nat, rule};
use super::gateway::{self, sent_on};
use super::managed::{connected, refused};
use super::{FILTER, SOURCE_NAT};
use crate::firewall::plan::{Access, Managed, Plan, Service, Source, Target};
use crate::firewall::ruleset::{Chain, Rule, Side, Stage, State, Statement};
use std::net::IpAddr;

pub(super) fn chains(plan: &Plan) -> Vec<Chain> {
    let translated = translated(&plan.managed);
    let mut chains = vec![base("managed_forward", Stage::Forward, FILTER, going_through(plan))];
    if !translated.is_empty() {
        chains.push(nat("managed_postrouting", Stage::Postrouting, SOURCE_NAT, translated));
    }
    chains
}

fn going_through(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![drop([Statement::State(&[State::Invalid])])];
    rules.extend(connected(plan));
    rules.extend(gateway::targets(plan).flat_map(|(s, target)| to_target(plan, s, target)));
    rules.extend(outward(&plan.managed).map(accept));
    rules.extend(refused());
    rules
}

/// Who needs no grant for a service of an inner host. What somebody else's
/// destination NAT sends there from other ports is not meant.
fn to_target(plan: &Plan, service: &Service, target: Target) -> Vec<Rule> {
    let rules = |address: IpAddr| {
        let at_target = service.ports.iter().map(move |ports| sent_on(target, address, ports));
        at_target.flat_map(move |at_target| {
            let sources = sources(plan, service, address.is_ipv4());
            sources.into_iter().map(move |source| accept([source, at_target.clone()].concat()))
        })
    };
    target.addresses().flat_map(rules).collect()
}

fn sources(plan: &Plan, service: &Service, v4: bool) -> Vec<Vec<Statement>> {
    if service.access != Access::Knock {
        return vec![Vec::new()];
    }
    let of_family = plan.trusted.iter().filter(|network| network.address().is_ipv4() == v4);
    of_family.map(|network| vec![Statement::Within(Side::Source, *network)]).collect()
}

/// From the networks behind this host to everybody else.
fn outward(managed: &Managed) -> impl Iterator<Item = [Statement; 2]> {
    managed.inside.iter().flat_map(|inside| {
        let to = |outside: &String| {
            [Statement::FromInterface(inside.clone()), Statement::ToInterface(outside.clone())]
        };
        managed.outside.iter().map(to)
    })
}

fn translated(managed: &Managed) -> Vec<Rule> {
    let families = [(Statement::Ipv4, managed.source4), (Statement::Ipv6, managed.source6)];
    let rules = |(family, source): (Statement, Source)| {
        let becomes = match source {
            Source::Own => return Vec::new(),
            Source::Interface => Statement::Masquerade,
            Source::Address(address) => Statement::SourceNat(address),
        };
        let becomes = [becomes];
        let to_rule =
            |outward: [Statement; 2]| rule([&[family.clone()][..], &outward, &becomes].concat());
        outward(managed).map(to_rule).collect()
    };
    families.into_iter().flat_map(rules).collect()
}
