//! The daemon of spa, as a library: `main` is its command line.
//!
//! A packet's way is one line of rooms, in this order:
//! `capture` → `gatekeeper` → `ipc` → `warden` → `policy` → `journal` →
//! `grants` → `firewall` → `audit`. `docs/code-structure.md` has the map.

#![deny(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod audit;
pub mod bans;
pub mod boot;
pub mod capture;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod disable;
pub mod enable;
pub mod enforcement;
pub mod explain;
mod fields;
pub mod firewall;
pub mod gatekeeper;
pub mod grants;
pub mod hooks;
pub mod ipc;
pub mod journal;
pub mod kept;
mod listeners;
pub mod log;
pub mod metrics;
pub mod policy;
#[cfg(test)]
#[path = "../../spa-proto/src/printable.rs"]
mod printable;
pub mod privileges;
mod route;
mod service;
pub mod sessions;
pub mod show;
pub mod sys;
pub mod turn;
pub mod warden;
pub mod watch;

use spa_keys::wipe;
