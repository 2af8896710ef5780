//! What the rules in force have counted.

use super::error::FirewallError;
use super::netlink::Channel;
use super::numbers::{NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS};
use super::requests;
use super::wire::{self, Message, find, long, text};
use netlink_packet_netfilter::NetfilterProtoFamily;
use std::collections::BTreeMap;

// linux/netfilter/nf_tables.h
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// Packets and bytes that have come as far as a rule's counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// IP packets.
    pub packets: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Of each chain of our table, by name, its rules in order; `None` for a rule
/// that does not count.
pub(super) type Counters = BTreeMap<String, Vec<Option<Counted>>>;

/// Reads them all.
pub(super) fn read(channel: &Channel) -> Result<Counters, FirewallError> {
    let rules = channel.list(NetfilterProtoFamily::Inet, requests::list_rules(), |message| {
        Ok(wire::is_about_us(&message).then(|| rule(&message)).flatten())
    })?;
    let mut counters = Counters::new();
    for (chain, counted) in rules {
        counters.entry(chain).or_default().push(counted);
    }
    Ok(counters)
}

fn rule(message: &Message<'_>) -> Option<(String, Option<Counted>)> {
    let chain = find(wire::attributes(message), NFTA_RULE_CHAIN)?;
    let expressions = find(wire::attributes(message), NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    Some((text(chain), wire::nested(expressions).find_map(|(_, expression)| counted(expression))))
}

fn counted(expression: &[u8]) -> Option<Counted> {
    find(wire::nested(expression), NFTA_EXPR_NAME).filter(|name| text(name) == "counter")?;
    let data = find(wire::nested(expression), NFTA_EXPR_DATA)?;
    let number = |kind| find(wire::nested(data), kind).map(long);
    Some(Counted { packets: number(NFTA_COUNTER_PACKETS)?, bytes: number(NFTA_COUNTER_BYTES)? })
}
