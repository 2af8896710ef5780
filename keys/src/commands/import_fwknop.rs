//! `spa-keys import-fwknop`.

use std::path::Path;

use serde::Serialize;
use spa_keys::{Store, date};
use zeroize::Zeroizing;

use super::{Failure, add_many, print};
use crate::bulk::{self, Added, Planned};
use crate::cli::ImportFwknop;
use crate::fwknop::{self, Note, Services};
use crate::view::{comma_separated, limits, to_json};

/// What became of a file.
#[derive(Serialize)]
struct Report {
    clients: Vec<Client>,
    /// What was made, unless it was a dry run.
    added: Vec<Added>,
    notes: Vec<Note>,
    /// What is to be written into `spad.toml`.
    services_missing: String,
}

#[derive(Serialize)]
struct Client {
    line: usize,
    name: String,
    /// What it may do, in words.
    may: String,
}

pub(crate) fn run(store: &Store, options: ImportFwknop) -> Result<(), Failure> {
    options.to.check(options.dry_run)?;
    // There are keys in it.
    let text = Zeroizing::new(add_many::read(&options.file)?);
    let mut services = services(&options.config)?;
    let (stanzas, mut notes) = fwknop::parse(&text);
    let (clients, more) =
        fwknop::take_over(&stanzas, &mut services, &options.services, date::now());
    notes.extend(more);
    notes.sort_by_key(|note| note.line);
    let mut report = Report {
        clients: clients.iter().map(|(line, client)| Client::of(*line, client)).collect(),
        added: Vec::new(),
        notes,
        services_missing: services.missing(),
    };
    let place = |line: usize| format!("{}:{line}", options.file);
    let planned: Vec<_> =
        clients.into_iter().map(|(line, client)| Planned { place: place(line), client }).collect();
    if !options.json {
        print(&report.to_text(&options.file))?;
    }
    let problems = bulk::problems(store, &planned, Some(&options.to))?;
    if !problems.is_empty() {
        return Err(add_many::refuse(&problems));
    }
    if !options.dry_run {
        report.added = bulk::add(store, planned, options.to)?;
    }
    match (options.json, report.added.len()) {
        (true, _) => print(&to_json(&report)),
        (false, 0) => Ok(()),
        (false, added) => print(&format!("{added} clients added: hand their tokens over safely\n")),
    }
}

impl Client {
    fn of(line: usize, client: &spa_keys::NewClient) -> Self {
        let services = comma_separated(&client.policy.services);
        let may = format!("{services}, {}", limits(&client.policy, client.expires));
        Self { line, name: client.name.to_string(), may }
    }
}

impl Report {
    /// In the order of the lines.
    fn to_text(&self, file: &str) -> String {
        let clients = self.clients.iter().map(|client| {
            (
                client.line,
                format!("{file}:{}: {} may knock for {}\n", client.line, client.name, client.may),
            )
        });
        let notes = self.notes.iter().map(|Note { line, variable, note }| {
            (*line, format!("{file}:{line}: {variable}: {note}\n"))
        });
        let mut lines: Vec<_> = clients.chain(notes).collect();
        lines.sort_by_key(|(line, _)| *line);
        let text: String = lines.into_iter().map(|(_, text)| text).collect();
        match self.services_missing.as_str() {
            "" => text,
            missing => {
                format!("{text}\nfor spad.toml, where there is no such service yet:\n\n{missing}")
            }
        }
    }
}

/// Where there is no configuration yet, there are no services.
fn services(path: &Path) -> Result<Services, Failure> {
    let shown = path.display();
    match std::fs::read_to_string(path) {
        Ok(text) => {
            Services::parse(&text).map_err(|error| Failure::Other(format!("{shown}: {error}")))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Services::default()),
        Err(error) => Err(Failure::Other(format!("cannot read {shown}: {error}"))),
    }
}
