//! The directory of keys: `DIR/clients/`, `DIR/revoked/`, `DIR/lock`.

mod new_client;
mod read;
mod rotate;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use spa_proto::{Kid, Timestamp, VerifyingKey};

use crate::error::StoreError;
use crate::files;
use crate::identity::ServerIdentity;
use crate::lock::WriteLock;
use crate::record::{ClientName, ClientRecord, RevokedClient};
use crate::record_file::{client_file_name, revoked_file_name};
use crate::token::Token;
pub use new_client::NewClient;
use new_client::to_the_second;

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

/// All clients that there were.
pub struct RevokedListing {
    /// In the order of their names, then of their revocation.
    pub records: Vec<RevokedClient>,
    /// What cannot be read.
    pub broken: Vec<StoreError>,
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
        read::clients(&self.clients_dir())
    }

    /// Reads every client's record and tells what came of each file, in no order:
    /// a crowd is never in memory as a whole. Records of one key-id are not told
    /// apart; see [`Self::twin`].
    ///
    /// # Errors
    /// As [`Self::clients`].
    pub fn each_client(
        &self,
        tell: impl FnMut(OsString, Result<ClientRecord, StoreError>),
    ) -> Result<(), StoreError> {
        read::each(&self.clients_dir(), read::client, tell)
    }

    /// What is in one file of [`Self::clients_dir`]; `None` where there is none.
    #[must_use]
    pub fn client_in(&self, file: &OsStr) -> Option<Result<ClientRecord, StoreError>> {
        read::file(&self.clients_dir(), file)
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

    /// What is wrong with a client's record whose key-id another has, with a name
    /// that comes first: a knock says only which key-id it is of.
    #[must_use]
    pub fn twin(&self, name: &ClientName) -> StoreError {
        read::twin(&self.clients_dir(), name)
    }

    /// Reads one client's record.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Revoked`], or what is wrong with the record.
    pub fn client(&self, name: &ClientName) -> Result<ClientRecord, StoreError> {
        let read = files::check_private_dir(&self.clients_dir())
            .map_err(StoreError::from)
            .and_then(|()| read::client(&self.client_path(name)));
        match read {
            Err(StoreError::File(error)) if error.is_missing() => Err(self.absent(name)?),
            read => read,
        }
    }

    /// Why there is no client of this name.
    fn absent(&self, name: &ClientName) -> Result<StoreError, StoreError> {
        let was = self.revoked()?.records.iter().any(|client| client.name == *name);
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
    /// [`StoreError::NotInitialised`], [`StoreError::Taken`],
    /// [`StoreError::Policy`], or whatever kept the record from being written;
    /// then there is none.
    pub fn add(&self, client: NewClient, now: Timestamp) -> Result<Token, StoreError> {
        let server = ServerIdentity::load(&self.dir)?;
        client.check().map_err(StoreError::Policy)?;
        let (record, token) = client.admit(server, now)?;
        let _lock = self.begin_writing()?;
        let text = record.to_text();
        files::create_new(&self.client_path(&record.name), &text).map_err(|error| {
            if error.is_taken() { StoreError::Taken(record.name) } else { error.into() }
        })?;
        Ok(token)
    }

    /// Takes a client's record away, and keeps it, without secrets, among the
    /// revoked.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Revoked`], or what is wrong with the record.
    pub fn revoke(&self, name: &ClientName, now: Timestamp) -> Result<RevokedClient, StoreError> {
        let _lock = self.begin_writing()?;
        let client = self.client(name)?.without_secrets(to_the_second(now));
        let kept = self.revoked_dir().join(revoked_file_name(name, &client.kid));
        // In this order: a crash in between leaves a client that can be revoked again.
        files::write_atomic(&kept, &client.to_text())?;
        files::remove(&self.client_path(name))?;
        Ok(client)
    }

    /// Marks, durably, that a knock of this record is about to be accepted for
    /// the first time: `knocked` is true from now on, and the key that an
    /// enrolment `binds` is bound, its secret's hash gone.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Revoked`], and
    /// [`StoreError::Changed`] where the record has another key-id by now, was
    /// knocked with, or (with `binds`) has a key; all others say that it could
    /// not be written. The knock must be refused in any case.
    pub fn note_first_knock(
        &self,
        name: &ClientName,
        kid: &Kid,
        binds: Option<VerifyingKey>,
    ) -> Result<ClientRecord, StoreError> {
        let _lock = WriteLock::acquire(&self.dir)?;
        let record = self.client(name)?.noted(kid, binds);
        let record = record.ok_or_else(|| StoreError::Changed(name.clone()))?;
        files::write_atomic(&self.client_path(name), &record.to_text())?;
        Ok(record)
    }

    /// Makes what directories are missing.
    fn begin_writing(&self) -> Result<WriteLock, StoreError> {
        let dirs = [self.dir.clone(), self.clients_dir(), self.revoked_dir()];
        dirs.iter().try_for_each(|dir| files::make_private_dir(dir))?;
        WriteLock::acquire(&self.dir)
    }
}

#[cfg(test)]
mod tests;
