//! Asking a person for a passphrase: on the terminal, through the program that
//! ssh would ask with, or in a file that the person names.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::os;

/// Why there is no passphrase.
#[derive(Debug)]
pub enum AskError {
    /// No terminal, and no program to ask with.
    NoTerminal(io::Error),
    /// Ctrl-C or Ctrl-D, and no passphrase.
    Declined,
    /// The program that `SSH_ASKPASS` names, and what it failed with.
    Program(String),
    /// The file that was to hold it.
    File(FileError),
    /// An empty one is none.
    Empty,
    /// The second time it was another.
    Different,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTerminal(error) => write!(f, "no terminal to ask on ({error})"),
            Self::Declined => f.write_str("no passphrase was given"),
            Self::Program(what) => f.write_str(what),
            Self::File(error) => error.fmt(f),
            Self::Empty => f.write_str("an empty passphrase is none"),
            Self::Different => f.write_str("those were two different passphrases"),
        }
    }
}

impl std::error::Error for AskError {}

/// Asks on the terminal, whatever standard input is, without showing the answer;
/// or through the program that `SSH_ASKPASS` names, where there is no terminal or
/// `SSH_ASKPASS_REQUIRE` is `force` (ssh(1)).
///
/// # Errors
/// [`AskError::NoTerminal`], [`AskError::Declined`], [`AskError::Program`].
pub fn passphrase(prompt: &str) -> Result<Zeroizing<String>, AskError> {
    let require = env::var("SSH_ASKPASS_REQUIRE").unwrap_or_default();
    if require == "force" {
        return ask_by_program(prompt);
    }
    match os::uninterrupted(|| rpassword::prompt_password(prompt)) {
        Ok(passphrase) => Ok(Zeroizing::new(passphrase)),
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::UnexpectedEof) => {
            Err(AskError::Declined)
        }
        Err(_) if env::var_os("SSH_ASKPASS").is_some() && require != "never" => {
            ask_by_program(prompt)
        }
        Err(error) => Err(AskError::NoTerminal(error)),
    }
}

/// Asks for a new one, twice.
///
/// # Errors
/// As [`passphrase`], and [`AskError::Empty`], [`AskError::Different`].
pub fn new_passphrase(prompt: &str) -> Result<Zeroizing<String>, AskError> {
    let first = passphrase(prompt)?;
    if first.is_empty() {
        return Err(AskError::Empty);
    }
    let same = *passphrase("the same again: ")? == *first;
    if same { Ok(first) } else { Err(AskError::Different) }
}

fn ask_by_program(prompt: &str) -> Result<Zeroizing<String>, AskError> {
    let program = env::var_os("SSH_ASKPASS").unwrap_or_else(|| "ssh-askpass".into());
    let shown = program.display().to_string();
    let output = Command::new(&program)
        .arg(prompt)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| AskError::Program(format!("cannot run {shown} (SSH_ASKPASS): {error}")))?;
    let said = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(AskError::Program(format!("{shown} (SSH_ASKPASS) was told no passphrase")));
    }
    let text = std::str::from_utf8(&said)
        .map_err(|_| AskError::Program(format!("{shown} (SSH_ASKPASS) gave no text")))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// The first line of a file that nobody else may read, or of a pipe such as
/// `/dev/stdin` or `/dev/fd/3`.
///
/// # Errors
/// [`AskError::File`], [`AskError::Empty`].
pub fn passphrase_in(path: &Path) -> Result<Zeroizing<String>, AskError> {
    let line = first_line(path).map_err(AskError::File)?;
    if line.is_empty() { Err(AskError::Empty) } else { Ok(line) }
}

fn first_line(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let io = |error| FileError::io(path, "read", error);
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.is_file() {
        os::check_file(&metadata).map_err(|problem| FileError::new(path, problem))?;
    }
    let bytes = files::read_bounded(file, metadata.len(), files::MAX_LEN).map_err(io)?;
    let text =
        files::text(&bytes, files::MAX_LEN).map_err(|problem| FileError::new(path, problem))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}
