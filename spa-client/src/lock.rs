//! Keys under a passphrase. Pure, but for the time that it takes.
//!
//! ```text
//! key    = Argon2id(passphrase, salt, memory, passes, lanes), 32 bytes     RFC 9106
//! sealed = ChaCha20-Poly1305(key, nonce 0, keys, label | memory | passes | lanes | server | key-id)
//! keys   = cloak 16 | psk 32 | signing key 32
//! ```
//! The nonce can be 0: each time that keys are sealed there is a new salt, and so a new key.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use serde::{Deserialize, Serialize};
use spa_proto::{Cloak, Kid, Psk, ServerPublic, SigningKey};
use zeroize::Zeroizing;

use crate::field::{self, Salt, SealedKeys};

/// Lengths of the parts of the plain text, and of the tag.
const PARTS: [usize; 3] = [16, 32, 32];
const KEYS_LEN: usize = 80;
const TAG_LEN: usize = 16;
/// All that stands in a file.
pub(crate) const SEALED_LEN: usize = KEYS_LEN + TAG_LEN;
const LABEL: &[u8] = b"spa1 keys 00";
/// The second choice of RFC 9106 §4, for where 2 GiB are too much.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// More is not from us: a file must not keep this machine busy for hours.
const MOST: (u32, u32, u32) = (1024 * 1024, 64, 64);

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

/// What a passphrase makes; opens one file, as it is now.
pub(crate) struct FileKey(Zeroizing<[u8; 32]>);

impl FileKey {
    /// As it was kept; `None` for what never was one.
    pub(crate) fn of_kept(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// To be kept where nobody else gets at it.
    pub(crate) fn expose(&self) -> &[u8] {
        &*self.0
    }
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
        let empty = SealedKeys::new([0; SEALED_LEN]);
        let mut locked =
            Self { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES, salt, sealed: empty };
        let key = locked.derive(passphrase)?;
        locked.sealed = SealedKeys::new(locked.seal(keys, owner, &key)?);
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
    pub(crate) fn derive(&self, passphrase: &str) -> Result<FileKey, String> {
        let Self { memory_kib, passes, lanes, .. } = *self;
        if memory_kib > MOST.0 || passes > MOST.1 || lanes > MOST.2 {
            return Err("its [locked] part asks for more work than any that spa writes".into());
        }
        let params = Params::new(memory_kib, passes, lanes, None).map_err(|why| why.to_string())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into(passphrase.as_bytes(), self.salt.as_bytes(), &mut *key)
            .map_err(|why| why.to_string())?;
        Ok(FileKey(key))
    }

    fn seal(&self, keys: &Keys, owner: Owner, key: &FileKey) -> Result<[u8; SEALED_LEN], String> {
        let mut out = Zeroizing::new([0; SEALED_LEN]);
        let (text, tag) = out.split_at_mut(KEYS_LEN);
        let signing = keys.signing.expose();
        let parts: [&[u8]; 3] = [keys.cloak.expose(), keys.psk.expose(), signing.as_slice()];
        let mut rest = &mut *text;
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
        let sealed = cipher(key)
            .encrypt_inout_detached(&[0; 12].into(), &self.bound_to(owner), text.into())
            .map_err(|_| "the keys cannot be sealed")?;
        tag.copy_from_slice(&sealed);
        Ok(*out)
    }

    /// The keys; `None` where it is another passphrase, or something was changed.
    pub(crate) fn open(&self, owner: Owner, key: &FileKey) -> Option<Keys> {
        let mut bytes = Zeroizing::new(*self.sealed.as_bytes());
        let (text, tag) = bytes.split_at_mut(KEYS_LEN);
        let tag: [u8; TAG_LEN] = (&*tag).try_into().ok()?;
        cipher(key)
            .decrypt_inout_detached(
                &[0; 12].into(),
                &self.bound_to(owner),
                (&mut *text).into(),
                &tag.into(),
            )
            .ok()?;
        let (cloak, rest) = text.split_at(PARTS[0]);
        let (psk, signing) = rest.split_at(PARTS[1]);
        let signing: Zeroizing<[u8; 32]> = Zeroizing::new(signing.try_into().ok()?);
        Some(Keys {
            cloak: Cloak::from_bytes(cloak.try_into().ok()?),
            psk: Psk::from_bytes(psk.try_into().ok()?),
            signing: SigningKey::from_seed(&signing),
        })
    }

    fn bound_to(&self, owner: Owner) -> Vec<u8> {
        let cost = [self.memory_kib, self.passes, self.lanes].map(u32::to_be_bytes);
        [LABEL, cost.as_flattened(), owner.server.as_bytes(), owner.kid.as_bytes()].concat()
    }
}

fn cipher(key: &FileKey) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new((&*key.0).into())
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
