//! What can go wrong with a private file, and what to do about it.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::os;

/// What went wrong with a file or a directory.
#[derive(Debug)]
pub struct FileError {
    path: PathBuf,
    pub(super) problem: Problem,
}

/// What can go wrong with a file or a directory.
#[derive(Debug)]
pub enum Problem {
    /// The operating system refused.
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// Its answer.
        error: io::Error,
    },
    /// Others have rights to this file.
    LooseFile {
        /// Its permission bits.
        mode: u32,
    },
    /// Others can write to this file, which they may read.
    WritableFile {
        /// Its permission bits.
        mode: u32,
    },
    /// Others can write to this directory.
    LooseDir {
        /// Its permission bits.
        mode: u32,
    },
    /// It is neither ours nor root's.
    Foreign {
        /// Uid of its owner.
        owner: u32,
        /// Our effective uid.
        us: u32,
    },
    /// A directory, a pipe, a device: not a regular file.
    NotRegular,
    /// Something else than a directory.
    NotDir,
    /// Longer than such a file ever is.
    TooLong {
        /// So many bytes at most.
        most: usize,
    },
    /// Not UTF-8.
    NotText,
    /// There is one already.
    Taken,
}

impl FileError {
    pub(crate) fn new(path: &Path, problem: Problem) -> Self {
        Self { path: path.to_owned(), problem }
    }

    /// That the operating system refused what was being done.
    #[must_use]
    pub fn io(path: &Path, doing: &'static str, error: io::Error) -> Self {
        Self::foreign(path, &error).unwrap_or_else(|| Self::new(path, Problem::Io { doing, error }))
    }

    /// Where `error` says that we may not: whether that is because the file, or
    /// the directory that keeps us from it, is somebody else's. Root is kept
    /// out as anybody else, where it has given up its capabilities.
    #[must_use]
    pub fn foreign(path: &Path, error: &io::Error) -> Option<Self> {
        if error.kind() != ErrorKind::PermissionDenied {
            return None;
        }
        let seen = |path: &Path| Some((path.to_owned(), fs::metadata(path).ok()?));
        let (path, metadata) = path.ancestors().find_map(seen)?;
        os::check_owner(&metadata).err().map(|problem| Self::new(&path, problem))
    }

    /// Which file or directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What about it.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.kind() == Some(ErrorKind::NotFound)
    }

    /// Whether the operating system does not let us.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.kind() == Some(ErrorKind::PermissionDenied)
    }

    /// Whether the operating system could not write it.
    #[must_use]
    pub fn is_of_writing(&self) -> bool {
        matches!(self.problem, Problem::Io { doing: "write", .. })
    }

    /// Whether there is one already, which stays as it is.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self.problem, Problem::Taken)
    }

    fn kind(&self) -> Option<ErrorKind> {
        match &self.problem {
            Problem::Io { error, .. } => Some(error.kind()),
            _ => None,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            Problem::Io { doing, error } => write!(f, "cannot {doing} {path}: {error}"),
            Problem::LooseFile { mode } => {
                write!(f, "{path} is open to others (mode {mode:04o}); run: chmod 600 {path}")
            }
            Problem::WritableFile { mode } => {
                write!(
                    f,
                    "{path} can be changed by others (mode {mode:04o}); run: chmod go-w {path}"
                )
            }
            Problem::LooseDir { mode } => {
                write!(
                    f,
                    "{path} can be changed by others (mode {mode:04o}); run: chmod 700 {path}"
                )
            }
            Problem::Foreign { owner, us } => write!(
                f,
                "{path} belongs to uid {owner}, which is neither ours ({us}) nor root's; \
                 run: chown {us} {path}"
            ),
            Problem::NotRegular => write!(f, "{path} is not a regular file"),
            Problem::NotDir => write!(f, "{path} is not a directory"),
            Problem::TooLong { most } => write!(f, "{path} is longer than {most} bytes"),
            Problem::NotText => write!(f, "{path} is not UTF-8 text"),
            Problem::Taken => write!(f, "{path} is there already; it stays as it is"),
        }
    }
}

impl std::error::Error for FileError {}
