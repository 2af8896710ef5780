//! The directory of keys: `DIR/clients/`, `DIR/revoked/`, `DIR/lock`.

mod change;
mod new_client;
mod pending;
mod people;
mod read;
mod rotate;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spa_proto::{Kid, ServiceName, Timestamp, VerifyingKey};

use crate::date::to_the_second;
use crate::error::StoreError;
use crate::files::{self, FileError};
use crate::identity::ServerIdentity;
use crate::lasting::Lasting;
use crate::lock::WriteLock;
use crate::policy::Person;
use crate::record::{ClientName, ClientRecord, RevokedClient};
use crate::record_file::{FileOf, client_file_name, person_file_name, revoked_file_name};
use crate::token::Token;
pub use new_client::NewClient;

/// A directory of keys.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// All clients that there are.
pub struct Listing {
    /// In the order of their names.
    pub records: Vec<ClientRecord>,
    /// Records that cannot be used: not clients.
    pub broken: Vec<StoreError>,
}

/// All people of whom something was written down.
pub struct PeopleListing {
    /// In the order of their names.
    pub people: Vec<Arc<Person>>,
    /// What cannot be read: none of their devices may do anything.
    pub broken: Vec<StoreError>,
}

/// All clients that there were.
pub struct RevokedListing {
    /// In the order of their names, then of their revocation.
    pub records: Vec<RevokedClient>,
    /// What cannot be read.
    pub broken: Vec<StoreError>,
}

/// What a longer name, and the keys from before while others take their place, add to a file.
const ROOM: usize = 4096;

/// Refuses what could not be read again.
pub(super) fn fits(text: &str) -> Result<(), StoreError> {
    match text.len() + ROOM > files::MAX_LEN {
        true => Err(StoreError::Policy(
            "this is more than the file of a client or a person may hold, which is some 60 kB: \
             name fewer networks",
        )),
        false => Ok(()),
    }
}

impl Store {
    /// How long a token can be used.
    pub const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

    /// The store in `dir`, which need not be there yet.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the records of clients are: what the daemon watches. Names in it
    /// that begin with a dot are of no interest.
    #[must_use]
    pub fn clients_dir(&self) -> PathBuf {
        self.dir.join("clients")
    }

    /// Name of the file, beside that directory, with the server's own keys.
    pub const SERVER_FILE: &str = "server.toml";

    fn revoked_dir(&self) -> PathBuf {
        self.dir.join("revoked")
    }

    fn client_path(&self, name: &ClientName) -> PathBuf {
        self.clients_dir().join(client_file_name(name))
    }

    /// Reads every client's record.
    ///
    /// # Errors
    /// Only where the directory itself cannot be read or trusted; one that is
    /// not there has no clients.
    pub fn clients(&self) -> Result<Listing, StoreError> {
        let mut listing = read::clients(&self.clients_dir())?;
        self.with_people(&mut listing)?;
        Ok(listing)
    }

    /// Reads every client's record and tells what came of each file, in no order:
    /// a crowd is never in memory as a whole. Records of one key-id are not told
    /// apart (see [`Self::twin`]), and those of devices are without their person.
    ///
    /// # Errors
    /// As [`Self::clients`].
    pub fn each_client(
        &self,
        tell: impl FnMut(OsString, Result<ClientRecord, StoreError>),
    ) -> Result<(), StoreError> {
        read::each(&self.clients_dir(), read::is_client, read::client, tell)
    }

    /// The same for what is said of people.
    ///
    /// # Errors
    /// As [`Self::clients`].
    pub fn each_person(
        &self,
        tell: impl FnMut(OsString, Result<Person, StoreError>),
    ) -> Result<(), StoreError> {
        read::each(&self.clients_dir(), read::is_person, read::person, tell)
    }

    /// What is in one file of [`Self::clients_dir`], without its person; `None`
    /// where there is none.
    #[must_use]
    pub fn client_in(&self, file: &OsStr) -> Option<Result<ClientRecord, StoreError>> {
        read::file(&self.clients_dir(), file, read::client)
    }

    /// The same for the file of a person.
    #[must_use]
    pub fn person_in(&self, file: &OsStr) -> Option<Result<Person, StoreError>> {
        read::file(&self.clients_dir(), file, read::person)
    }

    /// Whose file this is, by its name.
    #[must_use]
    pub fn whose(file: &OsStr) -> Option<FileOf> {
        read::whose(file)
    }

    /// Whether a file of this name in [`Self::clients_dir`] is looked at.
    #[must_use]
    pub fn is_record(file: &OsStr) -> bool {
        read::is_record(file)
    }

    /// The name of a client's file.
    #[must_use]
    pub fn file_of(name: &ClientName) -> OsString {
        client_file_name(name).into()
    }

    /// The name of a person's file.
    #[must_use]
    pub fn file_of_person(name: &ClientName) -> OsString {
        person_file_name(name).into()
    }

    /// What is wrong where a person's file was there, and is gone while there are devices.
    #[must_use]
    pub fn person_gone(&self, name: &ClientName) -> StoreError {
        read::person_gone(&self.clients_dir(), name)
    }

    /// What is wrong with a client's record whose key-id another has, with a name
    /// that comes first: a knock says only which key-id it is of.
    #[must_use]
    pub fn twin(&self, name: &ClientName) -> StoreError {
        read::twin(&self.clients_dir(), name)
    }

    /// Reads one client's record, and for a device what is said of its person.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Revoked`], or what is wrong with the record.
    pub fn client(&self, name: &ClientName) -> Result<ClientRecord, StoreError> {
        let file = Self::file_of(name);
        let record = self.client_in(&file).unwrap_or_else(|| Err(self.absent(name)?))?;
        Ok(ClientRecord { person: self.person_behind(name), ..record })
    }

