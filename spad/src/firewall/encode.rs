//! Rules as expressions of nftables' virtual machine, chosen as `nft` itself
//! chooses them, so that `nft list` shows what `text` prints.

use super::error::FirewallError;
use super::network::Network;
use super::ruleset::{AddressType, Direction, Field, PortRange, Rule, Side, Stage, Statement};
use crate::sys::nft::Instruction;
use nftnl::expr::{Bitwise, Cmp, CmpOp, Counter, Immediate, Meta, Register, Verdict};
use nftnl::nftnl_sys::{self as sys, libc};
use nftnl::{Chain, Hook};
use spa_proto::Protocol;
use std::ffi::CString;
use std::net::IpAddr;

// linux/netfilter/nf_tables.h, linux/rtnetlink.h, linux/netfilter/nf_conntrack_common.h
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_SADDR: u32 = 1 << 0;
const NFTA_FIB_F_DADDR: u32 = 1 << 1;
const NFTA_FIB_F_IIF: u32 = 1 << 3;
const NFT_DYNSET_OP_UPDATE: u32 = 1;
const NFT_CT_DIRECTION: u32 = 1;
const NFT_CT_STATUS: u32 = 2;
const NFT_CT_LABELS: u32 = 13;
const NFT_META_L4PROTO: u32 = 16;
const NFT_META_IIFKIND: u32 = 26;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const IPS_SRC_NAT: u32 = 1 << 4;
const RTN_LOCAL: u32 = 2;
const RTN_BROADCAST: u32 = 3;
const RTN_ANYCAST: u32 = 4;
const RTN_MULTICAST: u32 = 5;
/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;
const LABEL_BYTES: usize = 16;

/// The rule as libnftnl has it, in `chain`.
pub(crate) fn rule<'a>(
    chain: &'a Chain<'a>,
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

