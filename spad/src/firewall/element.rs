//! Grants and connections as elements of sets.

use super::error::FirewallError;
use super::guard::{GRANTS4, GRANTS6};
use super::netlink::Channel;
use super::requests::{self, KeyWithTimeout};
use super::wire::{self, Message};
use netlink_packet_netfilter::NetfilterProtoFamily;
use spa_proto::Protocol;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

// linux/netfilter/nf_tables.h
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;

/// Who may connect to what: one element of a grant set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The granted source address.
    pub source: IpAddr,
    /// Transport protocol of the service.
    pub protocol: Protocol,
    /// Port of the service, as the client addresses it.
    pub port: u16,
}

/// One connection, as its first packet has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Connection {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl Element {
    /// The set that it belongs to.
    pub(crate) fn set(&self) -> &'static str {
        match self.source {
            IpAddr::V4(_) => GRANTS4,
            IpAddr::V6(_) => GRANTS6,
        }
    }

    /// The set's key; each field is padded to four bytes.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = address(self.source);
        key.extend([self.protocol.number(), 0, 0, 0]);
        key.extend(port(self.port));
        key
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        let (source, rest) = split_address(key)?;
        let &[number, _, _, _, high, low, _, _] = rest else { return None };
        let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.number() == number)?;
        Some(Self { source, protocol, port: u16::from_be_bytes([high, low]) })
    }
}

impl Connection {
    /// Source, source port, destination, destination port.
    pub(crate) fn key(&self) -> Vec<u8> {
        let end = |end: SocketAddr| [address(end.ip()), port(end.port()).to_vec()].concat();
        [end(self.source), end(self.destination)].concat()
    }
}

/// All elements of the grant sets, with the time each has left; those that
/// have no end, which we never make, with [`Duration::MAX`].
pub(crate) fn grants(channel: &Channel) -> Result<Vec<(Element, Duration)>, FirewallError> {
    let mut grants = Vec::new();
    for set in [GRANTS4, GRANTS6] {
        for (key, left) in list(channel, set)? {
            // Another protocol than ours: nobody's, and matches nothing.
            let Some(element) = Element::from_key(&key) else { continue };
            grants.push((element, left.unwrap_or(Duration::MAX)));
        }
    }
    Ok(grants)
}

/// The keys of a set, with the time each has left.
pub(crate) fn list(channel: &Channel, set: &str) -> Result<Vec<KeyWithTimeout>, FirewallError> {
    let request = requests::list_elements(set);
    let lists = channel.list(NetfilterProtoFamily::Inet, request, |m| Ok(Some(elements(&m))))?;
    Ok(lists.into_iter().flatten().collect())
}

/// The elements in one message of a list. Read by hand: lists are long, and the
/// parser of `netlink-packet-netfilter` formats all that remains for each of them.
fn elements(message: &Message<'_>) -> Vec<KeyWithTimeout> {
    wire::attributes(message)
        .filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS)
        .flat_map(|(_, list)| wire::nested(list))
        .filter_map(|(_, element)| key_with_timeout(element))
        .collect()
}

fn key_with_timeout(element: &[u8]) -> Option<KeyWithTimeout> {
    let mut key = None;
    let mut left = None;
    for (kind, value) in wire::nested(element) {
        match kind {
            NFTA_SET_ELEM_KEY => key = wire::nested(value).next().map(|(_, key)| key.to_vec()),
            NFTA_SET_ELEM_EXPIRATION => left = value.try_into().ok().map(u64::from_be_bytes),
            _ => {}
        }
    }
    Some((key?, left.map(Duration::from_millis)))
}

fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn split_address(key: &[u8]) -> Option<(IpAddr, &[u8])> {
    match key.len() {
        12 => key.split_first_chunk::<4>().map(|(a, rest)| (IpAddr::from(*a), rest)),
        24 => key.split_first_chunk::<16>().map(|(a, rest)| (IpAddr::from(*a), rest)),
        _ => None,
    }
}

fn port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}
