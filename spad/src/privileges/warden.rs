//! The warden may do five things beyond what any program may, and it becomes
//! nobody else for longer than one system call.

use std::fmt;
use std::io;

use rustix::process::{Gid, Uid, getegid, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs, set_thread_res_gid, set_thread_res_uid,
};
use tracing::warn;

use super::{bound_to, keep_to_itself, memory};

/// What the warden keeps: the capability, its name, and what it is for.
const KEPT: [(CapabilitySet, &str, &str); 5] = [
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN", "change the firewall"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW", "open packet sockets"),
    (CapabilitySet::SETUID, "CAP_SETUID", "make the gatekeeper another user, and end it"),
    (CapabilitySet::SETGID, "CAP_SETGID", "take the gatekeeper out of all groups"),
    (CapabilitySet::SETPCAP, "CAP_SETPCAP", "take capabilities away for good"),
];

/// Capabilities that the warden needs and was not given.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing(CapabilitySet);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (capability, name, purpose) in KEPT {
            if self.0.contains(capability) {
                write!(f, "{name} is missing, needed to {purpose}; ")?;
            }
        }
        f.write_str("start spad as root, and let it have these")
    }
}

impl std::error::Error for Missing {}

/// Gives up all but the five capabilities and locks the memory.
///
/// The process must have one thread only: those that come later have no more
/// than this one.
///
/// # Errors
/// Whatever could not be given up: then the caller must not go on.
pub fn narrow() -> io::Result<()> {
    if let Err(error) = memory::lift_limit().and(memory::lock()) {
        warn!(%error, "keys may be written to swap space: run spad with LimitMEMLOCK=infinity");
    }
    let permitted = capabilities(None)?.permitted;
    // Without it the start fails once everything is shut: see `expect_all`.
    if permitted.contains(CapabilitySet::SETPCAP) {
        bound_to(kept())?;
    }
    clear_ambient_capability_set()?;
    let some = permitted.intersection(kept());
    let sets =
        CapabilitySets { effective: some, permitted: some, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)?;
    // The gatekeeper is executed with what this process has, and gains nothing.
    set_no_new_privs(true)?;
    keep_to_itself()
}

/// Makes sure that all five capabilities are there.
///
/// # Errors
/// [`Missing`], by name and purpose.
pub fn expect_all() -> Result<(), Missing> {
    let permitted = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    let missing = kept().difference(permitted);
    if missing.is_empty() { Ok(()) } else { Err(Missing(missing)) }
}

fn kept() -> CapabilitySet {
    KEPT.iter().fold(CapabilitySet::empty(), |all, (capability, ..)| all.union(*capability))
}

/// The names of these, as far as spad has a use for them; others by their numbers.
pub(crate) fn names(held: CapabilitySet) -> Vec<String> {
    let known = KEPT.iter().filter(|(capability, ..)| held.contains(*capability));
    let known = known.map(|(_, name, _)| (*name).to_owned());
    let others = held.difference(kept()).iter().map(|other| format!("{:#x}", other.bits()));
    known.chain(others).collect()
}

/// Does something with `uid` as the real user id: whom one may send signals to
/// without `CAP_KILL` depends on it. Effective user and capabilities stay.
/// Meanwhile processes of that user may send signals to this thread; which is
/// why this is for the gatekeeper alone, whose system calls are filtered.
///
/// # Errors
/// Where the id cannot be taken; `act` is not called then.
pub(crate) fn as_real_user<T>(uid: u32, act: impl FnOnce() -> T) -> io::Result<T> {
    let own = getuid();
    set_thread_res_uid(Uid::from_raw(uid), None, None)?;
    let done = act();
    if set_thread_res_uid(own, None, None).is_err() {
        // It could be ended by the gatekeeper's user: better now than later.
        std::process::abort();
    }
    Ok(done)
}

/// Does something as a member of this group: what this thread makes meanwhile
/// belongs to it. User and capabilities stay.
///
/// # Errors
/// Where the group cannot be taken; `act` is not called then.
pub(crate) fn as_group<T>(gid: u32, act: impl FnOnce() -> T) -> io::Result<T> {
    let own = getegid();
    if own.as_raw() == gid {
        return Ok(act());
    }
    set_thread_res_gid(None, Gid::from_raw(gid), None)?;
    let done = act();
    if set_thread_res_gid(None, own, None).is_err() {
        // What it makes from now on would be for others to read.
        std::process::abort();
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn says_what_is_missing_and_what_it_is_for() {
        let said = Missing(CapabilitySet::NET_RAW | CapabilitySet::SETPCAP).to_string();
        assert!(said.starts_with("CAP_NET_RAW is missing, needed to open packet sockets; "));
        assert!(said.contains("CAP_SETPCAP") && !said.contains("CAP_SETUID"), "{said}");
    }

    #[test]
    fn the_unit_and_the_profile_give_the_five_and_no_other() {
        let kept: BTreeSet<_> = KEPT.iter().map(|(_, name, _)| (*name).to_owned()).collect();
        let unit = include_str!("../../../packaging/systemd/spad.service");
        let given = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let given = given.unwrap_or_default().split(' ').map(str::to_owned);
        assert_eq!(given.collect::<BTreeSet<_>>(), kept);
        let profile = include_str!("../../../packaging/apparmor/spad");
        let allowed = profile.lines().filter_map(|line| line.trim().strip_prefix("capability "));
        let allowed =
            allowed.map(|name| format!("CAP_{}", name.trim_end_matches(',').to_uppercase()));
        assert_eq!(allowed.collect::<BTreeSet<_>>(), kept);
    }
}
