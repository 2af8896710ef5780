//! The file in the state directory that keeps bans across a restart of the
//! machine.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spa_keys::files;
use spa_proto::Timestamp;

use super::{Ban, Bans, MOST};
use crate::fields::millis;

const NAME: &str = "bans.json";
const VERSION: u32 = 1;
/// More than the most bans can take, each with the longest reason.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Where bans are kept.
#[derive(Clone, Debug)]
pub struct BanFile {
    path: PathBuf,
}

/// Why the file cannot be used.
#[derive(Debug)]
pub struct BanFileError {
    path: PathBuf,
    what: String,
}

/// The file's text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    version: u32,
    bans: Vec<Entry>,
}

/// One ban in it. Times are those of the wall clock: no other survives a reboot.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    network: String,
    since_ms: u64,
    lasts_ms: Option<u64>,
    why: String,
    by: Option<u32>,
}

impl BanFile {
    /// The one in this directory, whether it is there or not.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(NAME) }
    }

    /// Reads it; no bans where there is no file.
    ///
    /// # Errors
    /// Where it cannot be read, or is not what [`Self::write`] writes.
    pub fn read(&self) -> Result<Bans, BanFileError> {
        let text = match read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bans::default()),
            text => text.map_err(|error| self.fault(error))?,
        };
        let document: Document = serde_json::from_str(&text).map_err(|error| self.fault(error))?;
        if document.version != VERSION {
            return Err(self.fault(format!("version {} is not known", document.version)));
        }
        let mut bans = Bans::default();
        for entry in document.bans {
            bans.put(entry.ban().map_err(|what| self.fault(what))?);
        }
        if bans.len() > MOST { Err(self.fault("too many bans")) } else { Ok(bans) }
    }

    /// Puts these bans in its place: after a crash there is the old file or the
    /// new one, whole.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn write(&self, bans: &Bans) -> Result<(), BanFileError> {
        let bans = bans.iter().map(Entry::of).collect();
        let text = serde_json::to_string_pretty(&Document { version: VERSION, bans });
        let text = text.map_err(|error| self.fault(error))?;
        files::write_atomic(&self.path, &text).map_err(|error| self.fault(error))
    }

    /// What to say of this file.
    pub(crate) fn fault(&self, what: impl ToString) -> BanFileError {
        BanFileError { path: self.path.clone(), what: what.to_string() }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

impl Entry {
    fn of(ban: &Ban) -> Self {
        Self {
            network: ban.network.to_string(),
            since_ms: ban.since.as_millis(),
            lasts_ms: ban.lasts.map(millis),
            why: ban.why.clone(),
            by: ban.by,
        }
    }

    fn ban(self) -> Result<Ban, String> {
        Ok(Ban {
            network: spa_keys::cidr::parse(&self.network).map_err(|error| error.to_string())?,
            since: Timestamp::from_millis(self.since_ms),
            lasts: self.lasts_ms.map(Duration::from_millis),
            why: self.why,
            by: self.by,
        })
    }
}

impl fmt::Display for BanFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the list of bans, {}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for BanFileError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn bans() -> Bans {
        let mut bans = Bans::default();
        for (network, lasts, why) in [
            ("192.0.2.0/24", None, ""),
            ("2001:db8::1", Some(Duration::from_secs(3600)), "\"guessing\"\n of names"),
        ] {
            let network = spa_keys::cidr::parse(network).unwrap();
            let since = Timestamp::from_millis(1_800_000_000_123);
            bans.put(Ban { network, since, lasts, why: why.into(), by: Some(1000) });
        }
        bans
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = BanFile::new(dir.path());
        assert_eq!(file.read().unwrap(), Bans::default(), "no file, no bans");
        for bans in [bans(), Bans::default()] {
            file.write(&bans).unwrap();
            assert_eq!(file.read().unwrap(), bans);
        }
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = BanFile::new(dir.path());
        file.write(&bans()).unwrap();
        let sound = std::fs::read_to_string(&file.path).unwrap();
        for broken in [
            "",
            "{}",
            &sound[..sound.len() / 2],
            &sound.replace("\"version\": 1", "\"version\": 2"),
            &sound.replace("192.0.2.0/24", "192.0.2.1/24"),
            &sound.replace("192.0.2.0/24", "host.example"),
            &sound.replace("\"by\"", "\"bye\""),
        ] {
            std::fs::write(&file.path, broken).unwrap();
            let error = file.read().expect_err(broken).to_string();
            assert!(error.contains("bans.json"), "{error}");
        }
    }
}
