//! For those who operate the host: where the audit goes, and who may ask.

use nix::unistd::Group;
use tracing::warn;

use crate::audit::Target;
use crate::config::Config;

/// Where the audit is to go.
pub(super) fn audit(config: &Config) -> Target {
    Target { file: config.operations.audit_file.clone(), group: group(config) }
}

/// The number of the group that may ask; `None` where there is none, and then nobody
/// but root may.
pub(super) fn group(config: &Config) -> Option<u32> {
    let name = config.operations.group.as_deref()?;
    if let Ok(Some(group)) = Group::from_name(name) {
        return Some(group.gid.as_raw());
    }
    warn!(
        group = name,
        "no such control-group: root alone may ask; make one with: groupadd {name}"
    );
    None
}
