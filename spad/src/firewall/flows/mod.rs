//! Connections made through a grant: listing, watching and cutting them.
//!
//! ```text
//! conntrack ─┬→ tracker: lists, looks up, relabels ─→ Flows: list, cut, release
//!            └→ filter → notifications → open flows ─→ FlowWatch: begun, opened, closed
//! ```
//!
//! The ruleset gives every connection that is opened through a grant the label
//! `granted`, and drops what belongs to one with the label `cut`. To cut a
//! connection its entry is relabelled, not deleted: of a deleted entry's next
//! packet, a server's that keeps sending, connection tracking would make a new
//! one.

mod cut;
mod entry;
mod filter;
mod flow;
mod half_open;
mod open;
mod settings;
mod tracker;
mod watch;

pub use cut::Flows;
pub(super) use entry::labels;
pub use flow::{Count, Flow, Traffic};
pub use open::Room;
pub use settings::keep_records;
pub use watch::{FlowEvent, FlowWatch, News};
