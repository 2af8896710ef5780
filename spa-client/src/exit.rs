//! How `spa` ends: its exit codes, and the errors that lead to them.

use std::fmt;
use std::process::ExitCode;

/// The exit codes, for people; [`Exit`] is the same for the compiler.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done: knocks sent; the service seen open with --wait; the connection over (proxy)
  1  knocks sent, but the service did not open in time (--wait, proxy); something is bad (doctor)
  2  wrong usage
  3  unknown host, or a token, key file or directory that cannot be used
  4  the server's name does not resolve, or not to the family asked for
  5  no knock could be sent to any address
  6  the connection broke, or standard input or output (proxy)
  255  any of these, where it does not come to ssh (ssh, whose own codes are passed on)
Of several hosts, the code of the first in the command line that failed.";

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Sent, but not open in time.
    NotOpen = 1,
    /// Wrong usage; clap ends with the same code.
    Usage = 2,
    /// Unknown host, unusable token, key file or directory.
    Keys = 3,
    /// The name does not resolve.
    Resolve = 4,
    /// Nothing could be sent.
    NotSent = 5,
    /// The connection broke, or what it was passed on to.
    Broken = 6,
    /// It did not come to ssh; what ssh ends with where it fails by itself.
    Ssh = 255,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What went wrong, with what to do about it, and how the program ends for it.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    /// A command line that asks for something impossible.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// A host, token, file or directory that cannot be used.
    pub(crate) fn keys(text: impl fmt::Display) -> Self {
        Self::new(Exit::Keys, text)
    }

    /// A name without an address.
    pub(crate) fn resolve(text: impl fmt::Display) -> Self {
        Self::new(Exit::Resolve, text)
    }

    /// Nothing left this machine.
    pub(crate) fn not_sent(text: impl fmt::Display) -> Self {
        Self::new(Exit::NotSent, text)
    }

    /// What was asked for did not open.
    pub(crate) fn not_open(text: impl fmt::Display) -> Self {
        Self::new(Exit::NotOpen, text)
    }

    /// The connection ended in the middle.
    pub(crate) fn broken(text: impl fmt::Display) -> Self {
        Self::new(Exit::Broken, text)
    }

    /// The same, where ssh was to run.
    pub(crate) fn of_ssh(self) -> Self {
        Self { exit: Exit::Ssh, ..self }
    }

    fn new(exit: Exit, text: impl fmt::Display) -> Self {
        Self { exit, text: text.to_string() }
    }

    /// The code to end with.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
