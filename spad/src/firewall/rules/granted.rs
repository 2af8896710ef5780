//! Who has a grant: one chain for each protected service. A packet that begins
//! a connection from a granted source leaves it accepted, and its connection
//! labelled; any other comes back.

use super::base::{accept, drop, each_port, goto, jump, opening_segment, regular, rule};
use crate::firewall::grant_set::GrantSet;
use crate::firewall::plan::{Plan, Service};
use crate::firewall::ruleset::{Chain, Rule, Side, Statement};

/// Where the search for a grant begins.
pub(super) const GRANTED: &str = "granted";

/// All sets that hold grants.
pub(super) fn sets(plan: &Plan) -> Vec<GrantSet> {
    plan.protected().flat_map(|service| plan.grant_sets(service.name)).collect()
}

pub(super) fn chains(plan: &Plan) -> Vec<Chain> {
    let by_port = each_port(plan.protected(), Side::Destination, |service, _| {
        Some(vec![goto(chain_of(service))])
    });
    let of_service =
        plan.protected().map(|service| regular(&chain_of(service), rules(plan, service)));
    std::iter::once(regular(GRANTED, by_port)).chain(of_service).collect()
}

/// Packets of a connection that was made through a grant pass; but not one that
/// begins another on the same ports, which conntrack takes for a part of the one
/// before as long as it remembers that: it needs a grant of its own.
pub(super) fn made_through_a_grant(plan: &Plan) -> [Rule; 3] {
    let granted = Statement::Labelled(plan.labels.granted);
    let another = [opening_segment(), Statement::Assured, granted.clone()];
    [rule(another.clone().into_iter().chain([jump(GRANTED)])), drop(another), accept([granted])]
}

pub(super) fn chain_of(service: &Service) -> String {
    format!("granted_{}", service.name)
}

fn rules(plan: &Plan, service: &Service) -> Vec<Rule> {
    let granted = |set: GrantSet| {
        let found = Statement::InSet(set.fields(), set.name());
        accept([found, Statement::Label(plan.labels.granted)])
    };
    plan.grant_sets(service.name).into_iter().map(granted).collect()
}
