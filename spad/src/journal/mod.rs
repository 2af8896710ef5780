//! What the daemon must not forget: which knocks were used, and who holds which
//! grant (protocol §7).
//!
//! Two files. The *journal* lives in the run directory, on a tmpfs: it is
//! written before each grant without waiting for a disk, survives the death of
//! the process and dies with the machine (rule R2). The *lease* lives in the
//! state directory, on a disk: it bounds what can have been used when the
//! journal is gone (rules R3 and R4).

mod file;
mod found;
mod lease;
mod record;

pub use file::{Journal, Snapshot, past, past_len};
pub use found::Found;
pub use lease::LeaseFile;
pub use record::Record;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Identity of one run of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId([u8; 16]);

impl BootId {
    /// Of the machine as it runs now.
    ///
    /// # Errors
    /// Where `/proc` is not there.
    pub fn current() -> Result<Self, JournalError> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let text = std::fs::read_to_string(path)
            .map_err(|error| JournalError::new("read", path, error))?;
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let id = u128::from_str_radix(&digits, 16);
        let odd = |_| JournalError::new("understand", path, io::ErrorKind::InvalidData.into());
        id.map(|id| Self(id.to_be_bytes())).map_err(odd)
    }
}

/// Why journal or lease cannot be used.
#[derive(Debug)]
pub struct JournalError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl JournalError {
    pub(crate) fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self { doing, path: path.to_owned(), source }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { doing, path, source } = self;
        write!(f, "cannot {doing} {}: {source}", path.display())
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
