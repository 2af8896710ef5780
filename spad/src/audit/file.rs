//! The audit in a file: lines of JSON, added at the end.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::kept;
use crate::privileges::warden::as_group;

/// What its group may do, and others may not: read.
const MODE: u32 = 0o640;

/// A file that is opened when there is something to write, and again when somebody
/// has moved it away: `logrotate` needs no signal.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    /// The group that it is for; `None` for that of the process.
    group: Option<u32>,
    open: Option<File>,
    /// Whether the last line may be there in part.
    torn: bool,
}

impl AuditFile {
    pub(super) fn new(path: PathBuf, group: Option<u32>) -> Self {
        Self { path, group, open: None, torn: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let end: &[u8] = if self.torn { b"\n" } else { b"" };
        let mut file = self.current()?;
        let written = file.write_all(end).and_then(|()| file.write_all(lines));
        self.torn = written.is_err();
        written
    }

    /// The file of that name as it is now, made where there is none.
    fn current(&mut self) -> io::Result<&File> {
        let there = std::fs::symlink_metadata(&self.path).ok();
        let there = there.map(|metadata| (metadata.dev(), metadata.ino()));
        let held = self.open.as_ref().and_then(|file| file.metadata().ok());
        let held = held.map(|metadata| (metadata.dev(), metadata.ino()));
        let file = match self.open.take() {
            Some(file) if held == there => file,
            _ => open(&self.path, self.group)?,
        };
        Ok(self.open.insert(file))
    }
}

fn open(path: &Path, group: Option<u32>) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let open = || {
        let mut options = OpenOptions::new();
        options.append(true).mode(MODE).custom_flags(flags);
        match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
            // The process's mask has taken the group's right away.
            made => made.and_then(|file| {
                file.set_permissions(Permissions::from_mode(MODE))?;
                Ok(file)
            }),
        }
    };
    let file = match group {
        Some(group) => as_group(group, open)??,
        None => open()?,
    };
    let metadata = file.metadata()?;
    let fault = match () {
        () if !metadata.is_file() => "it is no regular file",
        () if metadata.nlink() != 1 => "it has other names (hard links)",
        () if !kept::is_ours_alone(&metadata) => "others can write to it",
        () => return Ok(file),
    };
    Err(io::Error::other(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let mut file = AuditFile::new(path.clone(), None);
        file.write(b"one\n").unwrap();
        let mode = std::fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, MODE);
        let moved = dir.path().join("audit.jsonl.1");
        std::fs::rename(&path, &moved).unwrap();
        file.write(b"two\n").unwrap();
        drop(file);
        AuditFile::new(path.clone(), None).write(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(moved).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\nthree\n");
    }

    #[test]
    fn neither_a_link_nor_a_pipe_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(AuditFile::new(path.clone(), None).write(b"line\n").is_err());
        std::fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(AuditFile::new(path, None).write(b"line\n").is_err());
    }

    #[test]
    fn what_others_have_made_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let write = || AuditFile::new(path.clone(), None).write(b"line\n");
        write().unwrap();
        let other = dir.path().join("other");
        std::fs::hard_link(&path, &other).unwrap();
        assert!(write().unwrap_err().to_string().contains("hard links"));
        std::fs::remove_file(&other).unwrap();
        write().unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
        assert!(write().unwrap_err().to_string().contains("others can write"));
        std::fs::set_permissions(&path, Permissions::from_mode(MODE)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
            assert!(write().unwrap_err().to_string().contains("others can write"));
        }
    }
}
