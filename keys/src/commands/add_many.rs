//! `spa-keys add-many`.

use std::io::Read;
use std::path::Path;

use spa_keys::{Store, note};

use super::{Failure, print};
use crate::bulk::{self, Added, Destination, Planned};
use crate::cli::AddMany;
use crate::table;
use crate::view::to_json;

/// The longest table that is read, in bytes.
const MAX_LEN: u64 = 64 * 1024 * 1024;

pub(crate) fn run(store: &Store, options: AddMany) -> Result<(), Failure> {
    let text = read(&options.file)?;
    let file = if options.file == "-" { "standard input" } else { &options.file };
    let planned = table::parse(file, &text).map_err(|problems| refuse(&problems))?;
    add(store, planned, options.to, options.dry_run, options.json)
}

/// Makes all of them, or says what is in the way.
pub(super) fn add(
    store: &Store,
    planned: Vec<Planned>,
    to: Destination,
    dry_run: bool,
    json: bool,
) -> Result<(), Failure> {
    to.check(dry_run)?;
    let problems = bulk::problems(store, &planned, Some(&to))?;
    if !problems.is_empty() {
        return Err(refuse(&problems));
    }
    if dry_run {
        let count = planned.len();
        return print(&if json {
            "[]\n".to_owned()
        } else {
            format!("{count} clients could be added\n")
        });
    }
    let added = bulk::add(store, planned, to)?;
    print(&if json { to_json(&added) } else { text(&added) })
}

fn text(added: &[Added]) -> String {
    format!(
        "{} clients added; their tokens work once, within a day: hand them over safely\n",
        added.len()
    )
}

/// Each problem is said; nothing was done.
pub(super) fn refuse(problems: &[String]) -> Failure {
    problems.iter().for_each(|problem| note!("spa-keys: {problem}"));
    Failure::Other("nothing was added".to_owned())
}

/// A file, or standard input where it is called `-`.
pub(super) fn read(file: &str) -> Result<String, Failure> {
    let failed = |error| Failure::Other(format!("cannot read {file}: {error}"));
    let mut text = String::new();
    let input: Box<dyn Read> = match file {
        "-" => Box::new(std::io::stdin()),
        path => Box::new(std::fs::File::open(Path::new(path)).map_err(failed)?),
    };
    input.take(MAX_LEN + 1).read_to_string(&mut text).map_err(failed)?;
    match u64::try_from(text.len()) {
        Ok(len) if len <= MAX_LEN => Ok(text),
        _ => Err(Failure::Other(format!("{file} is longer than {MAX_LEN} bytes"))),
    }
}
