//! Other people's tables, as the kernel lists them.

use super::name::{ChainName, Family, TableName};
use super::rule::{self, ForeignRule};
use super::walk::{Found, Sets, Table};
use crate::firewall::error::FirewallError;
use crate::firewall::netlink::Channel;
use crate::firewall::numbers::{
    NF_DROP, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TYPE,
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_TABLE_OWNER,
};
use crate::firewall::requests;
use crate::firewall::ruleset::Stage;
use crate::firewall::wire::{self, Message, find, text, word};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage, SetElementAttribute,
    SetElementList, SetElementMessage,
};
use std::collections::HashMap;

// linux/netfilter/nf_tables.h, linux/netfilter.h
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NF_INET_LOCAL_IN: u32 = 1;
const NF_INET_FORWARD: u32 = 2;

/// A base chain that decides about packets to this host or through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaseChain {
    pub(super) name: ChainName,
    pub(super) stage: Stage,
    pub(super) priority: i32,
    /// Whether what gets to its end is dropped.
    pub(super) drops: bool,
}

/// Those of other tables than ours.
pub(super) fn base_chains(channel: &Channel) -> Result<Vec<BaseChain>, FirewallError> {
    let list = requests::list_chains();
    let mut chains =
        channel.list(NetfilterProtoFamily::Unspec, list, |message| Ok(base_chain(&message)))?;
    chains.sort_by(|one, other| (one.priority, &one.name).cmp(&(other.priority, &other.name)));
    Ok(chains)
}

/// The netlink port of the process that owns a table, if one does.
pub(super) fn owner(channel: &Channel, table: &TableName) -> Result<Option<u32>, FirewallError> {
    let owners = channel.list(table.family.protocol(), requests::list_tables(), |message| {
        let part = |kind| find(wire::attributes(&message), kind);
        let is_it = part(NFTA_TABLE_NAME).is_some_and(|name| text(name) == table.name);
        Ok(part(NFTA_TABLE_OWNER).filter(|_| is_it).map(word))
    })?;
    Ok(owners.into_iter().find(|port| *port != 0))
}

/// The rules of one chain, in order.
pub(super) fn rules(
    channel: &Channel,
    chain: &ChainName,
) -> Result<Vec<ForeignRule>, FirewallError> {
    let only = RuleAttribute::Chain(chain.chain.clone());
    let rules = list_rules(channel, &chain.table, Some(only))?;
    Ok(rules.into_iter().filter(|rule| rule.chain == chain.chain).collect())
}

/// All chains of a table.
pub(super) fn table<'a>(
    name: &TableName,
    sets: &'a SetsOf<'_>,
) -> Result<Table<'a>, FirewallError> {
    let mut chains: HashMap<String, Vec<ForeignRule>> = HashMap::new();
    for rule in list_rules(sets.channel, name, None)? {
        chains.entry(rule.chain.clone()).or_default().push(rule);
    }
    Ok(Table { chains, sets })
}

fn list_rules(
    channel: &Channel,
    table: &TableName,
    only: Option<RuleAttribute>,
) -> Result<Vec<ForeignRule>, FirewallError> {
    let attributes = std::iter::once(RuleAttribute::Table(table.name.clone())).chain(only);
    let request = NfTablesMessage::GetRule(RuleMessage { attributes: attributes.collect() });
    channel.list(table.family.protocol(), request, |message| Ok(Some(ForeignRule::read(&message))))
}

/// All rules of all tables but ours that have this comment.
pub(super) fn rules_with_comment(
    channel: &Channel,
    comment: &str,
) -> Result<Vec<(ChainName, u64)>, FirewallError> {
    let request = NfTablesMessage::GetRule(RuleMessage { attributes: Vec::new() });
    channel.list(NetfilterProtoFamily::Unspec, request, |message| {
        let rule = ForeignRule::read(&message);
        let table = table_of(&message).filter(|_| rule.comment.as_deref() == Some(comment));
        Ok(table.map(|table| (ChainName { table, chain: rule.chain }, rule.handle)))
    })
}

/// The table that a message is about; `None` if it is ours, or one that no IP
/// packets pass.
pub(crate) fn table_of(message: &Message<'_>) -> Option<TableName> {
    let family = Family::of_number(*message.payload().first()?)?;
    // In every nftables message the first kind of attribute is the table's name.
    let name = find(wire::attributes(message), NFTA_TABLE_NAME)?;
    Some(TableName { family, name: text(name) }).filter(|table| !table.is_ours())
}

fn base_chain(message: &Message<'_>) -> Option<BaseChain> {
    let table = table_of(message)?;
    let part = |kind| find(wire::attributes(message), kind);
    let hook = part(NFTA_CHAIN_HOOK)?;
    let of_hook = |kind| find(wire::nested(hook), kind);
    let stage = match word(of_hook(NFTA_HOOK_HOOKNUM)?) {
        NF_INET_LOCAL_IN => Stage::Input,
        NF_INET_FORWARD => Stage::Forward,
        _ => return None,
    };
    let is_filter = part(NFTA_CHAIN_TYPE).is_some_and(|kind| text(kind) == "filter");
    is_filter.then_some(BaseChain {
        name: ChainName { table, chain: text(part(NFTA_CHAIN_NAME)?) },
        stage,
        priority: word(of_hook(NFTA_HOOK_PRIORITY)?).cast_signed(),
        drops: part(NFTA_CHAIN_POLICY).is_some_and(|policy| word(policy) == NF_DROP),
    })
}

/// The sets of a table, asked one key at a time: they may be long.
pub(super) struct SetsOf<'a> {
    pub(super) channel: &'a Channel,
    pub(super) table: TableName,
}

impl Sets for SetsOf<'_> {
    fn find(&self, set: &str, key: &[u8]) -> Found {
        let request = get_element(&self.table, set, key);
        match self.channel.look_up(&request) {
            Ok(Some(answer)) => found(&answer),
            Ok(None) | Err(_) => Found::Unclear,
        }
    }
}

fn get_element(table: &TableName, set: &str, key: &[u8]) -> Vec<u8> {
    let key = SetElementAttribute::Key(DataAttribute::Value(key.to_vec()));
    let attributes = vec![
        SetElementList::Table(table.name.clone()),
        SetElementList::Set(set.to_owned()),
        SetElementList::Elements(vec![ListAttribute::Element(vec![key])]),
    ];
    let request = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
    wire::message(table.family.protocol(), request, 0)
}

/// The element in the kernel's answer, with the verdict that a map has beside it.
fn found(answer: &[u8]) -> Found {
    let Some(message) = wire::messages(answer).next() else { return Found::Nothing };
    let list = find(wire::attributes(&message), NFTA_SET_ELEM_LIST_ELEMENTS);
    let element = list.and_then(|list| wire::nested(list).next());
    let data = element.and_then(|(_, element)| find(wire::nested(element), NFTA_SET_ELEM_DATA));
    Found::Element(data.and_then(rule::verdict))
}
