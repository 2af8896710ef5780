//! Getting at keys that are under a passphrase: they are kept unlocked, or a
//! person is asked.

use std::time::Duration;

use spa_keys::ask::{self, AskError};
use spa_keys::duration;
use spa_keys::passphrase::PassphraseKey;
use zeroize::Zeroizing;

use crate::alias::Alias;
use crate::cli::{LockOptions, PassphraseOptions, UnlockOptions};
use crate::config::ConfigDir;
use crate::exit::{Exit, Failure};
use crate::field::{Field, Salt};
use crate::host_file::{HostEntry, KeysInFile};
use crate::kept::{self, Kept, Keyring, Place, Wait};
use crate::lock::{Keys, Locked, Owner};
use crate::report;
use crate::settings::Settings;

/// How long keys stay unlocked unless the user says otherwise.
const UNLOCKED: Duration = Duration::from_secs(15 * 60);
/// Before giving up.
const TRIES: usize = 3;

/// The keys of a server, at once where they have no passphrase or are kept unlocked.
pub(crate) fn keys(config: &ConfigDir, alias: &Alias, entry: &HostEntry) -> Result<Keys, Failure> {
    let locked = match entry.keys() {
        KeysInFile::Plain(keys) => return Ok(keys.clone()),
        KeysInFile::Locked(locked) => locked,
    };
    let place = place(alias, entry, locked);
    let settings = config.settings()?;
    let kept = place.kept(settings.keyring());
    if let Kept::Key(key) = &kept
        && let Some(keys) =
            PassphraseKey::of_kept(key).and_then(|key| locked.open(owner(entry), &key))
    {
        return Ok(keys);
    }
    let (Opened { keys, .. }, key) = ask_for_keys(alias, entry, locked)?;
    // What is kept out of reach is not kept beside: the desktop's keyring is locked on purpose.
    if !matches!(kept, Kept::OutOfReach) {
        // Not being kept costs a question the next time, and no more.
        let _ = keep(&place, &key, time(&settings), settings.keyring(), Wait::Briefly);
    }
    Ok(keys)
}

/// Where it is kept: the salt tells this passphrase from those before.
fn place<'a>(alias: &'a Alias, entry: &HostEntry, locked: &Locked) -> Place<'a> {
    Place { alias, name: format!("spa:{}:{}", entry.key_id(), *locked.salt().write()) }
}

/// Where the keys of a server are kept, if they are under a passphrase.
fn place_of<'a>(alias: &'a Alias, entry: &HostEntry) -> Option<Place<'a>> {
    match entry.keys() {
        KeysInFile::Plain(_) => None,
        KeysInFile::Locked(locked) => Some(place(alias, entry, locked)),
    }
}

/// Keeps the keys of a server unlocked no longer.
pub(crate) fn forget(alias: &Alias, entry: &HostEntry) {
    if let Some(place) = place_of(alias, entry) {
        kept::forget(&[place]);
    }
}

fn owner(entry: &HostEntry) -> Owner {
    Owner { server: entry.server_key(), kid: entry.key_id() }
}

/// For how long.
fn time(settings: &Settings) -> Duration {
    settings.keep_unlocked.as_ref().map_or(UNLOCKED, |kept| kept.0)
}

/// Says who keeps it; `None` where nobody is to.
fn keep(
    place: &Place<'_>,
    key: &PassphraseKey,
    time: Duration,
    keyring: Keyring,
    wait: Wait,
) -> Result<Option<&'static str>, String> {
    if time.is_zero() {
        return Ok(None);
    }
    place.keep(key.expose(), time, keyring, wait).map(Some)
}

/// A server's keys, and the passphrase that they were under.
pub(crate) struct Opened {
    pub(crate) keys: Keys,
    pub(crate) passphrase: Option<Zeroizing<String>>,
}

/// The keys of a server, to write them anew. Also where they are kept unlocked:
/// whoever changes them has to know the passphrase.
pub(crate) fn open(alias: &Alias, entry: &HostEntry) -> Result<Opened, Failure> {
    match entry.keys() {
        KeysInFile::Plain(keys) => Ok(Opened { keys: keys.clone(), passphrase: None }),
        KeysInFile::Locked(locked) => {
            let (opened, _) = ask_for_keys(alias, entry, locked)?;
            forget(alias, entry);
            Ok(opened)
        }
    }
}

/// Puts keys into a server's file, under a passphrase.
pub(crate) fn lock_in(entry: &mut HostEntry, keys: &Keys, passphrase: &str) -> Result<(), Failure> {
    let salt = Salt::new(*spa_keys::random::bytes().map_err(Failure::keys)?);
    let locked = Locked::new(keys, owner(entry), passphrase, salt).map_err(Failure::keys)?;
    entry.set_keys(KeysInFile::Locked(locked));
    Ok(())
}

