//! `spa-keys export` and `spa-keys import`.

use std::fmt::Display;
use std::path::Path;

use serde::Serialize;
use spa_keys::ask;
use spa_keys::backup::{self, Backup, Restored};
use spa_keys::{Store, files, note, random};
use zeroize::Zeroizing;

use super::{Failure, list, print};
use crate::cli::{Export, Import};
use crate::view::to_json;

/// What became of one file.
#[derive(Serialize)]
struct Line {
    file: String,
    outcome: &'static str,
}

/// What was written.
#[derive(Serialize)]
struct Exported<'a> {
    file: &'a Path,
    clients: usize,
}

pub(crate) fn export(store: &Store, options: &Export) -> Result<(), Failure> {
    let (backup, broken) = Backup::of(store, !options.without_server)?;
    let text = match passphrase(options)? {
        Some(passphrase) => {
            let salt = *random::bytes().map_err(failure)?;
            Zeroizing::new(backup.seal(&passphrase, salt).map_err(failure)?)
        }
        None => backup.to_text(),
    };
    let to_stdout = options.file == Path::new("-");
    if to_stdout && options.json {
        return Err(Failure::Other("--json needs a FILE: both would be on standard output".into()));
    }
    if to_stdout {
        print(&text)?;
    } else {
        files::create_new(&options.file, &text).map_err(failure)?;
    }
    if options.json {
        print(&to_json(&Exported { file: &options.file, clients: backup.len() }))?;
    }
    note!("{} clients exported: keep it where only root can read", backup.len());
    list::complain(broken)
}

fn passphrase(options: &Export) -> Result<Option<Zeroizing<String>>, Failure> {
    match &options.passphrase_file {
        Some(path) => ask::passphrase_in(path).map(Some).map_err(failure),
        None if options.passphrase => {
            ask::new_passphrase("new passphrase for the backup: ").map(Some).map_err(failure)
        }
        None => Ok(None),
    }
}

pub(crate) fn import(store: &Store, options: &Import) -> Result<(), Failure> {
    let text = files::read_private_up_to(&options.file, backup::MAX_LEN).map_err(failure)?;
    let shown = options.file.display();
    let backup =
        read(&text, options).map_err(|error| Failure::Other(format!("{shown}: {error}")))?;
    let backup = if options.without_server { backup.without_server() } else { backup };
    let done = store.restore(&backup, options.replace, options.dry_run)?;
    let lines: Vec<_> = done.iter().map(Line::of).collect();
    print(&if options.json { to_json(&lines) } else { table(&lines) })?;
    explain(&done)
}

fn read(text: &str, options: &Import) -> Result<Backup, String> {
    if !Backup::is_sealed(text) {
        return Backup::parse(text).map_err(|error| error.to_string());
    }
    let passphrase = match &options.passphrase_file {
        Some(path) => ask::passphrase_in(path),
        None => ask::passphrase("passphrase of the backup: "),
    };
    let passphrase = passphrase.map_err(|error| error.to_string())?;
    Backup::unseal(text, &passphrase).map_err(|error| error.to_string())
}

impl Line {
    fn of(one: &Restored) -> Self {
        Self { file: one.file.clone(), outcome: one.outcome.name() }
    }
}

fn table(lines: &[Line]) -> String {
    lines.iter().map(|Line { file, outcome }| format!("{outcome:<9} {file}\n")).collect()
}

fn explain(done: &[Restored]) -> Result<(), Failure> {
    match done.iter().filter(|one| one.outcome.is_in_the_way()).count() {
        0 => Ok(()),
        count => Err(Failure::Other(format!(
            "nothing was imported: {count} of them say something else here, or are somebody else's; \
             --replace takes what the backup says of rights, never other keys; where it is the \
             server's key, --without-server leaves that as it is here"
        ))),
    }
}

fn failure(error: impl Display) -> Failure {
    Failure::Other(error.to_string())
}
