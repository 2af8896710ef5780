//! What a table holds, read from netlink messages: those that we send and those
//! by which the kernel lists it. The two are compared.

use super::error::FirewallError;
use super::netlink::Channel;
use super::requests;
use super::ruleset::{Ruleset, TABLE};
use super::transaction::Transaction;
use super::wire;
use netlink_packet_core::{NLA_TYPE_MASK, Nla};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ExpressionAttribute, Expressions, Hook, ListAttribute, NfTablesMessage,
    RuleAttribute, SetAttribute, SetDescription, TableAttribute,
};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};
use std::collections::BTreeMap;

/// Kind of the table's comment in its user data.
const UDATA_COMMENT: u8 = 0;

/// A table without the elements of its sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) table: TableState,
    pub(crate) sets: BTreeMap<String, SetState>,
    pub(crate) chains: BTreeMap<String, ChainState>,
    pub(crate) rules: BTreeMap<String, Vec<RuleState>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableState {
    /// `NFT_TABLE_F_*`.
    pub(crate) flags: u32,
    /// Netlink port of the owner.
    pub(crate) owner: Option<u32>,
    pub(crate) comment: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetState {
    pub(crate) flags: u32,
    pub(crate) key_type: u32,
    pub(crate) key_len: u32,
    /// In milliseconds; 0 for none.
    pub(crate) timeout: u64,
    pub(crate) size: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChainState {
    kind: String,
    hook: Vec<Hook>,
    policy: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleState {
    expressions: Vec<ExpressionState>,
    comment: Vec<u8>,
}

/// An expression's name and attributes. Those that are zero are left out: that
/// is what an attribute means that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ExpressionState {
    name: String,
    attributes: BTreeMap<u16, Vec<u8>>,
}

impl Snapshot {
    /// What the kernel will hold when `ruleset` has been installed.
    pub(crate) fn of(ruleset: &Ruleset, flags: u32) -> Result<Self, FirewallError> {
        let mut transaction = Transaction::new();
        transaction.define(ruleset, flags)?;
        let (bytes, _) = transaction.finish();
        let mut snapshot = Self::default();
        for message in wire::messages(&bytes).filter(wire::is_about_us) {
            snapshot.take(wire::parse(message)?);
        }
        Ok(snapshot)
    }

    /// What the kernel holds now; `None` if there is no table of our name.
    pub(crate) fn read(channel: &Channel) -> Result<Option<Self>, FirewallError> {
        let mut snapshot = Self::default();
        let tables = messages_about_us(channel, requests::list_tables())?;
        if tables.is_empty() {
            return Ok(None);
        }
        let requests = [requests::list_sets(), requests::list_chains(), requests::list_rules()];
        let mut messages = tables;
        for request in requests {
            messages.extend(messages_about_us(channel, request)?);
        }
        messages.into_iter().for_each(|message| snapshot.take(message));
        Ok(Some(snapshot))
    }

    fn take(&mut self, message: NetfilterMessageInner) {
        let NetfilterMessageInner::NfTables(message) = message else { return };
        match message {
            NfTablesMessage::NewTable(m) => self.table = TableState::from(&m.attributes[..]),
            NfTablesMessage::NewSet(m) => {
                let name = m.attributes.iter().find_map(|a| match a {
                    SetAttribute::Name(name) => Some(name.clone()),
                    _ => None,
                });
                self.sets.insert(name.unwrap_or_default(), SetState::from(&m.attributes[..]));
            }
            NfTablesMessage::NewChain(m) => {
                let name = m.attributes.iter().find_map(|a| match a {
                    ChainAttribute::Name(name) => Some(name.clone()),
                    _ => None,
                });
                self.chains.insert(name.unwrap_or_default(), ChainState::from(&m.attributes[..]));
            }
            NfTablesMessage::NewRule(m) => {
                let chain = m.attributes.iter().find_map(|a| match a {
                    RuleAttribute::Chain(name) => Some(name.clone()),
                    _ => None,
                });
                let rules = self.rules.entry(chain.unwrap_or_default()).or_default();
                rules.push(RuleState::from(&m.attributes[..]));
            }
            _ => {}
        }
    }

    /// One line for each way in which `now` is not what this is.
    pub(crate) fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.table.flags != now.table.flags {
            found.push(format!(
                "the table's flags are {:#x} instead of {:#x}",
                now.table.flags, self.table.flags
            ));
        }
        compare("set", &self.sets, &now.sets, &mut found);
        compare("chain", &self.chains, &now.chains, &mut found);
        for chain in self.chains.keys() {
            let none = Vec::new();
            let rules = |of: &Self| of.rules.get(chain).unwrap_or(&none).clone();
            compare_rules(chain, &rules(self), &rules(now), &mut found);
        }
        found
    }
}

fn messages_about_us(
    channel: &Channel,
    request: NfTablesMessage,
) -> Result<Vec<NetfilterMessageInner>, FirewallError> {
    channel.list(NetfilterProtoFamily::Inet, request, |message| {
        // Those of others are not even parsed: they may hold what we do not know.
        wire::is_about_us(&message).then(|| wire::parse(message)).transpose()
    })
}

fn compare<T: PartialEq>(
    kind: &str,
    wanted: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
    found: &mut Vec<String>,
) {
    for (name, state) in wanted {
        match now.get(name) {
            None => found.push(format!("{kind} '{name}' is gone")),
            Some(other) if other != state => found.push(format!("{kind} '{name}' is another")),
            Some(_) => {}
        }
    }
    for name in now.keys().filter(|name| !wanted.contains_key(*name)) {
        found.push(format!("{kind} '{name}' was added"));
    }
}

fn compare_rules(chain: &str, wanted: &[RuleState], now: &[RuleState], found: &mut Vec<String>) {
    if wanted.len() != now.len() {
        found.push(format!("chain '{chain}' has {} rules instead of {}", now.len(), wanted.len()));
    } else if let Some(at) = wanted.iter().zip(now).position(|(a, b)| a != b) {
        found.push(format!("rule {} of chain '{chain}' is another", at + 1));
    }
}

impl From<&[TableAttribute]> for TableState {
    fn from(attributes: &[TableAttribute]) -> Self {
        let mut state = Self::default();
        for attribute in attributes {
            match attribute {
                TableAttribute::Flags(flags) => state.flags = flags.bits(),
                TableAttribute::Owner(port) => state.owner = Some(*port),
                TableAttribute::UserData(data) => state.comment = comment(data).unwrap_or_default(),
                _ => {}
            }
        }
        state
    }
}

impl From<&[SetAttribute]> for SetState {
    fn from(attributes: &[SetAttribute]) -> Self {
        let mut state = Self::default();
        for attribute in attributes {
            match attribute {
                SetAttribute::Flags(flags) => state.flags = flags.bits(),
                SetAttribute::KeyType(number) => state.key_type = *number,
                SetAttribute::KeyLen(len) => state.key_len = *len,
                SetAttribute::Timeout(timeout) => state.timeout = *timeout,
                SetAttribute::Description(description) => state.size = size(description),
                _ => {}
            }
        }
        state
    }
}

impl From<&[ChainAttribute]> for ChainState {
    fn from(attributes: &[ChainAttribute]) -> Self {
        let mut state = Self::default();
        for attribute in attributes {
            match attribute {
                ChainAttribute::Type(kind) => state.kind = kind.clone(),
                ChainAttribute::Hook(hook) => state.hook = hook.clone(),
                ChainAttribute::Policy(policy) => state.policy = Some(*policy),
                _ => {}
            }
        }
        state
    }
}

impl From<&[RuleAttribute]> for RuleState {
    fn from(attributes: &[RuleAttribute]) -> Self {
        let mut state = Self::default();
        for attribute in attributes {
            match attribute {
                RuleAttribute::Expressions(list) => state.expressions = expressions(list),
                RuleAttribute::UserData(data) => state.comment = data.clone(),
                _ => {}
            }
        }
        state
    }
}

fn size(description: &[SetDescription]) -> u32 {
    let size = |d: &SetDescription| if let SetDescription::Size(n) = d { Some(*n) } else { None };
    description.iter().find_map(size).unwrap_or_default()
}

fn expressions(list: &[ListAttribute<ExpressionAttribute>]) -> Vec<ExpressionState> {
    let expression = |entry: &ListAttribute<ExpressionAttribute>| match entry {
        ListAttribute::Element(parts) => ExpressionState::from(&parts[..]),
        _ => ExpressionState::default(),
    };
    list.iter().map(expression).collect()
}

impl From<&[ExpressionAttribute]> for ExpressionState {
    fn from(parts: &[ExpressionAttribute]) -> Self {
        let mut state = Self::default();
        for part in parts {
            match part {
                ExpressionAttribute::Name(name) => state.name.clone_from(name),
                ExpressionAttribute::Data(data) => state.attributes = data_attributes(data),
                _ => {}
            }
        }
        if state.name == "counter" {
            // What it has counted is no part of the ruleset.
            state.attributes.clear();
        }
        state
    }
}

fn data_attributes(data: &Expressions) -> BTreeMap<u16, Vec<u8>> {
    match data {
        Expressions::Bitwise(list) => attributes(list),
        Expressions::Cmp(list) => attributes(list),
        Expressions::Immediate(list) => attributes(list),
        Expressions::Lookup(list) => attributes(list),
        Expressions::Meta(list) => attributes(list),
        Expressions::Payload(list) => attributes(list),
        Expressions::Unknown(list) | Expressions::Other { attributes: list, .. } => {
            attributes(list)
        }
        // A kind that a later version of the crate knows: never equal to ours.
        _ => BTreeMap::from([(u16::MAX, vec![1])]),
    }
}

fn attributes<N: Nla>(list: &[N]) -> BTreeMap<u16, Vec<u8>> {
    let value = |nla: &N| {
        let mut value = vec![0; nla.value_len()];
        nla.emit_value(&mut value);
        (nla.kind() & NLA_TYPE_MASK, value)
    };
    list.iter().map(value).filter(|(_, value)| value.iter().any(|b| *b != 0)).collect()
}

/// The comment in a table's user data: kind, length, text, NUL.
fn comment(data: &[u8]) -> Option<String> {
    let mut rest = data;
    while let [kind, len, following @ ..] = rest {
        let value = following.get(..usize::from(*len))?;
        if *kind == UDATA_COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = &following[value.len()..];
    }
    None
}

/// Says in a few words what a table that is not ours looks like.
pub(crate) fn describe(snapshot: &Snapshot) -> String {
    let chains: Vec<&str> = snapshot.chains.keys().map(String::as_str).take(5).collect();
    match (snapshot.table.comment.as_str(), chains.as_slice()) {
        ("", []) => format!("an empty table '{TABLE}' without a comment"),
        ("", chains) => format!("no comment; chains {}", chains.join(", ")),
        (comment, _) => format!("its comment is '{comment}'"),
    }
}
