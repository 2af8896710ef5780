//! Verifying keys of clients that have knocked, as points of the curve: to decompress one is a
//! good part of what it takes to verify a signature (protocol §3.3).

use crate::key::{Point, VerifyingKey};

/// Points of keys that have verified a signature, at most 256 of 192 bytes: what is kept is
/// public, and changes no verdict; that of a revoked client stays until another takes its place.
/// Two clients whose keys begin with the same byte do so with each knock, which costs them what
/// it costs everybody without this.
pub struct PreparedKeys {
    /// By the first byte of the key. Empty where none are kept.
    places: Vec<Option<Box<Point>>>,
}

impl PreparedKeys {
    /// Room for a point for each first byte.
    #[must_use]
    pub fn new() -> Self {
        Self { places: vec![None; 1 + usize::from(u8::MAX)] }
    }

    /// Keeps none: every key is decompressed.
    #[must_use]
    pub const fn none() -> Self {
        Self { places: Vec::new() }
    }

    /// As [`VerifyingKey::verify`], of the same strictness. Only a key that has verified
    /// something is kept: who cannot sign puts nobody out.
    pub(crate) fn verify(
        &mut self,
        key: &VerifyingKey,
        message: &[u8],
        signature: &[u8; 64],
    ) -> bool {
        let place = self.places.get_mut(place_of(key));
        if let Some(Some(point)) = &place
            && point.is_of(key)
        {
            return point.verify(message, signature);
        }
        let Some(point) = key.point() else { return false };
        let is_valid = point.verify(message, signature);
        if is_valid && let Some(place) = place {
            *place = Some(Box::new(point));
        }
        is_valid
    }
}

impl Default for PreparedKeys {
    fn default() -> Self {
        Self::new()
    }
}

fn place_of(key: &VerifyingKey) -> usize {
    usize::from(key.to_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    /// Two keys that have the same place, and a third that has another.
    fn keys() -> [SigningKey; 3] {
        let place = |key: &SigningKey| place_of(&key.verifying_key());
        let seed = |number: u16| [number.to_be_bytes(); 16].concat().try_into().unwrap();
        let keys: Vec<_> = (0..2000).map(|n| SigningKey::from_seed(&seed(n))).collect();
        let (first, rest) = keys.split_first().unwrap();
        let twin = rest.iter().find(|key| place(key) == place(first)).unwrap();
        let other = rest.iter().find(|key| place(key) != place(first)).unwrap();
        [first.clone(), twin.clone(), other.clone()]
    }

    #[test]
    fn the_verdict_is_that_of_the_key_alone_whatever_is_kept() {
        let keys = keys();
        for mut prepared in [PreparedKeys::new(), PreparedKeys::none()] {
            // Every key after every other, with the signatures of each.
            for (round, claimed) in keys.iter().cycle().take(12).enumerate() {
                for signer in &keys {
                    for message in [b"one", b"two"] {
                        let key = claimed.verifying_key();
                        let signature = signer.sign(b"one");
                        let verdict = prepared.verify(&key, message, &signature);
                        assert_eq!(verdict, key.verify(message, &signature), "round {round}");
                    }
                }
            }
        }
    }

    #[test]
    fn who_cannot_sign_puts_nobody_out() {
        let [one, twin, other] = keys();
        let mut prepared = PreparedKeys::new();
        let kept = |prepared: &PreparedKeys| prepared.places.iter().flatten().count();
        assert!(!prepared.verify(&one.verifying_key(), b"one", &twin.sign(b"one")));
        assert_eq!(kept(&prepared), 0);
        assert!(prepared.verify(&one.verifying_key(), b"one", &one.sign(b"one")));
        assert!(prepared.verify(&other.verifying_key(), b"one", &other.sign(b"one")));
        assert!(!prepared.verify(&twin.verifying_key(), b"one", &one.sign(b"one")));
        assert_eq!(kept(&prepared), 2);
        let is_kept = |prepared: &PreparedKeys, key: &SigningKey| {
            prepared.places.iter().flatten().any(|point| point.is_of(&key.verifying_key()))
        };
        assert!(is_kept(&prepared, &one) && is_kept(&prepared, &other));
        // Who can takes the place.
        assert!(prepared.verify(&twin.verifying_key(), b"one", &twin.sign(b"one")));
        assert!(is_kept(&prepared, &twin) && !is_kept(&prepared, &one));
        assert_eq!(kept(&prepared), 2);
    }
}
