//! The layout of the datagram (protocol §4).
//!
//! ```text
//! 0    nonce            16
//! 16   pseudonym         8   masked with SipHash-2-4(cloak, nonce)
//! 24   header           40   time 8 | ephemeral key 32, under a stream from k_hdr and nonce
//! 64   sealed          240   body 160 | signature 64, encrypted, and the tag 16
//! 304  tag              32   HMAC-SHA256 with k_mac over bytes 0..304
//! 336
//! ```

/// Length of every knock, in bytes: there is no other.
pub const PACKET_LEN: usize = 336;

/// A knock as it travels.
pub type Datagram = [u8; PACKET_LEN];

pub(crate) const NONCE: std::ops::Range<usize> = 0..16;
pub(crate) const PSEUDONYM: std::ops::Range<usize> = 16..24;
pub(crate) const HEADER: std::ops::Range<usize> = 24..64;
pub(crate) const SEALED: std::ops::Range<usize> = 64..304;
pub(crate) const COVERED: std::ops::Range<usize> = 0..304;
pub(crate) const TAG: std::ops::Range<usize> = 304..PACKET_LEN;

/// Length of the masked header: time and ephemeral key.
pub(crate) const HEADER_LEN: usize = 40;
/// Length of the HMAC tag.
pub(crate) const TAG_LEN: usize = 32;
/// Length of an Ed25519 signature.
pub(crate) const SIGNATURE_LEN: usize = 64;

/// Copies a fixed range out of `bytes`.
///
/// Every caller passes a slice that is long enough, which the constants above
/// fix at compile time; a wrong one would give zeros, which authenticate nothing.
pub(crate) fn field<const N: usize>(bytes: &[u8], range: std::ops::Range<usize>) -> [u8; N] {
    bytes.get(range).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}
