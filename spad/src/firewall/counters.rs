//! What the rules in force have counted.

use super::error::FirewallError;
use super::netlink::Channel;
use super::requests;
use super::wire;
use netlink_packet_core::Nla;
use netlink_packet_netfilter::nftables::{
    ExpressionAttribute, Expressions, ListAttribute, NfTablesMessage, RuleAttribute,
};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};
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
        wire::is_about_us(&message).then(|| wire::parse(message)).transpose()
    })?;
    let mut counters = Counters::new();
    for (chain, counted) in rules.iter().filter_map(rule) {
        counters.entry(chain).or_default().push(counted);
    }
    Ok(counters)
}

fn rule(message: &NetfilterMessageInner) -> Option<(String, Option<Counted>)> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = message else {
        return None;
    };
    let chain = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Chain(name) => Some(name.clone()),
        _ => None,
    });
    let counted = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Expressions(list) => list.iter().find_map(expression),
        _ => None,
    });
    Some((chain?, counted))
}

fn expression(entry: &ListAttribute<ExpressionAttribute>) -> Option<Counted> {
    let ListAttribute::Element(parts) = entry else { return None };
    let counter = |part: &ExpressionAttribute| matches!(part, ExpressionAttribute::Name(name) if name == "counter");
    parts.iter().any(counter).then(|| parts.iter().find_map(counted)).flatten()
}

fn counted(part: &ExpressionAttribute) -> Option<Counted> {
    let ExpressionAttribute::Data(Expressions::Other { attributes, .. }) = part else {
        return None;
    };
    let number = |kind| {
        let nla = attributes.iter().find(|nla| nla.kind() == kind)?;
        let mut value = [0; 8];
        (nla.value_len() == value.len()).then(|| nla.emit_value(&mut value))?;
        Some(u64::from_be_bytes(value))
    };
    Some(Counted { packets: number(NFTA_COUNTER_PACKETS)?, bytes: number(NFTA_COUNTER_BYTES)? })
}
