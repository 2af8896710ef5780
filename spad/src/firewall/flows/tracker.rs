//! Connection tracking's entries: listed, looked up, relabelled, forgotten.

use super::entry::{self, CTA_LABELS, Entry, Handle};
use crate::firewall::dialogue::Dialogue;
use crate::firewall::error::FirewallError;
use crate::firewall::wire::{self, Message};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::libc::{ENOENT, EPERM};
use std::collections::HashSet;
use std::io;

const CTA_LABELS_MASK: u16 = 23;

/// A socket to connection tracking.
pub(super) struct Tracker(Dialogue);

impl Tracker {
    pub(super) fn open() -> Result<Self, FirewallError> {
        Dialogue::open(NETLINK_NETFILTER).map(Self).map_err(failed("opening a socket"))
    }

    /// The entries with labels that `wanted` picks, each once.
    pub(super) fn list(
        &mut self,
        wanted: impl Fn(u128) -> bool,
    ) -> Result<Vec<Entry>, FirewallError> {
        let all = ConntrackMessage::Get(Vec::new());
        let request = wire::message(NetfilterProtoFamily::Unspec, all, NLM_F_DUMP);
        let mut entries = Vec::new();
        let take = |message: &Message<'_>| {
            if wanted(entry::labels(message)) {
                entries.extend(Entry::read(message));
            }
        };
        self.0.ask(request, take).map_err(failed("listing connections"))?;
        // One that moves while the kernel walks its table can come twice.
        let mut seen = HashSet::new();
        entries.retain(|entry| seen.insert(entry.handle.clone()));
        Ok(entries)
    }

    /// An entry as it is now, with its labels; `None` if it has ended.
    pub(super) fn look_up(
        &mut self,
        handle: &Handle,
    ) -> Result<Option<(Entry, u128)>, FirewallError> {
        let get = ConntrackMessage::Get(handle.attributes());
        let mut found = None;
        let take = |message: &Message<'_>| {
            found = Entry::read(message).map(|entry| (entry, entry::labels(message)));
        };
        let asked = self.0.ask(wire::message(handle.family(), get, NLM_F_ACK), take);
        if_there(asked).map_err(failed("looking a connection up"))?;
        // The kernel goes by the tuple alone.
        Ok(found.filter(|(entry, _)| entry.handle == *handle))
    }

    /// Sets those labels of an entry that are in `mask`; false if it has ended.
    /// An entry from before labels were in use has no room for any: `ENOSPC`.
    pub(super) fn relabel(
        &mut self,
        handle: &Handle,
        labels: u128,
        mask: u128,
    ) -> io::Result<bool> {
        let mut attributes = handle.attributes();
        attributes.push(entry::attribute(CTA_LABELS, &entry::labels_to(labels)));
        attributes.push(entry::attribute(CTA_LABELS_MASK, &entry::labels_to(mask)));
        let change = ConntrackMessage::New(attributes);
        if_there(self.0.ask(wire::message(handle.family(), change, NLM_F_ACK), |_| {}))
    }

    /// Makes connection tracking forget an entry; false if it has ended.
    pub(super) fn forget(&mut self, handle: &Handle) -> Result<bool, FirewallError> {
        let delete = ConntrackMessage::Delete(handle.attributes());
        let asked = self.0.ask(wire::message(handle.family(), delete, NLM_F_ACK), |_| {});
        if_there(asked).map_err(failed("forgetting a connection"))
    }
}

fn if_there(asked: io::Result<()>) -> io::Result<bool> {
    match asked {
        Err(e) if e.raw_os_error() == Some(ENOENT) => Ok(false),
        result => result.map(|()| true),
    }
}

pub(super) fn failed(doing: &'static str) -> impl Fn(io::Error) -> FirewallError {
    move |source| match source.raw_os_error() {
        Some(EPERM) => FirewallError::NoPermission,
        _ => FirewallError::Netlink { doing, source },
    }
}
