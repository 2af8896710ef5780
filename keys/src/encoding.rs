//! Keys as text in files: base64 (RFC 4648 §4) with padding, or hexadecimal.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Text that does not encode as many bytes as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidEncoding {
    expected: usize,
    alphabet: &'static str,
}

impl fmt::Display for InvalidEncoding {
    /// Never quotes the text: it may be most of a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} bytes in {}", self.expected, self.alphabet)
    }
}

impl std::error::Error for InvalidEncoding {}

/// Bytes as base64.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

/// Exactly `N` bytes from base64.
///
/// # Errors
/// [`InvalidEncoding`] where the text is anything else.
pub fn from_base64<const N: usize>(text: &str) -> Result<Zeroizing<[u8; N]>, InvalidEncoding> {
    let decoded = Zeroizing::new(STANDARD.decode(text).unwrap_or_default());
    exactly(&decoded, "base64")
}

/// Exactly `N` bytes from hexadecimal digits of either case.
///
/// # Errors
/// [`InvalidEncoding`] where the text is anything else.
pub fn from_hex<const N: usize>(text: &str) -> Result<Zeroizing<[u8; N]>, InvalidEncoding> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() == 2 * N).unwrap_or_default();
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .filter_map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok())
        .collect();
    exactly(&bytes, "hexadecimal")
}

fn exactly<const N: usize>(
    bytes: &[u8],
    alphabet: &'static str,
) -> Result<Zeroizing<[u8; N]>, InvalidEncoding> {
    let array = bytes.try_into().map_err(|_| InvalidEncoding { expected: N, alphabet })?;
    Ok(Zeroizing::new(array))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let bytes: [u8; 16] = std::array::from_fn(|at| u8::try_from(at * 17).unwrap());
        assert_eq!(*from_base64::<16>(&to_base64(&bytes)).unwrap(), bytes);
        assert_eq!(*from_hex::<16>("00112233445566778899aAbBcCdDeEfF").unwrap(), bytes);
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "AAA", "AAA=", "AAAAAA==", "AB==", "AA", "A A==", "__==", "AA==\n"] {
            assert!(from_base64::<1>(text).is_err(), "{text:?}");
        }
        for text in ["", "0", "000", "0000", "0g", "+1", " 0", "é0"] {
            assert!(from_hex::<1>(text).is_err(), "{text:?}");
        }
    }
}
