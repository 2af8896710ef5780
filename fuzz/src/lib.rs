//! What reads bytes of others, one module for each place where they come in.
//!
//! Each `run` takes any bytes, panics where something holds that must not, and
//! says whether they got through: whether what reads them has accepted
//! something. The fuzzer calls it through `targets/`, `cargo test` with the
//! stored inputs through `tests/stored.rs`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is what is looked for")]

pub mod channel;
pub mod config;
pub mod control;
pub mod explain;
pub mod gate;
pub mod http;
pub mod journal;
pub mod netlink;
pub mod packet;
pub mod record;
pub mod token;

mod script;

/// Takes any bytes; true where they were accepted.
pub type Run = fn(&[u8]) -> bool;

/// Every target by its name.
pub const TARGETS: [(&str, Run); 11] = [
    ("channel", channel::run),
    ("config", config::run),
    ("control", control::run),
    ("explain", explain::run),
    ("gate", gate::run),
    ("http", http::run),
    ("journal", journal::run),
    ("netlink", netlink::run),
    ("packet", packet::run),
    ("record", record::run),
    ("token", token::run),
];
