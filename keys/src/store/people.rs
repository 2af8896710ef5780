//! People and their devices.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use spa_proto::Timestamp;

use super::{Listing, PeopleListing, Store, read};
use crate::date::to_the_second;
use crate::error::StoreError;
use crate::files;
use crate::policy::Person;
use crate::record::{ClientName, ClientRecord, RevokedClient};
use crate::record_file::{FileOf, person_file_name};

impl Store {
    pub(super) fn person_path(&self, name: &ClientName) -> PathBuf {
        self.clients_dir().join(person_file_name(name))
    }

    /// Reads what is said of people.
    ///
    /// # Errors
    /// As [`Self::clients`].
    pub fn people(&self) -> Result<PeopleListing, StoreError> {
        read::people(&self.clients_dir())
    }

    /// What is said of one person; `None` where nothing is.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn person(&self, name: &ClientName) -> Result<Option<Person>, StoreError> {
        self.person_in(OsStr::new(&person_file_name(name))).transpose()
    }

    /// What is said of a device's person. Where that cannot be read, it may do nothing.
    pub(super) fn person_behind(&self, name: &ClientName) -> Option<Arc<Person>> {
        name.device()?;
        let person = name.person();
        let said = self.person(&person).unwrap_or_else(|_| Some(Person::shut(person)));
        said.map(Arc::new)
    }

    /// Gives each device its person, and says which of these cannot be read.
    pub(super) fn with_people(&self, listing: &mut Listing) -> Result<(), StoreError> {
        let PeopleListing { people, broken } = self.people()?;
        for record in listing.records.iter_mut().filter(|record| record.name.device().is_some()) {
            let person = record.name.person();
            let found = people.binary_search_by(|one| one.name.cmp(&person));
            record.person = match found {
                Ok(at) => people.get(at).cloned(),
                // One that cannot be read is not among them.
                Err(_) if broken.is_empty() => None,
                Err(_) => self.person_behind(&record.name),
            };
        }
        listing.broken.extend(broken);
        Ok(())
    }

    /// The clients that a name stands for: the one that it is of, or a person's
    /// devices; in order.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] or [`StoreError::Revoked`] where there is none.
    pub fn clients_of(&self, who: &ClientName) -> Result<Vec<ClientName>, StoreError> {
        let found = self.found_of(who)?;
        if found.is_empty() { Err(self.absent(who)?) } else { Ok(found) }
    }

    /// The one client that a name stands for, where only one will do.
    ///
    /// # Errors
    /// [`StoreError::Devices`] for a person who has some, else as [`Self::client`].
    pub(super) fn one_client(&self, name: &ClientName) -> Result<ClientRecord, StoreError> {
        match self.client(name) {
            Err(error @ (StoreError::Unknown(_) | StoreError::Revoked(_))) => {
                let devices = self.found_of(name)?;
                if devices.is_empty() { Err(error) } else { Err(StoreError::Devices(devices)) }
            }
            found => found,
        }
    }

    pub(super) fn found_of(&self, who: &ClientName) -> Result<Vec<ClientName>, StoreError> {
        let files = files::names(&self.clients_dir(), read::is_client)?;
        let names = files.iter().filter_map(|file| match read::whose(file)? {
            FileOf::Client(name) => Some(name),
            FileOf::Person(_) => None,
        });
        let mut found: Vec<_> = names.filter(|name| name.is_of(who)).collect();
        found.sort();
        Ok(found)
    }

    /// Refuses a name that would make of a client a person, or the other way round:
    /// one name would stand for two things.
    pub(crate) fn check_kind(&self, name: &ClientName) -> Result<(), StoreError> {
        let person = name.person();
        let other = match name.device() {
            Some(_) => self.client_path(&person).exists(),
            None => self.has_devices(name)? || self.person_path(name).exists(),
        };
        if other { Err(StoreError::Person(person)) } else { Ok(()) }
    }

    /// Revokes all that a name stands for: a client, or a person with all devices.
    /// What goes wrong with one does not keep the others.
    ///
    /// # Errors
    /// Where there is none; see [`Self::clients_of`].
    pub fn revoke_all(
        &self,
        who: &ClientName,
        now: Timestamp,
    ) -> Result<Vec<Result<RevokedClient, StoreError>>, StoreError> {
        let _lock = self.begin_writing()?;
        let names = self.found_of(who)?;
        let path = self.person_path(who);
        if names.is_empty() && !path.exists() {
            return Err(self.absent(who)?);
        }
        let (mut records, mut done) = (Vec::new(), Vec::new());
        for name in &names {
            match self.client(name) {
                Ok(record) => records.push(record),
                Err(error) => done.push(Err(error)),
            }
        }
        // Where they cannot be looked for, those that are named go all the same.
        let copies = self.copies(&records).unwrap_or_else(|error| {
            done.push(Err(error));
            Vec::new()
        });
        done.extend(copies.into_iter().chain(records).map(|record| self.take_away(record, now)));
        // Last: as long as there is a device, its limits are.
        if who.device().is_none() && done.iter().all(Result::is_ok) && path.exists() {
            done.extend(files::remove(&path).err().map(|error| Err(error.into())));
        }
        Ok(done)
    }

    /// Refuses a person with devices of whom nothing is said: a file that is away for a
    /// moment may say more than the one that would be made in its place.
    ///
    /// # Errors
    /// [`StoreError::Unsaid`], or what is wrong with the file.
    pub fn check_said(&self, name: &ClientName) -> Result<(), StoreError> {
        if self.person(name)?.is_some() || !self.has_devices(name)? {
            return Ok(());
        }
        Err(StoreError::Unsaid { name: name.clone(), path: self.person_path(name) })
    }

    fn has_devices(&self, name: &ClientName) -> Result<bool, StoreError> {
        Ok(name.device().is_none() && self.found_of(name)?.iter().any(|one| one.device().is_some()))
    }

    /// Changes what is said of a person, who has devices or was written down before. Where
    /// nothing is said, it begins without limits: see [`Self::check_said`].
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Revoked`], [`StoreError::Policy`], or
    /// what is wrong with the file; then it stays as it was.
    pub fn change_person(
        &self,
        name: &ClientName,
        now: Timestamp,
        edit: impl FnOnce(&mut Person),
    ) -> Result<Person, StoreError> {
        let _lock = self.begin_writing()?;
        let known = self.person(name)?;
        if known.is_none() && !self.has_devices(name)? {
            return Err(self.absent(name)?);
        }
        let mut person = known.unwrap_or_else(|| Person::new(name.clone(), to_the_second(now)));
        let before = person.policy.clone();
        edit(&mut person);
        person.policy.check().map_err(StoreError::Policy)?;
        let text = person.to_text();
        if person.policy != before {
            super::fits(&text)?;
        }
        files::write_atomic(&self.person_path(name), &text)?;
        Ok(person)
    }
}
