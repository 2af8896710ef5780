//! What the two processes may do. Each gives up all else before it touches
//! anything, in an order in which every step is still allowed, and none can be
//! taken back.

pub mod gatekeeper;
mod memory;
pub mod warden;

use std::io;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

/// As whom to run from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
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
