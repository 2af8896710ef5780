//! What the tests share: parties on a virtual clock, knocks made by hand, and
//! the files with test vectors.

#![allow(dead_code, reason = "each test program uses its part of this")]

pub(crate) mod case;
pub(crate) mod cases;
pub(crate) mod craft;
pub(crate) mod parties;
pub(crate) mod run;
pub(crate) mod strategies;
