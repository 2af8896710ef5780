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
use nix::libc::EBADMSG;
use std::io;

const NETLINK_HEADER_LEN: usize = 16;
/// Where it has the number of the message.
const SEQUENCE: std::ops::Range<usize> = 8..12;
/// Length of the netfilter header behind that of netlink.
const NETFILTER_HEADER: usize = 4;
/// In every nftables message the first kind of attribute is the table's name.
const TABLE_NAME: u16 = 1;
const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// One whole message, header included.
pub type Message<'a> = NetlinkBuffer<&'a [u8]>;

/// The kernel's answer to one message.
pub struct Answer {
    /// Number of the message that is answered.
    pub sequence: u32,
    /// Why it was refused; `None` where it was done.
    pub error: Option<io::Error>,
}

/// A message of ours, serialised, with the given `NLM_F_*` flags.
#[must_use]
pub fn message(
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

/// A message of nftables in the making, attribute by attribute. For what goes with each
/// knock: on cold caches the structures of `netlink-packet-netfilter` take longer to
/// send than the kernel takes to do it.
pub struct Writer(Vec<u8>);

impl Writer {
    /// A request about the table's family, with the given `NFT_MSG_*` and `NLM_F_*`.
    #[must_use]
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut writer = Self(Vec::with_capacity(192));
        writer.0.extend(header(kind | NFNL_SUBSYS_NFTABLES << 8, NLM_F_REQUEST | flags));
        writer.0.extend([u8::from(NetfilterProtoFamily::Inet), 0, 0, 0]);
        writer
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        self.add(kind, |writer| writer.0.extend_from_slice(value));
    }

    /// Adds an attribute of attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.add(kind | NLA_F_NESTED, fill);
    }

    fn add(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let begin = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        fill(self);
        let len = u16::try_from(self.0.len() - begin).unwrap_or(u16::MAX);
        self.0[begin..begin + 2].copy_from_slice(&len.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// The whole message.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        set_len(&mut self.0);
        self.0
    }
}

/// What begins or ends a transaction (`NFNL_MSG_BATCH_*`).
#[must_use]
pub fn batch(kind: u16) -> Vec<u8> {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    let mut message = header(kind, NLM_F_REQUEST).to_vec();
    message.extend([0, 0, high, low]);
    set_len(&mut message);
    message
}

/// Gives a whole message its number, by which it is answered.
pub fn number(message: &mut [u8], sequence: u32) {
    if let Some(field) = message.get_mut(SEQUENCE) {
        field.copy_from_slice(&sequence.to_ne_bytes());
    }
}

fn header(kind: u16, flags: u16) -> [u8; NETLINK_HEADER_LEN] {
    let mut header = [0; NETLINK_HEADER_LEN];
    header[4..6].copy_from_slice(&kind.to_ne_bytes());
    header[6..8].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn set_len(message: &mut [u8]) {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    message[..4].copy_from_slice(&len.to_ne_bytes());
}

/// The messages of a datagram, or of a batch, one after the other.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        let len = usize::try_from(message.length()).ok()?;
        let (this, rest) = (bytes.get(..len)?, bytes.get(len.next_multiple_of(4)..));
        bytes = rest.unwrap_or_default();
        Some(NetlinkBuffer::new(this))
    })
}

/// The answer that this message is, if it is one.
#[must_use]
pub fn answer(message: &Message<'_>) -> Option<Answer> {
    if !matches!(message.message_type(), NLMSG_ERROR | NLMSG_DONE) {
        return None;
    }
    let code = message.payload().first_chunk().map(|code| i32::from_ne_bytes(*code));
    // The end of a list may say nothing; an error that does not say which is none the less one.
    let code = code.unwrap_or(if message.message_type() == NLMSG_DONE { 0 } else { -EBADMSG });
    let error = (code != 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()));
    Some(Answer { sequence: message.sequence_number(), error })
}

/// Whether this is a message of nftables about our table.
#[must_use]
pub fn is_about_us(message: &Message<'_>) -> bool {
    let ours = |name: &[u8]| name.strip_suffix(&[0]) == Some(TABLE.as_bytes());
    // Of an attribute that comes twice, the kernel takes the last.
    let mut names = attributes(message).filter(|(kind, _)| *kind == TABLE_NAME).peekable();
    message.message_type() >> 8 == NFNL_SUBSYS_NFTABLES
        && message.payload().first() == Some(&u8::from(NetfilterProtoFamily::Inet))
        && names.peek().is_some()
        && names.all(|(_, name)| ours(name))
}

/// The attributes of a message of netfilter, as kind and value.
pub fn attributes<'a>(message: &Message<'a>) -> impl Iterator<Item = (u16, &'a [u8])> {
    nested(message.payload().get(NETFILTER_HEADER..).unwrap_or_default())
}

/// The attributes in an attribute's value.
pub fn nested(value: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(value).map_while(Result::ok).filter_map(|nla| {
        let (kind, len) = (nla.kind(), usize::from(nla.length()));
        Some((kind, nla.into_inner().get(NLA_HEADER_SIZE..len)?))
    })
}

/// The message with zeros between its attributes, where libnftnl leaves what
/// was in memory before.
#[must_use]
pub fn tidied(message: Message<'_>) -> Vec<u8> {
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

/// The value of the first attribute of this kind.
pub(super) fn find<'a>(
    mut attributes: impl Iterator<Item = (u16, &'a [u8])>,
    kind: u16,
) -> Option<&'a [u8]> {
    attributes.find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// Text in an attribute's value, up to the zero byte that ends it.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A number of 32 bits; 0 where it is none.
pub(super) fn word(value: &[u8]) -> u32 {
    value.try_into().map_or(0, u32::from_be_bytes)
}

/// A number of 64 bits; 0 where it is none.
pub(super) fn long(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_be_bytes)
}

/// What a message of connection tracking says. Those of nftables are read by hand: the library
/// panics on some, and writes down for each attribute what it would say if that were broken.
///
/// # Errors
/// [`FirewallError::BadAnswer`] for one that the parser does not understand.
pub fn parse(message: Message<'_>) -> Result<NetfilterMessageInner, FirewallError> {
    if message.message_type() >> 8 != NFNL_SUBSYS_CTNETLINK {
        return Err(FirewallError::BadAnswer("not of connection tracking".to_owned()));
    }
    let parsed = NetlinkMessage::<NetfilterMessage>::deserialize(message.into_inner());
    match parsed.map(|m| m.payload) {
        Ok(NetlinkPayload::InnerMessage(message)) => Ok(message.inner),
        Ok(other) => Err(FirewallError::BadAnswer(format!("{other:?}"))),
        Err(e) => Err(FirewallError::BadAnswer(e.to_string())),
    }
}
