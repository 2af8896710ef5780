//! `config.toml`: what the user has chosen for all servers. It need not be
//! there.

use std::path::Path;

use serde::Deserialize;
use spa_keys::{document, files};

use crate::exit::Failure;
use crate::field::{self, AddressUrl, Host, KeepUnlocked};
use crate::kept::Keyring;

/// What can be chosen.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Whom `spa doctor` asks for the time, by NTP; with `:PORT` where it is not 123.
    #[serde(with = "field::optional")]
    pub(crate) time_server: Option<Host>,
    /// Who tells this machine its address, where its own is not global.
    #[serde(with = "field::optional")]
    pub(crate) address_url: Option<AddressUrl>,
    /// For how long keys stay unlocked after their passphrase was given.
    #[serde(with = "field::optional")]
    pub(crate) keep_unlocked: Option<KeepUnlocked>,
    #[serde(with = "field::optional")]
    keyring: Option<Keyring>,
}

impl Settings {
    /// Who keeps them.
    pub(crate) fn keyring(&self) -> Keyring {
        self.keyring.unwrap_or_default()
    }

    /// Reads them.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        match files::read_trusted(path) {
            Err(error) if error.is_missing() => Ok(Self::default()),
            Err(error) => Err(Failure::keys(error)),
            Ok(text) => document::parse(path, &text).map_err(Failure::keys),
        }
    }
}
