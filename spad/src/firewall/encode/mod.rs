//! Rules as expressions of nftables' virtual machine, chosen as `nft` itself
//! chooses them, so that `nft list` shows what `text` prints.

mod action;
mod connection;
mod packet;

use super::error::FirewallError;
use super::ruleset::{Chain, Field, Hook, Rule, Side, Stage, Statement};
use crate::firewall::numbers::NFT_META_L4PROTO;
use crate::sys::nft::Instruction;
use nftnl::expr::{Bitwise, Cmp, CmpOp, Counter, Verdict};
use nftnl::nftnl_sys::{self as sys, libc};
use nftnl::{ChainType, Policy, Table};
use std::ffi::CString;

// linux/netfilter/nf_tables.h
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;

/// The chain as libnftnl has it.
pub(crate) fn chain<'a>(
    table: &'a Table,
    chain: &Chain,
) -> Result<nftnl::Chain<'a>, FirewallError> {
    let mut object = nftnl::Chain::new(name(&chain.name)?, table);
    if let Some(Hook { nat, stage, priority }) = chain.hook {
        object.set_hook(hook(stage), priority);
        object.set_type(if nat { ChainType::Nat } else { ChainType::Filter });
        object.set_policy(Policy::Accept);
    }
    Ok(object)
}

/// The rule as libnftnl has it, in `chain`.
pub(crate) fn rule<'a>(
    chain: &'a nftnl::Chain<'a>,
    rule: &Rule,
) -> Result<nftnl::Rule<'a>, FirewallError> {
    let mut encoder = Encoder { rule: nftnl::Rule::new(chain), family: None, protocol: None };
    for statement in &rule.statements {
        encoder.statement(statement)?;
    }
    if !rule.comment.is_empty() {
        let refused = |why| FirewallError::BadName(format!("{why}: {}", rule.comment));
        encoder.rule.set_comment(name(&rule.comment)?).map_err(refused)?;
    }
    Ok(encoder.rule)
}

/// A name as C has it.
pub(crate) fn name(text: &str) -> Result<CString, FirewallError> {
    CString::new(text).map_err(|_| FirewallError::BadName(format!("{text:?} has a zero byte")))
}

fn hook(stage: Stage) -> nftnl::Hook {
    match stage {
        Stage::Prerouting => nftnl::Hook::PreRouting,
        Stage::Input => nftnl::Hook::In,
        Stage::Forward => nftnl::Hook::Forward,
        Stage::Output => nftnl::Hook::Out,
        Stage::Postrouting => nftnl::Hook::PostRouting,
    }
}

/// A rule in the making, and what its matches so far have made sure of.
struct Encoder<'a> {
    rule: nftnl::Rule<'a>,
    family: Option<u8>,
    protocol: Option<u8>,
}

