//! What a rule asks of the packet itself, its interfaces and the routing tables.

use super::{Encoder, NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER, prefix_mask};
use crate::firewall::numbers::{
    NFT_FIB_RESULT_ADDRTYPE, NFT_META_IIFNAME, NFTA_FIB_F_DADDR, RTN_LOCAL,
};
use crate::firewall::ruleset::{AddressType, Field, Many, PortRange, Side};
use crate::sys::nft::Instruction;
use nftnl::expr::{CmpOp, Meta};
use nftnl::nftnl_sys::{self as sys, libc};
use spa_proto::{Prefix, Protocol, Timestamp};
use std::ffi::CString;
use std::net::IpAddr;

// linux/netfilter/nf_tables.h, linux/rtnetlink.h, linux/if_packet.h
const NFT_FIB_RESULT_OIF: u32 = 1;
const NFTA_FIB_F_SADDR: u32 = 1 << 0;
const NFTA_FIB_F_IIF: u32 = 1 << 3;
const NFTA_FIB_F_PRESENT: u32 = 1 << 5;
const NFT_META_OIFNAME: u32 = 7;
const NFT_META_PKTTYPE: u32 = 19;
const NFT_META_IIFKIND: u32 = 26;
const NFT_META_TIME_NS: u32 = 30;
const NFT_BYTEORDER_HTON: u32 = 1;
const RTN_BROADCAST: u32 = 3;
const RTN_ANYCAST: u32 = 4;
const RTN_MULTICAST: u32 = 5;
const PACKET_BROADCAST: u8 = 1;
const PACKET_MULTICAST: u8 = 2;
/// Where an IPv6 header has its hop limit.
const HOP_LIMIT: u32 = 7;
/// Longest name of an interface, with the zero byte behind it.
const IFNAMSIZ: usize = 16;
/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;

