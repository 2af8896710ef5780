//! Where keys are kept once they are unlocked: by the kernel alone, or half by it and half by the
//! desktop's keyring.
//!
//! ```text
//! key = half of the kernel (random) ^ half of the desktop
//! ```
//!
//! The desktops' keyrings know no end of time, and write what they have on a disk, under the
//! login's password. The kernel does neither, unless all of its memory is written to one
//! (hibernation, a crash dump). What the desktop has is therefore worth nothing without a half
//! that ends in its time and with the machine, and what the kernel has nothing while the
//! desktop's keyring is locked.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use spa_keys::random;
use zeroize::Zeroizing;

use crate::alias::Alias;
use crate::os::desktop::{self, Found};
use crate::os::{at_terminal, keyring};
use crate::report;

/// Length of a key in bytes.
const KEY_LEN: usize = 32;

/// Who keeps unlocked keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keyring {
    /// The desktop, where somebody sits at one that has a keyring, else the kernel.
    #[default]
    Auto,
    /// The kernel.
    Kernel,
    /// The desktop and the kernel.
    Desktop,
}

impl Keyring {
    /// As it is written.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Desktop => "desktop",
        }
    }
}

impl std::str::FromStr for Keyring {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Auto, Self::Kernel, Self::Desktop];
        let named = all.into_iter().find(|keyring| keyring.name() == text);
        named.ok_or("expected auto, kernel or desktop")
    }
}

/// How long the desktop is waited for, before it has a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// As long as a program takes: something else is about to be done.
    Briefly,
    /// Until a person has given the keyring's password, who is told so.
    ForPerson,
}

/// What a key is kept under.
pub(crate) struct Place<'a> {
    /// For people, and for the desktop.
    pub(crate) alias: &'a Alias,
    /// For the kernel: no other key has it, this passphrase's before included.
    pub(crate) name: String,
}

/// What there is.
pub(crate) enum Kept {
    /// This.
    Key(Zeroizing<Vec<u8>>),
    /// Nothing as long as the desktop's half is out of reach: its keyring is locked, or does not
    /// answer, or there is no way to it from here.
    OutOfReach,
    /// Nothing.
    Nothing,
}

impl Place<'_> {
    fn half(&self) -> String {
        format!("half:{}", self.name)
    }

    /// What is kept here. Where the desktop's keyring is locked and a person is at a terminal,
    /// the desktop asks for its password; else nobody is asked. Who has chosen the kernel does
    /// not depend on the desktop: a half that it does not give at once is forgotten.
    pub(crate) fn kept(&self, keyring: Keyring) -> Kept {
        if let Some(key) = keyring::kept(&self.name) {
            return Kept::Key(key);
        }
        let Some(ours) = keyring::kept(&self.half()) else { return Kept::Nothing };
        let is_desktops = keyring != Keyring::Kernel;
        match self.find_other_half(is_desktops && at_terminal()) {
            Found::Secret(theirs) => Kept::Key(together(&ours, &*theirs)),
            Found::Locked | Found::Silence | Found::Nobody if is_desktops => Kept::OutOfReach,
            _ => {
                keyring::forget(&self.half());
                Kept::Nothing
            }
        }
    }

    fn find_other_half(&self, by_asking: bool) -> Found {
        let alias = self.alias.to_string();
        match desktop::kept(&alias) {
            Found::Locked if by_asking => {
                report::note(&format!(
                    "spa: the desktop's keyring is locked: waiting {} s for it to be unlocked",
                    desktop::PERSON.as_secs()
                ));
                match desktop::kept_by_asking(&alias) {
                    Found::Nothing => Found::Locked,
                    found => found,
                }
            }
            found => found,
        }
    }

    /// Keeps a key for this long, and says who has it. A keyring that is there and does not take
    /// it is not gone round: whoever has locked it does not want the key kept beside.
    ///
    /// # Errors
    /// Why nobody has.
    pub(crate) fn keep(
        &self,
        key: &[u8],
        time: Duration,
        keyring: Keyring,
        wait: Wait,
    ) -> Result<&'static str, String> {
        let is_kernels = match keyring {
            Keyring::Kernel => true,
            Keyring::Desktop => false,
            Keyring::Auto => !desktop::is_there(),
        };
        if is_kernels {
            return self.keep_whole(key, time);
        }
        match desktop::kept(&self.alias.to_string()) {
            Found::Nobody if keyring == Keyring::Auto => self.keep_whole(key, time),
            Found::Locked if wait == Wait::Briefly => Err("the desktop's keyring is locked".into()),
            Found::Silence if wait == Wait::Briefly => {
                Err("the desktop's keyring does not answer".into())
            }
            _ => self.keep_halves(key, time, wait),
        }
    }

    fn keep_whole(&self, key: &[u8], time: Duration) -> Result<&'static str, String> {
        keyring::forget(&self.half());
        keyring::keep(&self.name, key, time).map(|()| "kernel's keyring")
    }

    fn keep_halves(&self, key: &[u8], time: Duration, wait: Wait) -> Result<&'static str, String> {
        let ours = random::bytes::<KEY_LEN>().map_err(|error| error.to_string())?;
        let theirs = together(key, &*ours);
        let theirs = theirs.as_slice().try_into().map_err(|_| "not a key of ours")?;
        keyring::keep(&self.half(), &*ours, time)?;
        keyring::forget(&self.name);
        let alias = self.alias.to_string();
        let stored = match wait {
            Wait::Briefly => desktop::keep(&alias, theirs, desktop::ANSWER),
            Wait::ForPerson => telling(|| desktop::keep(&alias, theirs, desktop::PERSON)),
        };
        stored.inspect_err(|_| {
            keyring::forget(&self.half());
        })?;
        Ok("desktop's keyring")
    }
}

/// Forgets these, wherever they are.
pub(crate) fn forget(places: &[Place<'_>]) {
    forget_ours(places);
    let names: Vec<_> = places.iter().map(|place| place.alias.to_string()).collect();
    desktop::forget(&names);
}

/// Forgets all: these, and whatever else the desktop has of us.
pub(crate) fn forget_all(places: &[Place<'_>]) {
    forget_ours(places);
    desktop::forget_all();
}

/// First of all, as it takes no time and leaves the desktop's halves worth nothing.
fn forget_ours(places: &[Place<'_>]) {
    for place in places {
        keyring::forget(&place.name);
        keyring::forget(&place.half());
    }
}

/// Says what is waited for, if it takes longer than a program does.
fn telling<T>(wait: impl FnOnce() -> T) -> T {
    let (waits, ended) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if ended.recv_timeout(desktop::ANSWER) == Err(RecvTimeoutError::Timeout) {
                report::note(&format!(
                    "spa: the desktop's keyring may be locked: waiting {} s in all for it to be \
                     unlocked",
                    desktop::PERSON.as_secs()
                ));
            }
        });
        let result = wait();
        drop(waits);
        result
    })
}

/// One half hides the other, and brings it back.
fn together(one: &[u8], other: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(one.iter().zip(other).map(|(a, b)| a ^ b).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_come_together_again() {
        let (key, ours) = ([7; KEY_LEN], [0x5a; KEY_LEN]);
        let theirs = together(&key, &ours);
        assert_ne!(*theirs, key);
        assert_eq!(*together(&ours, &theirs), key);
    }

    #[test]
    fn keyrings_have_names() {
        for keyring in [Keyring::Auto, Keyring::Kernel, Keyring::Desktop] {
            assert_eq!(keyring.name().parse(), Ok(keyring));
        }
        assert!("gnome".parse::<Keyring>().is_err());
    }
}
