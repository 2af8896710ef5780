//! A token for a server that is here already: other keys take the place of those
//! in its file, and what the user has chosen there stays (protocol §3.4).

use spa_keys::{Token, TokenEnrolment};
use spa_proto::VerifyingKey;

use crate::alias::{Alias, same_host};
use crate::config::ConfigDir;
use crate::exit::Failure;
use crate::field::Field;
use crate::host_file::{HostEntry, KeysInFile};
use crate::lock::Keys;
use crate::unlock::{self, Opened};

/// A server's file, and what it takes to write it anew.
pub(crate) struct Update {
    alias: Alias,
    old: HostEntry,
    opened: Opened,
}

impl Update {
    /// The file that a token is for, which works only with the signing key in it.
    pub(crate) fn by_key(config: &ConfigDir, token: &Token) -> Result<Option<Self>, Failure> {
        let TokenEnrolment::Key(key) = &token.enrolment else { return Ok(None) };
        for (alias, old) in config.known()?.entries {
            if !may_have(&old, key, token) {
                continue;
            }
            let opened = unlock::open(&alias, &old)?;
            if opened.keys.signing.verifying_key() == *key {
                return Ok(Some(Self { alias, old, opened }));
            }
        }
        Ok(None)
    }

    /// The file of this name, whatever the token says, since the user says so.
    pub(crate) fn by_alias(config: &ConfigDir, alias: &Alias) -> Result<Option<Self>, Failure> {
        if config.host_path(alias).symlink_metadata().is_err() {
            return Ok(None);
        }
        let (alias, old) = (alias.clone(), config.load(alias)?);
        let opened = unlock::open(&alias, &old)?;
        Ok(Some(Self { alias, old, opened }))
    }

    /// The signing key that stays.
    pub(crate) fn signing_keys(&self) -> &Keys {
        &self.opened.keys
    }

    /// What is about to go, for people.
    pub(crate) fn describe(&self) -> String {
        let (alias, host, key) = (&self.alias, self.old.host(), self.old.server_key());
        format!(
            "replaces  {alias}: {host}, UDP port {}\nits key   {}",
            self.old.port(),
            *key.write()
        )
    }

    /// What makes of the server another one, if anything does: whoever knows a key of ours can
    /// make a token for it, of a server of their own.
    pub(crate) fn other_server(&self, new: &HostEntry) -> Option<String> {
        let (alias, old) = (&self.alias, &self.old);
        if !same_host(old.host(), new.host()) {
            return Some(format!("{alias} would be at {} instead of {}", new.host(), old.host()));
        }
        let other = old.server_key() != new.server_key();
        other.then(|| format!("{alias} would have another server key"))
    }

    /// Under which name.
    pub(crate) fn alias(&self) -> &Alias {
        &self.alias
    }

    /// Puts the new keys in place, under the passphrase of the old ones. Those are
    /// kept beside, until the new ones have been seen to work.
    pub(crate) fn write(self, config: &ConfigDir, mut entry: HostEntry) -> Result<(), Failure> {
        entry.keep_mode_of(&self.old);
        if let (Some(passphrase), KeysInFile::Plain(keys)) = (&self.opened.passphrase, entry.keys())
        {
            let keys = keys.clone();
            unlock::lock_in(&mut entry, &keys, passphrase)?;
        }
        config.set_aside(&self.alias)?;
        config.replace(&self.alias, entry)
    }
}

/// Whether a token for a server and a key-id that are here says something new all the
/// same: another place or cloak, other services or times. Of keys under a passphrase nothing is known before that is asked for.
pub(crate) fn brings_more(config: &ConfigDir, there: &Alias, token: &Token) -> bool {
    let (Ok(entry), TokenEnrolment::Key(_)) = (config.load(there), &token.enrolment) else {
        return false;
    };
    if !same_host(entry.host(), &token.host) || entry.port().get() != token.port {
        return true;
    }
    match entry.keys() {
        KeysInFile::Plain(Keys { cloak, psk, .. }) => {
            let other_keys =
                cloak.expose() != token.cloak.expose() || psk.expose() != token.psk.expose();
            other_keys || !entry.says_of_services_what(token)
        }
        KeysInFile::Locked(_) => true,
    }
}

/// Of keys under a passphrase it is not known before that is asked for.
fn may_have(entry: &HostEntry, key: &VerifyingKey, token: &Token) -> bool {
    match entry.keys() {
        KeysInFile::Plain(keys) => keys.signing.verifying_key() == *key,
        KeysInFile::Locked(_) => {
            let same_server = entry.server_key() == token.server;
            same_server || entry.key_id() == token.kid || same_host(entry.host(), &token.host)
        }
    }
}
