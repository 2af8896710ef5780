//! Who is in a store, and who was, to be looked up by name and by key-id.

use std::collections::{HashMap, HashSet};

use spa_proto::Kid;

use super::Backup;
use crate::error::StoreError;
use crate::files;
use crate::record::{ClientName, ClientRecord};
use crate::record_file::{FileOf, name_in};
use crate::store::Store;

pub(super) struct Known<'a> {
    by_name: HashMap<&'a ClientName, &'a ClientRecord>,
    by_kid: HashMap<Kid, &'a ClientRecord>,
    /// Key-ids of all who were revoked, here or in the backup.
    revoked: HashSet<Kid>,
    /// Those with a file here, whether it can be read or not.
    clients: HashSet<ClientName>,
    /// Those with a file of their own, or with devices.
    people: HashSet<ClientName>,
}

impl<'a> Known<'a> {
    /// # Errors
    /// What cannot be read: of whom was revoked, that is everything.
    pub(super) fn of(
        store: &Store,
        clients: &'a [ClientRecord],
        backup: &Backup,
    ) -> Result<Self, StoreError> {
        let revoked = store.revoked()?;
        if let Some(error) = revoked.broken.into_iter().next() {
            return Err(error);
        }
        let revoked = revoked.records.iter().chain(&backup.revoked);
        let revoked = revoked.flat_map(|one| one.ever_kids()).collect();
        let by_name = clients.iter().map(|one| (&one.name, one)).collect();
        let by_kid = clients.iter().flat_map(|one| one.ever_kids().map(move |kid| (kid, one)));
        let by_kid = by_kid.collect();
        let mut known =
            Self { by_name, by_kid, revoked, clients: HashSet::new(), people: HashSet::new() };
        for file in files::names(&store.clients_dir(), Store::is_record)? {
            match file.to_str().and_then(name_in) {
                Some(FileOf::Person(name)) => _ = known.people.insert(name),
                Some(FileOf::Client(name)) => {
                    known.people.extend(name.device().map(|_| name.person()));
                    known.clients.insert(name);
                }
                None => {}
            }
        }
        Ok(known)
    }

    pub(super) fn named(&self, name: &ClientName) -> Option<&'a ClientRecord> {
        self.by_name.get(name).copied()
    }

    /// The client that has, or had, one of this one's key-ids.
    pub(super) fn with_kid_of(&self, record: &ClientRecord) -> Option<&'a ClientRecord> {
        record.ever_kids().find_map(|kid| self.by_kid.get(&kid).copied())
    }

    pub(super) fn is_revoked(&self, record: &ClientRecord) -> bool {
        record.ever_kids().any(|kid| self.revoked.contains(&kid))
    }

    pub(super) fn has_file(&self, name: &ClientName) -> bool {
        self.clients.contains(name)
    }

    /// Whether the name is a client's, and so no person's.
    pub(super) fn is_client(&self, name: &ClientName) -> bool {
        self.clients.contains(name)
    }

    /// Whether the name would make of a client a person, or the other way round.
    pub(super) fn is_of_another_kind(&self, name: &ClientName) -> bool {
        match name.device() {
            Some(_) => self.clients.contains(&name.person()),
            None => self.people.contains(name),
        }
    }
}
