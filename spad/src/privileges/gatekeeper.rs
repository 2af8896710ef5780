//! The gatekeeper may do nothing: it holds what it was given.

use std::io;

use rustix::process::{Signal, set_parent_process_death_signal};

use super::{Identity, become_nobody_more, memory};

/// The first descriptor that is not a standard one.
const FIRST_OTHER: i32 = 3;

/// Gives up everything: identity (unless `None`: a user namespace that has no
/// other), groups, all capability sets, the way to new ones, core dumps.
///
/// The process must have one thread only.
///
/// # Errors
/// Whatever could not be given up: then the caller must not go on.
pub fn drop_all(identity: Option<Identity>) -> io::Result<()> {
    // Where it is not possible, the warden has said so.
    let _ = memory::lock();
    become_nobody_more(identity)?;
    // Changing identity clears it, so it comes last. Between two users the
    // kernel does not send it, since the warden has no CAP_KILL: there, it is
    // the end of the channel that ends a gatekeeper whose warden was killed.
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Closes what whoever started the warden had open without saying that it is
/// not to be inherited. To be called before anything else is opened.
///
/// # Errors
/// Where `/proc` is not there.
pub fn close_inherited() -> io::Result<()> {
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse::<i32>().ok());
    for descriptor in numbers.filter(|number| *number >= FIRST_OTHER) {
        // One of them was the listing itself, which is closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
