//! A transaction: what the kernel does as a whole or not at all.

use super::encode;
use super::error::FirewallError;
use super::requests;
use super::ruleset::{Chain, Ruleset, TABLE};
use super::wire;
use crate::sys::nft::Serialised;
use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND};
use nftnl::{Batch, MsgType, NlMsg, ProtoFamily, Table};
use std::fmt;

/// libnftnl silently loses a message that is longer than a page.
const PAGE: u32 = 64 * 1024;
const BEGIN_AND_END: usize = 2;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
/// Where a netlink message has its flags.
const FLAGS: std::ops::Range<usize> = 6..8;

/// Messages in the making, and what each is about.
pub(crate) struct Transaction {
    batch: Batch,
    subjects: Vec<Subject>,
}

/// What a message is about, for errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Whole,
    Table,
    Helper(String),
    Set(String),
    Elements(String),
    Chain(String),
    /// Our rule in a chain of others.
    Attached(String),
    Rule {
        chain: String,
        text: String,
    },
    /// The part of this number of a saved ruleset.
    Saved(usize),
}

/// One message of a finished transaction.
pub(crate) struct Part {
    pub(crate) sequence: u32,
    pub(crate) subject: Subject,
    /// Whether the kernel answers also if all is well.
    pub(crate) acknowledged: bool,
}

impl Transaction {
    pub(crate) fn new() -> Self {
        Self { batch: Batch::with_page_size(PAGE), subjects: Vec::new() }
    }

    /// Adds a message that was serialised elsewhere.
    pub(crate) fn push(&mut self, subject: Subject, message: Vec<u8>) -> Result<(), FirewallError> {
        let too_long = || FirewallError::BadName(format!("{subject} is too long to send"));
        let message = Serialised::new(message).ok_or_else(too_long)?;
        self.add(subject, &message);
        Ok(())
    }

    fn add(&mut self, subject: Subject, message: &impl NlMsg) {
        self.batch.add(message, MsgType::Add);
        self.subjects.push(subject);
    }

    /// Adds all that the ruleset defines; what is there already and the same
    /// stays as it is, except that rules are appended.
    pub(crate) fn define(&mut self, ruleset: &Ruleset, flags: u32) -> Result<(), FirewallError> {
        self.push(Subject::Table, requests::add_table(flags, &ruleset.comment))?;
        for helper in &ruleset.helpers {
            self.push(Subject::Helper(helper.name.clone()), requests::add_helper(helper))?;
        }
        for (id, set) in (1..).zip(&ruleset.sets) {
            self.push(Subject::Set(set.name.clone()), requests::add_set(set, id))?;
        }
        let table = Table::new(encode::name(TABLE)?, ProtoFamily::Inet);
        let with_object = |chain| Ok((chain, encode::chain(&table, chain)?));
        let chains: Vec<(&Chain, nftnl::Chain<'_>)> =
            ruleset.chains.iter().map(with_object).collect::<Result<_, FirewallError>>()?;
        // All chains before the first rule, which may jump to any of them.
        for (chain, object) in &chains {
            self.add(Subject::Chain(chain.name.clone()), object);
        }
        for (chain, object) in &chains {
            self.add_rules(chain, object)?;
        }
        Ok(())
    }

    fn add_rules(&mut self, chain: &Chain, object: &nftnl::Chain<'_>) -> Result<(), FirewallError> {
        for rule in &chain.rules {
            let subject = Subject::Rule { chain: chain.name.clone(), text: rule.to_string() };
            self.add(subject, &encode::rule(object, rule)?);
        }
        Ok(())
    }

    /// The bytes to send, and what each message in them is about.
    pub(crate) fn finish(self) -> Result<(Vec<u8>, Vec<Part>), FirewallError> {
        let added = self.subjects.len();
        let batch = self.batch.finalize();
        // One datagram, whatever pages libnftnl has used: only then is it one transaction.
        let bytes: Vec<u8> = batch.iter().flatten().copied().collect();
        let mut subjects = self.subjects.into_iter();
        let part = |message: wire::Message<'_>| Part {
            sequence: message.sequence_number(),
            acknowledged: message.flags() & NLM_F_ACK != 0,
            subject: match message.message_type() {
                NFNL_MSG_BATCH_BEGIN | NFNL_MSG_BATCH_END => Subject::Whole,
                _ => subjects.next().unwrap_or(Subject::Whole),
            },
        };
        let parts: Vec<Part> = wire::messages(&bytes).map(part).collect();
        if parts.len() != added + BEGIN_AND_END {
            return Err(FirewallError::BadName("a message was lost: too long".to_owned()));
        }
        Ok((bytes, parts))
    }
}

/// The message that puts a rule before all others of its chain; libnftnl's
/// safe interface only puts them behind.
pub(crate) fn insertion(rule: &nftnl::Rule<'_>) -> Vec<u8> {
    let mut batch = Batch::with_page_size(PAGE);
    batch.add(rule, MsgType::Add);
    let batch = batch.finalize();
    let bytes: Vec<u8> = batch.iter().flatten().copied().collect();
    let mut messages = wire::messages(&bytes)
        .filter(|m| !matches!(m.message_type(), NFNL_MSG_BATCH_BEGIN | NFNL_MSG_BATCH_END));
    let Some(message) = messages.next() else { return Vec::new() };
    let flags = message.flags() & !NLM_F_APPEND;
    let mut message = message.into_inner().to_vec();
    message[FLAGS].copy_from_slice(&flags.to_ne_bytes());
    message
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the transaction"),
            Self::Table => write!(f, "table 'inet {TABLE}'"),
            Self::Helper(name) => write!(f, "helper '{name}'"),
            Self::Set(name) => write!(f, "set '{name}'"),
            Self::Elements(set) => write!(f, "an element of set '{set}'"),
            Self::Chain(name) => write!(f, "chain '{name}'"),
            Self::Attached(chain) => write!(f, "our rule in chain '{chain}'"),
            Self::Rule { chain, text } => write!(f, "in chain '{chain}' the rule: {text}"),
            Self::Saved(number) => write!(f, "part {number} of the ruleset that was kept"),
        }
    }
}
