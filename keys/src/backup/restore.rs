//! Putting a backup back: all that is in the way is found before anything is
//! written, and nobody comes back who was shut out meanwhile.

use std::collections::HashSet;
use std::path::PathBuf;

use spa_proto::{Timestamp, Verifier};
use zeroize::Zeroizing;

use super::{Backup, SERVER};
use crate::error::StoreError;
use crate::files;
use crate::identity::ServerIdentity;
use crate::record::{ClientName, ClientRecord};
use crate::rotation::FormerKeys;
use crate::store::Store;

/// What is to become, or has become, of one file of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there, and is put there.
    New,
    /// It is there already, and says the same.
    Same,
    /// It says something else, and is replaced, as was asked for.
    Replaced,
    /// It says something else: in the way.
    Differs,
    /// Its client was revoked since, and stays so.
    Revoked,
    /// Its key-id or its name is somebody else's: in the way.
    Taken,
}

impl Outcome {
    /// Name in tables and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Same => "same",
            Self::Replaced => "replaced",
            Self::Differs => "differs",
            Self::Revoked => "revoked",
            Self::Taken => "taken",
        }
    }

    /// Whether nothing of the backup can be put back for it.
    #[must_use]
    pub const fn is_in_the_way(self) -> bool {
        matches!(self, Self::Differs | Self::Taken)
    }
}

/// One file of a backup.
pub struct Restored {
    /// Its name in the store.
    pub file: String,
    /// What becomes of it.
    pub outcome: Outcome,
    path: PathBuf,
    text: Zeroizing<String>,
}

impl Store {
    /// Puts a backup back: all of it that can be, or nothing where something is in
    /// the way, or with `dry_run`. With `replace`, what says something else is
    /// replaced: rights and names, never the server's key, and of a client that is
    /// known by the same key-id no keys.
    ///
    /// Whoever comes back counts as one who has knocked (protocol §7, R4), and a
    /// token that was still out is over: nobody knows what was used since.
    ///
    /// # Errors
    /// [`StoreError::NotInitialised`] where there is no server's key, neither here
    /// nor in it; or what could not be written.
    pub fn restore(
        &self,
        backup: &Backup,
        replace: bool,
        dry_run: bool,
    ) -> Result<Vec<Restored>, StoreError> {
        let (_lock, plan);
        if dry_run {
            plan = self.plan(backup, replace)?;
        } else {
            _lock = self.begin_writing()?;
            plan = self.plan(backup, replace)?;
        }
        let blocked = plan.iter().any(|one| one.outcome.is_in_the_way());
        if !dry_run && !blocked {
            plan.iter().try_for_each(Restored::write)?;
        }
        Ok(plan)
    }

    fn plan(&self, backup: &Backup, replace: bool) -> Result<Vec<Restored>, StoreError> {
        let mut plan = Vec::new();
        plan.extend(self.plan_server(backup)?);
        let revoked: HashSet<_> = self.revoked()?.records.iter().map(|one| one.kid).collect();
        let known = self.clients()?.records;
        let files = Backup { server: None, clients: Vec::new(), ..backup.shallow() }.files();
        for (file, text) in files {
            let path = self.dir().join(&file);
            let there = there(&path)?;
            let outcome = match there {
                Some(there) if *there == *text => Outcome::Same,
                Some(_) if replace => Outcome::Replaced,
                Some(_) => Outcome::Differs,
                None => Outcome::New,
            };
            plan.push(Restored { file, outcome, path, text });
        }
        for record in &backup.clients {
            let own = known.iter().find(|one| one.name == record.name);
            // Also by a key-id that is being replaced, on either side.
            let shares =
                |one: &ClientRecord| one.kids().any(|kid| record.kids().any(|own| own == kid));
            let other = known.iter().any(|one| one.name != record.name && shares(one));
            let restored = restored(record, own);
            let outcome = match own {
                _ if revoked.contains(&record.kid) => Outcome::Revoked,
                _ if other || self.is_of_another_kind(&record.name) => Outcome::Taken,
                // Its keys were replaced since, or it is another client: these are the newer.
                Some(own) if own.kid != record.kid => Outcome::Taken,
                Some(own) if is_same(own, record, &restored) => Outcome::Same,
                Some(_) if replace => Outcome::Replaced,
                // A record that cannot be read is nobody's to be replaced unasked.
                None if !self.path_of(&record.name).exists() => Outcome::New,
                None if replace => Outcome::Replaced,
                _ => Outcome::Differs,
            };
            let path = self.path_of(&record.name);
            let file = format!("{}{}", super::CLIENTS, Self::file_of(&record.name).display());
            plan.push(Restored { file, outcome, path, text: restored.to_text() });
        }
        Ok(plan)
    }