impl Encoder<'_> {
    pub(super) fn input_is_loopback(&mut self) {
        self.rule.add_expr(&Meta::Iif);
        self.compare(CmpOp::Eq, &LOOPBACK.to_ne_bytes());
    }

    pub(super) fn output_is_loopback(&mut self) {
        self.rule.add_expr(&Meta::Oif);
        self.compare(CmpOp::Eq, &LOOPBACK.to_ne_bytes());
    }

    pub(super) fn through_bridge(&mut self) {
        self.load_meta(NFT_META_IIFKIND, 0);
        self.compare(CmpOp::Eq, &padded("bridge"));
    }

    pub(super) fn input_is(&mut self, name: &str) {
        self.load_meta(NFT_META_IIFNAME, 0);
        self.compare(CmpOp::Eq, &padded(name));
    }

    pub(super) fn output_is(&mut self, name: &str) {
        self.load_meta(NFT_META_OIFNAME, 0);
        self.compare(CmpOp::Eq, &padded(name));
    }

    pub(super) fn sent_to(&mut self, many: Many) {
        self.load_meta(NFT_META_PKTTYPE, 0);
        let kind = match many {
            Many::Broadcast => PACKET_BROADCAST,
            Many::Multicast => PACKET_MULTICAST,
        };
        self.compare(CmpOp::Eq, &[kind]);
    }

    pub(super) fn icmp(&mut self, family: i32, kind: u8) {
        let protocol = match family {
            libc::NFPROTO_IPV6 => libc::IPPROTO_ICMPV6,
            _ => libc::IPPROTO_ICMP,
        };
        self.require_family(family);
        self.require_protocol(u8::try_from(protocol).unwrap_or_default());
        self.load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 0);
        self.compare(CmpOp::Eq, &[kind]);
    }

    pub(super) fn igmp(&mut self) {
        self.require_protocol(u8::try_from(libc::IPPROTO_IGMP).unwrap_or_default());
    }

    pub(super) fn hop_limit(&mut self, limit: u8) {
        self.require_family(libc::NFPROTO_IPV6);
        self.load_payload(NFT_PAYLOAD_NETWORK_HEADER, HOP_LIMIT, 1, 0);
        self.compare(CmpOp::Eq, &[limit]);
    }

    pub(super) fn port(&mut self, protocol: Protocol, side: Side, ports: PortRange) {
        self.require_protocol(protocol.number());
        self.load(Field::Port(side), 0);
        if ports.first() == ports.last() {
            self.compare(CmpOp::Eq, &ports.first().to_be_bytes());
        } else {
            self.compare(CmpOp::Gte, &ports.first().to_be_bytes());
            self.compare(CmpOp::Lte, &ports.last().to_be_bytes());
        }
    }

    pub(super) fn tcp_flags(&mut self, mask: u8, set: u8) {
        self.require_protocol(Protocol::Tcp.number());
        self.load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, 0);
        self.and(&[mask]);
        self.compare(CmpOp::Eq, &[set]);
    }

    pub(super) fn within(&mut self, side: Side, network: &Prefix) {
        match network.address() {
            IpAddr::V4(address) => {
                self.require_family(libc::NFPROTO_IPV4);
                self.prefix(Field::Ipv4(side), network.prefix_len(), &address.octets());
            }
            IpAddr::V6(address) => {
                self.require_family(libc::NFPROTO_IPV6);
                self.prefix(Field::Ipv6(side), network.prefix_len(), &address.octets());
            }
        }
    }

    fn prefix(&mut self, field: Field, len: u8, address: &[u8]) {
        self.load(field, 0);
        self.and(&prefix_mask(field.datatype().len(), len));
        self.compare(CmpOp::Eq, address);
    }

    pub(super) fn routed(&mut self, side: Side, kind: AddressType) {
        self.address_type(kind, fib_flag(side));
    }

    pub(super) fn routed_here(&mut self, side: Side, kind: AddressType) {
        self.address_type(kind, fib_flag(side) | NFTA_FIB_F_IIF);
    }

    fn address_type(&mut self, kind: AddressType, flags: u32) {
        self.look_up_route(NFT_FIB_RESULT_ADDRTYPE, flags);
        self.compare(CmpOp::Eq, &route_type(kind).to_ne_bytes());
    }

    pub(super) fn wrong_way(&mut self) {
        self.no_route(NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF);
    }

    pub(super) fn no_way_back(&mut self) {
        self.no_route(NFTA_FIB_F_SADDR);
    }

    fn no_route(&mut self, flags: u32) {
        self.look_up_route(NFT_FIB_RESULT_OIF, flags | NFTA_FIB_F_PRESENT);
        self.compare(CmpOp::Eq, &[0; 4]);
    }

    fn look_up_route(&mut self, result: u32, flags: u32) {
        let fib = Instruction::new(c"fib")
            .number(sys::NFTNL_EXPR_FIB_DREG, super::register(0))
            .number(sys::NFTNL_EXPR_FIB_RESULT, result)
            .number(sys::NFTNL_EXPR_FIB_FLAGS, flags);
        self.rule.add_expr(&fib);
    }

    /// Compared in network byte order, as all numbers are that have an order.
    pub(super) fn not_before(&mut self, time: Timestamp) {
        const LEN: u32 = 8;
        self.load_meta(NFT_META_TIME_NS, 0);
        let swap = Instruction::new(c"byteorder")
            .number(sys::NFTNL_EXPR_BYTEORDER_DREG, super::register(0))
            .number(sys::NFTNL_EXPR_BYTEORDER_SREG, super::register(0))
            .number(sys::NFTNL_EXPR_BYTEORDER_OP, NFT_BYTEORDER_HTON)
            .number(sys::NFTNL_EXPR_BYTEORDER_LEN, LEN)
            .number(sys::NFTNL_EXPR_BYTEORDER_SIZE, LEN);
        self.rule.add_expr(&swap);
        let seconds = time.as_millis().div_ceil(1000);
        self.compare(CmpOp::Gte, &seconds.saturating_mul(1_000_000_000).to_be_bytes());
    }

    pub(super) fn in_set(&mut self, key: &[Field], set: CString) {
        self.load_key(key);
        let lookup = Instruction::new(c"lookup")
            .number(sys::NFTNL_EXPR_LOOKUP_SREG, super::register(0))
            .text(sys::NFTNL_EXPR_LOOKUP_SET, set);
        self.rule.add_expr(&lookup);
    }
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

/// A name of an interface, or of its kind, as registers hold it.
fn padded(name: &str) -> [u8; IFNAMSIZ] {
    let mut padded = [0; IFNAMSIZ];
    for (to, from) in padded.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    padded
}
