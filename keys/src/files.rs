//! Private files: read only if they are private, written whole or not at all.

mod error;
mod temp;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::os;
pub use error::{FileError, Problem};
use temp::Temp;

/// The longest file that [`read_private`] reads, in bytes.
pub const MAX_LEN: usize = 64 * 1024;

/// Reads a file that nobody else may read.
///
/// # Errors
/// [`FileError`] where others have any right to it, its owner is neither we nor
/// root, it is no regular file, longer than 64 KiB, or not UTF-8.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, FileError> {
    read_private_up_to(path, MAX_LEN)
}

/// As [`read_private`], for files of up to so many bytes.
///
/// # Errors
/// As [`read_private`].
pub fn read_private_up_to(path: &Path, most: usize) -> Result<Zeroizing<String>, FileError> {
    read_regular(path, most, os::check_file)
}

/// Reads a file that says what we do: others may read it.
///
/// # Errors
/// [`FileError`] where others can write to it; else as [`read_private`].
pub fn read_trusted(path: &Path) -> Result<Zeroizing<String>, FileError> {
    read_regular(path, MAX_LEN, os::check_writers)
}

/// Reads a file that others may read, and write to: it may say anything.
///
/// # Errors
/// [`FileError`]: missing, not a regular file, too long or not text.
pub(crate) fn read_shared_up_to(path: &Path, most: usize) -> Result<Zeroizing<String>, FileError> {
    read_regular(path, most, |_| Ok(()))
}

/// Reads a file of which this is true; a pipe, say, would have to be waited for.
fn read_regular(
    path: &Path,
    most: usize,
    check: impl Fn(&Metadata) -> Result<(), Problem>,
) -> Result<Zeroizing<String>, FileError> {
    let io = |error| FileError::io(path, "read", error);
    let file = os::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(FileError::new(path, Problem::NotRegular));
    }
    check(&metadata).map_err(|problem| FileError::new(path, problem))?;
    let bytes = read_bounded(file, metadata.len(), most).map_err(io)?;
    text(&bytes, most).map_err(|problem| FileError::new(path, problem))
}

/// Reads one byte more than allowed at most, into memory that is large enough
/// from the start: growing would leave copies of secrets behind.
pub(crate) fn read_bounded(file: File, len: u64, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let len = usize::try_from(len).unwrap_or(most).min(most);
    let mut bytes = Zeroizing::new(Vec::with_capacity(len + 1));
    let limit = u64::try_from(most.saturating_add(1)).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// As text, if that is what it is.
pub(crate) fn text(bytes: &[u8], most: usize) -> Result<Zeroizing<String>, Problem> {
    if bytes.len() > most {
        return Err(Problem::TooLong { most });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::NotText)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Puts a file of mode 0600 in place of whatever was there: after a crash there
/// is the old one or the new one, whole.
///
/// # Errors
/// [`FileError`]; except where only the very last step failed, flushing the
/// directory, what was there is still there.
pub fn write_atomic(path: &Path, text: &str) -> Result<(), FileError> {
    Temp::write(path, text.as_bytes())?.replace(path)?;
    sync_parent(path)
}

/// Makes a file of mode 0600 where there is none: after a crash it is there
/// whole, or not at all.
///
/// # Errors
/// [`FileError`]; see [`FileError::is_taken`].
pub fn create_new(path: &Path, text: &str) -> Result<(), FileError> {
    create_new_bytes(path, text.as_bytes())
}

/// The same with what is no text.
///
/// # Errors
/// As [`create_new`].
pub fn create_new_bytes(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    Temp::write(path, bytes)?.become_new(path)?;
    sync_parent(path)
}

/// Removes a file, durably.
///
/// # Errors
/// [`FileError`]; see [`FileError::is_missing`].
pub fn remove(path: &Path) -> Result<(), FileError> {
    fs::remove_file(path).map_err(|error| FileError::io(path, "remove", error))?;
    sync_parent(path)
}

/// The temporary files for `target` that are there now: of who is writing it, or was killed
/// meanwhile. They hold what it was to hold.
///
/// # Errors
/// [`FileError`], where its directory is there and cannot be read.
pub fn unfinished(target: &Path) -> Result<Vec<PathBuf>, FileError> {
    let dir = parent(target);
    match listed(dir, |name| temp::is_temp_of(target, name)) {
        Err(error) if error.is_missing() => Ok(Vec::new()),
        names => Ok(names?.into_iter().map(|name| dir.join(name)).collect()),
    }
}

/// Removes what crashes have left behind in a directory: temporary files, which
/// may hold secrets. To be called only while nobody else writes there.
pub(crate) fn sweep(dir: &Path) -> Result<(), FileError> {
    for name in names(dir, temp::is_temp)? {
        let path = dir.join(name);
        fs::remove_file(&path).map_err(|error| FileError::io(&path, "remove", error))?;
    }
    Ok(())
}

/// The names of what is wanted of a private directory, in no order; none where
/// there is no such directory.
pub(crate) fn names(
    dir: &Path,
    is_wanted: impl Fn(&OsStr) -> bool,
) -> Result<Vec<OsString>, FileError> {
    match check_private_dir(dir) {
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        checked => checked?,
    }
    listed(dir, is_wanted)
}

fn listed(dir: &Path, is_wanted: impl Fn(&OsStr) -> bool) -> Result<Vec<OsString>, FileError> {
    let names = fs::read_dir(dir).and_then(|entries| {
        let names = entries.map(|entry| Ok(entry?.file_name()));
        names.filter(|name| name.as_ref().map_or(true, |name| is_wanted(name))).collect()
    });
    names.map_err(|error| FileError::io(dir, "read", error))
}

/// Makes a directory of mode 0700 and those above it that are missing.
///
/// # Errors
/// [`FileError`], also where there is one that others can write to, or that is
/// neither ours nor root's.
pub fn make_private_dir(path: &Path) -> Result<(), FileError> {
    let missing: Vec<_> = path
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && fs::metadata(dir).is_err())
        .collect();
    missing.into_iter().rev().try_for_each(make_dir)?;
    check_private_dir(path)
}

fn make_dir(path: &Path) -> Result<(), FileError> {
    match os::create_dir(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(FileError::io(path, "make directory", error)),
    }
}

/// Refuses a directory in which others can write; see [`make_private_dir`].
pub(crate) fn check_private_dir(path: &Path) -> Result<(), FileError> {
    let metadata = fs::metadata(path).map_err(|error| FileError::io(path, "look at", error))?;
    if !metadata.is_dir() {
        return Err(FileError::new(path, Problem::NotDir));
    }
    os::check_writers(&metadata).map_err(|problem| FileError::new(path, problem))
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let dir = parent(path);
    os::sync_dir(dir).map_err(|error| FileError::io(dir, "flush", error))
}

/// The directory that `path` is in, also where it is named by its last part alone.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
