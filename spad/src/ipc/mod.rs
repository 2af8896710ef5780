//! The one channel between the two processes: datagrams of one fixed size over
//! a Unix socket pair. Whatever is not exactly a message of [`message`] is
//! refused by whoever reads it.

pub mod channel;
pub mod message;

pub use channel::Channel;
pub use message::{FRAME_LEN, Frame, INSERT_LEN, ToGate, ToWarden};
