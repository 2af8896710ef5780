//! Entries of connection tracking, read from the kernel's messages. By hand:
//! there may be hundreds of thousands, nearly all of them not ours.

use super::flow::{Count, Flow, Traffic};
use crate::firewall::wire::{self, Message, find};
use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::conntrack::ConntrackAttribute;
use spa_proto::{Protocol, Timestamp};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

// linux/netfilter/nfnetlink_conntrack.h
pub(super) const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TIMESTAMP: u16 = 20;
pub(super) const CTA_LABELS: u16 = 22;
const CTA_TIMESTAMP_EVENT: u16 = 27;

const CTA_TUPLE_IP: u16 = 1;
pub(super) const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
pub(super) const CTA_PROTO_DST_PORT: u16 = 3;

const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
// linux/netfilter/nf_conntrack_tcp.h
const TCP_CONNTRACK_ESTABLISHED: u8 = 3;
const TCP_CONNTRACK_TIME_WAIT: u8 = 7;
const TCP_CONNTRACK_CLOSE: u8 = 8;
const HANDSHAKE_DONE: RangeInclusive<u8> = TCP_CONNTRACK_ESTABLISHED..=TCP_CONNTRACK_TIME_WAIT;

// linux/netfilter/nf_conntrack_common.h
const IPS_SEEN_REPLY: u32 = 1 << 1;
const IPS_ASSURED: u32 = 1 << 2;

const CTA_COUNTERS_PACKETS: u16 = 1;
const CTA_COUNTERS_BYTES: u16 = 2;
const CTA_TIMESTAMP_START: u16 = 1;
const CTA_TIMESTAMP_STOP: u16 = 2;

/// By what the kernel finds an entry again: its first tuple and zone as the
/// kernel wrote them, and its number, which tells it from a later entry with
/// the same tuple.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Handle {
    id: [u8; 4],
    tuple: Box<[u8]>,
    zone: Option<[u8; 2]>,
    ipv6: bool,
}

impl Handle {
    /// For the header of a request.
    pub(super) fn family(&self) -> NetfilterProtoFamily {
        if self.ipv6 { NetfilterProtoFamily::IPv6 } else { NetfilterProtoFamily::IPv4 }
    }

    /// For the body. A request to delete an entry would without them delete all.
    pub(super) fn attributes(&self) -> Vec<ConntrackAttribute> {
        let mut attributes = vec![
            attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, &self.tuple),
            attribute(CTA_ID, &self.id),
        ];
        attributes.extend(self.zone.map(|zone| attribute(CTA_ZONE, &zone)));
        attributes
    }
}

pub(super) fn attribute(kind: u16, value: &[u8]) -> ConntrackAttribute {
    ConntrackAttribute::Other(DefaultNla::new(kind, value.to_vec()))
}

/// One entry of connection tracking.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) handle: Handle,
    /// Number of the transport protocol.
    pub(super) protocol: u8,
    /// As the first packet had it.
    pub(super) original: Ends,
    /// As the answers have it.
    pub(super) reply: Ends,
    /// Whether both ends have closed the connection. Its entry is kept for two
    /// minutes more, for what may be late.
    pub(super) over: bool,
    /// Whether there is, or was, more than a first packet and what it made the
    /// service say, of which anybody can send the one in another's name: a TCP
    /// handshake that is complete; over UDP, that says less, an answer.
    pub(super) established: bool,
    traffic: Traffic,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
}

/// Both ends of one direction; protocols without ports have port 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// The labels of the entry that a message is about.
pub(in crate::firewall) fn labels(message: &Message<'_>) -> u128 {
    find(wire::attributes(message), CTA_LABELS).and_then(labels_from).unwrap_or(0)
}

/// A bitmap in words of 64 bits.
fn labels_from(value: &[u8]) -> Option<u128> {
    let (low, rest) = value.split_first_chunk()?;
    let high = rest.first_chunk()?;
    Some(u128::from(u64::from_ne_bytes(*low)) | u128::from(u64::from_ne_bytes(*high)) << 64)
}

/// The same the other way round.
pub(super) fn labels_to(labels: u128) -> [u8; 16] {
    let [high, low] = [labels >> 64, labels].map(|word| word & u128::from(u64::MAX));
    let words = [low, high].map(|word| u64::try_from(word).unwrap_or(0).to_ne_bytes());
    std::array::from_fn(|i| words[i / 8][i % 8])
}

impl Entry {
    /// Whether whoever has opened it, or was called by it, is one of these.
    pub(super) fn has_end(&self, which: impl Fn(IpAddr) -> bool) -> bool {
        which(self.original.source.ip()) || which(self.original.destination.ip())
    }

