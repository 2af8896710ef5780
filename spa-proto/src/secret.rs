//! Secrets that two parties share: one type for each kind, wiped when dropped,
//! without `Debug`, without `PartialEq`, exposed only by an explicit call. Each
//! is in a box: a value that moves, in a table that grows or out of one, would
//! leave a copy where it was, which nothing wipes.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name(Box<[u8; $len]>);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Takes the bytes, which the caller has from the operating
            /// system's randomness or from a file that only its owner can read.
            #[must_use]
            pub fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(Box::new(bytes))
            }

            /// The bytes themselves, to be written to such a file or derived from.
            #[must_use]
            pub fn expose(&self) -> &[u8; $len] {
                &self.0
            }
        }
    };
}

secret! {
    /// Pre-shared key of one client and one server (protocol §3.2). Everything
    /// symmetric is derived from it; with it secret, breaking X25519 and
    /// Ed25519 is not enough to knock.
    Psk, 32
}

secret! {
    /// Secret of the server that all its clients know; it only hides pseudonyms
    /// from those who are not clients (protocol §3.1).
    Cloak, 16
}

secret! {
    /// One-time secret of an enrolment token (protocol §8). The server keeps
    /// only its hash.
    EnrolSecret, 32
}

/// SHA-256 of `"spa1 enrol" 00 | secret`: what a server stores of an enrolment
/// secret (protocol §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnrolHash([u8; 32]);

impl EnrolHash {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// The hash of a secret.
    #[must_use]
    pub fn of(secret: &EnrolSecret) -> Self {
        let hash = Sha256::new().chain_update(b"spa1 enrol\0").chain_update(secret.expose());
        Self(hash.finalize().into())
    }

    /// Takes a hash as stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash as it is to be stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is the hash of `secret`, in constant time.
    #[must_use]
    pub fn matches(&self, secret: &EnrolSecret) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cloak, EnrolSecret, Psk};
    use crate::key::{ServerSecret, SigningKey};
    use crate::printable::assert_not_printable;
    use crate::schedule::{ClientKeys, Keys};
    use crate::{Credentials, Enrolment, Entropy, Gate, Kind, Request};
    use crate::{ServerKeys, SignedRequest, VerifiedKnock};

    #[test]
    fn no_secret_can_be_printed() {
        assert_not_printable![Psk, Cloak, EnrolSecret, ServerSecret, SigningKey, ClientKeys];
        // What has them inside.
        assert_not_printable![Keys, ServerKeys, Credentials, Entropy, Gate];
        assert_not_printable![Enrolment, Kind, Request, SignedRequest, VerifiedKnock];
    }
}
