//! All of a store in one file, to be put away and to be put back.
//!
//! ```text
//! spa-keys backup 1
//! file NAME LENGTH        for each file of the store: its name, its length in bytes,
//! …                       and that many bytes
//! sha256 HEX              of everything before
//! ```
//! Under a passphrase: `spa-keys sealed backup 1`, and below it in base64 what
//! Argon2id is to take (memory in KiB, passes, lanes: 4 bytes each), 16 bytes of salt
//! and all of the above, sealed ([`crate::passphrase`]), bound to the first line and
//! the cost.

mod restore;

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::document::Malformed;
use crate::error::StoreError;
use crate::identity::ServerIdentity;
use crate::passphrase::{Cost, PassphraseKey, SALT_LEN};
use crate::policy::Person;
use crate::record::{ClientRecord, RevokedClient};
use crate::record_file::{FileOf, client_file_name, name_in, person_file_name, revoked_file_name};
use crate::store::Store;
pub use restore::{Outcome, Restored};

const HEADING: &str = "spa-keys backup 1";
const SEALED: &str = "spa-keys sealed backup 1";
const SERVER: &str = "server.toml";
const CLIENTS: &str = "clients/";
const REVOKED: &str = "revoked/";
/// The longest backup that is read, in bytes.
pub const MAX_LEN: usize = 256 * 1024 * 1024;

/// What a store holds.
#[derive(Default)]
pub struct Backup {
    /// The text of the server's own file.
    server: Option<Zeroizing<String>>,
    people: Vec<Person>,
    clients: Vec<ClientRecord>,
    revoked: Vec<RevokedClient>,
}

/// Why a text is no backup.
#[derive(Debug)]
pub enum BackupError {
    /// Something else altogether.
    NotABackup,
    /// Cut or changed.
    Damaged,
    /// Another passphrase, or changed.
    Passphrase,
    /// Argon2 cannot be had, or it asks for endless work.
    Cost,
    /// One of the files in it is not what it should be.
    Malformed(Malformed),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotABackup => "this is not a backup: spa-keys export makes them",
            Self::Damaged => "the backup is damaged: it was cut or changed",
            Self::Passphrase => "the passphrase is another one, or the backup was changed",
            Self::Cost => "the passphrase cannot be tried: it asks for more work than any of ours",
            Self::Malformed(error) => return write!(f, "in the backup: {error}"),
        })
    }
}

impl std::error::Error for BackupError {}

impl From<Malformed> for BackupError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl Backup {
    /// Everything in a store, the server's own key only `with_server`; and what
    /// cannot be read, which is not in it.
    ///
    /// # Errors
    /// Those of the store.
    pub fn of(store: &Store, with_server: bool) -> Result<(Self, Vec<StoreError>), StoreError> {
        let server = match with_server {
            true => Some(ServerIdentity::load(store.dir())?.to_text()),
            false => None,
        };
        let (clients, revoked) = (store.clients()?, store.revoked()?);
        let people = store.people()?.people;
        let people = people.iter().map(|person| Person::clone(person)).collect();
        let broken: Vec<_> = clients.broken.into_iter().chain(revoked.broken).collect();
        let (clients, left_out) = clients.records.into_iter().partition(has_its_limits);
        let left_out: Vec<ClientRecord> = left_out;
        let left_out = left_out.iter().map(|record| without_limits(store, record));
        let broken = broken.into_iter().chain(left_out).collect();
        let backup = Self { server, people, clients, revoked: revoked.records };
        Ok((backup, broken))
    }

    /// Without the server's own key.
    #[must_use]
    pub fn without_server(self) -> Self {
        Self { server: None, ..self }
    }

