//! What is told of one server that is knocked at: steps, a line for a person
//! who watches, or JSON.

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::report;

/// What a knock came to, as `--json` shows it; the fields are in the man page.
#[derive(Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) host: Option<String>,
    pub(crate) services: Vec<String>,
    pub(crate) ttl_s: Option<u32>,
    dry_run: bool,
    pub(crate) sent: Vec<SentRow>,
    pub(crate) open: Option<bool>,
    pub(crate) waited_ms: Option<u64>,
    error: Option<String>,
    exit: u8,
}

/// One datagram.
#[derive(Serialize)]
pub(crate) struct SentRow {
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) services: Vec<String>,
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

/// In which way to tell.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Each step, on standard error.
    pub(crate) verbose: bool,
    /// One object, on standard output.
    pub(crate) json: bool,
    /// What would be done is all that there is to tell.
    pub(crate) dry_run: bool,
    /// A person watches standard output.
    terminal: bool,
    /// Others are told of at the same time: all lines are whole, and name theirs.
    several: bool,
}

impl Manner {
    /// As the command line says, of this many servers.
    pub(crate) fn new(verbose: bool, json: bool, dry_run: bool, servers: usize) -> Self {
        let terminal = io::stdout().is_terminal() && !json && !verbose && !dry_run;
        Self { verbose, json, dry_run, terminal, several: servers > 1 }
    }

    /// Whether somebody sits there, and not a program.
    pub(crate) fn is_for_a_person(&self) -> bool {
        io::stdout().is_terminal() && !self.json && !self.dry_run
    }

    /// Where standard output carries somebody else's data.
    pub(crate) fn of_steps(verbose: bool) -> Self {
        Self { verbose, ..Self::default() }
    }
}

/// Tells of one server.
pub(crate) struct Reporter {
    manner: Manner,
    /// What the user calls it.
    name: String,
    /// Of the line for a person, what is not printed yet.
    line: RefCell<String>,
    /// Whether that line is begun and not ended.
    in_line: Cell<bool>,
    outcome: RefCell<Outcome>,
    /// Why an answer did not arrive.
    untold: Cell<Option<Failure>>,
}

impl Reporter {
    pub(crate) fn new(manner: Manner, name: &str) -> Self {
        let outcome =
            Outcome { name: name.to_owned(), dry_run: manner.dry_run, ..Outcome::default() };
        let (line, in_line, untold) = Default::default();
        let (name, outcome) = (name.to_owned(), RefCell::new(outcome));
        Self { manner, name, line, in_line, outcome, untold }
    }

    /// Whether nothing is to be sent.
    pub(crate) fn dry_run(&self) -> bool {
        self.manner.dry_run
    }

    /// Tells of a step, for `-v`; for `--dry-run` the steps are the answer.
    pub(crate) fn step(&self, text: impl FnOnce() -> String) {
        if self.manner.dry_run && !self.manner.json {
            if let Err(failure) = report::print(&self.named(text())) {
                self.untold.set(Some(failure));
            }
        } else if self.manner.verbose {
            report::note(&self.named(text()));
        }
    }

    fn named(&self, text: String) -> String {
        if self.manner.several { format!("{}: {text}", self.name) } else { text }
    }

    /// Adds to the line for a person, which shows at once what is known so far.
    pub(crate) fn line(&self, text: impl FnOnce() -> String) {
        if self.manner.terminal {
            self.in_line.set(true);
            *self.line.borrow_mut() += &text();
            if !self.manner.several {
                self.flush_line();
            }
        }
    }

    fn flush_line(&self) {
        let text = self.line.take();
        let mut out = io::stdout().lock();
        let _ = write!(out, "{text}").and_then(|()| out.flush());
    }

    /// Ends that line, if it was begun.
    pub(crate) fn end_line(&self, text: impl FnOnce() -> String) {
        self.line(|| format!("{}\n", text()));
        self.in_line.set(false);
    }

    /// Notes for `--json` what has become known.
    pub(crate) fn record(&self, note: impl FnOnce(&mut Outcome)) {
        if self.manner.json {
            note(&mut self.outcome.borrow_mut());
        }
    }

    /// Tells how it ended, and gives the code for that.
    pub(crate) fn finish(self, ended: Result<Exit, Failure>) -> Exit {
        if self.in_line.get() {
            self.end_line(String::new);
        }
        self.flush_line();
        let exit = ended.as_ref().map_or_else(Failure::exit, |exit| *exit);
        if let Err(failure) = &ended {
            report::note(&format!("spa: {}", self.named(failure.to_string())));
        }
        let told = self.print_outcome(ended.err(), exit);
        match self.untold.take().map_or(told, Err) {
            Ok(()) => exit,
            Err(failure) => {
                report::complain(&failure);
                failure.exit()
            }
        }
    }

    fn print_outcome(&self, failure: Option<Failure>, exit: Exit) -> Result<(), Failure> {
        if !self.manner.json {
            return Ok(());
        }
        let mut outcome = self.outcome.take();
        outcome.error = failure.map(|failure| failure.to_string());
        outcome.exit = exit as u8;
        report::print(&serde_json::to_string(&outcome).map_err(Failure::keys)?)
    }
}
