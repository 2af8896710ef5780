//! Who has moved to the server's new keys: `DIR/moved-NAME`, a key-id a line.
//!
//! Whoever is not in it may have moved all the same: the machine may have ended
//! before it was written. The next knock says so again.

use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use spa_proto::Kid;

use crate::encoding::from_hex;
use crate::files::FileError;
use crate::os;

/// The file, which need not be there.
#[derive(Clone, Debug)]
pub struct Moved {
    path: PathBuf,
}

impl Moved {
    pub(crate) fn of(dir: &Path, name: &str) -> Self {
        Self { path: dir.join(format!("moved-{name}")) }
    }

    /// The key-ids in it.
    ///
    /// # Errors
    /// Where it cannot be read, or others could have written it.
    pub fn read(&self) -> Result<HashSet<Kid>, FileError> {
        let io = |error| FileError::io(&self.path, "read", error);
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(HashSet::new()),
            text => text.map_err(io)?,
        };
        let metadata = fs::metadata(&self.path).map_err(io)?;
        os::check_file(&metadata).map_err(|problem| FileError::new(&self.path, problem))?;
        // A line that was torn names nobody.
        let kids = text.lines().filter_map(|line| from_hex(line).ok());
        Ok(kids.map(|kid| Kid::from_bytes(*kid)).collect())
    }

    /// Adds key-ids, and waits for the disk.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add(&self, kids: &[Kid]) -> Result<(), FileError> {
        // In one write, and a torn one before it ends here.
        let lines: String = kids.iter().map(|kid| format!("\n{kid}")).collect();
        let added = os::append(&self.path)
            .and_then(|mut file| file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()));
        added.map_err(|error| FileError::io(&self.path, "write", error))
    }

    pub(crate) fn remove(&self) -> Result<(), FileError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|error| FileError::io(&self.path, "remove", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_what_was_torn_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let moved = Moved::of(dir.path(), "x");
        assert_eq!(moved.read().unwrap(), HashSet::new());
        let [one, two, three] = [1, 2, 3].map(|n| Kid::from_bytes([n; 16]));
        moved.add(&[one, two]).unwrap();
        let text = fs::read_to_string(&moved.path).unwrap();
        fs::write(&moved.path, &text[..text.len() - 3]).unwrap();
        moved.add(&[three, three]).unwrap();
        assert_eq!(moved.read().unwrap(), [one, three].into());
        moved.remove().unwrap();
        moved.remove().unwrap();
        assert_eq!(moved.read().unwrap(), HashSet::new());
    }
}
