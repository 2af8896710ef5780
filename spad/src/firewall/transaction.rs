//! A transaction: what the kernel does as a whole or not at all.

use super::encode;
use super::error::FirewallError;
use super::requests;
use super::ruleset::{Chain, Ruleset, TABLE};
use super::wire;
use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND};
use nftnl::{Batch, MsgType, NlMsg, ProtoFamily, Table};
use std::fmt;

/// libnftnl silently loses a message that is longer than a page.
const PAGE: u32 = 64 * 1024;
/// No message of ours is longer.
const LONGEST: usize = 64 * 1024;
/// Bytes of a transaction that grants one element.
const USUAL: usize = 256;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
/// Where a netlink message has its flags.
const FLAGS: std::ops::Range<usize> = 6..8;

/// Messages in the making, and what each is about.
pub(crate) struct Transaction {
    bytes: Vec<u8>,
    parts: Vec<Part>,
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

/// One message of a transaction.
pub(crate) struct Part {
    pub(crate) sequence: u32,
    pub(crate) subject: Subject,
    /// Whether the kernel answers also if all is well.
    pub(crate) acknowledged: bool,
}

impl Transaction {
    pub(crate) fn new() -> Self {
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.extend(wire::batch(NFNL_MSG_BATCH_BEGIN));
        Self { bytes, parts: Vec::new() }
    }

    /// Adds a message.
    pub(crate) fn push(
        &mut self,
        subject: Subject,
        mut message: Vec<u8>,
    ) -> Result<(), FirewallError> {
        let too_long = || FirewallError::BadName(format!("{subject} is too long to send"));
        let whole = wire::messages(&message).next().filter(|_| message.len() <= LONGEST);
        let acknowledged = whole.ok_or_else(too_long)?.flags() & NLM_F_ACK != 0;
        let sequence = u32::try_from(self.parts.len() + 1).unwrap_or(u32::MAX);
        wire::number(&mut message, sequence);
        message.resize(message.len().next_multiple_of(4), 0);
        self.bytes.append(&mut message);
        self.parts.push(Part { sequence, subject, acknowledged });
        Ok(())
    }

    fn add(&mut self, subject: Subject, object: &impl NlMsg) -> Result<(), FirewallError> {
        self.push(subject, serialised(object))
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
            self.add(Subject::Chain(chain.name.clone()), object)?;
        }
        for (chain, object) in &chains {
            self.add_rules(chain, object)?;
        }
        Ok(())
    }

    fn add_rules(&mut self, chain: &Chain, object: &nftnl::Chain<'_>) -> Result<(), FirewallError> {
        for rule in &chain.rules {
            let subject = Subject::Rule { chain: chain.name.clone(), text: rule.to_string() };
            self.add(subject, &encode::rule(object, rule)?)?;
        }
        Ok(())
    }

    /// The bytes to send, and what each message in them is about.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Vec<Part>) {
        self.bytes.extend(wire::batch(NFNL_MSG_BATCH_END));
        (self.bytes, self.parts)
    }
}

/// What libnftnl makes of an object; nothing of one that is too long.
fn serialised(object: &impl NlMsg) -> Vec<u8> {
    let mut batch = Batch::with_page_size(PAGE);
    batch.add(object, MsgType::Add);
    let batch = batch.finalize();
    let bytes: Vec<u8> = batch.iter().flatten().copied().collect();
    let mut messages = wire::messages(&bytes)
        .filter(|m| !matches!(m.message_type(), NFNL_MSG_BATCH_BEGIN | NFNL_MSG_BATCH_END));
    messages.next().map(|message| message.into_inner().to_vec()).unwrap_or_default()
}

/// The message that puts a rule before all others of its chain; libnftnl's
/// safe interface only puts them behind.
pub(crate) fn insertion(rule: &nftnl::Rule<'_>) -> Vec<u8> {
    let mut message = serialised(rule);
    if let Some(field) = message.get_mut(FLAGS)
        && let Ok(flags) = field.try_into().map(u16::from_ne_bytes)
    {
        field.copy_from_slice(&(flags & !NLM_F_APPEND).to_ne_bytes());
    }
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
