//! The server's own keys are replaced by others, with an overlap (protocol §3.4).

use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use spa_proto::{Cloak, Kid, ServerPublic, ServerSecret, Timestamp};

use super::{ServerIdentity, missing, path_in};
use crate::date;
use crate::encoding::to_base64;
use crate::error::StoreError;
use crate::field;
use crate::files;
use crate::lock::WriteLock;
use crate::moved::Moved;
use crate::random;
use crate::record::ClientRecord;

/// Whose keys, in what people read.
const SERVER: &str = "the server";

/// What a server had before its keys were replaced.
#[derive(Clone)]
pub struct FormerIdentity {
    /// Private key; that of now, where only the cloak was replaced.
    pub secret: ServerSecret,
    /// What hid pseudonyms; that of now, where only the key was replaced.
    pub cloak: Cloak,
    /// Since when there are others.
    pub began: Timestamp,
    /// Up to when these work.
    pub until: Timestamp,
}

/// What of a server's keys is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplacedServer {
    /// The X25519 key.
    Key,
    /// The cloak.
    Cloak,
}

/// In the file, in the order in which it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct FormerInFile {
    #[serde(deserialize_with = "field::required")]
    began: Timestamp,
    #[serde(deserialize_with = "field::required")]
    until: Timestamp,
    #[serde(deserialize_with = "field::required")]
    secret_key: ServerSecret,
    #[serde(deserialize_with = "field::required")]
    cloak: Cloak,
}

impl From<FormerInFile> for FormerIdentity {
    fn from(FormerInFile { began, until, secret_key, cloak }: FormerInFile) -> Self {
        Self { secret: secret_key, cloak, began, until }
    }
}

impl FormerIdentity {
    /// Whether a client has not moved to the keys of now, whose key-ids are known that
    /// have: made before those keys were, it may not have them.
    #[must_use]
    pub fn keeps(&self, record: &ClientRecord, moved: &HashSet<Kid>) -> bool {
        record.created <= self.began && !record.kids().any(|kid| moved.contains(&kid))
    }

    pub(super) fn write(&self, text: &mut String) {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n# What it had before, while that still works: spa-keys rotate --status\n\
             [former]\n\
             began = {}\n\
             until = {}\n\
             secret-key = \"{}\"\n\
             cloak = \"{}\"\n",
            date::format(self.began),
            date::format(self.until),
            *to_base64(self.secret.expose().as_slice()),
            *to_base64(self.cloak.expose()),
        );
    }
}

impl ServerIdentity {
    /// Replaces one of the server's keys in the file in `dir`. The former ones work
    /// for as long as `overlap` beside it.
    ///
    /// # Errors
    /// [`StoreError::Overlap`] where one is being replaced already, or what is wrong
    /// with the file.
    pub fn rotate(
        dir: &Path,
        replaced: ReplacedServer,
        overlap: Duration,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let _lock = WriteLock::acquire(dir)?;
        let before = Self::in_file(dir)?;
        if let Some(former) = before.former {
            return Err(StoreError::Overlap { of: SERVER.to_owned(), until: former.until });
        }
        let began = Timestamp::from_millis(now.as_millis() / 1000 * 1000);
        let (first, mut identity) = (before.memory_key(), before);
        let (secret, cloak) = (identity.secret.clone(), identity.cloak.clone());
        match replaced {
            ReplacedServer::Key => {
                identity.secret = ServerSecret::from_bytes(*random::bytes()?);
                identity.first = Some(first);
            }
            ReplacedServer::Cloak => identity.cloak = Cloak::from_bytes(*random::bytes()?),
        }
        let until = began.plus(overlap);
        identity.former = Some(FormerIdentity { secret, cloak, began, until });
        identity.write_again(dir)?;
        Ok(identity)
    }

    /// Ends the overlap: from now on only the new keys work. With `until`, only if it is
    /// the one that was to last up to then.
    ///
    /// # Errors
    /// [`StoreError::NoOverlap`], or what is wrong with the file.
    pub fn finish(dir: &Path, until: Option<Timestamp>) -> Result<Self, StoreError> {
        let _lock = WriteLock::acquire(dir)?;
        let mut identity = Self::in_file(dir)?;
        let marks = identity.moved(dir);
        let former = identity.former.take();
        former
            .filter(|former| until.is_none_or(|until| former.until == until))
            .ok_or_else(no_overlap)?;
        identity.write_again(dir)?;
        marks.map_or(Ok(()), |marks| marks.remove())?;
        Ok(identity)
    }

    /// Ends it the other way: the new keys are gone, and those from before stay.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn abort(dir: &Path) -> Result<Self, StoreError> {
        let _lock = WriteLock::acquire(dir)?;
        let mut identity = Self::in_file(dir)?;
        let marks = identity.moved(dir);
        let FormerIdentity { secret, cloak, .. } = identity.former.take().ok_or_else(no_overlap)?;
        identity.first = identity.first.filter(|first| *first != secret.public());
        (identity.secret, identity.cloak) = (secret, cloak);
        identity.write_again(dir)?;
        marks.map_or(Ok(()), |marks| marks.remove())?;
        Ok(identity)
    }

    /// The public key that the server had first: under it the daemon keeps its memory
    /// of what was used, which is to know old keys and new ones (protocol §7).
    #[must_use]
    pub fn memory_key(&self) -> ServerPublic {
        self.first.unwrap_or_else(|| self.secret.public())
    }

    /// Where it is written who has moved to the keys of now, while that matters.
    #[must_use]
    pub fn moved(&self, dir: &Path) -> Option<Moved> {
        self.former.as_ref()?;
        Some(Moved::of(dir, &self.name()))
    }

    /// A name for these very keys, which gives nothing of the cloak away.
    fn name(&self) -> String {
        let hash = Sha256::new()
            .chain_update(b"spa1 moved\0")
            .chain_update(self.secret.public().as_bytes())
            .chain_update(self.cloak.expose())
            .finalize();
        hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What is in the file, whatever credentials there are: that is what is written.
    fn in_file(dir: &Path) -> Result<Self, StoreError> {
        let path: PathBuf = path_in(dir);
        let text = files::read_private(&path).map_err(|error| missing(dir, error))?;
        Ok(Self::parse(&path, &text)?)
    }

    fn write_again(&self, dir: &Path) -> Result<(), StoreError> {
        Ok(files::write_atomic(&path_in(dir), &self.to_text())?)
    }
}

fn no_overlap() -> StoreError {
    StoreError::NoOverlap(SERVER.to_owned())
}
