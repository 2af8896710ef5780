//! Who may ask what. Pure.

use std::fmt;

use super::Request;

/// Who has called, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// The login name, where it was looked for and there is one.
    pub login: Option<String>,
    /// What it may do.
    pub rights: Rights,
    /// How often it has been refused a change that it may not make, where this is to be
    /// written down.
    pub refused: Option<u64>,
}

/// What somebody may do, from less to more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rights {
    /// Nothing.
    None,
    /// Ask how things are.
    Read,
    /// Change them too.
    Change,
}

/// Who has which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// User id of the daemon.
    pub own: u32,
    /// The group whose members may ask.
    pub group: Option<u32>,
    /// And whether they may change something.
    pub may_change: bool,
}

impl Access {
    /// Whether it is root, or whoever the daemon runs as: nothing is held back from them.
    #[must_use]
    pub fn is_owner(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own
    }

    /// What a user with this id may do, whose groups are these: the primary one and the
    /// others.
    #[must_use]
    pub fn rights(&self, uid: u32, gid: u32, groups: &[u32]) -> Rights {
        let member = |group: u32| group == gid || groups.contains(&group);
        match self.group {
            _ if self.is_owner(uid) => Rights::Change,
            Some(group) if member(group) && self.may_change => Rights::Change,
            Some(group) if member(group) => Rights::Read,
            _ => Rights::None,
        }
    }
}

impl Request {
    /// What it takes to ask this.
    #[must_use]
    pub fn takes(&self) -> Rights {
        match self {
            Self::Status
            | Self::Grants
            | Self::Rules
            | Self::Sessions
            | Self::Bans
            | Self::Metrics
            | Self::Watch
            | Self::Rates { clear: false, .. } => Rights::Read,
            Self::Revoke { .. }
            | Self::RevokeGrant { .. }
            | Self::Ban { .. }
            | Self::Unban { .. }
            | Self::Rates { clear: true, .. }
            | Self::Reload
            | Self::Enable { .. }
            | Self::Confirm { .. }
            | Self::Disable { .. }
            | Self::Stop { .. } => Rights::Change,
        }
    }

    /// Whether the kernel's tables are read for it, for which knocks have to wait.
    #[must_use]
    pub fn holds_up(&self) -> bool {
        matches!(
            self,
            Self::Status | Self::Rules | Self::Rates { .. } | Self::Metrics | Self::Sessions
        )
    }
}

/// As it is typed.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status => f.write_str("status"),
            Self::Grants => f.write_str("grants"),
            Self::Rules => f.write_str("rules"),
            Self::Sessions => f.write_str("sessions"),
            Self::Revoke { client } => write!(f, "revoke {client}"),
            Self::RevokeGrant { grant } => write!(f, "revoke --grant {grant}"),
            Self::Ban { network, seconds, .. } => {
                write!(f, "ban {network}")?;
                seconds.map_or(Ok(()), |seconds| write!(f, " --for {seconds}s"))
            }
            Self::Unban { network, .. } => write!(f, "unban {network}"),
            Self::Bans => f.write_str("bans"),
            Self::Metrics => f.write_str("metrics"),
            Self::Watch => f.write_str("watch"),
            Self::Rates { service, source, clear } => {
                f.write_str("rates")?;
                service.iter().try_for_each(|service| write!(f, " {service}"))?;
                source.iter().try_for_each(|source| write!(f, " --source {source}"))?;
                f.write_str(if *clear { " --clear" } else { "" })
            }
            Self::Reload => f.write_str("reload"),
            Self::Enable { seconds: None, .. } => f.write_str("enable"),
            Self::Enable { seconds: Some(seconds), .. } => {
                write!(f, "enable --confirm-within {seconds}s")
            }
            Self::Confirm { .. } => f.write_str("confirm"),
            Self::Disable { .. } => f.write_str("disable"),
            Self::Stop { open } => f.write_str(if *open { "stop --open" } else { "stop" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_all_and_a_group_what_it_was_given() {
        let alone = Access { own: 700, group: None, may_change: false };
        let read = Access { group: Some(50), ..alone };
        let change = Access { may_change: true, ..read };
        for (uid, gid, groups, expected) in [
            (0, 0, &[][..], [Rights::Change; 3]),
            (700, 700, &[], [Rights::Change; 3]),
            (1000, 50, &[], [Rights::None, Rights::Read, Rights::Change]),
            (1000, 1000, &[4, 50], [Rights::None, Rights::Read, Rights::Change]),
            (1000, 1000, &[4], [Rights::None; 3]),
            (50, 1000, &[], [Rights::None; 3]),
        ] {
            let given = [alone, read, change].map(|access| access.rights(uid, gid, groups));
            assert_eq!(given, expected, "{uid} {gid} {groups:?}");
        }
    }

    #[test]
    fn what_changes_something_takes_more() {
        let rates = |clear| Request::Rates { service: Some("web".into()), source: None, clear };
        assert_eq!((rates(false).takes(), rates(true).takes()), (Rights::Read, Rights::Change));
        assert_eq!(rates(true).to_string(), "rates web --clear");
        assert_eq!(Request::Stop { open: true }.takes(), Rights::Change);
        assert_eq!(Request::RevokeGrant { grant: 7 }.to_string(), "revoke --grant 7");
        assert_eq!(Request::Status.takes(), Rights::Read);
        assert!(Request::Rules.holds_up() && Request::Sessions.holds_up());
        assert!(!Request::Grants.holds_up());
    }
}
