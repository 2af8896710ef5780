//! Bytes as one line of text that tells when it was damaged (protocol §8).
//!
//! ```text
//! prefix | base64url without padding ( payload | checksum )
//! checksum = SHA-256(prefix | payload)[..6]
//! ```
//! The encoding is strict (RFC 4648 §5, no padding, unused bits zero): no two
//! lines stand for the same bytes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Length of the checksum in bytes: one damaged line in 2^48 passes.
const CHECKSUM_LEN: usize = 6;
/// Longer lines are not even looked at.
const MAX_LEN: usize = 16 * 1024;

pub(crate) fn write(prefix: &str, payload: &[u8]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(payload.len() + CHECKSUM_LEN));
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&checksum(prefix, payload));
    // Large enough from the start: growing would leave copies behind.
    let mut line = Zeroizing::new(String::with_capacity(prefix.len() + 4 + bytes.len() * 4 / 3));
    line.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(&*bytes, &mut line);
    line
}

/// The payload of a line without its prefix; `None` where it is damaged.
pub(crate) fn read(prefix: &str, rest: &str) -> Option<Zeroizing<Vec<u8>>> {
    if rest.len() > MAX_LEN {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(rest.len()));
    URL_SAFE_NO_PAD.decode_vec(rest, &mut bytes).ok()?;
    let payload_len = bytes.len().checked_sub(CHECKSUM_LEN)?;
    let (payload, sum) = bytes.split_at(payload_len);
    if checksum(prefix, payload) != *sum {
        return None;
    }
    bytes.truncate(payload_len);
    Some(bytes)
}

fn checksum(prefix: &str, payload: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash: [u8; 32] = Sha256::new().chain_update(prefix).chain_update(payload).finalize().into();
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for len in 0..40 {
            let payload = vec![0xa5; len];
            let line = write("x.", &payload);
            assert_eq!(*read("x.", line.strip_prefix("x.").unwrap()).unwrap(), payload);
            assert!(read("y.", line.strip_prefix("x.").unwrap()).is_none(), "another kind of line");
        }
    }
}
