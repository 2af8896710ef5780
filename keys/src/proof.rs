//! The public key line: what `spa request` prints for `spa-keys add --pubkey`
//! (protocol §9).
//!
//! One line, `spa1-key.` and behind it, armoured as a token is:
//!
//! ```text
//! 0    key           32   Ed25519
//! 32   signature     64   with that key, over "spa1 request" 00 | key
//! ```

use std::fmt;

use spa_proto::{SigningKey, VerifyingKey};

use crate::armour;

pub(crate) const PREFIX: &str = "spa1-key.";
const LABEL: &[u8; 13] = b"spa1 request\0";

/// A client's public key, whose private half somebody has shown to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKeyLine {
    /// The key.
    pub key: VerifyingKey,
}

/// Text that is no public key line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofError {
    /// Something else altogether.
    NotALine,
    /// Mistyped, cut or broken.
    Damaged,
    /// Not a usable key, or not signed with it.
    Unproven,
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotALine => {
                "this is not a public key line: it is the one line beginning with spa1-key. that \
                 spa request prints"
            }
            Self::Damaged => {
                "the public key line is damaged: a character was mistyped, left out or added, or \
                 the line is broken; copy it again, whole"
            }
            Self::Unproven => {
                "the public key line is whole, but not signed with its own key: make it with \
                 spa request"
            }
        })
    }
}

impl std::error::Error for ProofError {}

impl PublicKeyLine {
    /// The line for a key.
    #[must_use]
    pub fn encode(key: &SigningKey) -> String {
        let public = key.verifying_key().to_bytes();
        let signature = key.sign(&to_sign(&public));
        let line = armour::write(PREFIX, &[public.as_slice(), &signature].concat());
        line.as_str().to_owned()
    }

    /// Reads one line, and checks the signature in it; white space around it
    /// does not matter.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn decode(text: &str) -> Result<Self, ProofError> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(ProofError::NotALine)?;
        let payload = armour::read(PREFIX, rest).ok_or(ProofError::Damaged)?;
        let key = proven(&payload).ok_or(ProofError::Unproven)?;
        Ok(Self { key })
    }
}

fn proven(payload: &[u8]) -> Option<VerifyingKey> {
    let (public, signature) = payload.split_first_chunk()?;
    let key = VerifyingKey::from_bytes(public).ok()?;
    key.verify(&to_sign(public), signature.try_into().ok()?).then_some(key)
}

fn to_sign(public: &[u8; 32]) -> Vec<u8> {
    [LABEL.as_slice(), public].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32])
    }

    #[test]
    fn reads_what_it_writes() {
        let line = PublicKeyLine::encode(&key());
        let read = PublicKeyLine::decode(&format!("\n {line}\r\n")).unwrap();
        assert_eq!(read.key, key().verifying_key());
        assert_eq!(line.len(), PREFIX.len() + (32 + 64 + 6) * 4 / 3);
    }

    /// Computed by other means than this program.
    #[test]
    fn lines_of_this_version_stay_readable() {
        let line = concat!(
            "spa1-key.6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw-3Nz-mt9i2dnnGhPrb7jEZic3bhObp887",
            "QCsHFu3f9l3-uGDX_i8eDxx8VDpW5n3OFUV8cYL1u_FNTUqPBC8H5XyjRwLx"
        );
        assert_eq!(PublicKeyLine::encode(&key()), line);
    }

    #[test]
    fn refuses_a_key_without_its_proof() {
        let public = key().verifying_key().to_bytes();
        let foreign = SigningKey::from_seed(&[8; 32]).sign(&to_sign(&public));
        let unlabelled = key().sign(&public);
        for signature in [foreign, unlabelled] {
            let line = armour::write(PREFIX, &[public.as_slice(), &signature].concat());
            assert_eq!(PublicKeyLine::decode(&line), Err(ProofError::Unproven));
        }
        // Everything verifies under the key of small order.
        let weak = armour::write(PREFIX, &[0; 96]);
        assert_eq!(PublicKeyLine::decode(&weak), Err(ProofError::Unproven));
        let short = armour::write(PREFIX, &public);
        assert_eq!(PublicKeyLine::decode(&short), Err(ProofError::Unproven));
    }

    #[test]
    fn refuses_other_text() {
        let line = PublicKeyLine::encode(&key());
        assert_eq!(PublicKeyLine::decode("ssh-ed25519 AAAA"), Err(ProofError::NotALine));
        assert_eq!(PublicKeyLine::decode(&line[..line.len() - 1]), Err(ProofError::Damaged));
        assert_eq!(PublicKeyLine::decode(&line.replacen('.', ".A", 1)), Err(ProofError::Damaged));
    }
}
