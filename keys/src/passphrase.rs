//! What a passphrase locks: bytes under a key that Argon2id makes of it. Pure,
//! but for the time that it takes.
//!
//! ```text
//! key    = Argon2id(passphrase, salt, memory, passes, lanes), 32 bytes     RFC 9106
//! sealed = ChaCha20-Poly1305(key, nonce 0, bytes, what they are bound to)  RFC 8439
//! ```
//! The nonce can be 0: each time that something is sealed there is a new salt,
//! and so a new key.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use zeroize::Zeroizing;

/// Length of a salt in bytes.
pub const SALT_LEN: usize = 16;
/// How much longer sealed bytes are.
pub const TAG_LEN: usize = 16;
const NONCE: [u8; 12] = [0; 12];

/// What each guess of a passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// How often it is gone through.
    pub passes: u32,
    /// How many can go through it at once.
    pub lanes: u32,
}

impl Cost {
    /// The second choice of RFC 9106 §4, for where 2 GiB are too much.
    pub const USUAL: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
    /// More is not from us: what others wrote must not keep this machine busy for hours.
    const MOST: Self = Self { memory_kib: 1024 * 1024, passes: 64, lanes: 64 };

    /// Whether it is at most twice [`Self::USUAL`] in everything: what a stranger may ask for.
    #[must_use]
    pub(crate) fn is_usual(self) -> bool {
        let usual = Self::USUAL;
        self.memory_kib <= 2 * usual.memory_kib
            && self.passes <= 2 * usual.passes
            && self.lanes <= 2 * usual.lanes
    }

    /// To be bound to what is sealed: memory, passes, lanes, big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.memory_kib.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.passes.to_be_bytes());
        bytes[8..].copy_from_slice(&self.lanes.to_be_bytes());
        bytes
    }

    /// The other way round.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Self {
            memory_kib: u32::from_be_bytes([a, b, c, d]),
            passes: u32::from_be_bytes([e, f, g, h]),
            lanes: u32::from_be_bytes([i, j, k, l]),
        }
    }

    fn is_too_much(self) -> bool {
        let most = Self::MOST;
        self.memory_kib > most.memory_kib || self.passes > most.passes || self.lanes > most.lanes
    }
}

/// Why no key came of a passphrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CostError {
    /// More work than anything of ours asks for.
    TooMuch,
    /// Not what Argon2 can do.
    Argon2(argon2::Error),
}

impl fmt::Display for CostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMuch => f.write_str("it asks for more work than any that spa writes"),
            Self::Argon2(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CostError {}

/// What a passphrase makes: seals one thing, and opens it.
pub struct PassphraseKey(Zeroizing<[u8; 32]>);

impl PassphraseKey {
    /// The slow part.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn derive(passphrase: &str, salt: &[u8; SALT_LEN], cost: Cost) -> Result<Self, CostError> {
        if cost.is_too_much() {
            return Err(CostError::TooMuch);
        }
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None)
            .map_err(CostError::Argon2)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
            .map_err(CostError::Argon2)?;
        Ok(Self(key))
    }

    /// As it was kept; `None` for what never was one.
    #[must_use]
    pub fn of_kept(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// To be kept where nobody else gets at it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &*self.0
    }

    /// The bytes, sealed, and a tag of [`TAG_LEN`]; `None` for 256 GiB and more.
    #[must_use]
    pub fn seal(&self, bytes: &[u8], bound_to: &[u8]) -> Option<Vec<u8>> {
        let mut text = Zeroizing::new(bytes.to_vec());
        let tag = self
            .cipher()
            .encrypt_inout_detached(&NONCE.into(), bound_to, text.as_mut_slice().into())
            .ok()?;
        Some([text.as_slice(), tag.as_slice()].concat())
    }

    /// What was sealed; `None` where it was under another passphrase or bound to
    /// something else, or any of it was changed.
    #[must_use]
    pub fn open(&self, sealed: &[u8], bound_to: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (text, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
        let mut bytes = Zeroizing::new(text.to_vec());
        self.cipher()
            .decrypt_inout_detached(
                &NONCE.into(),
                bound_to,
                bytes.as_mut_slice().into(),
                &(*tag).into(),
            )
            .ok()?;
        Some(bytes)
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quick: what is slow is tested where it is used.
    const CHEAP: Cost = Cost { memory_kib: 32, passes: 1, lanes: 4 };

    fn key(passphrase: &str) -> PassphraseKey {
        PassphraseKey::derive(passphrase, &[6; 16], CHEAP).unwrap()
    }

    #[test]
    fn opens_with_the_same_key_alone() {
        let sealed = key("correct horse").seal(b"hush", b"alice").unwrap();
        assert_eq!(sealed.len(), 4 + TAG_LEN);
        let open = |passphrase, to: &[u8]| key(passphrase).open(&sealed, to);
        assert_eq!(*open("correct horse", b"alice").unwrap(), b"hush");
        assert!(open("correct horse ", b"alice").is_none());
        assert!(open("correct horse", b"bob").is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key("correct horse").open(&changed, b"alice").is_none(), "byte {at}");
        }
        assert!(key("correct horse").open(&sealed[..15], b"alice").is_none());
        let other_salt = PassphraseKey::derive("correct horse", &[7; 16], CHEAP).unwrap();
        assert!(other_salt.open(&sealed, b"alice").is_none());
    }

    #[test]
    fn nobody_can_ask_for_endless_work() {
        for (memory_kib, passes, lanes) in
            [(u32::MAX, 1, 1), (64, u32::MAX, 1), (64, 1, 65), (0, 0, 0)]
        {
            let cost = Cost { memory_kib, passes, lanes };
            assert!(PassphraseKey::derive("x", &[0; 16], cost).is_err());
        }
    }

    #[test]
    fn costs_are_bytes() {
        assert_eq!(Cost::from_bytes(Cost::USUAL.to_bytes()), Cost::USUAL);
        assert_eq!(Cost::USUAL.to_bytes(), [0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4]);
    }
}
