//! `spa ssh-config`: the lines in `~/.ssh/config` with which ssh knocks by
//! itself, put there and taken away again.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use spa_keys::files;
use spa_proto::GrantMode;

use crate::cli::SshConfigOptions;
use crate::config::ConfigDir;
use crate::exit::{Exit, Failure};
use crate::host_file::HostEntry;
use crate::ssh_block::{Style, block, edit, shell_word};
use crate::{os, report};

/// Prints the lines, or puts them in place, or takes them away.
pub(crate) fn run(config: &ConfigDir, options: &SshConfigOptions) -> Result<Exit, Failure> {
    let file = || {
        let default = || os::home().map(|home| home.join(".ssh/config"));
        let file = options.file.clone().or_else(default);
        file.ok_or_else(|| Failure::usage("no home directory: say --file FILE"))
    };
    if options.remove {
        return change(&file()?, None);
    }
    let block = block(&hosts(config, options)?, &command(config)?);
    if options.write {
        return change(&file()?, Some(&block));
    }
    report::print(block.trim_end())?;
    Ok(Exit::Done)
}

/// Names of servers, each with how ssh is to reach it.
fn hosts(config: &ConfigDir, options: &SshConfigOptions) -> Result<Vec<(String, Style)>, Failure> {
    let entries = if options.host.is_empty() {
        let known = config.known()?;
        known.broken.iter().for_each(report::complain);
        if !known.broken.is_empty() {
            return Err(Failure::keys(
                "what is said of some servers cannot be read (above), and ssh would no longer knock \
                 there: nothing was written; mend or remove those files, or name the servers",
            ));
        }
        known.entries.into_iter().map(|(_, entry)| entry).collect()
    } else {
        let load = |host: &String| config.load(&config.find(host)?);
        options.host.iter().map(load).collect::<Result<Vec<_>, _>>()?
    };
    if entries.is_empty() {
        let dir = config.path().display();
        return Err(Failure::keys(format!("no servers in {dir} yet: spa enroll")));
    }
    let mut hosts: Vec<_> =
        entries.iter().map(|entry| (entry.host().to_owned(), style(entry, options))).collect();
    hosts.sort();
    hosts.dedup();
    if let Some((host, _)) = hosts.iter().find(|(host, _)| config.find_known(host).is_err()) {
        return Err(Failure::keys(format!(
            "more than one server is at {host}, and ssh could not say which is meant: nothing was \
             written; keep one of them (spa hosts, spa forget), or name the other servers"
        )));
    }
    Ok(hosts)
}

/// One connection is not to be used up by waiting, and its source port not to be guessed.
fn style(entry: &HostEntry, options: &SshConfigOptions) -> Style {
    match entry.mode() {
        Some(GrantMode::Once | GrantMode::Bound) => Style::Proxy,
        _ if options.proxy => Style::Proxy,
        None | Some(GrantMode::Window) => {
            let first = entry.default_service();
            Style::Exec(entry.service_of_ssh().filter(|service| Some(*service) != first))
        }
    }
}

/// How ssh's shell finds this program, and it the keys.
fn command(config: &ConfigDir) -> Result<String, Failure> {
    let spa = if os::in_path("spa") {
        "spa".to_owned()
    } else {
        let path = std::env::current_exe().map_err(|error| {
            Failure::keys(format!("cannot tell where this program is: {error}"))
        })?;
        shell_word(&path)?
    };
    let Some(dir) = config.given() else { return Ok(spa) };
    let dir = std::path::absolute(dir).map_err(|error| {
        Failure::keys(format!("cannot tell where {} is: {error}", dir.display()))
    })?;
    Ok(format!("{spa} --config-dir {}", shell_word(&dir)?))
}

/// What is there now.
struct Current {
    /// The file itself, where `~/.ssh/config` is a link to it.
    target: PathBuf,
    metadata: Metadata,
    text: String,
}

/// Puts `block` in place, or takes it away, if that changes anything.
fn change(file: &Path, block: Option<&str>) -> Result<Exit, Failure> {
    let shown = file.display();
    let current = read(file)?;
    let text = current.as_ref().map_or("", |current| &current.text);
    let changed = edit(text, block).map_err(|line| {
        Failure::keys(format!(
            "{shown}:{line}: this line of spa's has lost its other half: delete what is left of \
             the block, and try again"
        ))
    })?;
    if changed == text {
        let has = if block.is_some() { "has these lines already" } else { "has no lines of spa" };
        report::note(&format!("{shown} {has}: nothing was changed"));
        return Ok(Exit::Done);
    }
    match current {
        None => create(file, &changed)?,
        Some(current) => {
            let backup = back_up(file, &current)?;
            replace(&current, &changed)?;
            report::note(&format!("{shown} is changed; as it was: {}", backup.display()));
        }
    }
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<Option<Current>, Failure> {
    let fault =
        |what: &str, error| Failure::keys(format!("cannot {what} {}: {error}", file.display()));
    let target = match fs::canonicalize(file) {
        Err(error) if error.kind() == ErrorKind::NotFound && !file.is_symlink() => return Ok(None),
        target => target.map_err(|error| fault("find", error))?,
    };
    let metadata = fs::metadata(&target).map_err(|error| fault("look at", error))?;
    if os::belongs_to_somebody_else(&metadata) {
        return Err(Failure::keys(format!(
            "{} belongs to somebody else, whose ssh would not read it any more: run this as its owner",
            target.display()
        )));
    }
    let text = fs::read_to_string(&target).map_err(|error| fault("read", error))?;
    Ok(Some(Current { target, metadata, text }))
}

fn create(file: &Path, text: &str) -> Result<(), Failure> {
    if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        files::make_private_dir(dir).map_err(Failure::keys)?;
    }
    files::create_new(file, text).map_err(Failure::keys)?;
    report::note(&format!("{} is new", file.display()));
    Ok(())
}

/// Beside the file, under a name that is free: no backup takes the place of another.
fn back_up(file: &Path, current: &Current) -> Result<PathBuf, Failure> {
    let name = |number: u32| {
        let mut name = file.as_os_str().to_owned();
        name.push(".before-spa");
        if number > 1 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    };
    for backup in (1..1000).map(name) {
        match files::create_new(&backup, &current.text) {
            Err(error) if error.is_taken() => {}
            Err(error) => return Err(Failure::keys(error)),
            Ok(()) => {
                keep_mode(&backup, current)?;
                return Ok(backup);
            }
        }
    }
    Err(Failure::keys(format!("there are too many backups of {}: delete some", file.display())))
}

/// There is the old file or the new one, whole, at any moment.
fn replace(current: &Current, text: &str) -> Result<(), Failure> {
    files::write_atomic(&current.target, text).map_err(Failure::keys)?;
    keep_mode(&current.target, current)
}

fn keep_mode(file: &Path, current: &Current) -> Result<(), Failure> {
    fs::set_permissions(file, current.metadata.permissions()).map_err(|error| {
        Failure::keys(format!("cannot give {} the mode it had: {error}", file.display()))
    })
}
