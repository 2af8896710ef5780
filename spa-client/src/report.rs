//! What people and programs get to see. Answers go to standard output, words
//! about them to standard error; never a secret.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
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
    let _ = writeln!(io::stderr(), "{text}");
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

/// What a knock came to, as `--json` shows it.
#[derive(Serialize)]
pub(crate) struct Outcome {
    /// The server's name here.
    pub(crate) name: String,
    /// Name or address that was resolved.
    pub(crate) host: String,
    /// What was asked for.
    pub(crate) services: Vec<String>,
    /// What went, or did not go, to each address in the first round.
    pub(crate) sent: Vec<SentRow>,
    /// Whether the service opened; null without `--wait`.
    pub(crate) open: Option<bool>,
    /// From the first knock until it opened or time was up; null without `--wait`.
    pub(crate) waited_ms: Option<u64>,
}

/// One datagram.
#[derive(Serialize)]
pub(crate) struct SentRow {
    pub(crate) address: String,
    pub(crate) port: u16,
    /// `seen`, or an address.
    pub(crate) source_requested: Option<String>,
    /// `window`, `once` or `bound`; null leaves it to the server.
    pub(crate) mode: Option<&'static str>,
    /// That a grant in mode bound is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_port: Option<u16>,
    /// Prefix length, where more than one address was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) width: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// Tells of one knock in the way that was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Reporter {
    verbose: bool,
    json: bool,
    terminal: bool,
}

impl Reporter {
    pub(crate) fn new(verbose: bool, json: bool) -> Self {
        Self { verbose, json, terminal: io::stdout().is_terminal() }
    }

    /// Where standard output carries somebody else's data.
    pub(crate) fn of_steps(verbose: bool) -> Self {
        Self { verbose, json: false, terminal: false }
    }

    /// Tells of a step, for `-v`.
    pub(crate) fn step(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            note(&text());
        }
    }

    /// Begins the one line for a person who watches.
    pub(crate) fn begin_line(&self, text: impl FnOnce() -> String) {
        self.line(text);
    }

    /// Ends that line.
    pub(crate) fn end_line(&self, text: &str) {
        self.line(|| format!("{text}\n"));
    }

    fn line(&self, text: impl FnOnce() -> String) {
        if self.terminal && !self.json && !self.verbose {
            let mut out = io::stdout().lock();
            let _ = write!(out, "{}", text()).and_then(|()| out.flush());
        }
    }

    /// Gives the outcome, for `--json`.
    pub(crate) fn outcome(&self, outcome: impl FnOnce() -> Outcome) -> Result<(), Failure> {
        if self.json {
            print(&serde_json::to_string(&outcome()).map_err(Failure::keys)?)?;
        }
        Ok(())
    }
}
