//! Putting a backup back: all that is in the way is found before anything is
//! written, and nobody comes back who was shut out meanwhile.

mod known;
mod merged;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Backup, CLIENTS, REVOKED, SERVER};
use crate::error::StoreError;
use crate::files;
use crate::identity::ServerIdentity;
use crate::policy::Person;
use crate::record::{ClientRecord, RevokedClient};
use crate::record_file::{client_file_name, person_file_name, revoked_file_name};
use crate::store::Store;
use known::Known;

/// What is to become, or has become, of one file of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there, and is put there.
    New,
    /// It is there already, and would say nothing new.
    Same,
    /// It says something else, and is replaced, as was asked for.
    Replaced,
    /// The same, but who is disabled here stays so.
    Disabled,
    /// Its client has another name here, and stays as it is.
    Renamed,
    /// It says something else: in the way.
    Differs,
    /// Its client was revoked, here or in the backup: it does not come back, or is
    /// taken away.
    Revoked,
    /// Its key-id or its name is somebody else's, or was replaced: in the way.
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
            Self::Disabled => "disabled",
            Self::Renamed => "renamed",
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

/// One file of a backup, or of a client that is revoked in it.
pub struct Restored {
    /// Its name in the store.
    pub file: String,
    /// What becomes of it.
    pub outcome: Outcome,
    path: PathBuf,
    step: Step,
}

/// What is to be done to the file.
enum Step {
    Nothing,
    Create(Zeroizing<String>),
    Replace(Zeroizing<String>),
    Remove,
}

impl Store {
    /// Puts a backup back: all of it that can be, or nothing where something is in
    /// the way, or with `dry_run`. With `replace`, what says something else is
    /// replaced: rights, never the server's key, a client's keys or that somebody is
    /// disabled.
    ///
    /// Whoever comes back counts as one who has knocked (protocol §7, R4), and a
    /// token with a secret that was still out is over: nobody knows what was used
    /// since. Whom the backup knows as revoked, under any of the key-ids that it ever
    /// had, is no client any more.
    ///
    /// # Errors
    /// [`StoreError::NotInitialised`] where there is no server's key, neither here
    /// nor in it; what of the revoked cannot be read; or what could not be written.
    pub fn restore(
        &self,
        backup: &Backup,
        replace: bool,
        dry_run: bool,
    ) -> Result<Vec<Restored>, StoreError> {
        let plan = self.plan(backup, replace)?;
        let blocked = plan.iter().any(|one| one.outcome.is_in_the_way());
        if dry_run || blocked || plan.iter().all(Restored::is_done) {
            return Ok(plan);
        }
        // Again: nobody was kept from writing while that was looked at.
        let _lock = self.begin_writing()?;
        let plan = self.plan(backup, replace)?;
        if !plan.iter().any(|one| one.outcome.is_in_the_way()) {
            plan.iter().try_for_each(Restored::write)?;
        }
        Ok(plan)
    }

    /// Revocations come before what they take away: a crash in between revives nobody.
    fn plan(&self, backup: &Backup, replace: bool) -> Result<Vec<Restored>, StoreError> {
        let clients = self.clients()?.records;
        let known = Known::of(self, &clients, backup)?;
        let mut plan = Vec::new();
        plan.extend(self.plan_server(backup)?);
        for person in &backup.people {
            plan.push(self.plan_person(person, &known, replace)?);
        }
        for client in &backup.revoked {
            plan.push(self.plan_revoked(client, replace)?);
        }
        let back = backup.clients.iter().map(|record| self.plan_client(record, &known, replace));
        plan.extend(back);
        let shut_out = clients.iter().filter(|own| known.is_revoked(own));
        let shut_out = shut_out.map(|own| format!("{CLIENTS}{}", client_file_name(&own.name)));
        let shut_out: HashSet<_> = shut_out.collect();
        plan.retain(|one| !shut_out.contains(&one.file));
        let steps =
            shut_out.into_iter().map(|file| self.step(file, Outcome::Revoked, Step::Remove));
        plan.extend(steps);
        Ok(plan)
    }

    fn plan_server(&self, backup: &Backup) -> Result<Option<Restored>, StoreError> {
        let (outcome, step) = match (ServerIdentity::load(self.dir()), &backup.server) {
            (Ok(_), None) => return Ok(None),
            (Err(error), None) => return Err(error),
            (Ok(own), Some(text)) => {
                let other = ServerIdentity::parse(Path::new(SERVER), text)?;
                // Its clients know the server by that key: it is never replaced.
                let known = merged::is_known(&own, &other);
                (if known { Outcome::Same } else { Outcome::Differs }, Step::Nothing)
            }
            (Err(StoreError::NotInitialised(_)), Some(text)) => {
                (Outcome::New, Step::Create(text.clone()))
            }
            (Err(error), Some(_)) => return Err(error),
        };
        Ok(Some(self.step(SERVER.to_owned(), outcome, step)))
    }

