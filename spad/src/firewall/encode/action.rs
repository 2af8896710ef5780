//! What a rule does with the packet and its connection.

use super::Encoder;
use super::connection::{NFT_CT_LABELS, label_bytes};
use crate::firewall::numbers::NFT_META_MARK;
use crate::firewall::requests::NFT_OBJECT_CT_HELPER;
use crate::firewall::ruleset::{Field, Limit};
use crate::sys::nft::Instruction;
use nftnl::expr::{Bitwise, Immediate, Register};
use nftnl::nftnl_sys::{self as sys, libc};
use std::ffi::CString;
use std::net::IpAddr;

// linux/netfilter/nf_tables.h, linux/netfilter/nf_nat.h, linux/kern_levels.h
const NFT_DYNSET_OP_ADD: u32 = 0;
const NFT_DYNSET_OP_UPDATE: u32 = 1;
const NFT_LIMIT_F_INV: u32 = 1;
const NFT_NAT_SNAT: u32 = 0;
const NFT_NAT_DNAT: u32 = 1;
const NF_NAT_RANGE_MAP_IPS: u32 = 1 << 0;
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 1 << 1;
const WARNING: u32 = 4;
/// The register behind the longest address.
const PORT_REGISTER: u32 = 2;

impl Encoder<'_> {
    pub(super) fn update(&mut self, key: &[Field], set: CString) {
        self.load_key(key);
        self.rule.add_expr(&to_set(NFT_DYNSET_OP_UPDATE, set));
    }

    pub(super) fn more_often(&mut self, key: &[Field], set: CString, over: Limit) {
        self.load_key(key);
        let over = limit(over).number(sys::NFTNL_EXPR_LIMIT_FLAGS, NFT_LIMIT_F_INV);
        let add = to_set(NFT_DYNSET_OP_ADD, set).with(sys::NFTNL_EXPR_DYNSET_EXPR, over);
        self.rule.add_expr(&add);
    }

    pub(super) fn no_more_than(&mut self, most: Limit) {
        self.rule.add_expr(&limit(most));
    }

    pub(super) fn label(&mut self, bit: u8) {
        self.rule.add_expr(&Immediate::new(label_bytes(bit), Register::Reg1));
        let ct = Instruction::new(c"ct")
            .number(sys::NFTNL_EXPR_CT_KEY, NFT_CT_LABELS)
            .number(sys::NFTNL_EXPR_CT_SREG, super::register(0));
        self.rule.add_expr(&ct);
    }

    pub(super) fn mark(&mut self, bits: u32) {
        self.change_mark(!bits, bits);
    }

    pub(super) fn unmark(&mut self, bits: u32) {
        self.change_mark(!bits, 0);
    }

    fn change_mark(&mut self, keep: u32, set: u32) {
        self.load_meta(NFT_META_MARK, 0);
        let (keep, set) = (keep.to_ne_bytes(), set.to_ne_bytes());
        self.rule.add_expr(&Bitwise::new(&keep[..], &set[..]));
        let meta = Instruction::new(c"meta")
            .number(sys::NFTNL_EXPR_META_KEY, NFT_META_MARK)
            .number(sys::NFTNL_EXPR_META_SREG, super::register(0));
        self.rule.add_expr(&meta);
    }

    pub(super) fn help(&mut self, helper: CString) {
        let object = Instruction::new(c"objref")
            .number(sys::NFTNL_EXPR_OBJREF_IMM_TYPE, NFT_OBJECT_CT_HELPER)
            .text(sys::NFTNL_EXPR_OBJREF_IMM_NAME, helper);
        self.rule.add_expr(&object);
    }

    pub(super) fn log(&mut self, prefix: CString) {
        let log = Instruction::new(c"log")
            .text(sys::NFTNL_EXPR_LOG_PREFIX, prefix)
            .number(sys::NFTNL_EXPR_LOG_LEVEL, WARNING);
        self.rule.add_expr(&log);
    }

    pub(super) fn destination_nat(&mut self, to: IpAddr, port: Option<u16>) {
        self.load_address(to);
        let Some(port) = port else {
            return self.rule.add_expr(&nat(NFT_NAT_DNAT, to, NF_NAT_RANGE_MAP_IPS));
        };
        self.rule.add_expr(&Immediate::new(port.to_be_bytes(), Register::Reg2));
        let nat = nat(NFT_NAT_DNAT, to, NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED)
            .number(sys::NFTNL_EXPR_NAT_REG_PROTO_MIN, PORT_REGISTER)
            .number(sys::NFTNL_EXPR_NAT_REG_PROTO_MAX, PORT_REGISTER);
        self.rule.add_expr(&nat);
    }

    pub(super) fn source_nat(&mut self, from: IpAddr) {
        self.load_address(from);
        self.rule.add_expr(&nat(NFT_NAT_SNAT, from, NF_NAT_RANGE_MAP_IPS));
    }

    fn load_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(a) => self.rule.add_expr(&Immediate::new(a.octets(), Register::Reg1)),
            IpAddr::V6(a) => self.rule.add_expr(&Immediate::new(a.octets(), Register::Reg1)),
        }
    }
}

/// Changes a set by the key that is loaded.
fn to_set(operation: u32, set: CString) -> Instruction {
    Instruction::new(c"dynset")
        .number(sys::NFTNL_EXPR_DYNSET_SREG_KEY, super::register(0))
        .number(sys::NFTNL_EXPR_DYNSET_OP, operation)
        .text(sys::NFTNL_EXPR_DYNSET_SET_NAME, set)
}

fn limit(limit: Limit) -> Instruction {
    Instruction::new(c"limit")
        .long(sys::NFTNL_EXPR_LIMIT_RATE, limit.count.into())
        .long(sys::NFTNL_EXPR_LIMIT_UNIT, limit.unit.seconds().into())
        .number(sys::NFTNL_EXPR_LIMIT_BURST, limit.burst)
}

/// To the address that is loaded. The kernel reports the upper ends of ranges
/// too, though nobody has named them.
fn nat(kind: u32, address: IpAddr, flags: u32) -> Instruction {
    let family = if address.is_ipv4() { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 };
    Instruction::new(c"nat")
        .number(sys::NFTNL_EXPR_NAT_TYPE, kind)
        .number(sys::NFTNL_EXPR_NAT_FAMILY, u32::try_from(family).unwrap_or_default())
        .number(sys::NFTNL_EXPR_NAT_REG_ADDR_MIN, super::register(0))
        .number(sys::NFTNL_EXPR_NAT_REG_ADDR_MAX, super::register(0))
        .number(sys::NFTNL_EXPR_NAT_FLAGS, flags)
}