    fn plan_server(&self, backup: &Backup) -> Result<Option<Restored>, StoreError> {
        let outcome = match (ServerIdentity::load(self.dir()), &backup.server) {
            (Ok(_), None) => return Ok(None),
            (Err(error), None) => return Err(error),
            (Ok(own), Some(text)) if *own.to_text() == **text => Outcome::Same,
            // Its clients know the server by that key: it is never replaced.
            (Ok(_), Some(_)) => Outcome::Differs,
            (Err(StoreError::NotInitialised(_)), Some(_)) => Outcome::New,
            (Err(error), Some(_)) => return Err(error),
        };
        let text = backup.server.clone().unwrap_or_default();
        let path = self.dir().join(SERVER);
        Ok(Some(Restored { file: SERVER.to_owned(), outcome, path, text }))
    }

    fn path_of(&self, name: &ClientName) -> PathBuf {
        self.clients_dir().join(Self::file_of(name))
    }

    fn is_of_another_kind(&self, name: &ClientName) -> bool {
        // What cannot be looked at is in the way as well.
        self.check_kind(name).is_err() && !self.path_of(name).exists()
    }
}

impl Restored {
    fn write(&self) -> Result<(), StoreError> {
        match self.outcome {
            Outcome::New => files::create_new(&self.path, &self.text)?,
            Outcome::Replaced => files::write_atomic(&self.path, &self.text)?,
            Outcome::Same | Outcome::Differs | Outcome::Revoked | Outcome::Taken => {}
        }
        Ok(())
    }
}

impl Backup {
    /// Without keys.
    fn shallow(&self) -> Self {
        Self { people: self.people.clone(), revoked: self.revoked.clone(), ..Self::default() }
    }
}

/// The record as it comes back: with the keys that are there, where they are the
/// same client's, and else as one who may have done anything since.
fn restored(record: &ClientRecord, own: Option<&ClientRecord>) -> ClientRecord {
    let record = ClientRecord { person: None, ..record.clone() };
    if let Some(own) = own.filter(|own| own.kid == record.kid) {
        let (psk, verifier) = (own.psk.clone(), own.verifier.clone());
        let former = own.former.clone();
        return ClientRecord { psk, verifier, knocked: own.knocked, former, ..record };
    }
    let former = record.former.clone().map(|former| FormerKeys { knocked: true, ..former });
    let record = ClientRecord { former, ..record };
    match record.verifier {
        Verifier::Bound(_) => ClientRecord { knocked: true, ..record },
        Verifier::Pending { secret, .. } => {
            let verifier = Verifier::Pending { secret, expires: Timestamp::ZERO };
            ClientRecord { verifier, ..record }
        }
    }
}

/// Whether nothing would change.
fn is_same(own: &ClientRecord, record: &ClientRecord, restored: &ClientRecord) -> bool {
    let own = own.to_text();
    *own == *record.to_text() || *own == *restored.to_text()
}

fn there(path: &std::path::Path) -> Result<Option<Zeroizing<String>>, StoreError> {
    match files::read_private(path) {
        Err(error) if error.is_missing() => Ok(None),
        read => Ok(Some(read?)),
    }
}
