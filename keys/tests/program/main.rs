//! The program `spa-keys`, run as people run it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod add;
mod add_many;
mod backup;
mod change;
mod faults;
mod import_fwknop;
mod init;
mod keys;
mod list;
mod pending;
mod private;
mod revoke;
mod rotate;
mod token;
