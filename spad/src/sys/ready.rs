//! Waiting for descriptors in the runtime.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime. It must not block.
///
/// # Errors
/// Outside a runtime, or where the descriptor cannot be polled.
pub fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays the same open descriptor for as long as it
    // lives, and it lives inside the registration.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
