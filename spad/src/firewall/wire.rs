//! Netlink messages as bytes: cut out of datagrams, looked at, made.

use super::error::FirewallError;
use super::ruleset::TABLE;
use netlink_packet_core::{
    NLA_F_NESTED, NLA_HEADER_SIZE, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use std::io;

const NETLINK_HEADER_LEN: usize = 16;
/// Length of the netfilter header behind that of netlink.
const NETFILTER_HEADER: usize = 4;
/// In every nftables message the first kind of attribute is the table's name.
const TABLE_NAME: u16 = 1;
const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// One whole message, header included.
pub(crate) type Message<'a> = NetlinkBuffer<&'a [u8]>;

/// The kernel's answer to one message.
pub(crate) struct Answer {
    pub(crate) sequence: u32,
    pub(crate) error: Option<io::Error>,
}

/// A message of ours, serialised, with the given `NLM_F_*` flags.
pub(crate) fn message(
    family: NetfilterProtoFamily,
    inner: impl Into<NetfilterMessageInner>,
    flags: u16,
) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let payload = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner);
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The messages of a datagram, or of a batch, one after the other.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        let len = usize::try_from(message.length()).ok()?;
        let (this, rest) = (bytes.get(..len)?, bytes.get(len.next_multiple_of(4)..));
        bytes = rest.unwrap_or_default();
        Some(NetlinkBuffer::new(this))
    })
}

/// The answer that this message is, if it is one.
pub(crate) fn answer(message: &Message<'_>) -> Option<Answer> {
    if !matches!(message.message_type(), NLMSG_ERROR | NLMSG_DONE) {
        return None;
    }
    let code = message.payload().first_chunk().map_or(0, |c| i32::from_ne_bytes(*c));
    let error = (code != 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()));
    Some(Answer { sequence: message.sequence_number(), error })
}

/// Whether this is a message of nftables about our table.
pub(crate) fn is_about_us(message: &Message<'_>) -> bool {
    let ours = |name: &[u8]| name.strip_suffix(&[0]) == Some(TABLE.as_bytes());
    message.message_type() >> 8 == NFNL_SUBSYS_NFTABLES
        && message.payload().first() == Some(&u8::from(NetfilterProtoFamily::Inet))
        && attributes(message).any(|(kind, value)| kind == TABLE_NAME && ours(value))
}

/// The attributes of a message of netfilter, as kind and value.
pub(crate) fn attributes<'a>(message: &Message<'a>) -> impl Iterator<Item = (u16, &'a [u8])> {
    nested(message.payload().get(NETFILTER_HEADER..).unwrap_or_default())
}

/// The attributes in an attribute's value.
pub(crate) fn nested(value: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(value).map_while(Result::ok).filter_map(|nla| {
        let (kind, len) = (nla.kind(), usize::from(nla.length()));
        Some((kind, nla.into_inner().get(NLA_HEADER_SIZE..len)?))
    })
}

/// The message with zeros between its attributes, where libnftnl leaves what
/// was in memory before.
pub(crate) fn tidied(message: Message<'_>) -> Vec<u8> {
    let mut bytes = message.into_inner().to_vec();
    if let Some(attributes) = bytes.get_mut(NETLINK_HEADER_LEN + NETFILTER_HEADER..) {
        tidy(attributes);
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn tidy(mut attributes: &mut [u8]) {
    while let [a, b, c, d, ..] = *attributes {
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let aligned = len.next_multiple_of(4).min(attributes.len());
        let Some((attribute, rest)) = attributes.split_at_mut_checked(aligned) else { return };
        let Some((value, padding)) = attribute.split_at_mut_checked(len) else { return };
        padding.fill(0);
        match value.get_mut(NLA_HEADER_SIZE..) {
            None => return,
            Some(value) if u16::from_ne_bytes([c, d]) & NLA_F_NESTED != 0 => tidy(value),
            Some(_) => {}
        }
        attributes = rest;
    }
}

/// What the message says.
pub(crate) fn parse(message: Message<'_>) -> Result<NetfilterMessageInner, FirewallError> {
    let parsed = NetlinkMessage::<NetfilterMessage>::deserialize(message.into_inner());
    match parsed.map(|m| m.payload) {
        Ok(NetlinkPayload::InnerMessage(message)) => Ok(message.inner),
        Ok(other) => Err(FirewallError::BadAnswer(format!("{other:?}"))),
        Err(e) => Err(FirewallError::BadAnswer(e.to_string())),
    }
}
