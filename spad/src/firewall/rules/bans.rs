//! Banned sources: nothing of theirs comes in, and nothing goes out to them,
//! but what belongs to a connection made through a grant.

use super::base::{accept, drop, regular};
use crate::firewall::ruleset::{Chain, Datatype, Field, Rule, Set, Side, Statement};

const BANS4: &str = "bans4";
const BANS6: &str = "bans6";
/// The sets, IPv4 and IPv6.
pub(crate) const SETS: [&str; 2] = [BANS4, BANS6];

/// Drops what comes from a banned source.
pub(super) const FROM_BANNED: &str = "from_banned";
/// Drops what goes to one.
pub(super) const TO_BANNED: &str = "to_banned";

/// ICMPv6 types: who has this address, and I have.
const NEIGHBOUR_DISCOVERY: [u8; 2] = [135, 136];

/// Room for the most bans, each in two by another within it, with two ends.
const SIZE: u32 = 262_144;

pub(super) fn sets() -> [Set; 2] {
    let set = |name: &str, address| Set {
        name: name.to_owned(),
        key: vec![address],
        dynamic: false,
        interval: true,
        limit: None,
        timeout: None,
        size: SIZE,
    };
    [set(BANS4, Datatype::Ipv4Address), set(BANS6, Datatype::Ipv6Address)]
}

pub(super) fn chains() -> Vec<Chain> {
    vec![regular(FROM_BANNED, rules(Side::Source)), regular(TO_BANNED, rules(Side::Destination))]
}

fn rules(side: Side) -> Vec<Rule> {
    let banned = |field, set: &str| drop([Statement::InSet(vec![field], set.to_owned())]);
    let mut rules = vec![banned(Field::Ipv4(side), BANS4)];
    // A neighbour with a grant has to be found first; for IPv4 that is ARP.
    rules.extend(NEIGHBOUR_DISCOVERY.map(|kind| accept([Statement::Icmpv6(kind)])));
    rules.push(banned(Field::Ipv6(side), BANS6));
    rules
}
