//! A packet that somebody else's chain would be asked about, as far as it is
//! known beforehand.

use super::rule::Expression;
use crate::firewall::numbers::{
    IPS_DST_NAT, NFT_CT_DIRECTION, NFT_CT_STATE, NFT_CT_STATUS, NFT_FIB_RESULT_ADDRTYPE,
    NFT_META_IIFNAME, NFT_META_L4PROTO, NFT_META_MARK, NFTA_FIB_F_DADDR, RTN_LOCAL,
};
use spa_proto::Protocol;
use std::net::IpAddr;

// linux/netfilter/nf_tables.h, linux/netfilter.h, linux/rtnetlink.h
const NFTA_META_KEY: u16 = 2;
const NFT_META_PROTOCOL: u32 = 1;
const NFT_META_IIF: u32 = 4;
const NFT_META_NFPROTO: u32 = 15;
const NFTA_CT_KEY: u16 = 2;
const STATE_NEW: u32 = 1 << 3;
const IPS_DST_NAT_DONE: u32 = 1 << 8;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const SYN: u8 = 0x02;

/// The first packet of a connection to a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) v6: bool,
    pub(super) protocol: Protocol,
    /// The destination port, as these chains see it.
    pub(super) port: u16,
    /// The packet mark, where it is known.
    pub(super) mark: Option<u32>,
    /// The inner host that it has been sent on to.
    pub(super) inner: Option<IpAddr>,
}

/// A value of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Known(Vec<u8>),
    /// An interface, and not that of the loopback.
    Interface,
    Unknown,
}

impl Packet {
    /// What an expression loads.
    pub(super) fn load(&self, expression: &Expression) -> Value {
        match expression.name.as_str() {
            "meta" => self.meta(expression.number(NFTA_META_KEY)),
            "ct" => self.connection(expression.number(NFTA_CT_KEY)),
            "payload" => self.payload(expression),
            "fib" => self.route(expression),
            _ => Value::Unknown,
        }
    }

    fn meta(&self, key: u32) -> Value {
        let (ethertype, family) = match self.v6 {
            true => (ETHERTYPE_IPV6, NFPROTO_IPV6),
            false => (ETHERTYPE_IPV4, NFPROTO_IPV4),
        };
        match key {
            NFT_META_IIF | NFT_META_IIFNAME => Value::Interface,
            NFT_META_MARK => self.mark.map_or(Value::Unknown, |mark| known(mark.to_ne_bytes())),
            NFT_META_PROTOCOL => known(ethertype.to_be_bytes()),
            NFT_META_NFPROTO => known([family]),
            NFT_META_L4PROTO => known([self.protocol.number()]),
            _ => Value::Unknown,
        }
    }

    fn connection(&self, key: u32) -> Value {
        match key {
            NFT_CT_STATE => known(STATE_NEW.to_ne_bytes()),
            NFT_CT_DIRECTION => known([0]),
            NFT_CT_STATUS if self.inner.is_some() => {
                known((IPS_DST_NAT | IPS_DST_NAT_DONE).to_ne_bytes())
            }
            _ => Value::Unknown,
        }
    }

    fn payload(&self, expression: &Expression) -> Value {
        let number = |kind| expression.number(kind);
        let field =
            (number(NFTA_PAYLOAD_BASE), number(NFTA_PAYLOAD_OFFSET), number(NFTA_PAYLOAD_LEN));
        match (field, self.inner) {
            ((TRANSPORT_HEADER, 2, 2), _) => known(self.port.to_be_bytes()),
            ((TRANSPORT_HEADER, 13, 1), _) if self.protocol == Protocol::Tcp => known([SYN]),
            ((NETWORK_HEADER, 9, 1), _) if !self.v6 => known([self.protocol.number()]),
            ((NETWORK_HEADER, 6, 1), _) if self.v6 => known([self.protocol.number()]),
            ((NETWORK_HEADER, 16, 4), Some(IpAddr::V4(to))) => known(to.octets()),
            ((NETWORK_HEADER, 24, 16), Some(IpAddr::V6(to))) => known(to.octets()),
            _ => Value::Unknown,
        }
    }

    fn route(&self, expression: &Expression) -> Value {
        let of_destination = expression.number(NFTA_FIB_RESULT) == NFT_FIB_RESULT_ADDRTYPE
            && expression.number(NFTA_FIB_FLAGS) == NFTA_FIB_F_DADDR;
        match of_destination && self.inner.is_none() {
            true => known(RTN_LOCAL.to_ne_bytes()),
            false => Value::Unknown,
        }
    }
}

fn known(bytes: impl Into<Vec<u8>>) -> Value {
    Value::Known(bytes.into())
}
