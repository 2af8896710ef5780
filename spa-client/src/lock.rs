//! Keys under a passphrase, as `spa_keys::passphrase` locks it. Pure, but for the
//! time that it takes.
//!
//! ```text
//! keys      = cloak 16 | psk 32 | signing key 32
//! bound to  = "spa1 keys 00" | memory | passes | lanes | server | key-id
//! ```

use serde::{Deserialize, Serialize};
use spa_keys::passphrase::{Cost, CostError, PassphraseKey, TAG_LEN};
use spa_proto::{Cloak, Kid, Psk, ServerPublic, SigningKey};
use zeroize::Zeroizing;

use crate::field::{self, Salt, SealedKeys};

/// Lengths of the parts of the plain text.
const PARTS: [usize; 3] = [16, 32, 32];
const KEYS_LEN: usize = 80;
/// All that stands in a file.
pub(crate) const SEALED_LEN: usize = KEYS_LEN + TAG_LEN;
const LABEL: &[u8] = b"spa1 keys 00";

/// What has to stay secret of a server's file.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) cloak: Cloak,
    pub(crate) psk: Psk,
    pub(crate) signing: SigningKey,
}

/// Whose keys they are: no file's keys open as another's.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) server: ServerPublic,
    pub(crate) kid: Kid,
}

/// Keys that take a passphrase, as they stand in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Locked {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    #[serde(with = "field")]
    salt: Salt,
    #[serde(with = "field")]
    sealed: SealedKeys,
}

impl Locked {
    /// Locks keys with a new passphrase; `salt` is new as well.
    pub(crate) fn new(
        keys: &Keys,
        owner: Owner,
        passphrase: &str,
        salt: Salt,
    ) -> Result<Self, String> {
        let Cost { memory_kib, passes, lanes } = Cost::USUAL;
        let empty = SealedKeys::new([0; SEALED_LEN]);
        let mut locked = Self { memory_kib, passes, lanes, salt, sealed: empty };
        let key = locked.derive(passphrase)?;
        locked.sealed = locked.seal(keys, owner, &key).ok_or("the keys cannot be sealed")?;
        Ok(locked)
    }

    /// What tells these sealed keys from all others.
    pub(crate) fn salt(&self) -> &Salt {
        &self.salt
    }

    /// The slow part.
    ///
    /// # Errors
    /// Where the file asks for what no file of ours does, or there is not the memory.
    pub(crate) fn derive(&self, passphrase: &str) -> Result<PassphraseKey, String> {
        PassphraseKey::derive(passphrase, self.salt.as_bytes(), self.cost()).map_err(
            |why| match why {
                CostError::TooMuch => {
                    "its [locked] part asks for more work than any that spa writes".to_owned()
                }
                CostError::Argon2(why) => why.to_string(),
            },
        )
    }

    fn seal(&self, keys: &Keys, owner: Owner, key: &PassphraseKey) -> Option<SealedKeys> {
        let signing = keys.signing.expose();
        let parts: [&[u8]; 3] = [keys.cloak.expose(), keys.psk.expose(), signing.as_slice()];
        let text = Zeroizing::new(parts.concat());
        let sealed = key.seal(&text, &self.bound_to(owner))?;
        Some(SealedKeys::new(sealed.try_into().ok()?))
    }

    /// The keys; `None` where it is another passphrase, or something was changed.
    pub(crate) fn open(&self, owner: Owner, key: &PassphraseKey) -> Option<Keys> {
        let text = key.open(self.sealed.as_bytes(), &self.bound_to(owner))?;
        let (cloak, rest) = text.split_at_checked(PARTS[0])?;
        let (psk, signing) = rest.split_at_checked(PARTS[1])?;
        let signing: Zeroizing<[u8; 32]> = Zeroizing::new(signing.try_into().ok()?);
        Some(Keys {
            cloak: Cloak::from_bytes(cloak.try_into().ok()?),
            psk: Psk::from_bytes(psk.try_into().ok()?),
            signing: SigningKey::from_seed(&signing),
        })
    }

    fn cost(&self) -> Cost {
        Cost { memory_kib: self.memory_kib, passes: self.passes, lanes: self.lanes }
    }

    fn bound_to(&self, owner: Owner) -> Vec<u8> {
        let cost = self.cost().to_bytes();
        [LABEL, &cost, owner.server.as_bytes(), owner.kid.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            cloak: Cloak::from_bytes([1; 16]),
            psk: Psk::from_bytes([2; 32]),
            signing: SigningKey::from_seed(&[3; 32]),
        }
    }

    fn owner() -> Owner {
        Owner { server: ServerPublic::from_bytes([4; 32]), kid: Kid::from_bytes([5; 16]) }
    }

    fn locked() -> Locked {
        Locked::new(&keys(), owner(), "correct horse", Salt::new([6; 16])).unwrap()
    }

    #[test]
    fn opens_with_the_passphrase_alone() {
        let locked = locked();
        let key = locked.derive("correct horse").unwrap();
        let opened = locked.open(owner(), &key).unwrap();
        assert!(opened.psk.expose() == keys().psk.expose());
        assert!(opened.cloak.expose() == keys().cloak.expose());
        assert_eq!(opened.signing.verifying_key(), keys().signing.verifying_key());
        for wrong in ["", "correct horse ", "Correct horse"] {
            assert!(locked.open(owner(), &locked.derive(wrong).unwrap()).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_of_it_can_be_changed() {
        let mut locked = locked();
        let key = locked.derive("correct horse").unwrap();
        let other = Owner { kid: Kid::from_bytes([7; 16]), ..owner() };
        assert!(locked.open(other, &key).is_none(), "another's");
        let other = Owner { server: ServerPublic::from_bytes([7; 32]), ..owner() };
        assert!(locked.open(other, &key).is_none(), "another server's");
        locked.passes += 1;
        assert!(locked.open(owner(), &key).is_none(), "another cost");
        locked.passes -= 1;
        for at in [0, 40, KEYS_LEN, SEALED_LEN - 1] {
            let mut bytes = *locked.sealed.as_bytes();
            bytes[at] ^= 1;
            let changed =
                Locked { sealed: SealedKeys::new(bytes), salt: Salt::new([6; 16]), ..locked };
            assert!(changed.open(owner(), &key).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_file_cannot_ask_for_endless_work() {
        for (memory_kib, passes, lanes) in
            [(u32::MAX, 1, 1), (64, u32::MAX, 1), (64, 1, 65), (0, 0, 0)]
        {
            let hostile = Locked { memory_kib, passes, lanes, ..locked() };
            assert!(hostile.derive("x").is_err());
        }
    }
}
