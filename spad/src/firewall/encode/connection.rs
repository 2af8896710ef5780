//! What a rule asks of the packet's connection and mark.

use super::Encoder;
use crate::firewall::numbers::{
    IPS_DST_NAT, NFT_CT_DIRECTION, NFT_CT_STATE, NFT_CT_STATUS, NFT_META_MARK,
};
use crate::firewall::ruleset::{Direction, State};
use crate::sys::nft::Instruction;
use nftnl::expr::CmpOp;
use nftnl::nftnl_sys as sys;

// linux/netfilter/nf_tables.h, linux/netfilter/nf_conntrack_common.h
pub(super) const NFT_CT_LABELS: u32 = 13;
const IPS_ASSURED: u32 = 1 << 2;
const IPS_SRC_NAT: u32 = 1 << 4;
const LABEL_BYTES: usize = 16;

impl Encoder<'_> {
    fn load_conntrack(&mut self, key: u32) {
        let ct = Instruction::new(c"ct")
            .number(sys::NFTNL_EXPR_CT_KEY, key)
            .number(sys::NFTNL_EXPR_CT_DREG, super::register(0));
        self.rule.add_expr(&ct);
    }

    pub(super) fn labelled(&mut self, bit: u8) {
        self.load_conntrack(NFT_CT_LABELS);
        self.and(&label_bytes(bit));
        self.compare(CmpOp::Neq, &[0; LABEL_BYTES]);
    }

    pub(super) fn direction(&mut self, direction: Direction) {
        self.load_conntrack(NFT_CT_DIRECTION);
        self.compare(CmpOp::Eq, &[u8::from(direction == Direction::Reply)]);
    }

    pub(super) fn source_translated(&mut self) {
        self.any_bit(NFT_CT_STATUS, IPS_SRC_NAT);
    }

    pub(super) fn destination_translated(&mut self) {
        self.any_bit(NFT_CT_STATUS, IPS_DST_NAT);
    }

    pub(super) fn assured(&mut self) {
        self.any_bit(NFT_CT_STATUS, IPS_ASSURED);
    }

    pub(super) fn state(&mut self, states: &[State]) {
        let bits = states.iter().fold(0, |bits, state| bits | state.bit());
        self.any_bit(NFT_CT_STATE, bits);
    }

    fn any_bit(&mut self, key: u32, bits: u32) {
        self.load_conntrack(key);
        self.and(&bits.to_ne_bytes());
        self.compare(CmpOp::Neq, &0_u32.to_ne_bytes());
    }

    pub(super) fn marked(&mut self, bits: u32) {
        self.load_meta(NFT_META_MARK, 0);
        self.and(&bits.to_ne_bytes());
        self.compare(CmpOp::Eq, &bits.to_ne_bytes());
    }
}

/// A label with one bit set, laid out as in the kernel: a bitmap in words of 64.
pub(super) fn label_bytes(bit: u8) -> [u8; LABEL_BYTES] {
    let mut label = [0; LABEL_BYTES];
    let word = usize::from(bit >= 64) * 8;
    label[word..word + 8].copy_from_slice(&(1_u64 << (bit % 64)).to_ne_bytes());
    label
}
