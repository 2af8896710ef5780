//! Where keys are kept once they are unlocked: by the kernel alone, or half by it and half by the
//! desktop's keyring.
//!
//! ```text
//! key = half of the kernel (random) ^ half of the desktop
//! ```
//!
//! The desktops' keyrings know no end of time, and write what they have on a disk, under the
//! login's password. The kernel does neither. What the desktop has is therefore worth nothing
//! without a half that ends in its time and with the machine, and what the kernel has nothing
//! while the desktop's keyring is locked.

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
    /// Nothing until somebody unlocks the desktop's keyring.
    Locked,
    /// Nothing.
    Nothing,
}

impl Place<'_> {
    fn half(&self) -> String {
        format!("half:{}", self.name)
    }

    /// What is kept here. Where the desktop's keyring is locked and a person is at a terminal,
    /// the desktop asks for its password; else nobody is asked.
    pub(crate) fn kept(&self) -> Kept {
        if let Some(key) = keyring::kept(&self.name) {
            return Kept::Key(key);
        }
        let Some(ours) = keyring::kept(&self.half()) else { return Kept::Nothing };
        match self.find_other_half() {
            Found::Secret(theirs) => Kept::Key(together(&ours, &*theirs)),
            Found::Locked => Kept::Locked,
            Found::Nothing => {
                keyring::forget(&self.half());
                Kept::Nothing
            }
        }
    }

    fn find_other_half(&self) -> Found {
        let alias = self.alias.to_string();
        match desktop::kept(&alias) {
            Found::Locked if at_terminal() => {
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

    /// Keeps a key for this long, and says who has it.
    ///
    /// # Errors
    /// Why nobody has.
    pub(crate) fn keep(
        &self,
        key: &[u8],
        time: Duration,
        keyring: Keyring,
    ) -> Result<&'static str, String> {
        let by_kernel = || {
            keyring::forget(&self.half());
            keyring::keep(&self.name, key, time).map(|()| "kernel's keyring")
        };
        match keyring {
            Keyring::Kernel => by_kernel(),
            Keyring::Desktop => self.keep_halves(key, time),
            Keyring::Auto if desktop::is_there() => {
                self.keep_halves(key, time).or_else(|_| by_kernel())
            }
            Keyring::Auto => by_kernel(),
        }
    }

    fn keep_halves(&self, key: &[u8], time: Duration) -> Result<&'static str, String> {
        let ours = random::bytes::<KEY_LEN>().map_err(|error| error.to_string())?;
        let theirs = together(key, &*ours);
        let theirs = theirs.as_slice().try_into().map_err(|_| "not a key of ours")?;
        keyring::keep(&self.half(), &*ours, time)?;
        keyring::forget(&self.name);
        desktop::keep(&self.alias.to_string(), theirs).inspect_err(|_| {
            keyring::forget(&self.half());
        })?;
        Ok("desktop's keyring")
    }

    /// Forgets it, wherever it is.
    pub(crate) fn forget(&self) {
        keyring::forget(&self.name);
        keyring::forget(&self.half());
        desktop::forget(&self.alias.to_string());
    }
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
