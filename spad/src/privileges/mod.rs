//! What the two processes may do. Each gives up all else before it touches
//! anything, in an order in which every step is still allowed, and none can be
//! taken back.

pub mod gatekeeper;
pub mod hook;
mod memory;
pub mod warden;

use std::io;

use rustix::fs::{Gid, Mode};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Uid, set_dumpable_behavior, setrlimit, umask,
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

/// Becomes `identity` (unless `None`: a user namespace that has no other) for good:
/// without groups, capability sets and the way to new ones, and keeps to itself.
///
/// The process must have one thread only.
fn become_nobody_more(identity: Option<Identity>) -> io::Result<()> {
    bound_to(CapabilitySet::empty())?;
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
    keep_to_itself()
}

/// Sees to it that what this process knows stays in it: no core file, no
/// debugger of the same user, no file that others can read.
fn keep_to_itself() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}

/// Takes all but these out of the bounding set. Capabilities that this kernel
/// does not know are not in it either.
fn bound_to(kept: CapabilitySet) -> io::Result<()> {
    for capability in CapabilitySet::all().difference(kept).iter() {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
