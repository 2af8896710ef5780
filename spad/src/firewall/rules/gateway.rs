//! Services of inner hosts: connections made through a grant, and those of
//! trusted networks, are sent on; nobody else's come as far as here.

use super::base::{each_port, nat, rule};
use super::{DESTINATION_NAT, SOURCE_NAT};
use crate::firewall::plan::{Plan, Service, Target};
use crate::firewall::ruleset::{AddressType, Chain, PortRange, Rule, Side, Stage, Statement};
use spa_proto::Prefix;
use std::net::IpAddr;

pub(super) fn chains(plan: &Plan) -> Vec<Chain> {
    let targets: Vec<_> = plan.protected().filter_map(|s| Some((s, s.target?))).collect();
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

/// Who may, is sent on.
fn inward(plan: &Plan, service: &Service, target: Target) -> Vec<Rule> {
    let to = |address: IpAddr| {
        let who = who_may(plan, address.is_ipv4());
        who.into_iter().flat_map(move |who| to_target(service, &who, target, address))
    };
    target.addresses().flat_map(to).collect()
}

/// Whoever has a grant, and the trusted networks of that family.
fn who_may(plan: &Plan, v4: bool) -> Vec<Vec<Statement>> {
    let granted = vec![Statement::Labelled(plan.labels.granted)];
    let trusted = plan.trusted.iter().filter(|network| network.address().is_ipv4() == v4);
    let trusted = trusted.map(|network| {
        let local = Statement::Routed(Side::Destination, AddressType::Local);
        vec![Statement::Within(Side::Source, *network), local]
    });
    std::iter::once(granted).chain(trusted).collect()
}

fn to_target(service: &Service, who: &[Statement], target: Target, address: IpAddr) -> Vec<Rule> {
    let send = [Statement::DestinationNat(address, target.port)];
    each_port([service], Side::Destination, |_, _| Some([who, &send[..]].concat()))
}

/// The inner host answers to this one, where its own route leads elsewhere.
fn outward(service: &Service, target: Target) -> Vec<Rule> {
    let masquerade = |address: IpAddr| {
        let host = Prefix::of(address, 128);
        service.ports.iter().map(move |ports| {
            let range = target.port.map_or(ports.range, PortRange::single);
            rule([
                Statement::Within(Side::Destination, host),
                Statement::Port(ports.protocol, Side::Destination, range),
                Statement::DestinationTranslated,
                Statement::Masquerade,
            ])
        })
    };
    target.addresses().filter(|_| target.source_nat).flat_map(masquerade).collect()
}
