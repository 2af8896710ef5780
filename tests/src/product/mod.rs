//! The real programs on hosts of the lab: the daemon and its keys, and clients.
//!
//! [`Site`] is what most scenarios start from: a server with something on port 22, a client and a
//! stranger on one network.

pub mod attacks;
mod client;
pub mod health;
pub mod knocker;
mod server;
mod settings;
mod site;
mod traces;

pub use client::Client;
pub use health::{Health, Served};
pub use knocker::Knocker;
pub use server::{Grant, Server};
pub use settings::{Service, Settings};
pub use site::{SERVER_NAME, Site};
pub use traces::{Traces, texts};

/// UDP port of the knocks unless a setting says otherwise.
pub const KNOCK_PORT: u16 = 62201;
