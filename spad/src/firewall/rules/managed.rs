//! Managed: of everything else that comes in, goes through and goes out, too.
//!
//! These chains stand behind the guard, and what is dropped there is gone: no
//! accept of theirs opens a protected service, lets a banned source in, or a
//! public service be asked too often.

use super::base::{accept, base, drop, each_port, jump, rule};
use super::essentials::{self, ESSENTIALS};
use super::guard::{self, EXISTING4, EXISTING6};
use super::{FILTER, forwarding, helpers, reverse_path};
use crate::firewall::plan::{Access, Mode, Plan, Service};
use crate::firewall::ruleset::{
    AddressType, Chain, Field, Limit, Many, Rule, Side, Stage, State, Statement, Unit,
};

const LOG_PREFIX: &str = "spad: drop ";
const LOG_RATE: Limit = Limit { count: 10, unit: Unit::Minute, burst: 10 };

pub(super) fn chains(plan: &Plan) -> Vec<Chain> {
    if plan.mode != Mode::Managed {
        return Vec::new();
    }
    [
        reverse_path::chains(&plan.managed),
        helpers::chains(&plan.managed),
        vec![base("managed_input", Stage::Input, FILTER, coming_in(plan))],
        essentials::chains(plan),
        forwarding::chains(plan),
        vec![base("managed_output", Stage::Output, FILTER, vec![accept([])])],
    ]
    .concat()
}

fn coming_in(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![
        // Before the state is asked for: connection tracking may not know them.
        guard::existing(Field::Ipv4, EXISTING4),
        guard::existing(Field::Ipv6, EXISTING6),
        drop([Statement::State(&[State::Invalid])]),
        rule([jump(ESSENTIALS)]),
    ];
    rules.extend(connected(plan));
    rules.extend(plan.trusted.iter().map(guard::trusted));
    rules.extend(public(plan));
    rules.extend(to_many());
    rules.extend(refused());
    rules
}

/// Of connections that were let in before. A grant has labelled its connection
/// by now, if this is the first packet.
pub(super) fn connected(plan: &Plan) -> [Rule; 2] {
    [
        accept([Statement::Labelled(plan.labels.granted)]),
        accept([Statement::State(&[State::Established, State::Related])]),
    ]
}

/// Public services of this host itself. Those of inner hosts are sent on.
fn public(plan: &Plan) -> Vec<Rule> {
    let here = |service: &&Service| {
        matches!(service.access, Access::Public(_)) && service.target.is_none()
    };
    let accept = |_: &_, _: &_| Some(vec![Statement::Accept]);
    each_port(plan.services.iter().filter(here), Side::Destination, accept)
}

/// What networks are full of, and no log is to be.
fn to_many() -> [Rule; 3] {
    [
        drop([Statement::SentTo(Many::Broadcast)]),
        drop([Statement::SentTo(Many::Multicast)]),
        // What this host itself has sent to a group comes back as neither.
        drop([Statement::Routed(Side::Destination, AddressType::Multicast)]),
    ]
}

/// The end of a chain.
pub(super) fn refused() -> [Rule; 2] {
    [rule([Statement::NoMoreThan(LOG_RATE), Statement::Log(LOG_PREFIX.to_owned())]), drop([])]
}
