//! X25519 (RFC 7748 §5): the same function by a shorter way.
//!
//! The Montgomery ladder does one bit of the secret after the other, and nothing in it
//! can be done side by side. On the Edwards form of the curve there are tables, and
//! vectors where the processor has them: half the time of the ladder with AVX-512, two
//! thirds with AVX2, a little more than the ladder's with neither. What comes out is the
//! same for every input.

use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::traits::IsIdentity;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// Output of X25519, to be fed to HKDF and nothing else.
pub(crate) type SharedSecret = Zeroizing<[u8; 32]>;

/// X25519 of a private key and 32 bytes that somebody sent; `None` if the result is all
/// zero, which a point of low order gives (RFC 7748 §6.1).
///
/// In constant time as far as `secret` goes. Whether `public` is of a point of the curve
/// or of its twist can be told from the time, and by everybody who sees `public`.
pub(crate) fn agree(secret: &StaticSecret, public: [u8; 32]) -> Option<SharedSecret> {
    let public = MontgomeryPoint(public);
    let secret = Zeroizing::new(secret.to_bytes());
    // Of the two points that have this u it does not matter which: so have their multiples.
    let shared = Zeroizing::new(match public.to_edwards(0) {
        Some(point) => Zeroizing::new(point.mul_clamped(*secret)).to_montgomery(),
        // The twist has no such form. No honest key is on it.
        None => public.mul_clamped(*secret),
    });
    (!shared.is_identity()).then(|| Zeroizing::new(shared.to_bytes()))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn hex(text: &str) -> [u8; 32] {
        assert_eq!(text.len(), 64);
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
    }

    fn x25519(secret: [u8; 32], public: [u8; 32]) -> Option<[u8; 32]> {
        agree(&StaticSecret::from(secret), public).map(|shared| *shared)
    }

    /// RFC 7748 §5.2, both vectors and the first thousand rounds. The second has its high
    /// bit set, which is to be ignored.
    #[test]
    fn the_vectors_of_the_rfc() {
        for (secret, public, shared) in [
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            ),
        ] {
            assert_eq!(x25519(hex(secret), hex(public)), Some(hex(shared)));
        }

        let mut nine = [0; 32];
        nine[0] = 9;
        let (mut secret, mut public) = (nine, nine);
        for round in 1..=1000 {
            (secret, public) = (x25519(secret, public).unwrap(), secret);
            let expected = match round {
                1 => "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
                1000 => "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
                _ => continue,
            };
            assert_eq!(secret, hex(expected), "after {round}");
        }
    }

    /// Whatever is sent: of the curve, of its twist, not reduced, with the high bit.
    #[test]
    fn the_ladder_gives_the_same() {
        let (mut of_the_curve, mut of_the_twist) = (0, 0);
        for seed in 0..=u8::MAX {
            let secret: [u8; 32] = Sha256::digest([b's', seed]).into();
            let public = match seed {
                // From 2^255 - 1 down past p = 2^255 - 19, and the same with the high bit.
                0..64 => {
                    let mut high = [0xff; 32];
                    (high[0], high[31]) = (0xff - seed % 32, if seed < 32 { 0x7f } else { 0xff });
                    high
                }
                // From 0 on.
                64..96 => {
                    let mut low = [0; 32];
                    low[0] = seed - 64;
                    low
                }
                _ => Sha256::digest([b'p', seed]).into(),
            };
            let ladder = MontgomeryPoint(public).mul_clamped(secret).to_bytes();
            let expected = (ladder != [0; 32]).then_some(ladder);
            assert_eq!(x25519(secret, public), expected, "{public:02x?}");
            match MontgomeryPoint(public).to_edwards(0) {
                Some(_) => of_the_curve += 1,
                None => of_the_twist += 1,
            }
        }
        assert!(of_the_curve > 50 && of_the_twist > 50, "{of_the_curve} {of_the_twist}");
    }

    /// All u of order 1, 2, 4 and 8, on the curve and on the twist, reduced or not
    /// (as listed by RFC 7748 §6.1's authors): nothing is agreed on with any of them.
    #[test]
    fn points_of_low_order_agree_on_nothing() {
        let low = [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for public in low.map(hex) {
            let mut with_the_high_bit = public;
            with_the_high_bit[31] |= 0x80;
            for public in [public, with_the_high_bit] {
                assert_eq!(x25519([0x42; 32], public), None, "{public:02x?}");
            }
        }
    }
}