impl Encoder<'_> {
    fn statement(&mut self, statement: &Statement) -> Result<(), FirewallError> {
        match statement {
            Statement::FromLoopback => self.input_is_loopback(),
            Statement::ToLoopback => self.output_is_loopback(),
            Statement::FromBridge => self.through_bridge(),
            Statement::FromInterface(name) => self.input_is(name),
            Statement::ToInterface(name) => self.output_is(name),
            Statement::SentTo(many) => self.sent_to(*many),
            Statement::Icmp(kind) => self.icmp(libc::NFPROTO_IPV4, *kind),
            Statement::Icmpv6(kind) => self.icmp(libc::NFPROTO_IPV6, *kind),
            Statement::Igmp => self.igmp(),
            Statement::HopLimit(limit) => self.hop_limit(*limit),
            Statement::WrongWay => self.wrong_way(),
            Statement::NoWayBack => self.no_way_back(),
            Statement::Ipv4 => self.require_family(libc::NFPROTO_IPV4),
            Statement::Ipv6 => self.require_family(libc::NFPROTO_IPV6),
            Statement::Protocol(protocol) => self.require_protocol(protocol.number()),
            Statement::Port(protocol, side, ports) => self.port(*protocol, *side, *ports),
            Statement::TcpFlags { mask, set } => self.tcp_flags(*mask, *set),
            Statement::Within(side, network) => self.within(*side, network),
            Statement::Routed(side, kind) => self.routed(*side, *kind),
            Statement::RoutedHere(side, kind) => self.routed_here(*side, *kind),
            Statement::Labelled(bit) => self.labelled(*bit),
            Statement::Direction(direction) => self.direction(*direction),
            Statement::SourceTranslated => self.source_translated(),
            Statement::DestinationTranslated => self.destination_translated(),
            Statement::Assured => self.assured(),
            Statement::State(states) => self.state(states),
            Statement::NotBefore(time) => self.not_before(*time),
            Statement::Marked(bits) => self.marked(*bits),
            Statement::InSet(key, set) => self.in_set(key, name(set)?),
            Statement::Update(key, set) => self.update(key, name(set)?),
            Statement::MoreOften(key, set, limit) => self.more_often(key, name(set)?, *limit),
            Statement::NoMoreThan(limit) => self.no_more_than(*limit),
            Statement::Label(bit) => self.label(*bit),
            Statement::Mark(bits) => self.mark(*bits),
            Statement::Unmark(bits) => self.unmark(*bits),
            Statement::Help(helper) => self.help(name(helper)?),
            Statement::Log(prefix) => self.log(name(prefix)?),
            Statement::NoTrack => self.rule.add_expr(&Instruction::new(c"notrack")),
            Statement::DestinationNat(to, port) => self.destination_nat(*to, *port),
            Statement::SourceNat(from) => self.source_nat(*from),
            Statement::Masquerade => self.rule.add_expr(&nftnl::expr::Masquerade),
            Statement::Counter => self.rule.add_expr(&Counter),
            Statement::Accept => self.rule.add_expr(&Verdict::Accept),
            Statement::Drop => self.rule.add_expr(&Verdict::Drop),
            Statement::Jump(chain) => self.rule.add_expr(&Verdict::Jump { chain: name(chain)? }),
            Statement::Goto(chain) => self.rule.add_expr(&Verdict::Goto { chain: name(chain)? }),
        }
        Ok(())
    }

    fn compare(&mut self, op: CmpOp, value: &[u8]) {
        self.rule.add_expr(&Cmp::new(op, value));
    }

    fn and(&mut self, mask: &[u8]) {
        self.rule.add_expr(&Bitwise::new(mask, vec![0_u8; mask.len()].as_slice()));
    }

    fn require_family(&mut self, family: i32) {
        let family = u8::try_from(family).unwrap_or_default();
        if self.family.replace(family) != Some(family) {
            self.rule.add_expr(&nftnl::expr::Meta::NfProto);
            self.compare(CmpOp::Eq, &[family]);
        }
    }

    fn require_protocol(&mut self, number: u8) {
        if self.protocol.replace(number) != Some(number) {
            self.rule.add_expr(&nftnl::expr::Meta::L4Proto);
            self.compare(CmpOp::Eq, &[number]);
        }
    }

    /// The fields side by side, each beginning on a register of four bytes.
    fn load_key(&mut self, key: &[Field]) {
        for field in key {
            match field {
                Field::Ipv4(_) | Field::Ipv4Net(_) => self.require_family(libc::NFPROTO_IPV4),
                Field::Ipv6(_) | Field::Ipv6Net(_) => self.require_family(libc::NFPROTO_IPV6),
                Field::Protocol | Field::Port(_) => {}
            }
        }
        let mut word = 0;
        for field in key {
            self.load(*field, word);
            word += field.datatype().len().div_ceil(4);
        }
    }

    fn load(&mut self, field: Field, word: u32) {
        let len = field.datatype().len();
        match field {
            Field::Ipv4(side) => {
                self.load_payload(NFT_PAYLOAD_NETWORK_HEADER, side.of(12, 16), len, word)
            }
            Field::Ipv6(side) => {
                self.load_payload(NFT_PAYLOAD_NETWORK_HEADER, side.of(8, 24), len, word)
            }
            Field::Ipv4Net(bits) => self.load_net(Field::Ipv4(Side::Source), bits, word),
            Field::Ipv6Net(bits) => self.load_net(Field::Ipv6(Side::Source), bits, word),
            Field::Port(side) => {
                self.load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, side.of(0, 2), len, word)
            }
            Field::Protocol => self.load_meta(NFT_META_L4PROTO, word),
        }
    }

    fn load_net(&mut self, field: Field, bits: u8, word: u32) {
        let len = field.datatype().len();
        self.load(field, word);
        let mask = prefix_mask(len, bits);
        let masked = Instruction::new(c"bitwise")
            .number(sys::NFTNL_EXPR_BITWISE_SREG, register(word))
            .number(sys::NFTNL_EXPR_BITWISE_DREG, register(word))
            .number(sys::NFTNL_EXPR_BITWISE_LEN, len)
            .bytes(sys::NFTNL_EXPR_BITWISE_XOR, vec![0; mask.len()])
            .bytes(sys::NFTNL_EXPR_BITWISE_MASK, mask);
        self.rule.add_expr(&masked);
    }

    fn load_meta(&mut self, key: u32, word: u32) {
        let meta = Instruction::new(c"meta")
            .number(sys::NFTNL_EXPR_META_KEY, key)
            .number(sys::NFTNL_EXPR_META_DREG, register(word));
        self.rule.add_expr(&meta);
    }

    fn load_payload(&mut self, base: u32, offset: u32, len: u32, word: u32) {
        let payload = Instruction::new(c"payload")
            .number(sys::NFTNL_EXPR_PAYLOAD_BASE, base)
            .number(sys::NFTNL_EXPR_PAYLOAD_OFFSET, offset)
            .number(sys::NFTNL_EXPR_PAYLOAD_LEN, len)
            .number(sys::NFTNL_EXPR_PAYLOAD_DREG, register(word));
        self.rule.add_expr(&payload);
    }
}

impl Side {
    fn of(self, source: u32, destination: u32) -> u32 {
        match self {
            Self::Source => source,
            Self::Destination => destination,
        }
    }
}

/// The number of the register that begins at the given word of four bytes: as
/// the kernel reports it, the old names where there are such.
fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { 1 + word / 4 } else { 8 + word }
}

/// The mask of a prefix of `bits` bits, `len` bytes long, in network byte order.
pub(crate) fn prefix_mask(len: u32, bits: u8) -> Vec<u8> {
    let of_byte = |at: u32| {
        let set = u32::from(bits).saturating_sub(at * 8).min(8);
        0xff_u8.checked_shl(8 - set).unwrap_or(0)
    };
    (0..len).map(of_byte).collect()
}
