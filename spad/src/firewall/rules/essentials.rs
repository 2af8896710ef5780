//! What a host needs to have addresses and neighbours, and to learn what becomes
//! of its packets.

use super::base::{accept, drop, jump, link_local, regular, rule};
use super::guard;
use crate::firewall::plan::Plan;
use crate::firewall::ruleset::{Chain, Limit, PortRange, Rule, Side, Statement, Unit};
use spa_proto::Protocol;

pub(super) const ESSENTIALS: &str = "essentials";
const ECHO: &str = "echo";

/// Solicitations and advertisements of routers and neighbours, RFC 4861.
const NEIGHBOUR_DISCOVERY: [u8; 4] = [133, 134, NEIGHBOUR_SOLICITATION, 136];
/// Asks too whether an address is in use already; then from none.
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Queries and reports of multicast listeners, RFC 2710 and RFC 3810. Switches
/// send neighbour discovery only to those who answer.
const LISTENER_DISCOVERY: [u8; 4] = [130, 131, 132, 143];
/// Unreachable, too big, time exceeded, parameter problem: RFC 4443.
const ERRORS6: [u8; 4] = [1, 2, 3, 4];
/// Unreachable, time exceeded, parameter problem: RFC 792.
const ERRORS4: [u8; 3] = [3, 11, 12];
const ECHO_REQUEST4: u8 = 8;
const ECHO_REQUEST6: u8 = 128;
/// Of all hosts together, trusted networks aside.
const ECHO_RATE: Limit = Limit { count: 20, unit: Unit::Second, burst: 50 };
/// What only a neighbour can have sent: each router on the way takes one off.
const FROM_NEIGHBOUR: u8 = 255;

pub(super) fn chains(plan: &Plan) -> Vec<Chain> {
    vec![regular(ESSENTIALS, essentials()), regular(ECHO, echo(plan))]
}

fn essentials() -> Vec<Rule> {
    let neighbours = NEIGHBOUR_DISCOVERY
        .map(|kind| accept([Statement::Icmpv6(kind), Statement::HopLimit(FROM_NEIGHBOUR)]));
    let from_link = || Statement::Within(Side::Source, link_local());
    let listeners = LISTENER_DISCOVERY.map(|kind| accept([from_link(), Statement::Icmpv6(kind)]));
    let errors6 = ERRORS6.map(|kind| accept([Statement::Icmpv6(kind)]));
    let errors4 = ERRORS4.map(|kind| accept([Statement::Icmp(kind)]));
    let rest = [
        accept([Statement::Igmp]),
        rule([Statement::Icmp(ECHO_REQUEST4), jump(ECHO)]),
        rule([Statement::Icmpv6(ECHO_REQUEST6), jump(ECHO)]),
        accept([&[Statement::Ipv4][..], &dhcp_answer()].concat()),
        accept([&[from_link()][..], &datagram(547, 546)].concat()),
    ];
    neighbours.into_iter().chain(listeners).chain(errors6).chain(errors4).chain(rest).collect()
}

/// A server sends it to an address that is not in use yet, or to everyone: it
/// is no answer as connection tracking sees it.
pub(super) fn dhcp_answer() -> [Statement; 2] {
    datagram(67, 68)
}

/// From who has no address yet.
pub(super) fn dhcp_question() -> [Statement; 2] {
    datagram(68, 67)
}

fn datagram(from: u16, to: u16) -> [Statement; 2] {
    let port = |side, port| Statement::Port(Protocol::Udp, side, PortRange::single(port));
    [port(Side::Source, from), port(Side::Destination, to)]
}

/// Whoever floods us with them keeps no trusted monitor from asking.
fn echo(plan: &Plan) -> Vec<Rule> {
    let within = accept([Statement::NoMoreThan(ECHO_RATE)]);
    let trusted = plan.trusted.iter().map(guard::trusted);
    std::iter::once(within).chain(trusted).chain([drop([])]).collect()
}
