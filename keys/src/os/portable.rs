//! Where there are no Unix modes: Windows, for the client.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

use crate::files::Problem;

/// There is none.
pub(crate) enum Lock {}

/// The terminal is put right by the system.
pub(crate) fn uninterrupted<T>(ask: impl FnOnce() -> T) -> T {
    ask()
}

pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

pub(crate) fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

pub(crate) fn check_file(_: &Metadata) -> Result<(), Problem> {
    Ok(())
}

pub(crate) fn check_writers(_: &Metadata) -> Result<(), Problem> {
    Ok(())
}

pub(crate) fn check_owner(_: &Metadata) -> Result<(), Problem> {
    Ok(())
}

/// A directory cannot be opened to be flushed here.
pub(crate) fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Servers run on Unix only, and so do the programs that write their stores.
pub(crate) fn try_lock(_: &Path) -> io::Result<Option<Lock>> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn locked(lock: &Lock) -> &File {
    match *lock {}
}

pub(crate) fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// Nothing here.
pub(crate) fn keep_to_itself() {}
