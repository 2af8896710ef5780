//! Messages to nftables that libnftnl's safe interface has no words for:
//! tables with flags, sets with timeouts, their elements, and lists.

use super::numbers::{
    NFT_MSG_DELSETELEM, NFT_MSG_NEWSETELEM, NFTA_DATA_VALUE, NFTA_EXPR_DATA, NFTA_EXPR_NAME,
    NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_EXPR, UDATA_COMMENT,
};
use super::ruleset::{Datatype, Helper, Limit, Set, TABLE};
use super::wire::{self, Writer};
use crate::fields::millis;
use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL,
};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, ListAttribute, NfTablesMessage, RuleAttribute,
    RuleMessage, SetAttribute, SetDescription, SetElementAttribute, SetElementFlags,
    SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableFlags,
    TableMessage,
};
use std::time::Duration;

/// libnftnl's numbers of the data types, which `nft list` reads.
const TYPE_IPV4_ADDRESS: u32 = 7;
const TYPE_IPV6_ADDRESS: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
/// Bits of each field's type in the type of a concatenation.
const TYPE_BITS: u32 = 6;
// linux/netfilter/nf_tables.h
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_OBJ_TABLE: u16 = 1;
pub(crate) const NFTA_OBJ_NAME: u16 = 2;
pub(crate) const NFTA_OBJ_TYPE: u16 = 3;
pub(crate) const NFTA_OBJ_DATA: u16 = 4;
pub(crate) const NFTA_CT_HELPER_NAME: u16 = 1;
pub(crate) const NFTA_CT_HELPER_L4PROTO: u16 = 3;
pub(crate) const NFT_OBJECT_CT_HELPER: u32 = 3;
const NFTA_LIMIT_RATE: u16 = 1;
const NFTA_LIMIT_UNIT: u16 = 2;
const NFTA_LIMIT_BURST: u16 = 3;
/// Elements in one message, so that it stays under the 64 KiB of an attribute.
pub(crate) const ELEMENTS_PER_MESSAGE: usize = 500;

/// An element's key, and how long it lives; the set's timeout if not said.
pub(crate) type KeyWithTimeout = (Vec<u8>, Option<Duration>);

/// One end of an interval, as an element of a set of intervals.
pub(crate) enum End {
    /// The lowest key in it, and how long the interval lives; for ever if not said.
    First(Vec<u8>, Option<Duration>),
    /// The lowest key behind it.
    Behind(Vec<u8>),
}

pub(crate) fn add_table(flags: u32, comment: &str) -> Vec<u8> {
    let attributes = vec![
        TableAttribute::Name(TABLE.to_owned()),
        TableAttribute::Flags(TableFlags::from_bits_retain(flags)),
        TableAttribute::UserData(comment_data(comment)),
    ];
    change(NfTablesMessage::NewTable(TableMessage { attributes }), NLM_F_CREATE)
}

pub(crate) fn delete_table() -> Vec<u8> {
    let attributes = vec![TableAttribute::Name(TABLE.to_owned())];
    change(NfTablesMessage::DeleteTable(TableMessage { attributes }), 0)
}

/// Deletes the rules of all chains.
pub(crate) fn delete_rules() -> Vec<u8> {
    let attributes = vec![RuleAttribute::Table(TABLE.to_owned())];
    change(NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0)
}

pub(crate) fn delete_chain(name: &str) -> Vec<u8> {
    let attributes =
        vec![ChainAttribute::Table(TABLE.to_owned()), ChainAttribute::Name(name.to_owned())];
    change(NfTablesMessage::DeleteChain(ChainMessage { attributes }), 0)
}

/// A helper of connection tracking.
pub(crate) fn add_helper(helper: &Helper) -> Vec<u8> {
    let data = [
        nla(NFTA_CT_HELPER_NAME, text(&helper.name)),
        nla(NFTA_CT_HELPER_L4PROTO, [helper.protocol.number()]),
    ];
    let object = vec![
        nla(NFTA_OBJ_TABLE, text(TABLE)),
        nla(NFTA_OBJ_NAME, text(&helper.name)),
        nla(NFTA_OBJ_TYPE, NFT_OBJECT_CT_HELPER.to_be_bytes()),
        nla(NFTA_OBJ_DATA | NLA_F_NESTED, emitted(&data)),
    ];
    change(NfTablesMessage::NewObject(object), NLM_F_CREATE)
}

