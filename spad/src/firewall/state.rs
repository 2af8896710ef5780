//! Objects of nftables as netlink messages have them, without what differs from
//! one installation to the next: handles, transaction numbers, counts.

use super::numbers::{
    NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TYPE, NFTA_DATA_VERDICT,
    NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_USERDATA,
    NFTA_SET_EXPR, NFTA_TABLE_OWNER, NFTA_VERDICT_CHAIN, UDATA_COMMENT,
};
use super::requests::{
    NFT_OBJECT_CT_HELPER, NFTA_CT_HELPER_L4PROTO, NFTA_CT_HELPER_NAME, NFTA_OBJ_DATA,
    NFTA_OBJ_NAME, NFTA_OBJ_TYPE,
};
use super::wire::{self, Message, find, long, text, word};
use std::collections::BTreeMap;

// linux/netfilter/nf_tables.h
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_DESC_SIZE: u16 = 1;
const NFTA_SET_TIMEOUT: u16 = 11;
const NFTA_DYNSET_EXPR: u16 = 7;
/// Attributes of expressions that hold a value or a verdict.
const OF_DATA: [(&str, &[u16]); 3] = [("bitwise", &[4, 5, 7]), ("cmp", &[3]), ("immediate", &[2])];
/// And those that name a set or an object, with a zero byte at the end or without: libnftnl leaves
/// out some that the kernel has.
const OF_NAME: [(&str, u16); 2] = [("lookup", 1), ("objref", 2)];

/// A table itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableState {
    /// `NFT_TABLE_F_*`.
    pub(crate) flags: u32,
    /// Netlink port of the owner.
    pub(crate) owner: Option<u32>,
    pub(crate) comment: String,
}

/// What an object is that rules refer to by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectState {
    pub(crate) name: String,
    /// `NFT_OBJECT_*`.
    pub(crate) kind: u32,
    /// Of a helper, what the kernel calls it and its protocol. The kernel adds
    /// for which families it has such a helper, which is not ours to say.
    helper: BTreeMap<u16, Vec<u8>>,
}

/// What a set is, without its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetState {
    pub(crate) name: String,
    pub(crate) flags: u32,
    pub(crate) key_type: u32,
    pub(crate) key_len: u32,
    /// In milliseconds; 0 for none.
    pub(crate) timeout: u64,
    pub(crate) size: u32,
    /// The expression that each element carries, with its numbers; empty for none.
    pub(crate) expression: Vec<u8>,
}

/// What a chain is, without its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChainState {
    pub(crate) name: String,
    kind: String,
    hook: BTreeMap<u16, Vec<u8>>,
    policy: Option<u32>,
}

/// What a rule does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleState {
    pub(crate) chain: String,
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

impl TableState {
    pub(crate) fn read(message: &Message<'_>) -> Self {
        let mut state = Self::default();
        for (kind, value) in wire::attributes(message) {
            match kind {
                NFTA_TABLE_FLAGS => state.flags = word(value),
                NFTA_TABLE_OWNER => state.owner = Some(word(value)),
                NFTA_TABLE_USERDATA => state.comment = comment(value).unwrap_or_default(),
                _ => {}
            }
        }
        state
    }
}

impl ObjectState {
    /// What tells it from all others of the table. Names are unique in each kind.
    pub(crate) fn title(&self) -> String {
        match self.kind {
            NFT_OBJECT_CT_HELPER => self.name.clone(),
            kind => format!("{} of kind {kind}", self.name),
        }
    }

    pub(crate) fn read(message: &Message<'_>) -> Self {
        let mut state = Self::default();
        for (kind, value) in wire::attributes(message) {
            match kind {
                NFTA_OBJ_NAME => state.name = text(value),
                NFTA_OBJ_TYPE => state.kind = word(value),
                NFTA_OBJ_DATA => {
                    let ours = [NFTA_CT_HELPER_NAME, NFTA_CT_HELPER_L4PROTO];
                    state.helper = owned(value);
                    state.helper.retain(|kind, _| ours.contains(kind));
                }
                _ => {}
            }
        }
        state
    }
}

