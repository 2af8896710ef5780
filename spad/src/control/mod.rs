//! The control socket: one request, one answer, as lines of JSON over a Unix
//! socket that only its owner can reach, or one group.

pub mod access;
pub mod client;
mod members;
pub mod report;
pub mod server;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spa_keys::ClientName;

/// What an administrator can ask a running spad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How it is.
    Status,
    /// Who may come in now.
    Grants,
    /// The rules in force, with what they have counted.
    Rules,
    /// Which connections were made through grants and are open.
    Sessions,
    /// End a client's grants and connections; its record stays.
    Revoke {
        /// Name of the client, or of a person for all devices.
        client: String,
    },
    /// End one grant, and the connections made through it.
    RevokeGrant {
        /// Its number.
        grant: u64,
    },
    /// Let nothing from these addresses in, and nothing out to them.
    Ban {
        /// An address or a network.
        network: String,
        /// For how long; without, until it is lifted.
        seconds: Option<u64>,
        /// Whatever helps to remember.
        why: Option<String>,
        /// User id of who asks; said by the kernel, not by the caller.
        #[serde(skip)]
        by: Option<u32>,
    },
    /// Lift the bans of these addresses.
    Unban {
        /// An address or a network.
        network: String,
        /// As for a ban.
        #[serde(skip)]
        by: Option<u32>,
    },
    /// Who is banned.
    Bans,
    /// Who has connected to services with a rate.
    Rates {
        /// To this service only.
        service: Option<String>,
        /// This source only.
        source: Option<IpAddr>,
        /// Forget them.
        clear: bool,
    },
    /// Numbers for a monitoring system.
    Metrics,
    /// Events as they come, a line of JSON each, until the caller goes.
    Watch,
    /// Read the configuration again.
    Reload,
    /// Put the ruleset in force.
    Enable {
        /// For how long, unless somebody confirms it; without, for good.
        seconds: Option<u64>,
        /// As for a ban.
        #[serde(skip)]
        by: Option<u32>,
    },
    /// Keep in force what is on trial.
    Confirm {
        /// As for a ban.
        #[serde(skip)]
        by: Option<u32>,
    },
    /// Let everything pass, now and after a reboot, and go on hearing knocks.
    Disable {
        /// As for a ban.
        #[serde(skip)]
        by: Option<u32>,
    },
    /// End.
    Stop {
        /// And open to everyone what is shut.
        open: bool,
    },
}

impl Request {
    /// The same, as asked by this user.
    #[must_use]
    pub(crate) fn asked_by(self, uid: u32) -> Self {
        let by = Some(uid);
        match self {
            Self::Ban { network, seconds, why, .. } => Self::Ban { network, seconds, why, by },
            Self::Unban { network, .. } => Self::Unban { network, by },
            Self::Enable { seconds, .. } => Self::Enable { seconds, by },
            Self::Confirm { .. } => Self::Confirm { by },
            Self::Disable { .. } => Self::Disable { by },
            other => other,
        }
    }
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<report::Status>),
    /// To [`Request::Grants`].
    Grants(Vec<report::Grant>),
    /// To [`Request::Rules`].
    Rules(Vec<report::Chain>),
    /// To [`Request::Sessions`].
    Sessions(Vec<report::Session>),
    /// To [`Request::Revoke`] and [`Request::RevokeGrant`].
    Revoked {
        /// How many grants ended.
        ended: usize,
        /// How many connections were cut.
        cut: usize,
    },
    /// To [`Request::Ban`].
    Banned(report::Banned),
    /// To [`Request::Unban`]: the bans as they were.
    Unbanned(Vec<report::Ban>),
    /// To [`Request::Bans`].
    Bans(Vec<report::Ban>),
    /// To [`Request::Rates`].
    Rates(Vec<report::Rate>),
    /// To [`Request::Rates`] where they were to be cleared: how many there were.
    Cleared(usize),
    /// To [`Request::Metrics`].
    Metrics(Box<report::Metrics>),
    /// To [`Request::Reload`].
    Reloaded,
    /// To [`Request::Enable`] and [`Request::Confirm`].
    Enabled(report::Enabled),
    /// To [`Request::Disable`].
    Disabled(report::Disabled),
    /// To [`Request::Stop`]: what is left.
    Stopped(report::Stopped),
    /// It was not done, and why.
    Failed(String),
}

impl Answer {
    /// Without the grants and connections of others than this client or person.
    #[must_use]
    pub fn only_of(mut self, who: &ClientName) -> Self {
        let is_of = |name: &str| name.parse().is_ok_and(|name: ClientName| name.is_of(who));
        match &mut self {
            Self::Grants(grants) => grants.retain(|grant| is_of(&grant.client)),
            Self::Sessions(sessions) => sessions.retain(|session| is_of(&session.client)),
            _ => {}
        }
        self
    }
}

/// Where the socket is.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}
