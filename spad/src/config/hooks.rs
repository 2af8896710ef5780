//! The table `[hooks]`.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::known;
use super::value::{Fault, Value, duration, each, string};

/// What is run when a grant is made and when it ends, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HooksConfig {
    /// When a grant is made or extended.
    pub on_grant: Option<HookCommand>,
    /// When it ends.
    pub on_end: Option<HookCommand>,
    /// As whom.
    pub user: String,
    /// How long each may take.
    pub timeout: Duration,
}

/// A program and its arguments: no shell is in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCommand {
    /// Its absolute path.
    pub program: PathBuf,
    /// What it is told beside the environment.
    pub arguments: Vec<String>,
}

const TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// What is written; `None` without the table. The gatekeeper runs as `gatekeeper`.
pub(super) fn read(top: &DeTable<'_>, gatekeeper: &str) -> Result<Option<HooksConfig>, Fault> {
    let Some(value) = top.get("hooks") else { return Ok(None) };
    let table = known::table(value)?;
    known::check(table, known::HOOKS)?;
    let here = |what: &str| Fault::at(value.span(), what.to_owned());
    let command_of = |key: &str| table.get(key).map(command).transpose();
    let (on_grant, on_end) = (command_of("on-grant")?, command_of("on-end")?);
    if on_grant.is_none() && on_end.is_none() {
        return Err(here("[hooks] needs on-grant, on-end or both"));
    }
    let user = table.get("user").ok_or_else(|| {
        here("[hooks] needs a user of its own to run them as: user = \"spad-hooks\"")
    })?;
    let name = string(user)?;
    // Processes of one user may send signals to each other.
    if name == "root" || name == gatekeeper || name.is_empty() {
        let what =
            format!("hooks run as neither root nor {gatekeeper}, who the gatekeeper runs as");
        return Err(Fault::at(user.span(), what));
    }
    let timeout = table.get("timeout").map_or(Ok(TIMEOUT), timeout)?;
    Ok(Some(HooksConfig { on_grant, on_end, user: name.to_owned(), timeout }))
}

fn command(value: &Value<'_>) -> Result<HookCommand, Fault> {
    let fault = |what: &str| Fault::at(value.span(), what.to_owned());
    let words = each(value, |word| Ok(string(word)?.to_owned()))?;
    if words.iter().any(|word| word.contains('\0')) {
        return Err(fault("no program can be told a NUL"));
    }
    let mut words = words.into_iter();
    let program = PathBuf::from(words.next().unwrap_or_default());
    if !program.is_absolute() {
        return Err(fault(
            "expected a program by its absolute path, and its arguments: no shell reads them",
        ));
    }
    Ok(HookCommand { program, arguments: words.collect() })
}

fn timeout(value: &Value<'_>) -> Result<Duration, Fault> {
    let timeout = duration(value)?;
    let fits = !timeout.is_zero() && timeout <= LONGEST;
    let wrong = || Fault::at(value.span(), "timeout must be from 1s to 5m".to_owned());
    fits.then_some(timeout).ok_or_else(wrong)
}
