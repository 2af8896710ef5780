//! Sources that lie: a packet is dropped if no route leads back to where it
//! says that it comes from, this host's own addresses among them; on strict
//! interfaces also if that route is through another interface. Before conntrack,
//! so that it leaves no entry there.

use super::RAW;
use super::base::{accept, base, drop, link_local};
use super::essentials::{NEIGHBOUR_SOLICITATION, dhcp_answer, dhcp_question};
use crate::firewall::plan::Managed;
use crate::firewall::ruleset::{Chain, Rule, Side, Stage, Statement};
use spa_proto::Prefix;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) fn chains(managed: &Managed) -> Vec<Chain> {
    let strict = managed
        .strict
        .iter()
        .map(|name| drop([Statement::FromInterface(name.clone()), Statement::WrongWay]));
    let mut rules = without_route();
    rules.extend(strict);
    // The second look-up finds what a VRF knows and the main tables do not.
    rules.push(drop([Statement::NoWayBack, Statement::WrongWay]));
    vec![base("managed_prerouting", Stage::Prerouting, RAW, rules)]
}

/// Where there need not be one.
fn without_route() -> Vec<Rule> {
    let nobody4 = Prefix::of(Ipv4Addr::UNSPECIFIED.into(), 32);
    let nobody6 = Prefix::of(Ipv6Addr::UNSPECIFIED.into(), 128);
    let from = |network| Statement::Within(Side::Source, network);
    vec![
        accept([&[from(nobody4)][..], &dhcp_question()].concat()),
        accept([&[Statement::Ipv4][..], &dhcp_answer()].concat()),
        accept([from(link_local())]),
        accept([from(nobody6), Statement::Icmpv6(NEIGHBOUR_SOLICITATION)]),
    ]
}
