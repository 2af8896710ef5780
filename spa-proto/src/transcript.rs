//! What every key and the signature of one knock are bound to (protocol §5.2).

use crate::key::{Kid, Nonce, ServerPublic};
use crate::request::BODY_LEN;
use crate::time::Timestamp;

const LABEL: &[u8; 4] = b"spa1";
const SIGN_LABEL: &[u8; 11] = b"spa1 knock\0";
const LEN: usize = LABEL.len() + ServerPublic::LEN + Kid::LEN + Nonce::LEN + 8 + 32;

/// `T` of the protocol: `"spa1" | S | kid | nonce | ts | E`, in plain values.
#[derive(Clone, Copy)]
pub(crate) struct Transcript {
    pub(crate) server: ServerPublic,
    pub(crate) kid: Kid,
    pub(crate) nonce: Nonce,
    pub(crate) time: Timestamp,
    pub(crate) ephemeral: [u8; 32],
}

impl Transcript {
    pub(crate) fn to_bytes(self) -> [u8; LEN] {
        concat(&[
            LABEL,
            self.server.as_bytes(),
            self.kid.as_bytes(),
            self.nonce.as_bytes(),
            &self.time.as_millis().to_be_bytes(),
            &self.ephemeral,
        ])
    }

    /// What the client signs: `"spa1 knock" 00 | T | body`.
    pub(crate) fn to_sign(self, body: &[u8; BODY_LEN]) -> [u8; SIGN_LABEL.len() + LEN + BODY_LEN] {
        concat(&[SIGN_LABEL, &self.to_bytes(), body])
    }
}

/// Joins parts whose lengths add up to `N`, as the types above make sure.
pub(crate) fn concat<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let mut rest = out.as_mut_slice();
    for part in parts {
        let (place, after) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = after;
    }
    debug_assert!(rest.is_empty(), "parts do not add up");
    out
}
