//! One writer at a time: `DIR/lock`.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::StoreError;
use crate::files::{self, FileError};
use crate::os;

/// Writers hold the lock for milliseconds, a revocation for as long as it looks for copies; who
/// waits longer waits for one that was stopped.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// The right to write, until it is dropped. As long as somebody has it, the file
/// has a length: one that is found with it is of a writer that was killed. That
/// is metadata alone, which a file system writes before what comes after it.
pub(crate) struct WriteLock {
    lock: os::Lock,
}

impl WriteLock {
    pub(crate) fn acquire(dir: &Path) -> Result<Self, StoreError> {
        Self::acquire_within(dir, PATIENCE)
    }

    /// Tries at least once.
    pub(crate) fn acquire_within(dir: &Path, patience: Duration) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let start = Instant::now();
        loop {
            let lock = os::try_lock(&path).map_err(|error| FileError::io(&path, "lock", error))?;
            if let Some(lock) = lock {
                return Self::begin(dir, &path, lock);
            }
            if start.elapsed() >= patience {
                return Err(StoreError::Locked(path));
            }
            sleep(PAUSE);
        }
    }

    /// Marks the file, and clears up after a writer that was killed: only then,
    /// since looking through a directory of 100 000 takes its time.
    fn begin(dir: &Path, path: &Path, lock: os::Lock) -> Result<Self, StoreError> {
        let io = |error| FileError::io(path, "write", error);
        let is_marked = os::locked(&lock).metadata().map_err(io)?.len() > 0;
        if is_marked {
            let dirs = [dir.to_owned(), dir.join("clients"), dir.join("revoked")];
            dirs.iter().try_for_each(|dir| files::sweep(dir))?;
        }
        os::locked(&lock).set_len(1).map_err(io)?;
        Ok(Self { lock })
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        // Where it fails, the next writer looks for what is not there.
        let _ = os::locked(&self.lock).set_len(0);
    }
}
