//! What a table holds, read from netlink messages: those that we send and those
//! by which the kernel lists it. The two are compared.

use super::error::FirewallError;
use super::netlink::Channel;
use super::numbers::{
    NFT_MSG_NEWCHAIN, NFT_MSG_NEWOBJ, NFT_MSG_NEWRULE, NFT_MSG_NEWSET, NFT_MSG_NEWTABLE,
};
use super::requests;
use super::ruleset::{Ruleset, TABLE};
use super::state::{ChainState, ObjectState, RuleState, SetState, TableState};
use super::transaction::Transaction;
use super::wire::{self, Message};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::NfTablesMessage;
use std::collections::BTreeMap;

/// A table without the elements of its sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
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
        Ok(Self::sent(transaction))
    }

    /// What the kernel will hold when this has been sent to an empty one.
    pub(crate) fn sent(transaction: Transaction) -> Self {
        let (bytes, _) = transaction.finish();
        Self::told(&bytes)
    }

    /// What these messages say of our table; those of others may hold what we do not know.
    #[must_use]
    pub fn told(bytes: &[u8]) -> Self {
        let mut snapshot = Self::default();
        for message in wire::messages(bytes) {
            // Ours come from libnftnl, which leaves between attributes what was in memory.
            let tidied = wire::tidied(message);
            let parts = wire::messages(&tidied).filter_map(|message| Part::read(&message));
            parts.for_each(|part| snapshot.take(part));
        }
        snapshot
    }

    /// What the kernel holds now; `None` if there is no table of our name.
    pub(crate) fn read(channel: &Channel) -> Result<Option<Self>, FirewallError> {
        let mut parts = list(channel, requests::list_tables())?;
        if parts.is_empty() {
            return Ok(None);
        }
        let requests = [
            requests::list_objects(),
            requests::list_sets(),
            requests::list_chains(),
            requests::list_rules(),
        ];
        for request in requests {
            parts.extend(list(channel, request)?);
        }
        let mut snapshot = Self::default();
        parts.into_iter().for_each(|part| snapshot.take(part));
        Ok(Some(snapshot))
    }

    fn take(&mut self, part: Part) {
        match part {
            Part::Table(table) => self.table = table,
            Part::Object(object) => drop(self.objects.insert(object.title(), object)),
            Part::Set(set) => drop(self.sets.insert(set.name.clone(), set)),
            Part::Chain(chain) => drop(self.chains.insert(chain.name.clone(), chain)),
            Part::Rule(rule) => self.rules.entry(rule.chain.clone()).or_default().push(rule),
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
            compare_rules(chain, self.rules_of(chain), now.rules_of(chain), &mut found);
        }
        found
    }

    fn rules_of(&self, chain: &str) -> &[RuleState] {
        self.rules.get(chain).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What one message says.
enum Part {
    Table(TableState),
    Object(ObjectState),
    Set(SetState),
    Chain(ChainState),
    Rule(RuleState),
}

impl Part {
    /// `None` for one that is about another table, or about none.
    fn read(message: &Message<'_>) -> Option<Self> {
        Some(match wire::is_about_us(message).then(|| message.message_type() & 0xff)? {
            NFT_MSG_NEWTABLE => Self::Table(TableState::read(message)),
            NFT_MSG_NEWOBJ => Self::Object(ObjectState::read(message)),
            NFT_MSG_NEWSET => Self::Set(SetState::read(message)),
            NFT_MSG_NEWCHAIN => Self::Chain(ChainState::read(message)),
            NFT_MSG_NEWRULE => Self::Rule(RuleState::read(message)),
            _ => return None,
        })
    }
}

fn list(channel: &Channel, request: NfTablesMessage) -> Result<Vec<Part>, FirewallError> {
    channel.list(NetfilterProtoFamily::Inet, request, |message| Ok(Part::read(&message)))
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