/// Deletes a named object of the given `NFT_OBJECT_*`; no rule may refer to it.
pub(crate) fn delete_object(kind: u32, name: &str) -> Vec<u8> {
    let object = vec![
        nla(NFTA_OBJ_TABLE, text(TABLE)),
        nla(NFTA_OBJ_NAME, text(name)),
        nla(NFTA_OBJ_TYPE, kind.to_be_bytes()),
    ];
    change(NfTablesMessage::DeleteObject(object), 0)
}

pub(crate) fn add_set(set: &Set, id: u32) -> Vec<u8> {
    let mut attributes = vec![
        SetAttribute::Table(TABLE.to_owned()),
        SetAttribute::Name(set.name.clone()),
        SetAttribute::Flags(flags(set)),
        SetAttribute::KeyType(key_type(&set.key)),
        SetAttribute::KeyLen(key_len(&set.key)),
        SetAttribute::Description(vec![SetDescription::Size(set.size)]),
        SetAttribute::Id(id),
    ];
    attributes.extend(set.timeout.map(|t| SetAttribute::Timeout(millis(t))));
    attributes.extend(set.limit.map(|limit| {
        SetAttribute::Other(nla(NFTA_SET_EXPR | NLA_F_NESTED, limit_expression(limit)))
    }));
    change(NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE)
}

pub(crate) fn delete_set(name: &str) -> Vec<u8> {
    let attributes =
        vec![SetAttribute::Table(TABLE.to_owned()), SetAttribute::Name(name.to_owned())];
    change(NfTablesMessage::DeleteSet(SetMessage { attributes }), 0)
}

/// Adds up to [`ELEMENTS_PER_MESSAGE`] elements. Of one that is there already,
/// newer kernels change the remaining time and older ones nothing.
pub(crate) fn add_elements(set: &str, elements: &[KeyWithTimeout]) -> Vec<u8> {
    change_elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, elements)
}

/// Adds up to [`ELEMENTS_PER_MESSAGE`] elements, none of which may be there.
pub(crate) fn add_new_elements(set: &str, elements: &[KeyWithTimeout]) -> Vec<u8> {
    change_elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, set, elements)
}

/// Deletes up to [`ELEMENTS_PER_MESSAGE`] elements, all of which must be there.
pub(crate) fn delete_elements(set: &str, keys: &[KeyWithTimeout]) -> Vec<u8> {
    change_elements(NFT_MSG_DELSETELEM, 0, set, keys)
}

fn change_elements(kind: u16, flags: u16, set: &str, elements: &[KeyWithTimeout]) -> Vec<u8> {
    let mut message = Writer::new(kind, NLM_F_ACK | flags);
    message.put(NFTA_SET_ELEM_LIST_TABLE, &text(TABLE));
    message.put(NFTA_SET_ELEM_LIST_SET, &text(set));
    message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
        for (key, timeout) in elements {
            list.nest(NFTA_LIST_ELEM, |element| {
                element.nest(NFTA_SET_ELEM_KEY, |data| data.put(NFTA_DATA_VALUE, key));
                if let Some(timeout) = timeout {
                    element.put(NFTA_SET_ELEM_TIMEOUT, &millis(*timeout).to_be_bytes());
                }
            });
        }
    });
    message.finish()
}

/// Deletes all elements of a set.
pub(crate) fn flush_set(set: &str) -> Vec<u8> {
    change(NfTablesMessage::DeleteSetElement(all_elements(set)), 0)
}

/// Adds ends of intervals, up to [`ELEMENTS_PER_MESSAGE`].
pub(crate) fn add_ends(set: &str, ends: &[End]) -> Vec<u8> {
    let elements = ends.iter().map(|end| match end {
        End::First(key, timeout) => element(key, *timeout),
        End::Behind(key) => behind(key),
    });
    change(NfTablesMessage::NewSetElement(element_list(set, elements)), NLM_F_CREATE)
}

pub(crate) fn list_tables() -> NfTablesMessage {
    NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() })
}

