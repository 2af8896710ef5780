//! Identifiers and asymmetric keys: public ones can be printed and compared,
//! private ones cannot.

use std::fmt;

use ed25519_dalek::{Signer, Verifier};
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

    /// Verifies strictly: no weak keys, no malleable signatures, no R of small order.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.point().is_some_and(|point| point.verify(message, signature))
    }

    /// Its point of the curve; `None` of no key, since each was looked at.
    pub(crate) fn point(&self) -> Option<Point> {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0).ok().map(Point)
    }
}

/// A [`VerifyingKey`] decompressed.
#[derive(Clone, Copy)]
pub(crate) struct Point(ed25519_dalek::VerifyingKey);

impl Point {
    /// Whether this is the point of `key`.
    pub(crate) fn is_of(&self, key: &VerifyingKey) -> bool {
        *self.0.as_bytes() == key.0
    }

    /// As [`VerifyingKey::verify`].
    ///
    /// What `verify_strict` of the library refuses beside what `verify` does is a key or an R
    /// of small order. This key has been looked at; and an R that verifies is canonical, so
    /// that it need not be decompressed to be known.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        !is_of_small_order(*signature.r_bytes()) && self.0.verify(message, &signature).is_ok()
    }
}

/// The y of the eight points whose order divides 8, as encoded without the sign of x
/// (RFC 8032 §5.1.2).
const OF_SMALL_ORDER: [[u8; 32]; 5] = [
    [
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00,
    ],
    [
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
];

fn is_of_small_order(mut point: [u8; 32]) -> bool {
    point[31] &= 0x7f;
    OF_SMALL_ORDER.contains(&point)
}

/// Whether the encoded y, little-endian under the sign of x, is below
/// p = 2^255 − 19 (RFC 8032 §5.1.3).
fn is_reduced([low, middle @ .., high]: &[u8; 32]) -> bool {
    *low < 0xed || middle.iter().any(|byte| *byte != 0xff) || high | 0x80 != 0xff
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::scalar::Scalar;
    use sha2::{Digest, Sha512};

    use super::*;

    /// With R of small order whoever has the key can make signatures that mean several messages:
    /// the equation without the factor 8 holds for them, and they are refused all the same.
    #[test]
    fn a_signature_with_r_of_small_order_is_refused() {
        let points = EIGHT_TORSION.map(|point| point.compress().to_bytes());
        assert!(points.into_iter().all(is_of_small_order));
        assert!(OF_SMALL_ORDER.iter().all(|y| points.contains(y)));

        let signing = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let key = VerifyingKey(signing.verifying_key().to_bytes());
        let message = b"a message";
        let mut hold = 0;
        for point in points {
            let k = Sha512::new().chain_update(point).chain_update(key.0).chain_update(message);
            let k = Scalar::from_bytes_mod_order_wide(&k.finalize().into());
            let s = k * signing.to_scalar();
            let signature = [point, s.to_bytes()].concat().try_into().unwrap();
            let theirs = ed25519_dalek::Signature::from_bytes(&signature);
            hold += u32::from(signing.verifying_key().verify(message, &theirs).is_ok());
            assert!(signing.verifying_key().verify_strict(message, &theirs).is_err());
            assert!(!key.verify(message, &signature), "{point:02x?}");
        }
        assert_eq!(hold, 1, "control: with the neutral element the equation holds");
        let genuine = signing.sign(message).to_bytes();
        assert!(key.verify(message, &genuine) && !key.verify(b"another", &genuine));
    }

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
