//! Objects of nftables as netlink messages have them, without what differs from
//! one installation to the next: handles, transaction numbers, counts.

use super::numbers::{NFTA_EXPR_DATA, UDATA_COMMENT};
use super::requests::{
    NFT_OBJECT_CT_HELPER, NFTA_CT_HELPER_L4PROTO, NFTA_CT_HELPER_NAME, NFTA_OBJ_DATA,
    NFTA_OBJ_NAME, NFTA_OBJ_TYPE,
};
use super::wire;
use netlink_packet_core::{DefaultNla, NLA_TYPE_MASK, Nla};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ExpressionAttribute, Expressions, Hook, ListAttribute, RuleAttribute,
    SetAttribute, SetDescription, TableAttribute,
};
use std::collections::BTreeMap;

// linux/netfilter/nf_tables.h
const NFTA_DYNSET_EXPR: u16 = 7;
const NFTA_OBJREF_IMM_NAME: u16 = 2;

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
    /// Name of the expression that each element carries.
    pub(crate) expression: String,
}

/// What a chain is, without its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChainState {
    pub(crate) name: String,
    kind: String,
    hook: Vec<Hook>,
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

impl ObjectState {
    /// What tells it from all others of the table. Names are unique in each kind.
    pub(crate) fn title(&self) -> String {
        match self.kind {
            NFT_OBJECT_CT_HELPER => self.name.clone(),
            kind => format!("{} of kind {kind}", self.name),
        }
    }
}

impl From<&[DefaultNla]> for ObjectState {
    fn from(list: &[DefaultNla]) -> Self {
        let attributes = attributes(list);
        let value = |kind| attributes.get(&kind).map(Vec::as_slice).unwrap_or_default();
        let name = value(NFTA_OBJ_NAME).strip_suffix(&[0]).unwrap_or_default();
        let ours =
            |(kind, _): &(u16, &[u8])| [NFTA_CT_HELPER_NAME, NFTA_CT_HELPER_L4PROTO].contains(kind);
        let data = wire::nested(value(NFTA_OBJ_DATA)).filter(ours);
        Self {
            name: String::from_utf8_lossy(name).into_owned(),
            kind: value(NFTA_OBJ_TYPE).first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)),
            helper: data.map(|(kind, value)| (kind, value.to_vec())).collect(),
        }
    }
}

impl From<&[SetAttribute]> for SetState {
    fn from(attributes: &[SetAttribute]) -> Self {
        let mut state = Self::default();
        for attribute in attributes {
            match attribute {
                SetAttribute::Name(name) => state.name.clone_from(name),
                SetAttribute::Flags(flags) => state.flags = flags.bits(),
                SetAttribute::KeyType(number) => state.key_type = *number,
                SetAttribute::KeyLen(len) => state.key_len = *len,
                SetAttribute::Timeout(timeout) => state.timeout = *timeout,
                SetAttribute::Expression(ExpressionAttribute::Name(name)) => {
                    state.expression.clone_from(name);
                }
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
                ChainAttribute::Name(name) => state.name.clone_from(name),
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
                RuleAttribute::Chain(name) => state.chain.clone_from(name),
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
        if let Some(inner) = state.attributes.get_mut(&NFTA_DYNSET_EXPR)
            && state.name == "dynset"
        {
            *inner = plain_expression(inner);
        }
        if let Some(name) = state.attributes.get_mut(&NFTA_OBJREF_IMM_NAME)
            && state.name == "objref"
        {
            // libnftnl leaves out the zero byte that the kernel puts behind it.
            name.retain(|byte| *byte != 0);
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

/// An expression inside another, its attributes' flags and those that are zero
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
