//! Hooks may do what their user may, and never more.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

use super::{Identity, become_nobody_more, gatekeeper};

/// How many processes its user can have before a hook can start no more.
const PROCESSES: u64 = 256;
/// What may be locked in memory, in bytes: the kernel's own default, where the
/// warden has no limit.
const LOCKED: u64 = 8 * 1024 * 1024;

/// Gives up everything but the identity of a hook's user: groups, all capabilities
/// and the way to new ones, inherited descriptors, the session, core dumps.
///
/// # Errors
/// Whatever could not be given up: then the caller must not go on.
pub fn drop_all(identity: Identity) -> io::Result<()> {
    gatekeeper::close_inherited()?;
    setsid()?;
    limit(Resource::Memlock, LOCKED)?;
    limit(Resource::Nproc, PROCESSES)?;
    become_nobody_more(Some(identity))
}

/// A lower limit stays.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.map_or(most, |there| there.min(most));
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}
