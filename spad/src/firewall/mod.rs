//! The firewall: the table `inet spad`, from plain data to the kernel.
//!
//! ```text
//! configuration → plan → rules → Ruleset ─┬→ text      what `spad check` prints
//!                                  └→ encode → transaction → netlink → kernel
//!                                                 snapshot ← lists ←──┘
//! ```
//!
//! [`rules::ruleset`] is pure. [`Firewall`] installs what it returns, and adds
//! and removes grants; [`Watch`] tells when somebody else has been at it.
//! `foreign` looks at the chains of others, and puts the one rule of mode
//! `attach` there.

mod apply;
mod conntrack;
mod counters;
mod dialogue;
mod element;
mod elements;
mod encode;
mod error;
mod existing;
mod flows;
mod foreign;
mod grant_set;
mod intervals;
mod netlink;
mod numbers;
pub mod plan;
mod rates;
mod replacement;
mod requests;
pub mod rules;
pub mod ruleset;
mod saved;
mod snapshot;
mod sockets;
mod state;
mod text;
mod transaction;
mod watch;
pub mod wire;

pub use apply::{Firewall, Installed, Options, Origin};
pub use counters::Counted;
pub use element::{Element, Terms};
pub use error::{Drift, FirewallError};
pub(crate) use existing::end;
pub use flows::{Count, Flow, FlowEvent, FlowWatch, Flows, News, Room, Traffic, keep_records};
pub use foreign::{AttachError, Attachment, BadChainName, ChainName, Obstacle, Survey};
pub use grant_set::GrantSet;
pub use intervals::Interval;
pub use plan::{Labels, Mode, Plan};
pub use ruleset::{PortRange, Ruleset};
pub use saved::Saved;
pub use snapshot::Snapshot;
pub use spa_proto::Protocol;
pub use watch::{Event, Watch};
