//! The rulesets: pure functions from a [`Plan`] to a [`Ruleset`].
//!
//! ```text
//!            knock    granted   guard   bans   rates   gateway   managed   attach
//! Guard        x         x        x       x      x        x
//! Managed      x         x        x       x      x        x         x
//! Attach       x         x                x      x        x                   x
//! ```

pub(crate) mod attach;
pub(crate) mod bans;
mod base;
mod essentials;
mod forwarding;
mod gateway;
mod granted;
mod guard;
mod helpers;
mod knock;
mod managed;
mod passing;
pub(crate) mod rates;
mod reverse_path;

pub use passing::{passing, passing_from};

use super::plan::{Mode, Plan};
use super::ruleset::{Chain, Existing, PortRange, Ruleset, Set};
use spa_proto::Protocol;

/// Begins the comment of every table that a spad has made.
pub(crate) const MARK: &str = "spad ";

/// Before conntrack (−200) and whoever else works at "raw".
const RAW: i32 = -300;
/// After conntrack, before destination NAT (−100).
pub(crate) const GUARD: i32 = -150;
/// Where most people's filters are.
const FILTER: i32 = 0;
/// Where destination NAT is done.
const DESTINATION_NAT: i32 = -100;
/// Where source NAT is done.
const SOURCE_NAT: i32 = 100;
/// After source NAT.
const LAST: i32 = 250;

/// The ruleset for `plan`.
#[must_use]
pub fn ruleset(plan: &Plan) -> Ruleset {
    Ruleset {
        comment: comment(plan.mode),
        sets: sets(plan),
        grants: granted::sets(plan),
        helpers: helpers::objects(plan),
        chains: chains(plan),
        existing: (plan.mode != Mode::Attach).then(|| existing(plan)),
    }
}

/// The number is raised when a later spad could not read what an earlier one
/// has left.
fn comment(mode: Mode) -> String {
    format!("{MARK}{}, format 2", mode.name())
}

fn sets(plan: &Plan) -> Vec<Set> {
    let grants = granted::sets(plan).into_iter().map(|set| set.definition(plan.set_size));
    grants
        .chain(guard::sets(plan.mode))
        .chain(knock::sets())
        .chain(bans::sets())
        .chain(rates::sets(plan))
        .collect()
}

fn chains(plan: &Plan) -> Vec<Chain> {
    [
        knock::chains(plan.knock_port),
        deciding(plan),
        granted::chains(plan),
        bans::chains(),
        rates::chains(plan),
        gateway::chains(plan),
        managed::chains(plan),
    ]
    .concat()
}

/// The chains that say who passes.
fn deciding(plan: &Plan) -> Vec<Chain> {
    match plan.mode {
        Mode::Guard | Mode::Managed => guard::chains(plan),
        Mode::Attach => attach::chains(plan),
    }
}

fn existing(plan: &Plan) -> Existing {
    Existing {
        tcp: match plan.mode {
            Mode::Managed => vec![PortRange::ALL],
            Mode::Guard | Mode::Attach => plan.protected_ports(Protocol::Tcp),
        },
        udp: plan.protected_ports(Protocol::Udp),
        set4: guard::EXISTING4.to_owned(),
        set6: guard::EXISTING6.to_owned(),
    }
}