    /// Why there is no client of this name.
    fn absent(&self, name: &ClientName) -> Result<StoreError, StoreError> {
        let was = self.revoked()?.records.iter().any(|client| client.name.is_of(name));
        let name = name.clone();
        Ok(if was { StoreError::Revoked(name) } else { StoreError::Unknown(name) })
    }

    /// Reads what is left of every client that was revoked.
    ///
    /// # Errors
    /// As [`Self::clients`].
    pub fn revoked(&self) -> Result<RevokedListing, StoreError> {
        read::revoked(&self.revoked_dir())
    }

    /// Makes a record, and the token for its client.
    ///
    /// # Errors
    /// [`StoreError::NotInitialised`], [`StoreError::Taken`], [`StoreError::Person`],
    /// [`StoreError::Policy`], or whatever kept the record from being written;
    /// then there is none.
    pub fn add(&self, client: NewClient, now: Timestamp) -> Result<Token, StoreError> {
        let server = ServerIdentity::load(&self.dir)?;
        client.check()?;
        let _lock = self.begin_writing()?;
        self.check_kind(&client.name)?;
        let person = self.person_behind(&client.name);
        let (record, token) = client.admit(server, person, now, &self.services())?;
        let text = record.to_text();
        fits(&text)?;
        files::create_new(&self.client_path(&record.name), &text).map_err(|error| {
            if error.is_taken() { StoreError::Taken(record.name) } else { error.into() }
        })?;
        Ok(token)
    }

    /// What `spad` says of its services, as far as it can be found.
    fn services(&self) -> BTreeMap<ServiceName, Lasting> {
        Lasting::beside(&self.dir)
    }

    /// Whether [`Self::add`] would make this client, as things are; nothing is made.
    ///
    /// # Errors
    /// Why not.
    pub fn check_new(&self, client: &NewClient) -> Result<(), StoreError> {
        client.check()?;
        self.check_kind(&client.name)?;
        if self.client_path(&client.name).symlink_metadata().is_ok() {
            return Err(StoreError::Taken(client.name.clone()));
        }
        let person = self.person_behind(&client.name);
        client.check_services(person.as_deref())
    }

    /// Takes a client's record away, and every copy of it, and keeps it, without secrets, among
    /// the revoked.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Revoked`], or what is wrong with the record.
    pub fn revoke(&self, name: &ClientName, now: Timestamp) -> Result<RevokedClient, StoreError> {
        let _lock = self.begin_writing()?;
        self.take_away_whole(self.client(name)?, now)
    }

    /// With its copies, which go first: a crash in between leaves it there, to be revoked again.
    fn take_away_whole(
        &self,
        record: ClientRecord,
        now: Timestamp,
    ) -> Result<RevokedClient, StoreError> {
        for copy in self.copies(std::slice::from_ref(&record))? {
            self.take_away(copy, now)?;
        }
        self.take_away(record, now)
    }

    /// Records of other names that have a key-id that one of these has, or had. A copied record, or
    /// one that a renaming has left that was cut off, is no client only as long as the other is there.
    fn copies(&self, of: &[ClientRecord]) -> Result<Vec<ClientRecord>, StoreError> {
        let kids: Vec<_> = of.iter().flat_map(ClientRecord::ever_kids).collect();
        let mut copies = read::copies(&self.clients_dir(), &kids)?;
        copies.retain(|copy| of.iter().all(|record| record.name != copy.name));
        Ok(copies)
    }

    fn take_away(&self, record: ClientRecord, now: Timestamp) -> Result<RevokedClient, StoreError> {
        let client = record.without_secrets(to_the_second(now));
        let kept = self.revoked_dir().join(revoked_file_name(&client.name, &client.kid));
        // In this order: a crash in between leaves a client that can be revoked again.
        files::write_atomic(&kept, &client.to_text())
            .and_then(|()| files::remove(&self.client_path(&client.name)))
            .map_err(|error| self.still_in(&client.name, error))?;
        Ok(client)
    }

    /// Says of what could not be written that the client is in, if it is.
    fn still_in(&self, name: &ClientName, error: FileError) -> StoreError {
        let record = self.client_path(name);
        match record.exists() {
            true => StoreError::StillIn { name: name.clone(), record: Some(record), error },
            false => error.into(),
        }
    }

    /// Marks, durably, that a knock of this record is about to be accepted for
    /// the first time: `knocked` is true from now on, and the key that an
    /// enrolment `binds` is bound, its secret's hash gone.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Revoked`], and
    /// [`StoreError::Changed`] where the record has another key-id by now, was
    /// knocked with, is disabled, or (with `binds`) has a key; all others say that it
    /// could not be written, [`StoreError::Locked`] after 5 s of another writer.
    /// The knock must be refused in any case.
    pub fn note_first_knock(
        &self,
        name: &ClientName,
        kid: &Kid,
        binds: Option<VerifyingKey>,
    ) -> Result<ClientRecord, StoreError> {
        let _lock = WriteLock::acquire(&self.dir)?;
        let record = self.client(name)?;
        let record = if record.is_disabled() { None } else { record.noted(kid, binds) };
        let record = record.ok_or_else(|| StoreError::Changed(name.clone()))?;
        files::write_atomic(&self.client_path(name), &record.to_text())?;
        Ok(record)
    }

    /// Makes what directories are missing.
    pub(crate) fn begin_writing(&self) -> Result<WriteLock, StoreError> {
        let dirs = [self.dir.clone(), self.clients_dir(), self.revoked_dir()];
        dirs.iter().try_for_each(|dir| files::make_private_dir(dir))?;
        WriteLock::acquire(&self.dir)
    }
}

#[cfg(test)]
mod tests;
