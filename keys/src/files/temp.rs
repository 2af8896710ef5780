//! A file that is not yet what it is going to be.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{FileError, Problem, parent};
use crate::{os, random};

const SUFFIX: &str = ".tmp";

/// A temporary file beside the one that it is for, on the disk as a whole.
/// Removed when dropped.
pub(super) struct Temp {
    path: PathBuf,
    moved: bool,
}

impl Temp {
    /// Writes `bytes` to a temporary file for `target`.
    pub(super) fn write(target: &Path, bytes: &[u8]) -> Result<Self, FileError> {
        let io = |error| FileError::io(target, "write", error);
        let path = beside(target).map_err(io)?;
        let mut file = os::create(&path).map_err(io)?;
        let temp = Self { path, moved: false };
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)?;
        Ok(temp)
    }

    /// Takes the place of whatever is there.
    pub(super) fn replace(mut self, target: &Path) -> Result<(), FileError> {
        fs::rename(&self.path, target).map_err(|error| FileError::io(target, "replace", error))?;
        self.moved = true;
        Ok(())
    }

    /// Takes its place if nothing is there: unlike a rename, a link never replaces.
    pub(super) fn become_new(self, target: &Path) -> Result<(), FileError> {
        fs::hard_link(&self.path, target).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => FileError::new(target, Problem::Taken),
            _ => FileError::io(target, "make", error),
        })
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.moved {
            // Nothing can be done about it here.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `.NAME.RANDOM.tmp` in the same directory.
fn beside(target: &Path) -> io::Result<PathBuf> {
    let name = target.file_name().ok_or(ErrorKind::InvalidInput)?;
    let random = u64::from_ne_bytes(*random::bytes().map_err(io::Error::other)?);
    Ok(parent(target).join(format!(".{}.{random:016x}{SUFFIX}", name.display())))
}

/// Whether [`beside`] makes such names for this target.
pub(super) fn is_temp_of(target: &Path, name: &OsStr) -> bool {
    let parts = || name.to_str()?.strip_prefix('.')?.strip_suffix(SUFFIX)?.rsplit_once('.');
    parts().is_some_and(|(of, random)| {
        target.file_name() == Some(OsStr::new(of))
            && random.len() == 16
            && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Whether [`beside`] makes such names.
pub(super) fn is_temp(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(SUFFIX))
}
