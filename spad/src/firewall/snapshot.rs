//! What a table holds, read from netlink messages: those that we send and those
//! by which the kernel lists it. The two are compared.

use super::error::FirewallError;
use super::netlink::Channel;
use super::requests;
use super::ruleset::{Ruleset, TABLE};
use super::state::{ChainState, ObjectState, RuleState, SetState, TableState};
use super::transaction::Transaction;
use super::wire;
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};
use std::collections::BTreeMap;

/// A table without the elements of its sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) table: TableState,
    pub(crate) objects: BTreeMap<String, ObjectState>,
    pub(crate) sets: BTreeMap<String, SetState>,
    pub(crate) chains: BTreeMap<String, ChainState>,
    pub(crate) rules: BTreeMap<String, Vec<RuleState>>,
}

impl Snapshot {
    /// What the kernel will hold when `ruleset` has been installed.
    pub(crate) fn of(ruleset: &Ruleset, flags: u32) -> Result<Self, FirewallError> {
        let mut transaction = Transaction::new();
        transaction.define(ruleset, flags)?;
        Self::sent(transaction)
    }

    /// What the kernel will hold when this has been sent to an empty one.
    pub(crate) fn sent(transaction: Transaction) -> Result<Self, FirewallError> {
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
        let requests = [
            requests::list_objects(),
            requests::list_sets(),
            requests::list_chains(),
            requests::list_rules(),
        ];
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
            NfTablesMessage::NewObject(attributes) => {
                let object = ObjectState::from(&attributes[..]);
                self.objects.insert(object.title(), object);
            }
            NfTablesMessage::NewSet(m) => {
                let set = SetState::from(&m.attributes[..]);
                self.sets.insert(set.name.clone(), set);
            }
            NfTablesMessage::NewChain(m) => {
                let chain = ChainState::from(&m.attributes[..]);
                self.chains.insert(chain.name.clone(), chain);
            }
            NfTablesMessage::NewRule(m) => {
                let rule = RuleState::from(&m.attributes[..]);
                self.rules.entry(rule.chain.clone()).or_default().push(rule);
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
        compare("object", &self.objects, &now.objects, &mut found);
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

/// Says in a few words what a table that is not ours looks like.
pub(crate) fn describe(snapshot: &Snapshot) -> String {
    let chains: Vec<&str> = snapshot.chains.keys().map(String::as_str).take(5).collect();
    match (snapshot.table.comment.as_str(), chains.as_slice()) {
        ("", []) => format!("an empty table '{TABLE}' without a comment"),
        ("", chains) => format!("no comment; chains {}", chains.join(", ")),
        (comment, _) => format!("its comment is '{comment}'"),
    }
}
