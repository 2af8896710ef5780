//! A wall clock of its own for some programs of a lab, which can be set while they run.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::{Doing, Result};
use super::preload;

/// In nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// A wall clock. Programs started with [`Clock::words`] before them go by it; their other clocks
/// are the machine's, but for [`Clock::sleep_through`]. It also shows in processes that cannot open files.
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right; its files are in `dir`.
    pub(super) fn new(dir: &Path, number: usize) -> Result<Self> {
        let library = dir.join(format!("clock{number}.so"));
        let file = library.with_extension("offset");
        preload::build("clock.c", &library)?;
        fs::write(&file, [0; 16]).doing("making a clock")?;
        Ok(Self { library, file })
    }

    /// Puts it this many seconds ahead of the machine's clock, or back where negative.
    pub fn set(&self, seconds: i64) -> Result {
        self.write(0, seconds.saturating_mul(SECOND))
    }

    /// As after suspends of so many seconds in all: the wall clock and the clock that goes on in a
    /// suspend are ahead by that, and the one that stands still is not.
    pub fn sleep_through(&self, seconds: i64) -> Result {
        self.write(8, seconds.saturating_mul(SECOND))
    }

    /// Puts it to a moment, as time since 1970.
    pub fn set_to(&self, moment: Duration) -> Result {
        let (moment, now) = (moment.as_nanos(), unix_time()?.as_nanos());
        self.write(0, i64::try_from(moment)? - i64::try_from(now)?)
    }

    fn write(&self, place: u64, nanoseconds: i64) -> Result {
        let file = File::options().write(true).open(&self.file)?;
        // In place, and whole: it is mapped.
        file.write_all_at(&nanoseconds.to_ne_bytes(), place).doing("setting a clock")
    }

    /// What to put before a command; it keeps its process number.
    pub fn words(&self) -> Vec<String> {
        preload::words(&self.library, "SPA_LAB_CLOCK", &self.file)
    }
}

/// What the machine's clock says, as time since 1970.
pub fn unix_time() -> Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).doing("the machine's clock")
}
