//! `spad close`: before the first interface is up, shuts what was shut when
//! spad last ran. It needs neither configuration nor keys, though it can make
//! use of the configuration.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::control::report::{Disabled, Stopped};
use crate::control::{Answer, client};
use crate::enforcement::{self, Trial};
use crate::firewall::{Firewall, FirewallError, Saved};
use crate::kept::{self, Kept};
use crate::turn::Turn;

/// What was done.
#[derive(Debug)]
pub enum Closed {
    /// A ruleset is in force.
    Shut {
        /// Which.
        source: Source,
        /// What was wrong with others that should have come first.
        faults: Vec<String>,
    },
    /// Nothing: no spad has put a ruleset in force here, or it was taken out by an administrator's
    /// word.
    NothingKept(PathBuf),
    /// Nothing: a spad runs and sees to it itself.
    Running,
}

/// Where a ruleset came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was the last in force.
    Kept,
    /// It is what the configuration asks for.
    Configuration,
    /// It was in force before the last.
    Previous,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shut { source, .. } => write!(f, "shut by {source}"),
            Self::NothingKept(path) => {
                let path = path.display();
                write!(
                    f,
                    "nothing to shut: nothing was in force here for good (there is no {path})"
                )
            }
            Self::Running => f.write_str("nothing to do: spad is running"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "the ruleset that was last in force",
            Self::Configuration => "the ruleset that the configuration asks for",
            Self::Previous => "the ruleset that was in force before the last",
        })
    }
}

/// A ruleset, where it came from, and what was wrong with better ones.
type Choice = (Saved, Source, Vec<String>);

/// Puts the ruleset in force that was last so, without its grants.
///
/// # Errors
/// Says why nothing is shut.
pub fn close(config: &Path) -> Result<Closed, String> {
    let directories = Config::directories(config);
    let _turn = Turn::or_without(&directories.run);
    if client::is_running(&directories.run) {
        return Ok(Closed::Running);
    }
    let Some((saved, source, faults)) = choose(config, &directories.state)? else {
        return Ok(Closed::NothingKept(kept::path(&directories.state)));
    };
    // What it shuts is not said by a saved ruleset.
    kept::forget_shut(&directories.run);
    install(&saved).map_err(|error| error.to_string())?;
    kept::note_in_force(&directories.run);
    Ok(Closed::Shut { source, faults })
}

fn install(saved: &Saved) -> Result<(), FirewallError> {
    Firewall::open_with(saved.options())?.install_saved(saved)
}

/// The last ruleset; where it is damaged what the configuration asks for, since
/// that is newer than the one before; then that. `None` if there never was one.
fn choose(config: &Path, state_dir: &Path) -> Result<Option<Choice>, String> {
    let mut faults = match kept::latest(state_dir) {
        Kept::Ruleset(saved) => return Ok(Some((saved, Source::Kept, Vec::new()))),
        Kept::Nothing => return never_ran(config).map(|()| None),
        Kept::Unusable(why) => vec![why],
    };
    match configured(config) {
        Ok(saved) => return Ok(Some((saved, Source::Configuration, faults))),
        Err(why) => faults.push(why),
    }
    match kept::previous(state_dir) {
        Kept::Ruleset(saved) => return Ok(Some((saved, Source::Previous, faults))),
        Kept::Nothing => {}
        Kept::Unusable(why) => faults.push(why),
    }
    Err(format!(
        "NOTHING IS SHUT: {}; repair the configuration and run: spad run",
        faults.join("; ")
    ))
}

/// Where the configuration cannot be read, another state-dir than the usual one
/// may keep what is missing here.
fn never_ran(config: &Path) -> Result<(), String> {
    match std::fs::read(config) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(format!(
            "NOTHING IS SHUT: {} cannot be read ({error}), and nothing is kept where it is by \
             default; make it readable and run: spad close",
            config.display()
        )),
        _ => Ok(()),
    }
}

fn configured(path: &Path) -> Result<Saved, String> {
    let config = Config::load(path).map_err(|error| error.to_string())?;
    Saved::of(&config.ruleset(), config.options()).map_err(|error| error.to_string())
}

/// `spad disable` where no daemon runs, nor starts meanwhile: what one has left is taken
/// out, and nothing is shut by the next start either.
///
/// # Errors
/// Where the configuration says that it is always in force, or as [`open`].
pub fn disable(config: &Config, _: &Turn) -> Result<Answer, String> {
    if let Some(why) = enforcement::always(config) {
        return Err(why.into());
    }
    let already = matches!(kept::latest(&config.state_dir), Kept::Nothing);
    // First the table: where it cannot be taken out, nothing is forgotten.
    remove_table().map_err(|error| format!("nothing has changed: {error}"))?;
    let forgotten = kept::forget(&config.state_dir)
        .and_then(|()| Trial::forget(&config.run_dir))
        .and_then(|()| kept::note_open(&config.run_dir));
    forgotten.map_err(|error| {
        format!("open now, but the next start may shut it again: {error}; run it once more")
    })?;
    Ok(Answer::Disabled(Disabled { already, ..Disabled::of(config) }))
}

/// `spad stop --open` where no daemon runs: takes out the table that one has
/// left, if there is one.
///
/// # Errors
/// Where it is not ours, or the kernel refuses.
pub fn open(config: &Path) -> Result<Answer, String> {
    remove_table()?;
    kept::note_open(&Config::directories(config).run).map_err(|error| error.to_string())?;
    Ok(Answer::Stopped(Stopped { was_running: false, open: true, ..Stopped::default() }))
}

fn remove_table() -> Result<(), String> {
    let removed = Firewall::open().and_then(|mut firewall| {
        // Of mode attach there may be a rule in other people's chains.
        firewall.detach(&[])?;
        firewall.remove()
    });
    removed.map(|_| ()).map_err(|error| error.to_string())
}
