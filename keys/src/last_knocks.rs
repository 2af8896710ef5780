//! When each client has last knocked: `DIR/last-knocks`, which the daemon writes
//! now and then, for people to look at. Nothing is decided by it.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use spa_proto::{Kid, Timestamp};

use crate::encoding::from_hex;
use crate::files::{self, FileError};
use crate::{date, store::Store};

/// The longest file that is read, in bytes: of 200 000 clients.
const MAX_LEN: usize = 16 * 1024 * 1024;

const HEADING: &str = "# When each key-id was last let in. Written by spad, a while after.\n";

/// The last accepted knock of each key-id, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastKnocks(HashMap<Kid, Timestamp>);

impl LastKnocks {
    /// When a knock of this key-id was last accepted.
    #[must_use]
    pub fn of(&self, kid: &Kid) -> Option<Timestamp> {
        self.0.get(kid).copied()
    }

    /// A knock was accepted at this time.
    pub fn note(&mut self, kid: Kid, at: Timestamp) {
        let last = self.0.entry(kid).or_default();
        *last = at.max(*last);
    }

    /// Forgets whom nobody knows any more.
    pub fn retain(&mut self, is_known: impl Fn(&Kid) -> bool) {
        self.0.retain(|kid, _| is_known(kid));
    }

    /// Reads what [`Self::to_text`] writes. A line that is anything else says nothing.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (kid, time) = line.split_once(' ')?;
            let kid = from_hex(kid).ok().map(|bytes| Kid::from_bytes(*bytes))?;
            Some((kid, date::parse(time).ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// A line for each.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut lines: Vec<_> = self.0.iter().map(|(kid, time)| (kid.to_string(), *time)).collect();
        lines.sort_unstable();
        let mut text = HEADING.to_owned();
        for (kid, time) in lines {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{kid} {}", date::format(date::to_the_second(time)));
        }
        text
    }

    /// Puts it in place of the file of that name.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        files::write_atomic(path, &self.to_text())
    }
}

impl Store {
    /// Where it is written down who has last knocked when.
    #[must_use]
    pub fn last_knocks_path(&self) -> std::path::PathBuf {
        self.dir().join("last-knocks")
    }

    /// Who has last knocked when. Where that cannot be read, nothing is known.
    #[must_use]
    pub fn last_knocks(&self) -> LastKnocks {
        let text = files::read_private_up_to(&self.last_knocks_path(), MAX_LEN);
        text.map(|text| LastKnocks::parse(&text)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_of_the_rest() {
        let (one, other) = (Kid::from_bytes([1; 16]), Kid::from_bytes([2; 16]));
        let mut knocks = LastKnocks::default();
        knocks.note(one, Timestamp::from_millis(1_800_000_001_500));
        knocks.note(one, Timestamp::from_millis(1_800_000_000_000));
        knocks.note(other, Timestamp::from_millis(1_700_000_000_000));
        let read = LastKnocks::parse(&format!("{}x\n\u{0}\nabc 2026\n", knocks.to_text()));
        assert_eq!(read.of(&one), Some(Timestamp::from_millis(1_800_000_001_000)), "the later");
        assert_eq!(read.0.len(), 2);
        knocks.retain(|kid| *kid == other);
        assert_eq!((knocks.of(&one), knocks.0.len()), (None, 1));
    }
}
