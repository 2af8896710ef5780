//! One writer at a time: `DIR/lock`.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::StoreError;
use crate::files::FileError;
use crate::os;

/// Writers hold the lock for milliseconds; who waits longer waits for one that
/// was stopped.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// The right to write, until it is dropped.
pub(crate) struct WriteLock {
    _lock: os::Lock,
}

impl WriteLock {
    pub(crate) fn acquire(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let lock = os::try_lock(&path).map_err(|error| FileError::io(&path, "lock", error))?;
            if let Some(lock) = lock {
                return Ok(Self { _lock: lock });
            }
            sleep(PAUSE);
        }
        Err(StoreError::Locked(path))
    }
}