    /// `None` for a message that is not about an entry.
    pub(super) fn read(message: &Message<'_>) -> Option<Self> {
        let value = |kind| find(wire::attributes(message), kind);
        let tuple = value(CTA_TUPLE_ORIG)?;
        let (protocol, original) = ends(tuple)?;
        let (_, reply) = ends(value(CTA_TUPLE_REPLY)?)?;
        let handle = Handle {
            id: value(CTA_ID)?.try_into().ok()?,
            tuple: tuple.into(),
            zone: value(CTA_ZONE).and_then(|zone| zone.try_into().ok()),
            ipv6: original.source.is_ipv6(),
        };
        let count = |kind| value(kind).map(count).unwrap_or_default();
        let (to_server, to_client) = (count(CTA_COUNTERS_ORIG), count(CTA_COUNTERS_REPLY));
        let times = value(CTA_TIMESTAMP).unwrap_or_default();
        let status = value(CTA_STATUS).and_then(|status| status.try_into().ok());
        let status = status.map_or(0, u32::from_be_bytes);
        let state = value(CTA_PROTOINFO).and_then(tcp_state);
        Some(Self {
            handle,
            protocol,
            original,
            reply,
            over: matches!(state, Some(TCP_CONNTRACK_TIME_WAIT | TCP_CONNTRACK_CLOSE)),
            established: match (protocol == Protocol::Tcp.number(), state) {
                (false, _) => status & IPS_SEEN_REPLY != 0,
                // It stays assured when it is begun anew, so that the state says more. What was
                // reset may have been that by whoever it was begun in the name of.
                (true, Some(state)) => HANDSHAKE_DONE.contains(&state),
                (true, None) => status & IPS_ASSURED != 0,
            },
            traffic: Traffic { to_server, to_client },
            started: time(times, CTA_TIMESTAMP_START)
                .or_else(|| value(CTA_TIMESTAMP_EVENT).and_then(timestamp)),
            ended: time(times, CTA_TIMESTAMP_STOP),
        })
    }

    /// As a flow of ours; `None` if it is neither TCP nor UDP.
    pub(super) fn into_flow(self) -> Option<Flow> {
        let protocols = [Protocol::Tcp, Protocol::Udp];
        let protocol = protocols.into_iter().find(|p| p.number() == self.protocol)?;
        Some(Flow {
            id: u32::from_be_bytes(self.handle.id),
            protocol,
            source: self.original.source,
            destination: self.original.destination,
            reply_source: self.reply.source,
            reply_destination: self.reply.destination,
            started: self.started,
            ended: self.ended,
            traffic: self.traffic,
            handle: self.handle,
        })
    }
}

fn tcp_state(info: &[u8]) -> Option<u8> {
    let tcp = find(wire::nested(info), CTA_PROTOINFO_TCP)?;
    find(wire::nested(tcp), CTA_PROTOINFO_TCP_STATE)?.first().copied()
}

/// Protocol and ends in a tuple.
fn ends(tuple: &[u8]) -> Option<(u8, Ends)> {
    let addresses = find(wire::nested(tuple), CTA_TUPLE_IP)?;
    let transport = find(wire::nested(tuple), CTA_TUPLE_PROTO)?;
    let address = |v4, v6| {
        let value = |kind| find(wire::nested(addresses), kind);
        value(v4).and_then(ipv4).or_else(|| value(v6).and_then(ipv6))
    };
    let port = |kind| {
        let value = find(wire::nested(transport), kind)?;
        Some(u16::from_be_bytes(value.try_into().ok()?))
    };
    let end = |address, kind| SocketAddr::new(address, port(kind).unwrap_or(0));
    let source = end(address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?, CTA_PROTO_SRC_PORT);
    let destination = end(address(CTA_IP_V4_DST, CTA_IP_V6_DST)?, CTA_PROTO_DST_PORT);
    let protocol = find(wire::nested(transport), CTA_PROTO_NUM)?.first()?;
    Some((*protocol, Ends { source, destination }))
}

fn ipv4(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value).ok().map(IpAddr::from)
}

fn ipv6(value: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

fn count(counters: &[u8]) -> Count {
    let number = |kind| find(wire::nested(counters), kind).and_then(number).unwrap_or(0);
    Count { packets: number(CTA_COUNTERS_PACKETS), bytes: number(CTA_COUNTERS_BYTES) }
}

fn time(times: &[u8], kind: u16) -> Option<Timestamp> {
    find(wire::nested(times), kind).and_then(timestamp)
}

/// From nanoseconds since 1970.
fn timestamp(value: &[u8]) -> Option<Timestamp> {
    number(value).map(|nanoseconds| Timestamp::from_millis(nanoseconds / 1_000_000))
}

fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_laid_out_as_in_the_kernel() {
        for number in [0, 7, 63, 64, 95, 127] {
            let bytes = labels_to(1 << number);
            assert_eq!(labels_from(&bytes), Some(1 << number), "{number}");
            assert_eq!(labels_from(&bytes[..15]), None);
        }
        let word = (1_u64 << (95 - 64)).to_ne_bytes();
        assert_eq!(labels_to(1 << 95)[8..], word, "the second word");
    }
}
