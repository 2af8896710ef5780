//! Matches of iptables that have no words in nftables: the kernel runs the old
//! code, and lists its settings as the bytes that it works with.

use super::packet::Packet;
use super::rule::Expression;
use crate::firewall::wire::text;

// linux/netfilter/nf_tables_compat.h
const NFTA_MATCH_NAME: u16 = 1;
const NFTA_MATCH_REV: u16 = 2;
const NFTA_MATCH_INFO: u16 = 3;
// linux/netfilter/xt_conntrack.h, struct xt_conntrack_mtinfo3
const CONNTRACK_FLAGS: usize = 146;
const CONNTRACK_INVERTED: usize = 148;
const CONNTRACK_STATES: usize = 150;
const XT_CONNTRACK_STATE: u16 = 1;
const XT_CONNTRACK_STATE_ALIAS: u16 = 1 << 13;
const STATE_NEW: u16 = 1 << 3;
// linux/netfilter/xt_addrtype.h, struct xt_addrtype_info_v1
const ADDRTYPE_DESTINATION: usize = 2;
const ADDRTYPE_FLAGS: usize = 4;
const ADDRTYPE_LOCAL: u16 = 1 << 2;
const ADDRTYPE_INVERTED: u32 = 1 << 1;
const ADDRTYPE_INTERFACE: u32 = 1 << 2 | 1 << 3;
// linux/netfilter/xt_multiport.h, struct xt_multiport_v1
const MULTIPORT_SOURCE: u8 = 0;
const MULTIPORT_COUNT: usize = 1;
const MULTIPORT_PORTS: usize = 2;
const MULTIPORT_IS_FIRST: usize = 32;
const MULTIPORT_INVERTED: usize = 47;
const MULTIPORT_MOST: usize = 15;

/// The comment that iptables puts into a rule as a match that always matches.
pub(super) fn comment(expression: &Expression) -> Option<String> {
    let is_comment = expression.name == "match" && name(expression) == "comment";
    is_comment.then(|| text(expression.attribute(NFTA_MATCH_INFO).unwrap_or_default()))
}

/// Whether the packet matches; `None` if that cannot be told.
pub(super) fn matches(expression: &Expression, packet: &Packet) -> Option<bool> {
    let info = expression.attribute(NFTA_MATCH_INFO)?;
    match (name(expression).as_str(), expression.number(NFTA_MATCH_REV)) {
        ("comment", _) => Some(true),
        ("conntrack", 3) => connection_is_new(info),
        ("addrtype", 1) => sent_to_this_host(info, packet),
        ("multiport", 1) => one_of_these_ports(info, packet),
        _ => None,
    }
}

fn name(expression: &Expression) -> String {
    expression.text(NFTA_MATCH_NAME)
}

fn connection_is_new(info: &[u8]) -> Option<bool> {
    let asked = half(info, CONNTRACK_FLAGS)? & !XT_CONNTRACK_STATE_ALIAS;
    let inverted = half(info, CONNTRACK_INVERTED)? & XT_CONNTRACK_STATE != 0;
    let new = half(info, CONNTRACK_STATES)? & STATE_NEW != 0;
    (asked == XT_CONNTRACK_STATE).then_some(new != inverted)
}

fn sent_to_this_host(info: &[u8], packet: &Packet) -> Option<bool> {
    let (source, types) = (half(info, 0)?, half(info, ADDRTYPE_DESTINATION)?);
    let flags = info.get(ADDRTYPE_FLAGS..)?.first_chunk().copied().map(u32::from_ne_bytes)?;
    let simple = source == 0 && flags & ADDRTYPE_INTERFACE == 0 && packet.inner.is_none();
    simple.then_some((types & ADDRTYPE_LOCAL != 0) != (flags & ADDRTYPE_INVERTED != 0))
}

fn one_of_these_ports(info: &[u8], packet: &Packet) -> Option<bool> {
    let count = usize::from(*info.get(MULTIPORT_COUNT)?).min(MULTIPORT_MOST);
    let port = |at: usize| half(info, MULTIPORT_PORTS + 2 * at);
    let begins_range = |at: usize| info.get(MULTIPORT_IS_FIRST + at).is_some_and(|flag| *flag != 0);
    let (mut at, mut found) = (0, false);
    while at < count {
        let last = if begins_range(at) { at + 1 } else { at };
        found |= (port(at)?..=port(last)?).contains(&packet.port);
        at = last + 1;
    }
    let inverted = *info.get(MULTIPORT_INVERTED)? != 0;
    (*info.first()? != MULTIPORT_SOURCE).then_some(found != inverted)
}

/// Two bytes in the order of this host.
fn half(info: &[u8], at: usize) -> Option<u16> {
    info.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}
