//! Waiting for something to become true, with a bound.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::lab::{Result, fail};

/// How long an event may take that the programs promise within a second, on a busy machine.
pub const SOON: Duration = Duration::from_secs(3);

/// Pause between two looks.
const STEP: Duration = Duration::from_millis(20);

/// Looks until `condition` holds and returns how long that took; an error after `limit`.
pub fn until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > limit {
            return fail(format!("not within {limit:?}: {what}"));
        }
        sleep(STEP);
    }
    Ok(start.elapsed())
}

/// As [`until`], for what has a value once it is there.
pub fn until_some<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut found = None;
    until(what, limit, || {
        found = look()?;
        Ok(found.is_some())
    })?;
    found.map_or_else(|| fail(format!("lost again: {what}")), Ok)
}
