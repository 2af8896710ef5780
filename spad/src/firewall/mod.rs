//! The firewall: the table `inet spad`, from plain data to the kernel.
//!
//! ```text
//! configuration → guard → Ruleset ─┬→ text      what `spad check` prints
//!                                  └→ encode → transaction → netlink → kernel
//!                                                 snapshot ← lists ←──┘
//! ```
//!
//! [`guard::ruleset`] is pure. [`Firewall`] installs what it returns, and adds
//! and removes grants; [`Watch`] tells when somebody else has been at it.

mod apply;
mod conntrack;
mod dialogue;
mod element;
mod encode;
mod error;
mod existing;
mod flows;
pub mod guard;
mod netlink;
mod network;
mod replacement;
mod requests;
pub mod ruleset;
mod snapshot;
mod sockets;
mod state;
mod text;
mod transaction;
mod watch;
mod wire;

pub use apply::{Firewall, Installed, Options, Origin};
pub use element::Element;
pub use error::{Drift, FirewallError};
pub use flows::{Count, Flow, FlowEvent, FlowWatch, Flows, Labels, Traffic, keep_records};
pub use guard::{GuardInput, Protected};
pub use network::Network;
pub use ruleset::{PortRange, Ruleset};
pub use spa_proto::Protocol;
pub use watch::{Event, Watch};
