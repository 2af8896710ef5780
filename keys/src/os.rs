//! What depends on the operating system: modes, owners, locks, the host's name.
//!
//! Elsewhere than on Unix there are no modes to check: a file is as private as
//! the directory it is in, which is the profile of its user.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::*;

#[cfg(not(unix))]
mod portable;
#[cfg(not(unix))]
pub(crate) use portable::*;