impl SetState {
    pub(crate) fn read(message: &Message<'_>) -> Self {
        let mut state = Self::default();
        for (kind, value) in wire::attributes(message) {
            match kind {
                NFTA_SET_NAME => state.name = text(value),
                NFTA_SET_FLAGS => state.flags = word(value),
                NFTA_SET_KEY_TYPE => state.key_type = word(value),
                NFTA_SET_KEY_LEN => state.key_len = word(value),
                NFTA_SET_TIMEOUT => state.timeout = long(value),
                NFTA_SET_EXPR => state.expression = plain_expression(value),
                NFTA_SET_DESC => {
                    state.size = find(wire::nested(value), NFTA_SET_DESC_SIZE).map_or(0, word);
                }
                _ => {}
            }
        }
        state
    }
}

impl ChainState {
    pub(crate) fn read(message: &Message<'_>) -> Self {
        let mut state = Self::default();
        for (kind, value) in wire::attributes(message) {
            match kind {
                NFTA_CHAIN_NAME => state.name = text(value),
                NFTA_CHAIN_TYPE => state.kind = text(value),
                NFTA_CHAIN_HOOK => state.hook = owned(value),
                NFTA_CHAIN_POLICY => state.policy = Some(word(value)),
                _ => {}
            }
        }
        state
    }
}

impl RuleState {
    pub(crate) fn read(message: &Message<'_>) -> Self {
        let mut state = Self::default();
        for (kind, value) in wire::attributes(message) {
            match kind {
                NFTA_RULE_CHAIN => state.chain = text(value),
                NFTA_RULE_USERDATA => state.comment = value.to_vec(),
                NFTA_RULE_EXPRESSIONS => {
                    let list = wire::nested(value);
                    state.expressions = list.map(|(_, it)| ExpressionState::read(it)).collect();
                }
                _ => {}
            }
        }
        state
    }
}

impl ExpressionState {
    fn read(expression: &[u8]) -> Self {
        let mut state = Self::default();
        for (kind, value) in wire::nested(expression) {
            match kind {
                NFTA_EXPR_NAME => state.name = text(value),
                NFTA_EXPR_DATA => state.attributes = owned(value),
                _ => {}
            }
        }
        let Self { name, attributes } = &mut state;
        for (kind, value) in attributes.iter_mut() {
            if name == "dynset" && *kind == NFTA_DYNSET_EXPR {
                *value = plain_expression(value);
            } else if OF_NAME.contains(&(name, *kind)) {
                *value = text(value).into_bytes();
            } else if OF_DATA.iter().any(|(of, kinds)| of == name && kinds.contains(kind)) {
                *value = plain_data(value);
            }
        }
        attributes.retain(|_, value| value.iter().any(|byte| *byte != 0));
        if name == "counter" {
            // What it has counted is no part of the ruleset.
            attributes.clear();
        }
        state
    }
}

fn owned(attributes: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    wire::nested(attributes).map(|(kind, value)| (kind, value.to_vec())).collect()
}

/// A value or a verdict, without its attributes' flags, and without what may be between them.
fn plain_data(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    for (kind, value) in wire::nested(bytes) {
        plain.extend(kind.to_be_bytes());
        if kind != NFTA_DATA_VERDICT {
            plain.extend(value);
            continue;
        }
        for (kind, value) in wire::nested(value) {
            plain.extend(kind.to_be_bytes());
            match kind {
                NFTA_VERDICT_CHAIN => plain.extend(text(value).as_bytes()),
                _ => plain.extend(value),
            }
        }
    }
    plain
}

/// An expression inside another or of a set, its attributes' flags and those that are zero
/// left out.
fn plain_expression(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    for (kind, value) in wire::nested(bytes) {
        let inside: Vec<_> = match kind {
            NFTA_EXPR_DATA => wire::nested(value).collect(),
            _ => vec![(kind, value)],
        };
        for (kind, value) in inside.into_iter().filter(|(_, value)| value.iter().any(|b| *b != 0)) {
            plain.extend(kind.to_be_bytes());
            plain.extend(value);
        }
    }
    plain
}

/// The comment in the user data of a table or a rule: kind, length, text, NUL.
pub(crate) fn comment(data: &[u8]) -> Option<String> {
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
