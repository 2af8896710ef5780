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
    /// End a client's grants; its record stays.
    Revoke {
        /// Name of the client.
        client: String,
    },
    /// Read the configuration again.
    Reload,
    /// End.
    Stop {
        /// And open to everyone what is shut.
        open: bool,
    },
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<report::Status>),
    /// To [`Request::Grants`].
    Grants(Vec<report::Grant>),
    /// To [`Request::Revoke`]: how many grants ended.
    Revoked(usize),
    /// To [`Request::Reload`].
    Reloaded,
    /// To [`Request::Stop`]: what is left.
    Stopped(report::Stopped),
    /// It was not done, and why.
    Failed(String),
}

/// Where the socket is.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}
