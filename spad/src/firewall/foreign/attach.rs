//! Our one rule at the head of other people's chains: put there, found again,
//! put back, taken out.
//!
//! It is known by its comment. Its shape is that of `iptables -m mark`, so that
//! the tools of iptables show it, save it and load it as one of their own.

use super::error::AttachError;
use super::name::ChainName;
use super::packet::Packet;
use super::read::{self, BaseChain, SetsOf};
use super::rule::ForeignRule;
use super::survey;
use super::walk::{Table, Way};
use crate::firewall::apply::Firewall;
use crate::firewall::encode;
use crate::firewall::error::FirewallError;
use crate::firewall::netlink::Channel;
use crate::firewall::plan::{Mode, Plan};
use crate::firewall::rules::{GUARD, attach};
use crate::firewall::transaction::{Subject, Transaction, insertion};
use crate::firewall::wire;
use netlink_packet_core::NLM_F_ACK;
use netlink_packet_netfilter::nftables::{NfTablesMessage, RuleAttribute, RuleMessage};
use nix::libc::ENOENT;
use spa_proto::Protocol;
use std::collections::HashMap;

/// By which we know our rule, in whatever chain.
const COMMENT: &str = "spad: granted";
/// How often it is tried again when somebody changes the chain in between.
const ATTEMPTS: usize = 5;

/// Where our rule is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    chains: Vec<ChainName>,
    plan: Plan,
}

impl Attachment {
    /// In these chains, as the plan wants it; in none unless its mode is `attach`.
    #[must_use]
    pub fn new(chains: Vec<ChainName>, plan: Plan) -> Self {
        let chains = if plan.mode == Mode::Attach { chains } else { Vec::new() };
        Self { chains, plan }
    }

    /// The chains.
    #[must_use]
    pub fn chains(&self) -> &[ChainName] {
        &self.chains
    }
}

impl Firewall {
    /// Whether our rule can be put into every chain that is named.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn attachable(&self, to: &Attachment) -> Result<(), AttachError> {
        let there = self.others(to)?;
        to.chains.iter().try_for_each(|name| self.usable(name, &there).map(|_| ()))
    }

    /// Puts our rule at the head of each chain, once; where it is already, and
    /// nothing before it drops what is granted, it stays. Returns how many
    /// chains were changed.
    ///
    /// # Errors
    /// The first reason why a chain does not have it; the others do.
    pub fn attach(&self, to: &Attachment) -> Result<usize, AttachError> {
        let there = self.others(to)?;
        let (mut changed, mut first) = (0, None);
        for name in &to.chains {
            match self.usable(name, &there).and_then(|chain| self.settle(chain, &to.plan)) {
                Ok(put) => changed += usize::from(put),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        first.map_or(Ok(changed), Err)
    }

    /// Whether our rule is where it should be.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn attached(&self, to: &Attachment) -> Result<bool, AttachError> {
        let there = self.others(to)?;
        for name in &to.chains {
            let chain = self.usable(name, &there)?;
            if self.outdated(chain, &to.plan)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes our rule out of every chain but those of `keep`. Returns how many
    /// were taken out.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn detach(&self, keep: &[ChainName]) -> Result<usize, FirewallError> {
        let mut rules = read::rules_with_comment(&self.channel, COMMENT)?;
        rules.retain(|(chain, _)| !keep.contains(chain));
        if rules.is_empty() {
            return Ok(0);
        }
        let mut transaction = Transaction::new();
        for (chain, handle) in &rules {
            transaction.push(subject(chain), removal(chain, *handle))?;
        }
        self.channel.commit(transaction)?;
        Ok(rules.len())
    }

    /// The chains to choose from; nobody looks where none is named.
    fn others(&self, to: &Attachment) -> Result<Vec<BaseChain>, FirewallError> {
        if to.chains.is_empty() { Ok(Vec::new()) } else { read::base_chains(&self.channel) }
    }

    fn usable<'a>(
        &self,
        name: &ChainName,
        there: &'a [BaseChain],
    ) -> Result<&'a BaseChain, AttachError> {
        let missing = || AttachError::Missing {
            chain: name.clone(),
            there: there.iter().map(|chain| chain.name.clone()).collect(),
        };
        let chain = there.iter().find(|chain| chain.name == *name).ok_or_else(missing)?;
        if chain.priority <= GUARD {
            return Err(AttachError::TooEarly { chain: name.clone(), priority: chain.priority });
        }
        match read::owner(&self.channel, &name.table)? {
            Some(port) => Err(AttachError::Owned { chain: name.clone(), port }),
            None => Ok(chain),
        }
    }

    /// Whether anything had to be done.
    fn settle(&self, chain: &BaseChain, plan: &Plan) -> Result<bool, AttachError> {
        for attempt in 1.. {
            let Some(old) = self.outdated(chain, plan)? else { return Ok(attempt > 1) };
            match put(&self.channel, &chain.name, plan, &old) {
                Err(error) if attempt < ATTEMPTS && has_changed(&error) => {}
                put => return put.map(|()| true).map_err(AttachError::from),
            }
        }
        Ok(false)
    }

    /// The numbers of our rules in the chain, unless there is one, as it should
    /// be, that gets to see what is granted.
    fn outdated(&self, chain: &BaseChain, plan: &Plan) -> Result<Option<Vec<u64>>, AttachError> {
        let rules = read::rules(&self.channel, &chain.name)?;
        let is_ours = |rule: &ForeignRule| rule.comment.as_deref() == Some(COMMENT);
        let ours: Vec<u64> = rules.iter().filter(|r| is_ours(r)).map(|r| r.handle).collect();
        let [_] = ours[..] else { return Ok(Some(ours)) };
        let (before, rest) = rules.split_at(rules.iter().position(is_ours).unwrap_or_default());
        let sees = before.is_empty() || self.lets_through(chain, plan, before)?;
        let right = sees && rest.first().is_some_and(|rule| accepts_the_mark(rule, plan));
        Ok((!right).then_some(ours))
    }

    /// Whether what is granted gets past these rules at the head of a chain.
    fn lets_through(
        &self,
        chain: &BaseChain,
        plan: &Plan,
        rules: &[ForeignRule],
    ) -> Result<bool, FirewallError> {
        let sets = SetsOf { channel: &self.channel, table: chain.name.table.clone() };
        let table = read::table(&chain.name.table, &sets)?;
        let dropped = |packet: &Packet| table.rules(rules, packet) == Way::Dropped;
        let mut services = plan.protected();
        Ok(!services.any(|service| survey::packets(chain, plan, service).iter().any(dropped)))
    }
}

