//! `spa-keys rotate`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use spa_keys::ClientName;

use super::TokenOptions;
use super::rights::lifetime;

/// What is to be replaced, or what is to become of that.
#[derive(Args)]
pub(crate) struct Rotate {
    /// What to replace
    #[arg(required_unless_present_any = ["status", "token"])]
    pub(crate) what: Option<What>,

    /// Whose, for psk and client
    pub(crate) name: Option<ClientName>,

    /// How long old and new both work
    #[arg(long, value_name = "7d", default_value = "7d", value_parser = lifetime)]
    pub(crate) overlap: Duration,

    /// End the overlap now: from now on only the new keys work
    #[arg(long, conflicts_with = "overlap")]
    pub(crate) finish: bool,

    /// End the overlap now, and drop the new keys: only the old ones work, as before
    #[arg(long, conflicts_with_all = ["overlap", "finish"])]
    pub(crate) abort: bool,

    /// Also if that shuts somebody out
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print a token that brings a client what is in force now; works with its key alone
    #[arg(long, value_name = "NAME", conflicts_with_all = ["what", "overlap", "finish", "abort", "yes"])]
    pub(crate) token: Option<ClientName>,

    /// Show what is being replaced, up to when, and who has not moved
    #[arg(long, conflicts_with_all = ["what", "overlap", "finish", "abort", "yes", "token"])]
    pub(crate) status: bool,

    #[command(flatten)]
    pub(crate) delivery: TokenOptions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Key-id and pre-shared key of a client
    Psk,
    /// All keys of a client, by another enrolment
    Client,
    /// The server's public-key pair: every client needs a token
    Server,
    /// What hides clients' names on the way: every client needs a token
    Cloak,
}
