//! What people and programs get to see. Answers go to standard output, words
//! about them to standard error; never a secret.

use std::io::{self, Write};

use spa_keys::date;
use spa_proto::Timestamp;

use crate::exit::Failure;

/// Prints an answer, which must arrive.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::keys(format!("cannot write to standard output: {error}")))
}

/// Says something beside the answer. That nobody listens is no error.
pub(crate) fn note(text: &str) {
    spa_keys::note!("{text}");
}

/// Says what is wrong.
pub(crate) fn complain(failure: &Failure) {
    note(&format!("spa: {failure}"));
}

/// Asks for the line that the caller reads next.
pub(crate) fn ask(text: &str) {
    let mut out = io::stderr();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// The end of a token's time, for people.
pub(crate) fn deadline(expires: Timestamp) -> String {
    let late = if expires < date::now() { ", which is past: ask for a new one" } else { "" };
    format!("{}{late}", date::format(expires))
}
