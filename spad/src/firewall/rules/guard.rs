//! Guard: shuts the protected services to everyone without a grant, and says
//! nothing about the rest of the traffic.
//!
//! Two nets, one behind the other. `guard_prerouting` sees the port that the
//! sender wrote, before anybody's destination NAT: what is published from
//! there to elsewhere is covered too. `guard_input` sees the port that a packet
//! is delivered to, behind anybody's redirect. Neither asks for the state of
//! the connection, so that `notrack` opens nothing.

use super::bans::{FROM_BANNED, TO_BANNED};
use super::base::{
    accept, addressed_to_us, base, drop, dynamic, each_port, goto, jump, no_syn, only,
    opening_segment, regular, rule,
};
use super::granted::{GRANTED, made_through_a_grant};
use super::{GUARD, rates};
use crate::firewall::plan::{Mode, Plan};
use crate::firewall::ruleset::{Chain, Direction, Field, Rule, Set, Side, Stage, Statement};
use spa_proto::{Prefix, Protocol};
use std::time::Duration;

/// Where packets come in.
pub(super) const PREROUTING: &str = "guard_prerouting";
pub(super) const EXISTING4: &str = "existing4";
pub(super) const EXISTING6: &str = "existing6";

/// As long as conntrack remembers an established TCP connection that is silent.
const EXISTING_TIMEOUT: Duration = Duration::from_secs(5 * 24 * 3600);
const EXISTING_SIZE: u32 = 131_072;

pub(super) fn sets(mode: Mode) -> Vec<Set> {
    if mode == Mode::Attach {
        return Vec::new();
    }
    let set = |name, address| dynamic(name, &both_ends(address), EXISTING_TIMEOUT, EXISTING_SIZE);
    vec![set(EXISTING4, Field::Ipv4), set(EXISTING6, Field::Ipv6)]
}

pub(super) fn chains(plan: &Plan) -> Vec<Chain> {
    vec![
        base(PREROUTING, Stage::Prerouting, GUARD, arriving(plan)),
        regular("guard_here", here()),
        base("guard_input", Stage::Input, GUARD, delivered(plan)),
        regular("guard", guard(plan)),
        base("guard_output", Stage::Output, GUARD, own_connections(plan)),
        base("guard_postrouting", Stage::Postrouting, GUARD, leaving(plan)),
    ]
}

fn arriving(plan: &Plan) -> Vec<Rule> {
    let spoofed = only(Protocol::Udp, vec![jump("spoofed")]);
    let mut rules = vec![drop([Statement::Labelled(plan.labels.cut)])];
    rules.extend(plan.absolute_bans.then(|| rule([jump(FROM_BANNED)])));
    rules.extend(each_port(plan.protected(), Side::Source, spoofed));
    rules.extend(each_port(plan.protected(), Side::Destination, |_, _| {
        Some(vec![jump("guard_here")])
    }));
    rules.push(rule([jump(FROM_BANNED)]));
    rules.extend(rates::dispatch(plan));
    rules
}

fn here() -> Vec<Rule> {
    // An answer to a flow that source NAT has put on the port: it goes on to
    // whom the flow belongs to. If that is this host, the second net sees it.
    let answer = || [Statement::Direction(Direction::Reply), Statement::SourceTranslated];
    let mut rules = vec![rule(answer().into_iter().chain([jump(FROM_BANNED)])), accept(answer())];
    rules.extend(addressed_to_us(&[goto("guard")]));
    rules
}

fn delivered(plan: &Plan) -> Vec<Rule> {
    each_port(plan.protected(), Side::Destination, |_, _| Some(vec![jump("guard")]))
}

/// Who may talk to a protected service.
fn guard(plan: &Plan) -> Vec<Rule> {
    let mut rules = made_through_a_grant(plan).to_vec();
    // Nothing is let in for being an answer: what the server sends of itself, on a
    // flow that was cut and forgotten too, would make answers of all that comes.
    rules.extend([
        rule([opening_segment(), jump(GRANTED)]),
        rule([Statement::Protocol(Protocol::Udp), jump(GRANTED)]),
        rule([jump(FROM_BANNED)]),
    ]);
    rules.extend(plan.trusted.iter().map(trusted));
    rules.push(existing(Field::Ipv4, EXISTING4));
    rules.push(existing(Field::Ipv6, EXISTING6));
    rules.push(drop([]));
    rules
}

pub(super) fn trusted(network: &Prefix) -> Rule {
    accept([Statement::Within(Side::Source, *network)])
}

/// Connections from before the first ruleset; never a new one on their tuple.
pub(super) fn existing(address: fn(Side) -> Field, set: &str) -> Rule {
    let key = both_ends(address);
    accept([
        no_syn(),
        Statement::InSet(key.clone(), set.to_owned()),
        Statement::Update(key, set.to_owned()),
    ])
}

fn both_ends(address: fn(Side) -> Field) -> Vec<Field> {
    let end = |side| [address(side), Field::Port(side)];
    [end(Side::Source), end(Side::Destination)].concat()
}

/// Connections that this host itself begins from a protected port pass as if
/// through a grant; to a banned address it begins none.
fn own_connections(plan: &Plan) -> Vec<Rule> {
    let label = vec![opening_segment(), Statement::Label(plan.labels.granted)];
    let mut rules = vec![rule([opening_segment(), jump(TO_BANNED)])];
    rules.extend(each_port(plan.protected(), Side::Source, only(Protocol::Tcp, label)));
    rules
}

/// Nothing goes out on a connection that was cut, whoever keeps sending, nor to
/// a banned source, except on a connection made through a grant, where that is
/// allowed.
pub(super) fn leaving(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![drop([Statement::Labelled(plan.labels.cut)])];
    rules.extend((!plan.absolute_bans).then(|| accept([Statement::Labelled(plan.labels.granted)])));
    rules.push(rule([jump(TO_BANNED)]));
    rules
}