    /// How many clients there are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// As a file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let files = self.files();
        let room: usize = files.iter().map(|(name, text)| name.len() + text.len() + 32).sum();
        // Large enough from the start: growing would leave copies of keys behind.
        let mut all = Zeroizing::new(String::with_capacity(room + 256));
        all.push_str(HEADING);
        all.push('\n');
        for (name, text) in &files {
            all.push_str(&format!("file {name} {}\n", text.len()));
            all.push_str(text);
        }
        let sum = checksum(&all);
        all.push_str(&sum);
        all
    }

    /// As a file that takes a passphrase; `salt` is new each time.
    ///
    /// # Errors
    /// [`BackupError::Cost`].
    pub fn seal(&self, passphrase: &str, salt: [u8; SALT_LEN]) -> Result<String, BackupError> {
        let cost = Cost::USUAL;
        let key = PassphraseKey::derive(passphrase, &salt, cost).map_err(|_| BackupError::Cost)?;
        let sealed = key.seal(self.to_text().as_bytes(), &bound_to(cost));
        let sealed = sealed.ok_or(BackupError::Cost)?;
        let bytes = [&cost.to_bytes(), salt.as_slice(), &sealed].concat();
        Ok(format!("{SEALED}\n{}\n", STANDARD.encode(bytes)))
    }

    /// Whether this is one that takes a passphrase.
    #[must_use]
    pub fn is_sealed(text: &str) -> bool {
        text.starts_with(SEALED)
    }

    /// Reads one that takes a passphrase. Slow.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn unseal(text: &str, passphrase: &str) -> Result<Self, BackupError> {
        let encoded = text.strip_prefix(SEALED).ok_or(BackupError::NotABackup)?;
        let bytes = STANDARD.decode(encoded.trim()).map_err(|_| BackupError::Damaged)?;
        let (cost, rest) = bytes.split_first_chunk().ok_or(BackupError::Damaged)?;
        let (salt, sealed) = rest.split_first_chunk().ok_or(BackupError::Damaged)?;
        let cost = Cost::from_bytes(*cost);
        let key = PassphraseKey::derive(passphrase, salt, cost).map_err(|_| BackupError::Cost)?;
        let opened = key.open(sealed, &bound_to(cost)).ok_or(BackupError::Passphrase)?;
        let text = std::str::from_utf8(&opened).map_err(|_| BackupError::Damaged)?;
        Self::parse(text)
    }

    /// Reads what [`Self::to_text`] writes.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn parse(text: &str) -> Result<Self, BackupError> {
        let rest = text.strip_prefix(HEADING).and_then(|rest| rest.strip_prefix('\n'));
        let mut rest = rest.ok_or(BackupError::NotABackup)?;
        let mut backup = Self::default();
        while let Some(after) = rest.strip_prefix("file ") {
            let (name, file, left) = split_file(after).ok_or(BackupError::Damaged)?;
            backup.take(name, file)?;
            rest = left;
        }
        let before = &text[..text.len() - rest.len()];
        if *rest == *checksum(before) { Ok(backup) } else { Err(BackupError::Damaged) }
    }

    fn take(&mut self, name: &str, text: &str) -> Result<(), BackupError> {
        let path = Path::new(name);
        let in_clients = name.strip_prefix(CLIENTS).map(name_in);
        match in_clients {
            Some(Some(FileOf::Person(_))) => self.people.push(Person::parse(path, text)?),
            Some(Some(FileOf::Client(_))) => self.clients.push(ClientRecord::parse(path, text)?),
            None if name.starts_with(REVOKED) => {
                self.revoked.push(RevokedClient::parse(path, text)?);
            }
            None if name == SERVER => {
                ServerIdentity::parse(path, text)?;
                self.server = Some(Zeroizing::new(text.to_owned()));
            }
            _ => return Err(BackupError::Damaged),
        }
        Ok(())
    }

    /// Each file of the store, by its name there.
    fn files(&self) -> Vec<(String, Zeroizing<String>)> {
        let server = self.server.iter().map(|text| (SERVER.to_owned(), text.clone()));
        let people = self.people.iter().map(|person| {
            (format!("{CLIENTS}{}", person_file_name(&person.name)), person.to_text())
        });
        let clients = self.clients.iter().map(|client| {
            (format!("{CLIENTS}{}", client_file_name(&client.name)), client.to_text())
        });
        let revoked = self.revoked.iter().map(|client| {
            let file = revoked_file_name(&client.name, &client.kid);
            (format!("{REVOKED}{file}"), client.to_text())
        });
        server.chain(people).chain(clients).chain(revoked).collect()
    }
}

/// Whether all that limits it can be read: where it is put back without that, it
/// could do more.
fn has_its_limits(record: &ClientRecord) -> bool {
    record.person.as_deref().is_none_or(|person| *person != Person::shut(person.name.clone()))
}

fn without_limits(store: &Store, record: &ClientRecord) -> StoreError {
    let path = store.clients_dir().join(client_file_name(&record.name));
    Malformed::new(&path, "not exported: what its person may do cannot be read").into()
}

/// Name and text of one file, and what comes after it.
fn split_file(text: &str) -> Option<(&str, &str, &str)> {
    let (heading, rest) = text.split_once('\n')?;
    let (name, len) = heading.rsplit_once(' ')?;
    let (file, rest) = rest.split_at_checked(len.parse().ok()?)?;
    Some((name, file, rest))
}

fn checksum(text: &str) -> String {
    let hex: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256 {hex}\n")
}

fn bound_to(cost: Cost) -> Vec<u8> {
    [SEALED.as_bytes(), &cost.to_bytes()].concat()
}

#[cfg(test)]
mod tests;
