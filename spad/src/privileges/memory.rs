//! Keys stay out of the swap space.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const UNLIMITED: Rlimit = Rlimit { current: None, maximum: None };

/// Lifts the limit on locked memory, where this process may.
///
/// # Errors
/// Where it may not: that takes `CAP_SYS_RESOURCE`.
pub(super) fn lift_limit() -> io::Result<()> {
    Ok(setrlimit(Resource::Memlock, UNLIMITED)?)
}

/// Locks all memory, now and later, as it comes into use. Under a limit
/// nothing is locked: every allocation beyond it would fail, the next key's too.
///
/// # Errors
/// Under a limit, or where the kernel does not lock.
pub(super) fn lock() -> io::Result<()> {
    if getrlimit(Resource::Memlock) != UNLIMITED {
        return Err(io::Error::other("the limit on locked memory (RLIMIT_MEMLOCK) is finite"));
    }
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}
