//! Other people's chains: which of them would still drop what a grant has let
//! in, and the one rule that mode `attach` puts at their head.
//!
//! ```text
//! kernel → read (chains, rules) ─┬→ walk (a packet through a chain) → survey
//!                                └→ attach (our rule: found, put, taken out)
//! ```
//!
//! Nothing here runs for a knock: only at the start, when somebody changes the
//! chains that we are in, and when the administrator asks.

mod attach;
mod error;
mod name;
mod packet;
mod read;
mod reading;
mod rule;
mod survey;
mod walk;
mod xtables;

pub use attach::Attachment;
pub use error::AttachError;
pub use name::{BadChainName, ChainName};
pub use survey::{Obstacle, Survey};

pub(super) use name::TableName;
pub(super) use read::table_of;
