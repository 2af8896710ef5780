//! The last knock that a person made, to be made again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use spa_keys::{document, files};

use crate::cli::KnockOptions;
use crate::config::ConfigDir;
use crate::exit::Failure;

/// Names, ports and times: nothing that would be secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    /// Of the command line, each whole.
    knock: Vec<String>,
}

fn path(config: &ConfigDir) -> Option<PathBuf> {
    Some(config.state_dir()?.join("last-knock.toml"))
}

/// Keeps the words of a knock.
///
/// # Errors
/// Why it could not be done, which keeps nobody from knocking.
pub(crate) fn remember(config: &ConfigDir, words: &[String]) -> Result<(), String> {
    let path = path(config).ok_or("there is no home directory")?;
    let text = toml::to_string(&OnDisk { knock: words.to_vec() });
    let text = text.map_err(|error| error.to_string())?;
    let dir = path.parent().ok_or("there is no directory for it")?;
    files::make_private_dir(dir).map_err(|error| error.to_string())?;
    files::write_atomic(&path, &text).map_err(|error| error.to_string())
}

/// The options of the last knock.
pub(crate) fn recall(config: &ConfigDir) -> Result<KnockOptions, Failure> {
    let none = || Failure::keys("no knock is remembered: there is no home directory");
    let path = path(config).ok_or_else(none)?;
    let text = files::read_private(&path).map_err(|error| {
        if error.is_missing() {
            let path = path.display();
            return Failure::keys(format!(
                "no knock is remembered in {path}: one at a terminal, without --again, will be"
            ));
        }
        Failure::keys(error)
    })?;
    let OnDisk { knock } = document::parse(&path, &text).map_err(Failure::keys)?;
    KnockOptions::of_words(&knock).map_err(|error| {
        let why = error.to_string();
        let why = why.lines().next().unwrap_or_default();
        Failure::keys(format!("{}: no knock of this version: {why}", path.display()))
    })
}
