//! Files with secrets that lose their names: what they held is overwritten, as far as that can
//! be done. Copies that file systems, disks and backups make stay.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::os;

/// A file that is about to be replaced or deleted.
pub(crate) struct Leaving(io::Result<File>);

impl Leaving {
    /// While it still has its name.
    pub(crate) fn open(path: &Path) -> Self {
        Self(File::options().write(true).open(path))
    }

    /// When it has none any more: nobody sees it half overwritten. One that has another, as
    /// behind a link, is somebody's.
    ///
    /// # Errors
    /// Where what it held is still on the disk, and why.
    pub(crate) fn erase(self) -> io::Result<()> {
        let mut file = self.0?;
        let found = file.metadata()?;
        if !os::is_nameless(&found) {
            return Err(io::Error::other("the file has another name as well"));
        }
        io::copy(&mut io::repeat(0).take(found.len()), &mut file)?;
        file.sync_all()
    }
}

/// Deletes a file, and overwrites what it held.
///
/// # Errors
/// Says whether it is deleted.
pub(crate) fn remove(path: &Path) -> Result<(), String> {
    remove_all(&[path])
}

/// The same; that there is none is no error.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), String> {
    if is_there(path) { remove(path) } else { Ok(()) }
}

/// Deletes each of these, and overwrites what it held: several may be names of one file.
///
/// # Errors
/// The first; the others are gone all the same.
pub(crate) fn remove_all(paths: &[impl AsRef<Path>]) -> Result<(), String> {
    let leaving: Vec<_> = paths.iter().map(|path| Leaving::open(path.as_ref())).collect();
    let deleted: Vec<_> = paths.iter().map(fs::remove_file).collect();
    let erased = paths.iter().zip(deleted).zip(leaving).map(|((path, deleted), leaving)| {
        let path = path.as_ref().display();
        deleted.map_err(|error| format!("cannot delete {path}: {error}"))?;
        leaving.erase().map_err(|error| {
            format!("{path} is deleted, but what it held is still on the disk: {error}")
        })
    });
    erased.fold(Ok(()), Result::and)
}

/// Whether there is one, as far as can be told.
pub(crate) fn is_there(path: &Path) -> bool {
    !path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(mut file: &File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_is_removed_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "secret").unwrap();
        let held = File::open(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(left(&held), "\0".repeat(6));
        assert!(remove(&path).unwrap_err().starts_with("cannot delete"));
        remove_if_there(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_file_with_another_name_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let [theirs, hard, soft] = ["theirs", "hard", "soft"].map(|name| dir.path().join(name));
        fs::write(&theirs, "secret").unwrap();
        fs::hard_link(&theirs, &hard).unwrap();
        std::os::unix::fs::symlink(&theirs, &soft).unwrap();
        for path in [hard, soft] {
            let why = remove(&path).unwrap_err();
            assert!(why.contains("is deleted, but") && why.contains("another name"), "{why}");
            assert!(path.symlink_metadata().is_err());
            assert_eq!(fs::read_to_string(&theirs).unwrap(), "secret");
        }
    }
}
