//! The control socket: one request, one answer, as lines of JSON over a Unix
//! socket that only its owner can reach.

pub mod client;
pub mod report;
pub mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

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
        /// Name of the client.
        client: String,
    },
    /// End one grant, and the connections made through it.
    RevokeGrant {
        /// Its number.
        grant: u64,
    },
    /// Read the configuration again.
    Reload,
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
    /// To [`Request::Reload`].
    Reloaded,
    /// It was not done, and why.
    Failed(String),
}

/// Where the socket is.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}
