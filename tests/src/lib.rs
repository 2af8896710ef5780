//! End-to-end scenarios of spa on a real kernel.
//!
//! * [`lab`] makes hosts out of network namespaces and lets them talk: links, sshd, attackers,
//!   captures, forged packets. It knows nothing about spa.
//! * [`product`] runs the real programs, `spad`, `spa` and `spa-keys`, on such hosts.
//! * [`wait`] says how long something may take.
//! * [`walk`] does what a document tells people to type.
//!
//! The scenarios are in `tests/`, one file for each group, and the demo in `src/bin/demo.rs`.

pub mod lab;
pub mod product;
pub mod wait;
pub mod walk;

pub use lab::{LabError, Result};
