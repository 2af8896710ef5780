//! One at a time decides by what is kept: a spad that starts or closes, or who takes out
//! what no running spad sees to.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use spa_keys::files::{FileError, make_private_dir};
use tracing::warn;

const NAME: &str = "turn";
/// Longer than whoever is well holds it.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Whoever has it may decide; it is over when this is dropped, or the process ends.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits for it, ten seconds at most.
    ///
    /// # Errors
    /// Where others do not let go of it, or the file in the run directory cannot be made.
    pub fn wait(run_dir: &Path) -> Result<Self, String> {
        Self::wait_for(run_dir, PATIENCE)
    }

    /// As [`Turn::wait`], for who has to go on whatever comes of it.
    #[must_use]
    pub fn or_without(run_dir: &Path) -> Option<Self> {
        Self::wait(run_dir)
            .inspect_err(|why| warn!(why, "goes on all the same: one may undo what the other does"))
            .ok()
    }

    fn wait_for(run_dir: &Path, patience: Duration) -> Result<Self, String> {
        let path = path(run_dir);
        let failed = |error: io::Error| FileError::io(&path, "lock", error).to_string();
        make_private_dir(run_dir).map_err(|error| error.to_string())?;
        // Whoever can read it could hold it.
        let options = File::options().write(true).create(true).truncate(false).mode(0o600).clone();
        let lock = options.open(&path).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _lock: lock }),
                Err(Errno::WOULDBLOCK) if begun.elapsed() > patience => {
                    return Err(format!(
                        "another spad is starting, or is being disabled, and does not come to an \
                         end: it holds {}",
                        path.display()
                    ));
                }
                Err(Errno::WOULDBLOCK) => sleep(PAUSE),
                Err(error) => return Err(failed(error.into())),
            }
        }
    }
}

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let first = Turn::wait(&run).unwrap();
        assert_eq!(path(&run).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let second = Turn::wait_for(&run, Duration::ZERO);
        assert!(second.is_err_and(|why| why.contains("another spad")));
        drop(first);
        Turn::wait_for(&run, Duration::ZERO).unwrap();
    }
}