/// In one transaction: out with the old ones, in with the new one.
fn put(
    channel: &Channel,
    chain: &ChainName,
    plan: &Plan,
    old: &[u64],
) -> Result<(), FirewallError> {
    let mut transaction = Transaction::new();
    for handle in old {
        transaction.push(subject(chain), removal(chain, *handle))?;
    }
    transaction.push(subject(chain), our_rule(chain, plan)?)?;
    channel.commit(transaction)
}

fn subject(chain: &ChainName) -> Subject {
    Subject::Attached(chain.to_string())
}

/// The message that puts our rule at the head of a chain.
fn our_rule(chain: &ChainName, plan: &Plan) -> Result<Vec<u8>, FirewallError> {
    let rule = attach::accept_marked(attach::mark(plan), COMMENT);
    let table = nftnl::Table::new(encode::name(&chain.table.name)?, chain.table.family.of_nftnl());
    let object = nftnl::Chain::new(encode::name(&chain.chain)?, &table);
    Ok(insertion(&encode::rule(&object, &rule)?))
}

fn removal(chain: &ChainName, handle: u64) -> Vec<u8> {
    let attributes = vec![
        RuleAttribute::Table(chain.table.name.clone()),
        RuleAttribute::Chain(chain.chain.clone()),
        RuleAttribute::Handle(handle),
    ];
    let request = NfTablesMessage::DeleteRule(RuleMessage { attributes });
    wire::message(chain.table.family.protocol(), request, NLM_F_ACK)
}

/// Whether the rule accepts what carries our mark, and nothing else: as we have
/// put it, or as the tools of iptables have put it back.
fn accepts_the_mark(rule: &ForeignRule, plan: &Plan) -> bool {
    let (table, bit) = (Table { chains: HashMap::new(), sets: &() }, attach::mark(plan));
    let way = |mark| {
        let protocol = Protocol::Tcp;
        let packet = Packet { v6: false, protocol, port: 0, mark: Some(mark), inner: None };
        table.rules(std::slice::from_ref(rule), &packet)
    };
    [bit, u32::MAX].map(way) == [Way::Accepted; 2] && [0, !bit].map(way) == [Way::Through; 2]
}

/// The rule was gone before we could take it out.
fn has_changed(error: &FirewallError) -> bool {
    let FirewallError::Refused { source, .. } = error else { return false };
    source.raw_os_error() == Some(ENOENT)
}
