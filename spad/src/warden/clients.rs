//! The clients' records, as they are on disk, within a second of any change.

mod doubt;
mod held;
mod look;
mod sweep;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use spa_keys::{ClientName, ClientRecord, Store};
use spa_proto::{ClientKeys, Kid, ServerPublic, Timestamp};

use doubt::Doubt;
use held::Held;
pub(super) use look::Difference;
use sweep::Sweep;
pub(super) use watch::{Touched, Watch};

/// All records that can be used.
pub(super) struct Clients {
    store: Store,
    held: Held,
    /// What is wrong with the others, by their files.
    broken: BTreeMap<OsString, String>,
    /// People whose file was there and is gone, while there are devices of theirs: what
    /// was said of them still holds.
    away: BTreeSet<ClientName>,
    /// People whose file cannot be read, which may be no more than half written.
    doubts: BTreeMap<ClientName, Doubt>,
    /// A look at all of them that is under way.
    sweep: Option<Sweep>,
}

impl Clients {
    /// None yet: [`Self::reload`] reads them.
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            held: Held::default(),
            broken: BTreeMap::new(),
            away: BTreeSet::new(),
            doubts: BTreeMap::new(),
            sweep: None,
        }
    }

    pub(super) fn get(&self, kid: &Kid) -> Option<ClientRecord> {
        self.held.get(kid)
    }

    pub(super) fn name_of(&self, kid: &Kid) -> Option<&ClientName> {
        self.held.name_of(kid)
    }

    /// Whether there is such a client, and it is not disabled.
    pub(super) fn is_open(&self, kid: &Kid) -> bool {
        self.held.is_open(kid)
    }

    /// Whether there is a client of this very name.
    pub(super) fn has(&self, name: &ClientName) -> bool {
        !self.own_kids(name).is_empty()
    }

    /// The key-ids that a name stands for: a client's, or those of all devices of a person.
    pub(super) fn kids_of(&self, who: &ClientName) -> Vec<Kid> {
        self.held.kids_of(who)
    }

    /// Those of the client of this very name.
    pub(super) fn own_kids(&self, name: &ClientName) -> Vec<Kid> {
        self.held.own_kids(name)
    }

    /// All under which the client of this key-id can knock, whatever its name is by now:
    /// under former keys as well, while those still hold.
    pub(super) fn kids_beside(&self, kid: &Kid) -> impl Iterator<Item = Kid> {
        let others = self.name_of(kid).map(|name| self.own_kids(name)).unwrap_or_default();
        std::iter::once(*kid).chain(others)
    }

    /// Under which key-ids clients can knock: more than one while keys are replaced.
    pub(super) fn kids(&self) -> impl Iterator<Item = Kid> {
        self.held.kids()
    }

    /// Whose former keys have ended, and under which key-id those were.
    pub(super) fn overdue(&self, now: Timestamp) -> impl Iterator<Item = (ClientName, Kid)> {
        self.held.overdue(now)
    }

    /// What the gatekeeper is to know of a client.
    pub(super) fn keys(&self, kid: &Kid, server: &ServerPublic) -> Option<ClientKeys> {
        Some(ClientKeys::derive(self.held.psk(kid)?, server, kid))
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// When the newest was made of all records that were ever held.
    pub(super) fn newest(&self) -> Timestamp {
        self.held.newest()
    }

    pub(super) fn broken(&self) -> Vec<String> {
        self.broken.values().cloned().collect()
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }
}

#[cfg(test)]
mod tests;
