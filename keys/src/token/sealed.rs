//! A token under a passphrase (protocol §8.1): for a channel that others can
//! read, while the passphrase goes another way.
//!
//! One line, `spa1-sealed.` and behind it, armoured:
//!
//! ```text
//! 0    memory   4   KiB         what Argon2id is to take
//! 4    passes   4
//! 8    lanes    4
//! 12   salt    16
//! 28   sealed   …   the token's payload, and a tag of 16
//! ```
//! Bound to `"spa1 token" 00 | memory | passes | lanes`.

use zeroize::Zeroizing;

use super::{Reader, Token, TokenError};
use crate::armour;
use crate::passphrase::{Cost, CostError, PassphraseKey, SALT_LEN};

pub(super) const PREFIX: &str = "spa1-sealed.";
const LABEL: &[u8] = b"spa1 token\0";

/// A token that takes a passphrase to be one.
pub struct SealedToken {
    cost: Cost,
    salt: [u8; SALT_LEN],
    sealed: Vec<u8>,
}

impl SealedToken {
    /// Puts a token under a passphrase; `salt` is new each time.
    ///
    /// # Errors
    /// [`CostError`], where Argon2 cannot be had.
    pub fn seal(token: &Token, passphrase: &str, salt: [u8; SALT_LEN]) -> Result<Self, CostError> {
        let cost = Cost::USUAL;
        let key = PassphraseKey::derive(passphrase, &salt, cost)?;
        let sealed = key.seal(&token.payload(), &bound_to(cost)).ok_or(CostError::TooMuch)?;
        Ok(Self { cost, salt, sealed })
    }

    /// Takes it out again. Slow.
    ///
    /// # Errors
    /// [`TokenError::Passphrase`], [`TokenError::Cost`], or what is wrong with the token in it.
    pub fn open(&self, passphrase: &str) -> Result<Token, TokenError> {
        // Whoever sent it may be a stranger.
        if !self.cost.is_usual() {
            return Err(TokenError::Cost);
        }
        let key = PassphraseKey::derive(passphrase, &self.salt, self.cost)
            .map_err(|_| TokenError::Cost)?;
        let payload = key.open(&self.sealed, &bound_to(self.cost));
        Token::of_payload(&payload.ok_or(TokenError::Passphrase)?)
    }

    /// As one line.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let payload = [&self.cost.to_bytes(), self.salt.as_slice(), &self.sealed].concat();
        armour::write(PREFIX, &payload)
    }

    /// Whether a line is, or was meant to be, one of these.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.trim_start().starts_with(PREFIX)
    }

    /// Reads one line; white space around it does not matter.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        let payload = armour::read(PREFIX, rest).ok_or(TokenError::Damaged)?;
        Self::read(&payload).ok_or(TokenError::Contents)
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let cost = Cost::from_bytes(*reader.array()?);
        let salt = *reader.array()?;
        Some(Self { cost, salt, sealed: reader.0.to_vec() })
    }
}

fn bound_to(cost: Cost) -> Vec<u8> {
    [LABEL, &cost.to_bytes()].concat()
}
