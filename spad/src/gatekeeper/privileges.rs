//! Giving up privileges: everything, in an order in which each step is still
//! allowed, and none can be taken back.

use std::io;

use rustix::fs::Gid;
use rustix::process::Uid;
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// As whom to run from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Gives up everything: identity (unless `None`: a user namespace that has no
/// other), groups, all capability sets, the way to new ones, core dumps.
///
/// The process must have one thread only, and ends when its parent does.
///
/// # Errors
/// Whatever could not be given up: then the caller must not go on.
pub fn drop_all(identity: Option<Identity>) -> io::Result<()> {
    drop_bounding_set()?;
    clear_ambient_capability_set()?;
    if let Some(Identity { uid, gid }) = identity {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Changing identity clears it, so it comes last.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    std::env::set_current_dir("/")
}

/// Capabilities that this kernel does not know are not in the set either.
fn drop_bounding_set() -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