/// The hook of a stage.
pub(crate) fn hook(stage: Stage) -> Hook {
    match stage {
        Stage::Prerouting => Hook::PreRouting,
        Stage::Input => Hook::In,
        Stage::Output => Hook::Out,
        Stage::Postrouting => Hook::PostRouting,
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
            Statement::FromLoopback => self.loopback(&Meta::Iif),
            Statement::FromBridge => self.through_bridge(),
            Statement::NoTrack => self.rule.add_expr(&Instruction::new(c"notrack")),
            Statement::ToLoopback => self.loopback(&Meta::Oif),
            Statement::Protocol(protocol) => self.require_protocol(*protocol),
            Statement::Port(protocol, side, ports) => self.port(*protocol, *side, *ports),
            Statement::TcpFlags { mask, set } => self.tcp_flags(*mask, *set),
            Statement::Within(side, network) => self.within(*side, network),
            Statement::Routed(side, kind) => self.address_type(*kind, fib_flag(*side)),
            Statement::RoutedHere(side, kind) => {
                self.address_type(*kind, fib_flag(*side) | NFTA_FIB_F_IIF);
            }
            Statement::Labelled(bit) => self.labelled(*bit),
            Statement::Direction(direction) => self.direction(*direction),
            Statement::SourceTranslated => self.source_translated(),
            Statement::InSet(key, set) => self.in_set(key, name(set)?),
            Statement::Update(key, set) => self.update(key, name(set)?),
            Statement::Label(bit) => self.label(*bit),
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

    fn mask(&mut self, mask: &[u8]) {
        self.rule.add_expr(&Bitwise::new(mask, vec![0_u8; mask.len()].as_slice()));
    }

    fn loopback(&mut self, interface: &Meta) {
        self.rule.add_expr(interface);
        self.compare(CmpOp::Eq, &LOOPBACK.to_ne_bytes());
    }

    fn through_bridge(&mut self) {
        let meta = Instruction::new(c"meta")
            .number(sys::NFTNL_EXPR_META_KEY, NFT_META_IIFKIND)
            .number(sys::NFTNL_EXPR_META_DREG, register(0));
        self.rule.add_expr(&meta);
        self.compare(CmpOp::Eq, b"bridge\0\0\0\0\0\0\0\0\0\0");
    }

    fn require_family(&mut self, family: i32) {
        let family = u8::try_from(family).unwrap_or_default();
        if self.family.replace(family) != Some(family) {
            self.rule.add_expr(&Meta::NfProto);
            self.compare(CmpOp::Eq, &[family]);
        }
    }

    fn require_protocol(&mut self, protocol: Protocol) {
        if self.protocol.replace(protocol.number()) != Some(protocol.number()) {
            self.rule.add_expr(&Meta::L4Proto);
            self.compare(CmpOp::Eq, &[protocol.number()]);
        }
    }

    fn port(&mut self, protocol: Protocol, side: Side, ports: PortRange) {
        self.require_protocol(protocol);
        self.load(Field::Port(side), 0);
        if ports.first() == ports.last() {
            self.compare(CmpOp::Eq, &ports.first().to_be_bytes());
        } else {
            self.compare(CmpOp::Gte, &ports.first().to_be_bytes());
            self.compare(CmpOp::Lte, &ports.last().to_be_bytes());
        }
    }

    fn tcp_flags(&mut self, mask: u8, set: u8) {
        self.require_protocol(Protocol::Tcp);
        self.load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, 0);
        self.mask(&[mask]);
        self.compare(CmpOp::Eq, &[set]);
    }

    fn within(&mut self, side: Side, network: &Network) {
        match network.address() {
            IpAddr::V4(address) => {
                self.require_family(libc::NFPROTO_IPV4);
                self.prefix(Field::Ipv4(side), network, &address.octets());
            }
            IpAddr::V6(address) => {
                self.require_family(libc::NFPROTO_IPV6);
                self.prefix(Field::Ipv6(side), network, &address.octets());
            }
        }
    }

    fn prefix(&mut self, field: Field, network: &Network, address: &[u8]) {
        self.load(field, 0);
        self.mask(&network.mask());
        self.compare(CmpOp::Eq, address);
    }

    fn address_type(&mut self, kind: AddressType, flags: u32) {
        let fib = Instruction::new(c"fib")
            .number(sys::NFTNL_EXPR_FIB_DREG, register(0))
            .number(sys::NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)
            .number(sys::NFTNL_EXPR_FIB_FLAGS, flags);
        self.rule.add_expr(&fib);
        self.compare(CmpOp::Eq, &route_type(kind).to_ne_bytes());
    }

    fn load_conntrack(&mut self, key: u32) {
        let ct = Instruction::new(c"ct")
            .number(sys::NFTNL_EXPR_CT_KEY, key)
            .number(sys::NFTNL_EXPR_CT_DREG, register(0));
        self.rule.add_expr(&ct);
    }

    fn labelled(&mut self, bit: u8) {
        self.load_conntrack(NFT_CT_LABELS);
        self.mask(&label(bit));
        self.compare(CmpOp::Neq, &[0; LABEL_BYTES]);
    }

    fn direction(&mut self, direction: Direction) {
        self.load_conntrack(NFT_CT_DIRECTION);
        self.compare(CmpOp::Eq, &[u8::from(direction == Direction::Reply)]);
    }

    fn source_translated(&mut self) {
        self.load_conntrack(NFT_CT_STATUS);
        self.mask(&IPS_SRC_NAT.to_ne_bytes());
        self.compare(CmpOp::Neq, &0_u32.to_ne_bytes());
    }

    fn label(&mut self, bit: u8) {
        self.rule.add_expr(&Immediate::new(label(bit), Register::Reg1));
        let ct = Instruction::new(c"ct")
            .number(sys::NFTNL_EXPR_CT_KEY, NFT_CT_LABELS)
            .number(sys::NFTNL_EXPR_CT_SREG, register(0));
        self.rule.add_expr(&ct);
    }

    fn in_set(&mut self, key: &[Field], set: CString) {
        self.load_key(key);
        let lookup = Instruction::new(c"lookup")
            .number(sys::NFTNL_EXPR_LOOKUP_SREG, register(0))
            .text(sys::NFTNL_EXPR_LOOKUP_SET, set);
        self.rule.add_expr(&lookup);
    }

    fn update(&mut self, key: &[Field], set: CString) {
        self.load_key(key);
        let update = Instruction::new(c"dynset")
            .number(sys::NFTNL_EXPR_DYNSET_SREG_KEY, register(0))
            .number(sys::NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_UPDATE)
            .text(sys::NFTNL_EXPR_DYNSET_SET_NAME, set);
        self.rule.add_expr(&update);
    }

    /// The fields side by side, each beginning on a register of four bytes.
    fn load_key(&mut self, key: &[Field]) {
        for field in key {
            match field {
                Field::Ipv4(_) => self.require_family(libc::NFPROTO_IPV4),
                Field::Ipv6(_) => self.require_family(libc::NFPROTO_IPV6),
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
            Field::Port(side) => {
                self.load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, side.of(0, 2), len, word)
            }
            Field::Protocol => self.load_protocol(word),
        }
    }

    fn load_protocol(&mut self, word: u32) {
        let meta = Instruction::new(c"meta")
            .number(sys::NFTNL_EXPR_META_KEY, NFT_META_L4PROTO)
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

fn fib_flag(side: Side) -> u32 {
    side.of(NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR)
}

fn route_type(kind: AddressType) -> u32 {
    match kind {
        AddressType::Local => RTN_LOCAL,
        AddressType::Broadcast => RTN_BROADCAST,
        AddressType::Anycast => RTN_ANYCAST,
        AddressType::Multicast => RTN_MULTICAST,
    }
}

/// A label with one bit set, laid out as in the kernel: a bitmap in words of 64.
fn label(bit: u8) -> [u8; LABEL_BYTES] {
    let mut label = [0; LABEL_BYTES];
    let word = usize::from(bit >= 64) * 8;
    label[word..word + 8].copy_from_slice(&(1_u64 << (bit % 64)).to_ne_bytes());
    label
}
