//! Services of inner hosts: connections made through a grant, and those of
//! trusted networks, are sent on; nobody else's come as far as here. Those to a
//! public service are sent on whoever makes them.

use super::base::{each_port, nat, rule};
use super::{DESTINATION_NAT, SOURCE_NAT};
use crate::firewall::plan::{Access, Mode, Plan, Ports, Service, Target};
use crate::firewall::ruleset::{AddressType, Chain, PortRange, Rule, Side, Stage, Statement};
use spa_proto::Prefix;
use std::net::IpAddr;

pub(super) fn chains(plan: &Plan) -> Vec<Chain> {
    let targets: Vec<_> = targets(plan).collect();
    if targets.is_empty() {
        return Vec::new();
    }
    let inward = targets.iter().flat_map(|(service, target)| inward(plan, service, *target));
    let outward = targets.iter().flat_map(|(service, target)| outward(service, *target));
    vec![
        nat("gateway_prerouting", Stage::Prerouting, DESTINATION_NAT, inward.collect()),
        nat("gateway_postrouting", Stage::Postrouting, SOURCE_NAT, outward.collect()),
    ]
}

/// The services of inner hosts. In other people's chains only granted packets
/// would get any further, so that there are no public ones beside them.
pub(super) fn targets(plan: &Plan) -> impl Iterator<Item = (&Service, Target)> {
    let granted_only = plan.mode == Mode::Attach;
    let sent_on = move |s: &&Service| !granted_only || s.access == Access::Knock;
    plan.services.iter().filter(sent_on).filter_map(|s| Some((s, s.target?)))
}

/// Who may, is sent on.
fn inward(plan: &Plan, service: &Service, target: Target) -> Vec<Rule> {
    let to = |address: IpAddr| {
        let who = who_may(plan, service, address.is_ipv4());
        who.into_iter().flat_map(move |who| to_target(service, &who, target, address))
    };
    target.addresses().flat_map(to).collect()
}

/// Whoever has a grant, and the trusted networks of that family; or everyone.
fn who_may(plan: &Plan, service: &Service, v4: bool) -> Vec<Vec<Statement>> {
    let to_us = Statement::Routed(Side::Destination, AddressType::Local);
    if service.access != Access::Knock {
        return vec![vec![to_us]];
    }
    let granted = vec![Statement::Labelled(plan.labels.granted)];
    let trusted = plan.trusted.iter().filter(|network| network.address().is_ipv4() == v4);
    let trusted =
        trusted.map(|network| vec![Statement::Within(Side::Source, *network), to_us.clone()]);
    std::iter::once(granted).chain(trusted).collect()
}

fn to_target(service: &Service, who: &[Statement], target: Target, address: IpAddr) -> Vec<Rule> {
    let send = [Statement::DestinationNat(address, target.port)];
    each_port([service], Side::Destination, |_, _| Some([who, &send[..]].concat()))
}

/// The inner host answers to this one, where its own route leads elsewhere.
fn outward(service: &Service, target: Target) -> Vec<Rule> {
    let masquerade = |address: IpAddr| {
        let sent_on = service.ports.iter().map(move |ports| sent_on(target, address, ports));
        sent_on.map(|sent_on| rule([&sent_on[..], &[Statement::Masquerade]].concat()))
    };
    target.addresses().filter(|_| target.source_nat).flat_map(masquerade).collect()
}

/// How a packet looks that was sent on.
pub(super) fn sent_on(target: Target, address: IpAddr, ports: &Ports) -> Vec<Statement> {
    let range = target.port.map_or(ports.range, PortRange::single);
    vec![
        Statement::Within(Side::Destination, Prefix::of(address, 128)),
        Statement::Port(ports.protocol, Side::Destination, range),
        Statement::DestinationTranslated,
    ]
}
