//! Helpers of connection tracking, for those connections that were named. What
//! they let in is related to one that was let in; to a protected service it
//! needs a grant like anything else.

use super::GUARD;
use super::base::{base, rule};
use crate::firewall::plan::{KnownHelper, Managed, Mode, Plan};
use crate::firewall::ruleset::{Chain, Helper, Rule, Side, Stage, Statement};

pub(super) fn objects(plan: &Plan) -> Vec<Helper> {
    if plan.mode != Mode::Managed {
        return Vec::new();
    }
    let object = |helper: &KnownHelper| Helper {
        name: helper.name.to_owned(),
        protocol: helper.port.protocol,
    };
    plan.managed.helpers.iter().map(object).collect()
}

/// Before destination NAT, and before a connection is confirmed.
pub(super) fn chains(managed: &Managed) -> Vec<Chain> {
    if managed.helpers.is_empty() {
        return Vec::new();
    }
    vec![
        base("helpers_prerouting", Stage::Prerouting, GUARD, assign(managed)),
        base("helpers_output", Stage::Output, GUARD, assign(managed)),
    ]
}

fn assign(managed: &Managed) -> Vec<Rule> {
    let assign = |helper: &KnownHelper| {
        let port = Statement::Port(helper.port.protocol, Side::Destination, helper.port.range);
        rule([port, Statement::Help(helper.name.to_owned())])
    };
    managed.helpers.iter().map(assign).collect()
}
