//! What `spa-keys` does: one file for each command.

pub(crate) mod add;
pub(crate) mod add_many;
pub(crate) mod backup;
pub(crate) mod disable;
pub(crate) mod import_fwknop;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod pending;
pub(crate) mod rename;
pub(crate) mod renew;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod set;
pub(crate) mod show;
pub(crate) mod withdraw;

mod token;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use spa_keys::{ClientName, StoreError};

/// Why a command came to nothing.
pub(crate) enum Failure {
    /// The store says no.
    Store(StoreError),
    /// Standard output cannot be written to.
    Output(io::Error),
    /// Anything else, said in full.
    Other(String),
}

impl Failure {
    /// 2 where the arguments contradict themselves, as clap does; otherwise 1.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(StoreError::Policy(_) | StoreError::Host(_)) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => {
                error.fmt(f)?;
                let denied = match error {
                    StoreError::File(error) | StoreError::StillIn { error, .. } => {
                        error.is_denied()
                    }
                    _ => false,
                };
                f.write_str(if denied { "; are you root?" } else { "" })
            }
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

/// Of what was to shut out a client, or all of a person's, and could not be written.
fn still_in(name: &ClientName, error: StoreError) -> StoreError {
    match error {
        StoreError::File(error) if error.is_of_writing() => {
            StoreError::StillIn { name: name.clone(), record: None, error }
        }
        error => error,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Prints to standard output, all of it or an error: the reader may be gone, or
/// the disk behind it full.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}
