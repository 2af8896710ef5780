//! What can go wrong between us and the kernel's packet filter, each with what
//! to do about it.

use std::fmt;
use std::io;

/// Why the firewall could not be opened, installed or changed. After any of
/// these nothing is open that was not open before.
#[derive(Debug)]
pub enum FirewallError {
    /// The process may not change the packet filter.
    NoPermission,
    /// The kernel was built without `nf_tables`, or its module is missing.
    NoNfTables(io::Error),
    /// A table of our name exists that spad did not make.
    NotOurs {
        /// What was found in it.
        found: String,
    },
    /// A living process owns the table of our name.
    OwnedByOther {
        /// Netlink port of the owner; for most programs its process id.
        port: u32,
    },
    /// A set has no room for one more element.
    SetFull {
        /// Name of the set.
        set: String,
    },
    /// The kernel refused a part of a transaction, and so all of it.
    Refused {
        /// The table, chain, set or rule that it refused.
        what: String,
        /// Its reason.
        source: io::Error,
    },
    /// The kernel said yes, but holds something else than what was sent.
    ReadBack(Vec<String>),
    /// An address that the ruleset has no set for, or a duration of zero.
    BadElement(String),
    /// A name or comment that the kernel cannot take.
    BadName(String),
    /// The netlink socket failed.
    Netlink {
        /// What was being done.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel's answer could not be understood.
    BadAnswer(String),
    /// Asked to change a ruleset before one was installed.
    NotInstalled,
}

impl fmt::Display for FirewallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPermission => f.write_str(
                "may not change the firewall: CAP_NET_ADMIN is missing; start spad as root or through its unit",
            ),
            Self::NoNfTables(source) => write!(
                f,
                "the kernel has no nf_tables ({source}); load the module nf_tables or use a kernel with CONFIG_NF_TABLES_INET"
            ),
            Self::NotOurs { found } => write!(
                f,
                "table 'inet spad' exists and was not made by spad ({found}); rename it, or remove it with: nft delete table inet spad"
            ),
            Self::OwnedByOther { port } => write!(
                f,
                "table 'inet spad' is owned by a running process (netlink port {port}, as a rule its process id): is another spad running?"
            ),
            Self::SetFull { set } => write!(
                f,
                "set '{set}' is full; what is in it stays. For more grants raise max-grants in [firewall]"
            ),
            Self::Refused { what, source } => write!(f, "the kernel refused {what}: {source}"),
            Self::ReadBack(differences) => write!(
                f,
                "the kernel does not hold the ruleset that was sent: {}",
                differences.join("; ")
            ),
            Self::BadElement(why) => write!(f, "cannot be granted: {why}"),
            Self::BadName(why) => write!(f, "a name in the ruleset is unusable: {why}"),
            Self::Netlink { doing, source } => write!(f, "netlink, {doing}: {source}"),
            Self::BadAnswer(what) => write!(f, "an answer of the kernel was not understood: {what}"),
            Self::NotInstalled => f.write_str("no ruleset is installed yet"),
        }
    }
}

impl std::error::Error for FirewallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoNfTables(source)
            | Self::Refused { source, .. }
            | Self::Netlink { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// How the kernel's table differs from what was installed.
#[derive(Debug)]
pub enum Drift {
    /// Somebody changed or removed something: one line for each difference.
    Changed(Vec<String>),
    /// It could not be read, which counts as changed.
    Unreadable(FirewallError),
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(differences) => {
                write!(f, "table 'inet spad' was changed: {}", differences.join("; "))
            }
            Self::Unreadable(why) => write!(f, "table 'inet spad' could not be read: {why}"),
        }
    }
}

impl std::error::Error for Drift {}
