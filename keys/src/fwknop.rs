//! What an fwknop server allows, as clients of ours. Pure.
//!
//! `access.conf` as fwknopd(8) describes it: lines of a variable and its value,
//! stanzas that begin with `SOURCE`. Keys are dropped where they are read: those
//! of fwknop are shared with the client and good for one scheme, and ours are made
//! by the client, which alone has them.

mod ports;
mod stanza;
mod take_over;

use serde::Serialize;

pub(crate) use ports::Services;
pub(crate) use stanza::parse;
pub(crate) use take_over::take_over;

/// What becomes of one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Note {
    /// From 1.
    pub(crate) line: usize,
    /// What is said there; never a key.
    pub(crate) variable: String,
    /// What has become of it.
    pub(crate) note: String,
}

impl Note {
    fn new(line: usize, variable: &str, note: impl Into<String>) -> Self {
        Self { line, variable: variable.to_owned(), note: note.into() }
    }
}

#[cfg(test)]
mod tests;
