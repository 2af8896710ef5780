//! Somebody else's rule, as far as it can be read without knowing all that
//! nftables can do: expressions by name, with their attributes as they are.

use super::xtables;
use crate::firewall::numbers::{
    NF_DROP, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_RULE_CHAIN,
    NFTA_RULE_EXPRESSIONS, NFTA_RULE_USERDATA, NFTA_VERDICT_CHAIN,
};
use crate::firewall::state;
use crate::firewall::wire::{self, Message, find, long, text, word};

// linux/netfilter/nf_tables.h
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_VERDICT_CODE: u16 = 1;
const NF_ACCEPT: u32 = 1;
const NFT_JUMP: u32 = 0xffff_fffd;
const NFT_GOTO: u32 = 0xffff_fffc;
const NFT_RETURN: u32 = 0xffff_fffb;

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForeignRule {
    pub(super) chain: String,
    /// The kernel's number of it, unique in its table.
    pub(super) handle: u64,
    pub(super) comment: Option<String>,
    pub(super) expressions: Vec<Expression>,
}

/// One step of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expression {
    pub(super) name: String,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// What a rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// The packet goes to a program, or whatever a later kernel may do.
    Other,
}

impl ForeignRule {
    pub(crate) fn read(message: &Message<'_>) -> Self {
        let mut rule = Self::default();
        for (kind, value) in wire::attributes(message) {
            match kind {
                NFTA_RULE_CHAIN => rule.chain = text(value),
                NFTA_RULE_HANDLE => rule.handle = long(value),
                NFTA_RULE_USERDATA => rule.comment = state::comment(value),
                NFTA_RULE_EXPRESSIONS => {
                    rule.expressions =
                        wire::nested(value).map(|(_, e)| Expression::read(e)).collect();
                }
                _ => {}
            }
        }
        // Those that went through iptables-restore have it as a match.
        rule.comment = rule.comment.or_else(|| rule.expressions.iter().find_map(xtables::comment));
        rule
    }
}

impl Expression {
    fn read(value: &[u8]) -> Self {
        let mut expression = Self::default();
        for (kind, value) in wire::nested(value) {
            match kind {
                NFTA_EXPR_NAME => expression.name = text(value),
                NFTA_EXPR_DATA => {
                    let owned = |(kind, value): (u16, &[u8])| (kind, value.to_vec());
                    expression.attributes = wire::nested(value).map(owned).collect();
                }
                _ => {}
            }
        }
        expression
    }

    pub(super) fn attribute(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(k, _)| *k == kind).map(|(_, value)| value.as_slice())
    }

    /// A number; 0 if it is not there, which is what the kernel means by that.
    pub(super) fn number(&self, kind: u16) -> u32 {
        self.attribute(kind).map_or(0, word)
    }

    pub(super) fn text(&self, kind: u16) -> String {
        self.attribute(kind).map(text).unwrap_or_default()
    }

    /// The bytes inside an attribute that holds a value.
    pub(super) fn value(&self, kind: u16) -> Option<&[u8]> {
        find(wire::nested(self.attribute(kind)?), NFTA_DATA_VALUE)
    }

    /// The verdict inside an attribute that holds one.
    pub(super) fn verdict(&self, kind: u16) -> Option<Verdict> {
        verdict(self.attribute(kind)?)
    }
}

/// The verdict in the value of an attribute of data.
pub(super) fn verdict(data: &[u8]) -> Option<Verdict> {
    let verdict = find(wire::nested(data), NFTA_DATA_VERDICT)?;
    let part = |kind| find(wire::nested(verdict), kind);
    let code = part(NFTA_VERDICT_CODE).and_then(|code| code.try_into().ok());
    let chain = || part(NFTA_VERDICT_CHAIN).map(text).unwrap_or_default();
    Some(match code.map(u32::from_be_bytes)? {
        NF_ACCEPT => Verdict::Accept,
        NF_DROP => Verdict::Drop,
        NFT_RETURN => Verdict::Return,
        NFT_JUMP => Verdict::Jump(chain()),
        NFT_GOTO => Verdict::Goto(chain()),
        _ => Verdict::Other,
    })
}
