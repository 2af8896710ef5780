//! Man pages are made from the same definitions as the command lines, and that of a file from
//! the example that explains it. Each
//! program's own tests call [`check`]; with `UPDATE_MAN=1` in the environment
//! it writes what it otherwise compares. So are examples: [`check_examples`].

#![forbid(unsafe_code)]

mod examples;
mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

pub use examples::check_examples;
pub use file::File;

/// Compares `docs/man` with the pages of `command` and its subcommands.
///
/// # Errors
/// Names the first page that is missing, superfluous or not as it would be made.
pub fn check(command: clap::Command) -> Result<(), String> {
    let name = command.get_name().to_owned();
    let made = make(command).map_err(|error| error.to_string())?;
    check_pages(&made, |file| belongs(file, &name))
}

/// The same for the page of a file.
///
/// # Errors
/// As [`check`].
pub fn check_file(file: &File<'_>) -> Result<(), String> {
    let name = PathBuf::from(file.file_name());
    check_pages(&[(name.clone(), file.page())].into(), |there| *there == *name)
}

fn check_pages(made: &Pages, is_ours: impl Fn(&Path) -> bool) -> Result<(), String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man");
    if std::env::var_os("UPDATE_MAN").is_some() {
        let write = |(file, text): (&PathBuf, &String)| fs::write(dir.join(file), text);
        return made.iter().try_for_each(write).map_err(|error| error.to_string());
    }
    let there = pages(&dir).map_err(|error| error.to_string())?;
    compare(made, &there.into_iter().filter(|(file, _)| is_ours(file)).collect())
}

type Pages = BTreeMap<PathBuf, String>;

fn make(command: clap::Command) -> io::Result<Pages> {
    let dir = tempfile::tempdir()?;
    clap_mangen::generate_to(command, dir.path())?;
    pages(dir.path())
}

fn pages(dir: &Path) -> io::Result<Pages> {
    let read = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((PathBuf::from(entry.file_name()), fs::read_to_string(entry.path())?))
    };
    fs::read_dir(dir)?.map(read).collect()
}

/// `spa-knock.1` is of `spa`; `spa-keys-add.1` and `spad.1` are not.
fn belongs(file: &Path, name: &str) -> bool {
    let file = file.to_string_lossy();
    let rest = file.strip_prefix(name).unwrap_or("no");
    let other = name == "spa" && rest.starts_with("-keys");
    (rest.starts_with('-') || rest == ".1") && !other
}

fn compare(made: &Pages, there: &Pages) -> Result<(), String> {
    let differs = |file: &&PathBuf| made.get(*file) != there.get(*file);
    match made.keys().chain(there.keys()).find(differs) {
        Some(file) => Err(format!(
            "docs/man/{} is not what the command line says; make it anew with: UPDATE_MAN=1 cargo test man_page",
            file.display()
        )),
        None => Ok(()),
    }
}