    fn plan_person(
        &self,
        person: &Person,
        known: &Known,
        replace: bool,
    ) -> Result<Restored, StoreError> {
        let file = format!("{CLIENTS}{}", person_file_name(&person.name));
        if known.is_client(&person.name) {
            return Ok(self.step(file, Outcome::Taken, Step::Nothing));
        }
        let there = there(&self.dir().join(&file))?;
        // What is broken is nobody's to be replaced unasked.
        let own = there.as_ref().and_then(|_| self.person(&person.name).ok().flatten());
        let disabled = merged::earlier(own.as_ref().and_then(|own| own.disabled), person.disabled);
        let new = Person { disabled, ..person.clone() };
        let kept_out = disabled != person.disabled;
        let is_same = own.as_ref() == Some(&new);
        Ok(self.choose(file, there.is_some(), is_same, replace, kept_out, new.to_text()))
    }

    fn plan_revoked(&self, client: &RevokedClient, replace: bool) -> Result<Restored, StoreError> {
        let file = format!("{REVOKED}{}", revoked_file_name(&client.name, &client.kid));
        let path = self.dir().join(&file);
        let text = there(&path)?;
        let own = text.as_ref().map(|text| RevokedClient::parse(&path, text)).transpose()?;
        // Who was revoked again by hand since is revoked all the same.
        let is_same = own.is_some_and(|own| {
            client.ever_kids().all(|kid| own.ever_kids().any(|known| known == kid))
        });
        Ok(self.choose(file, text.is_some(), is_same, replace, false, client.to_text()))
    }

    fn plan_client(&self, record: &ClientRecord, known: &Known, replace: bool) -> Restored {
        let file = format!("{CLIENTS}{}", client_file_name(&record.name));
        let own = known.named(&record.name);
        let refused = match (own, known.with_kid_of(record)) {
            _ if known.is_revoked(record) => Some(Outcome::Revoked),
            // Its keys were replaced since, or it is another client: these are the newer.
            (Some(own), _) if own.kid != record.kid => Some(Outcome::Taken),
            (None, Some(other)) if other.kid == record.kid => Some(Outcome::Renamed),
            (None, Some(_)) => Some(Outcome::Taken),
            _ if known.is_of_another_kind(&record.name) => Some(Outcome::Taken),
            _ => None,
        };
        if let Some(outcome) = refused {
            return self.step(file, outcome, Step::Nothing);
        }
        let new = merged::client(record, own);
        let text = new.to_text();
        let is_same = own.is_some_and(|own| {
            let own = own.to_text();
            *own == *text || *own == *record.to_text()
        });
        let kept_out = new.disabled != record.disabled;
        self.choose(file, known.has_file(&record.name), is_same, replace, kept_out, text)
    }

    /// What becomes of a file that nothing speaks against.
    fn choose(
        &self,
        file: String,
        is_there: bool,
        is_same: bool,
        replace: bool,
        kept_out: bool,
        text: Zeroizing<String>,
    ) -> Restored {
        let (outcome, step) = match (is_there, is_same) {
            (_, true) => (Outcome::Same, Step::Nothing),
            (false, _) => (Outcome::New, Step::Create(text)),
            _ if !replace => (Outcome::Differs, Step::Nothing),
            _ if kept_out => (Outcome::Disabled, Step::Replace(text)),
            _ => (Outcome::Replaced, Step::Replace(text)),
        };
        self.step(file, outcome, step)
    }

    fn step(&self, file: String, outcome: Outcome, step: Step) -> Restored {
        let path = self.dir().join(&file);
        Restored { file, outcome, path, step }
    }
}

impl Restored {
    fn is_done(&self) -> bool {
        matches!(self.step, Step::Nothing)
    }

    fn write(&self) -> Result<(), StoreError> {
        match &self.step {
            Step::Nothing => {}
            Step::Create(text) => files::create_new(&self.path, text)?,
            Step::Replace(text) => files::write_atomic(&self.path, text)?,
            Step::Remove => files::remove(&self.path)?,
        }
        Ok(())
    }
}

fn there(path: &Path) -> Result<Option<Zeroizing<String>>, StoreError> {
    match files::read_private(path) {
        Err(error) if error.is_missing() => Ok(None),
        read => Ok(Some(read?)),
    }
}
