//! The flows that connection tracking knows.

use super::element::Connection;
use super::error::FirewallError;
use super::flows;
use super::netlink::Channel;
use super::wire::{self, Message};
use netlink_packet_core::NLM_F_ACK;
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Tuple,
};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};
use std::net::{IpAddr, SocketAddr};

/// `TCP_CONNTRACK_ESTABLISHED`.
const ESTABLISHED: u8 = 3;

/// One entry of connection tracking.
pub(crate) struct Flow {
    /// Number of the transport protocol.
    pub(crate) protocol: u8,
    /// Its ends, as its first packet had them.
    pub(crate) ends: Connection,
    /// Whether it is a TCP connection that is open.
    pub(crate) established: bool,
    /// Whether it has a label, of whomever: then it has room for ours.
    pub(crate) labelled: bool,
    /// The same ends as the kernel put them.
    original: Vec<Tuple>,
}

/// The flows with ports that `wanted` picks.
pub(crate) fn flows(
    channel: &Channel,
    wanted: impl Fn(&Flow) -> bool,
) -> Result<Vec<Flow>, FirewallError> {
    let take = |message: Message<'_>| Ok(flow(message)?.filter(&wanted));
    let list = |family| channel.list(family, ConntrackMessage::Get(Vec::new()), take);
    let mut flows = list(NetfilterProtoFamily::IPv4)?;
    flows.extend(list(NetfilterProtoFamily::IPv6)?);
    Ok(flows)
}

/// Makes connection tracking forget a flow; its next packet begins a new one.
pub(crate) fn forget(channel: &Channel, flow: Flow) -> Result<(), FirewallError> {
    let family = match flow.ends.source {
        SocketAddr::V4(_) => NetfilterProtoFamily::IPv4,
        SocketAddr::V6(_) => NetfilterProtoFamily::IPv6,
    };
    // Without a tuple this would delete all there are.
    let request = ConntrackMessage::Delete(vec![ConntrackAttribute::CtaTupleOrig(flow.original)]);
    channel.request(&wire::message(family, request, NLM_F_ACK))
}

fn flow(message: Message<'_>) -> Result<Option<Flow>, FirewallError> {
    let labelled = flows::labels(&message) != 0;
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = wire::parse(message)?
    else {
        return Ok(None);
    };
    let mut flow = None;
    let mut established = false;
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => flow = from_tuple(tuple),
            ConntrackAttribute::CtaProtoInfo(info) => established = is_established(&info),
            _ => {}
        }
    }
    Ok(flow.map(|flow| Flow { established, labelled, ..flow }))
}

fn is_established(info: &[ProtoInfo]) -> bool {
    let established = |tcp: &ProtoInfoTCP| *tcp == ProtoInfoTCP::State(ESTABLISHED);
    info.iter().any(|info| matches!(info, ProtoInfo::TCP(tcp) if tcp.iter().any(established)))
}

/// `None` for protocols without ports.
fn from_tuple(original: Vec<Tuple>) -> Option<Flow> {
    let addresses = || {
        original.iter().flat_map(|part| match part {
            Tuple::Ip(addresses) => addresses.as_slice(),
            _ => &[],
        })
    };
    let ports = || {
        original.iter().flat_map(|part| match part {
            Tuple::Proto(ports) => ports.as_slice(),
            _ => &[],
        })
    };
    let source =
        SocketAddr::new(addresses().find_map(source_address)?, ports().find_map(source_port)?);
    let destination = SocketAddr::new(
        addresses().find_map(destination_address)?,
        ports().find_map(destination_port)?,
    );
    let protocol = ports().find_map(protocol)?;
    let ends = Connection { source, destination };
    Some(Flow { protocol, ends, established: false, labelled: false, original })
}

fn source_address(part: &IPTuple) -> Option<IpAddr> {
    if let IPTuple::SourceAddress(address) = part { Some(*address) } else { None }
}

fn destination_address(part: &IPTuple) -> Option<IpAddr> {
    if let IPTuple::DestinationAddress(address) = part { Some(*address) } else { None }
}

fn source_port(part: &ProtoTuple) -> Option<u16> {
    if let ProtoTuple::SourcePort(port) = part { Some(*port) } else { None }
}

fn destination_port(part: &ProtoTuple) -> Option<u16> {
    if let ProtoTuple::DestinationPort(port) = part { Some(*port) } else { None }
}

fn protocol(part: &ProtoTuple) -> Option<u8> {
    if let ProtoTuple::Protocol(protocol) = part { Some((*protocol).into()) } else { None }
}
