//! Attach: shuts nothing, for the host's own chains do that. Connections made
//! through a grant are labelled when they arrive, and their packets marked just
//! before those chains, each of which has one rule of ours that accepts the mark.
//!
//! The mark is set behind the routing decision, so that policy routing by marks
//! never sees it, and taken from whoever comes with it and has no grant.

use super::bans::FROM_BANNED;
use super::base::{
    accept, addressed_to_us, base, drop, each_port, goto, jump, opening_segment, regular, rule,
};
use super::granted::{GRANTED, made_through_a_grant};
use super::{GUARD, guard, rates};
use crate::firewall::plan::{Plan, Ports, Service, Target};
use crate::firewall::ruleset::{Chain, PortRange, Rule, Side, Stage, Statement};
use spa_proto::{Prefix, Protocol};
use std::net::IpAddr;

const LABEL: &str = "attach";
const HERE: &str = "attach_here";

/// The mark that our rule in other people's chains accepts.
pub(crate) const fn mark(plan: &Plan) -> u32 {
    1 << plan.mark_bit
}

/// The rule itself, the same in every chain: as `iptables -m mark` writes it,
/// so that the tools of iptables can read it.
pub(crate) fn accept_marked(mark: u32, comment: &str) -> Rule {
    Rule { comment: comment.to_owned(), ..accept([Statement::Marked(mark)]) }
}

pub(super) fn chains(plan: &Plan) -> Vec<Chain> {
    vec![
        base("attach_prerouting", Stage::Prerouting, GUARD, arriving(plan)),
        regular(HERE, addressed_to_us(&[goto(LABEL)])),
        regular(LABEL, label(plan)),
        base("attach_input", Stage::Input, GUARD, marked(plan, trusted_here(plan))),
        base("attach_forward", Stage::Forward, GUARD, marked(plan, trusted_behind(plan))),
        base("attach_postrouting", Stage::Postrouting, GUARD, guard::leaving(plan)),
    ]
}

fn arriving(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![drop([Statement::Labelled(plan.labels.cut)])];
    rules.extend(plan.absolute_bans.then(|| rule([jump(FROM_BANNED)])));
    rules.extend(each_port(plan.protected(), Side::Destination, |_, _| Some(vec![jump(HERE)])));
    rules.push(rule([jump(FROM_BANNED)]));
    rules.extend(rates::dispatch(plan));
    rules
}

/// Who has no grant comes back, and is left to the host's own chains.
fn label(plan: &Plan) -> Vec<Rule> {
    let mut rules = made_through_a_grant(plan).to_vec();
    rules.extend([
        rule([opening_segment(), jump(GRANTED)]),
        rule([Statement::Protocol(Protocol::Udp), jump(GRANTED)]),
    ]);
    rules
}

fn marked(plan: &Plan, trusted: Vec<Rule>) -> Vec<Rule> {
    let granted = accept([Statement::Labelled(plan.labels.granted), Statement::Mark(mark(plan))]);
    let stranger = rule([Statement::Marked(mark(plan)), Statement::Unmark(mark(plan))]);
    std::iter::once(granted).chain(trusted).chain([stranger]).collect()
}

/// Trusted networks need no knock for the services of this host.
fn trusted_here(plan: &Plan) -> Vec<Rule> {
    let mark = [Statement::Mark(mark(plan)), Statement::Counter, Statement::Accept];
    let from = |network: &Prefix| {
        let then = [&[Statement::Within(Side::Source, *network)], &mark[..]].concat();
        each_port(plan.protected(), Side::Destination, move |_, _| Some(then.clone()))
    };
    plan.trusted.iter().flat_map(from).collect()
}

/// Nor for those of inner hosts.
fn trusted_behind(plan: &Plan) -> Vec<Rule> {
    let targets = || plan.protected().filter_map(|service| Some((service, service.target?)));
    let from = |network: &Prefix| {
        let network = *network;
        targets().flat_map(move |(service, target)| to_target(plan, network, service, target))
    };
    plan.trusted.iter().flat_map(from).collect()
}

fn to_target(plan: &Plan, from: Prefix, service: &Service, target: Target) -> Vec<Rule> {
    let same_family = |to: &IpAddr| to.is_ipv4() == from.address().is_ipv4();
    let to = target.addresses().filter(same_family);
    let rule = |to: IpAddr, ports: &Ports| {
        let range = target.port.map_or(ports.range, PortRange::single);
        accept([
            Statement::Within(Side::Source, from),
            Statement::Within(Side::Destination, Prefix::of(to, 128)),
            Statement::Port(ports.protocol, Side::Destination, range),
            Statement::DestinationTranslated,
            Statement::Mark(mark(plan)),
        ])
    };
    to.flat_map(|to| service.ports.iter().map(move |ports| rule(to, ports))).collect()
}