/// As often as fingers slip.
fn ask_for_keys(
    alias: &Alias,
    entry: &HostEntry,
    locked: &Locked,
) -> Result<(Opened, PassphraseKey), Failure> {
    for _ in 0..TRIES {
        let passphrase = ask(&format!("passphrase for {alias}: "))?;
        let key = locked.derive(&passphrase).map_err(|why| {
            Failure::keys(format!("the keys for {alias} cannot be unlocked: {why}"))
        })?;
        if let Some(keys) = locked.open(owner(entry), &key) {
            return Ok((Opened { keys, passphrase: Some(passphrase) }, key));
        }
        report::note("spa: that is not the passphrase");
    }
    Err(Failure::keys(format!(
        "the keys for {alias} stay locked; without the passphrase there is only a new token: \
         spa forget {alias}, spa enroll"
    )))
}

fn ask(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    ask::passphrase(prompt).map_err(|error| explain(error, prompt))
}

/// Why a question came to nothing, and what to do.
fn explain(error: AskError, prompt: &str) -> Failure {
    match error {
        AskError::NoTerminal(error) => Failure::keys(format!(
            "no terminal to ask on for the {} ({error}): unlock it at one (spa unlock), or name a \
             program that asks in SSH_ASKPASS",
            prompt.trim_end_matches(": ")
        )),
        AskError::Empty => {
            Failure::usage("an empty passphrase is none: spa passphrase --remove takes it away")
        }
        AskError::Different => Failure::usage(format!("{error}: nothing was changed")),
        AskError::Declined | AskError::Program(_) | AskError::File(_) => Failure::keys(error),
    }
}

/// `spa passphrase`: sets, changes, or takes away.
pub(crate) fn passphrase(config: &ConfigDir, options: &PassphraseOptions) -> Result<Exit, Failure> {
    let alias = config.find(&options.host)?;
    let before = config.text(&alias)?;
    let mut entry = config.load(&alias)?;
    if options.remove && matches!(entry.keys(), KeysInFile::Plain(_)) {
        report::note(&format!("{alias} has no passphrase: nothing was changed"));
        return Ok(Exit::Done);
    }
    let Opened { keys, .. } = open(&alias, &entry)?;
    if options.remove {
        entry.set_keys(KeysInFile::Plain(keys));
    } else {
        let prompt = format!("new passphrase for {alias}: ");
        let passphrase = ask::new_passphrase(&prompt).map_err(|error| explain(error, &prompt))?;
        lock_in(&mut entry, &keys, &passphrase)?;
    }
    // A person was asked meanwhile; another program may have taken in other keys, or none.
    if config.text(&alias).ok().as_ref() != Some(&before) {
        return Err(Failure::keys(format!(
            "{} was changed meanwhile: nothing was written, try again",
            config.host_path(&alias).display()
        )));
    }
    config.replace(&alias, entry)?;
    let former = config.former_path(&alias);
    // They are not to lie there under no passphrase, or another.
    if !options.remove && former.exists() {
        config.forget_aside(&alias)?;
        let former = former.display();
        report::note(&format!("the keys from before are gone: {former} was not under this one"));
    }
    let state =
        if options.remove { "have no passphrase any more" } else { "are under the passphrase" };
    report::note(&format!("the keys for {alias} {state}: {}", config.host_path(&alias).display()));
    Ok(Exit::Done)
}

/// `spa unlock`: asks now, so that nobody is asked later.
pub(crate) fn unlock(config: &ConfigDir, options: &UnlockOptions) -> Result<Exit, Failure> {
    let settings = config.settings()?;
    let time = options.time.unwrap_or_else(|| time(&settings));
    let keyring = options.keyring.unwrap_or(settings.keyring());
    for host in &options.host {
        let alias = config.find(host)?;
        let entry = config.load(&alias)?;
        let KeysInFile::Locked(locked) = entry.keys() else {
            report::note(&format!("{alias} has no passphrase"));
            continue;
        };
        let (_, key) = ask_for_keys(&alias, &entry, locked)?;
        let place = place(&alias, &entry, locked);
        let kept = keep(&place, &key, time, keyring, Wait::ForPerson).map_err(|why| {
            Failure::keys(format!("the keys for {alias} cannot be kept unlocked: {why}"))
        })?;
        report::note(&match kept {
            Some(by) => format!("{alias} is unlocked for {}, by the {by}", duration::format(time)),
            None => format!("{alias} is not kept unlocked: keep-unlocked is 0s"),
        });
    }
    Ok(Exit::Done)
}

/// `spa lock`: forgets what is kept unlocked.
pub(crate) fn lock(config: &ConfigDir, options: &LockOptions) -> Result<Exit, Failure> {
    // One that cannot be found or read keeps no other unlocked.
    let (entries, broken) = if options.host.is_empty() {
        let known = config.known()?;
        (known.entries, known.broken)
    } else {
        let mut named = (Vec::new(), Vec::new());
        for host in &options.host {
            match config.find(host).and_then(|alias| Ok((config.load(&alias)?, alias))) {
                Ok((entry, alias)) => named.0.push((alias, entry)),
                Err(failure) => named.1.push(failure),
            }
        }
        named
    };
    let places: Vec<_> =
        entries.iter().filter_map(|(alias, entry)| place_of(alias, entry)).collect();
    if options.host.is_empty() {
        kept::forget_all(&places)
    } else {
        kept::forget(&places)
    }
    broken.iter().for_each(report::complain);
    Ok(if broken.is_empty() { Exit::Done } else { Exit::Keys })
}
