//! Why mode `attach` cannot do its work, each with what to do about it.

use super::name::ChainName;
use crate::firewall::error::FirewallError;
use std::fmt;

/// Why our rule is not in every chain that it should be in.
#[derive(Debug)]
pub enum AttachError {
    /// There is no such base chain.
    Missing {
        /// The one that is named.
        chain: ChainName,
        /// Those that there are, on the way to this host or through it.
        there: Vec<ChainName>,
    },
    /// It is called before our mark is set, so that the mark has no effect.
    TooEarly {
        /// The one that is named.
        chain: ChainName,
        /// Its priority.
        priority: i32,
    },
    /// A living process owns its table.
    Owned {
        /// The one that is named.
        chain: ChainName,
        /// Netlink port of the owner; for most programs its process id.
        port: u32,
    },
    /// The kernel did not do it.
    Firewall(FirewallError),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { chain, there } => write!(
                f,
                "there is no base chain '{chain}'; there {}: load that ruleset first, or name others",
                listed(there)
            ),
            Self::TooEarly { chain, priority } => write!(
                f,
                "chain '{chain}' has priority {priority}, and is called before spad marks what is granted: its priority must be over -150"
            ),
            Self::Owned { chain, port } => write!(
                f,
                "the table of chain '{chain}' is owned by a running process (netlink port {port}, as a rule its process id) and nobody else can change it; if that is firewalld, set NftablesTableOwner=no in /etc/firewalld/firewalld.conf and restart it"
            ),
            Self::Firewall(error) => error.fmt(f),
        }
    }
}

fn listed(chains: &[ChainName]) -> String {
    let names: Vec<_> = chains.iter().map(|chain| format!("'{chain}'")).collect();
    match names.as_slice() {
        [] => "is none".into(),
        [one] => format!("is {one}"),
        several => format!("are {}", several.join(", ")),
    }
}

impl std::error::Error for AttachError {}

impl From<FirewallError> for AttachError {
    fn from(error: FirewallError) -> Self {
        Self::Firewall(error)
    }
}
