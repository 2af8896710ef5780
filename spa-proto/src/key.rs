//! Identifiers and asymmetric keys: public ones can be printed and compared,
//! private ones cannot.

use std::fmt;

use ed25519_dalek::Signer;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::x25519::{self, SharedSecret};

macro_rules! public {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Takes the bytes as they are; any value is well-formed.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            /// Lower-case hexadecimal.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

public! {
    /// Key-id of a client record, random (protocol §3.2). It never travels in
    /// clear: what does is a pseudonym that changes with each epoch.
    Kid, 16
}

public! {
    /// Nonce of one datagram (protocol §4). With the key-id it is the identity
    /// of a knock for replay.
    Nonce, 16
}

public! {
    /// X25519 public key of a server, `S` in the protocol (protocol §3.1).
    ServerPublic, 32
}

/// X25519 private key of a server (protocol §3.1). Wiped when dropped, and in a box:
/// one that moves, as when keys are replaced, leaves no copy where it was.
#[derive(Clone)]
pub struct ServerSecret(Box<StaticSecret>);

impl ServerSecret {
    /// Takes 32 random bytes; X25519 clamps them itself (RFC 7748 §5).
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Box::new(StaticSecret::from(bytes)))
    }

    /// The private bytes, for a file that only its owner can read.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key that goes into tokens.
    #[must_use]
    pub fn public(&self) -> ServerPublic {
        ServerPublic(PublicKey::from(&*self.0).to_bytes())
    }

    /// X25519 with a client's ephemeral key; `None` if the result is all zero,
    /// which a low-order point gives (RFC 7748 §6.1).
    pub(crate) fn agree(&self, ephemeral: [u8; 32]) -> Option<SharedSecret> {
        x25519::agree(&self.0, ephemeral)
    }
}

/// Ed25519 key that a client makes for one server and never hands out
/// (protocol §3.3). Wiped when dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Takes 32 random bytes, the seed (RFC 8032 §5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, for a file that only its owner can read.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half, for the server.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`, which must start with a label of its own kind.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// A verifying key that is not a point in canonical encoding, or one of small
/// order, under which anyone can sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeakKey;

impl fmt::Display for WeakKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a usable Ed25519 key: malformed, not canonical, or of small order")
    }
}

impl std::error::Error for WeakKey {}

/// Ed25519 public key of a client, neither weak nor oddly encoded
/// (protocol §3.3). Kept as it is encoded: the point is five times as large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Decodes a key.
    ///
    /// # Errors
    /// [`WeakKey`] where it is no canonical encoding of a point of large order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, WeakKey> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| WeakKey)?;
        // Decompression accepts y ≥ p. The other odd encoding, a sign for x = 0,
        // is of a point of small order.
        if is_reduced(bytes) && !key.is_weak() { Ok(Self(*bytes)) } else { Err(WeakKey) }
    }

    /// The encoding of RFC 8032 §5.1.2.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Verifies strictly: no weak keys, no malleable signatures.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0);
        key.is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

/// Whether the encoded y, little-endian under the sign of x, is below
/// p = 2^255 − 19 (RFC 8032 §5.1.3).
fn is_reduced([low, middle @ .., high]: &[u8; 32]) -> bool {
    *low < 0xed || middle.iter().any(|byte| *byte != 0xff) || high | 0x80 != 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said twice is found by compressing again what was decompressed.
    #[test]
    fn no_key_has_two_encodings() {
        let middles_and_signs = [(0xff, 0x7f), (0xff, 0xff), (0, 0), (0, 0x80), (0xfe, 0xff)];
        let all = middles_and_signs.into_iter().flat_map(|(middle, last)| {
            (0..=u8::MAX).map(move |first| {
                let mut bytes = [middle; 32];
                (bytes[0], bytes[31]) = (first, last);
                bytes
            })
        });
        let mut taken = 0;
        for bytes in all {
            let Ok(point) = ed25519_dalek::VerifyingKey::from_bytes(&bytes) else { continue };
            let canonical = point.to_edwards().compress().to_bytes() == bytes;
            let usable = canonical && !point.is_weak();
            assert_eq!(VerifyingKey::from_bytes(&bytes).is_ok(), usable, "{bytes:02x?}");
            taken += u32::from(usable);
        }
        assert!(taken > 100, "{taken}");
    }
}