/// Of all kinds, those of others too.
pub(crate) fn list_objects() -> NfTablesMessage {
    NfTablesMessage::GetObject(vec![nla(NFTA_OBJ_TABLE, text(TABLE))])
}

pub(crate) fn list_chains() -> NfTablesMessage {
    NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() })
}

pub(crate) fn list_rules() -> NfTablesMessage {
    let attributes = vec![RuleAttribute::Table(TABLE.to_owned())];
    NfTablesMessage::GetRule(RuleMessage { attributes })
}

pub(crate) fn list_sets() -> NfTablesMessage {
    let attributes = vec![SetAttribute::Table(TABLE.to_owned())];
    NfTablesMessage::GetSet(SetMessage { attributes })
}

pub(crate) fn list_elements(set: &str) -> NfTablesMessage {
    NfTablesMessage::GetSetElement(all_elements(set))
}

fn change(message: NfTablesMessage, flags: u16) -> Vec<u8> {
    wire::message(NetfilterProtoFamily::Inet, message, NLM_F_ACK | flags)
}

/// Names no element, which stands for all.
fn all_elements(set: &str) -> SetElementMessage {
    let attributes =
        vec![SetElementList::Table(TABLE.to_owned()), SetElementList::Set(set.to_owned())];
    SetElementMessage { attributes }
}

type ElementAttributes = ListAttribute<SetElementAttribute>;

fn element_list(set: &str, elements: impl Iterator<Item = ElementAttributes>) -> SetElementMessage {
    let mut message = all_elements(set);
    message.attributes.push(SetElementList::Elements(elements.collect()));
    message
}

fn behind(key: &[u8]) -> ElementAttributes {
    let key = SetElementAttribute::Key(DataAttribute::Value(key.to_vec()));
    ListAttribute::Element(vec![key, SetElementAttribute::Flags(SetElementFlags::IntervalEnd)])
}

fn element(key: &[u8], timeout: Option<Duration>) -> ElementAttributes {
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(key.to_vec()))];
    attributes.extend(timeout.map(|t| SetElementAttribute::Timeout(millis(t))));
    ListAttribute::Element(attributes)
}

/// Type, length, text, NUL.
fn comment_data(comment: &str) -> Vec<u8> {
    let len = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let text = comment.bytes().take(usize::from(len) - 1);
    [UDATA_COMMENT, len].into_iter().chain(text).chain([0]).collect()
}

fn flags(set: &Set) -> SetFlags {
    let when = |yes, flag| if yes { flag } else { SetFlags::empty() };
    SetFlags::Timeout | when(set.dynamic, SetFlags::Eval) | when(set.interval, SetFlags::Interval)
}

/// What each element of a set carries, as libnftnl would write it.
fn limit_expression(limit: Limit) -> Vec<u8> {
    let data = [
        nla(NFTA_LIMIT_RATE, u64::from(limit.count).to_be_bytes()),
        nla(NFTA_LIMIT_UNIT, u64::from(limit.unit.seconds()).to_be_bytes()),
        nla(NFTA_LIMIT_BURST, limit.burst.to_be_bytes()),
    ];
    let name = nla(NFTA_EXPR_NAME, *b"limit\0");
    let data = nla(NFTA_EXPR_DATA | NLA_F_NESTED, emitted(&data));
    emitted(&[name, data])
}

fn nla(kind: u16, value: impl Into<Vec<u8>>) -> DefaultNla {
    DefaultNla::new(kind, value.into())
}

/// Ended by a zero byte.
fn text(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

fn emitted(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

fn key_type(key: &[Datatype]) -> u32 {
    key.iter().fold(0, |so_far, field| so_far << TYPE_BITS | type_number(*field))
}

fn type_number(datatype: Datatype) -> u32 {
    match datatype {
        Datatype::Ipv4Address => TYPE_IPV4_ADDRESS,
        Datatype::Ipv6Address => TYPE_IPV6_ADDRESS,
        Datatype::Protocol => TYPE_PROTOCOL,
        Datatype::Port => TYPE_PORT,
    }
}

fn key_len(key: &[Datatype]) -> u32 {
    key.iter().map(|field| field.len().next_multiple_of(4)).sum()
}
