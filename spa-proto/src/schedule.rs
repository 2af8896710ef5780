//! The key schedule: everything derived from a pre-shared key (protocol §5).

use chacha20poly1305::ChaCha20Poly1305;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::key::{Kid, Nonce, ServerPublic};
use crate::packet::{HEADER_LEN, TAG_LEN, field};
use crate::pseudonym::Pseudonym;
use crate::secret::Psk;
use crate::transcript::{Transcript, concat};
use crate::x25519::SharedSecret;

type HmacSha256 = Hmac<Sha256>;

/// The symmetric keys of one client and one server, derived once (protocol §5.1).
/// In a box, as all secrets: what moves leaves no copy.
#[derive(Clone)]
pub struct ClientKeys(Box<Keys>);

/// The same, where they stay.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Keys {
    id: [u8; 32],
    mac: [u8; 32],
    header: [u8; 32],
    dh: [u8; 32],
}

impl ClientKeys {
    /// Derives them: HKDF-SHA256 (RFC 5869) with the salt `"spa1 psk"`.
    #[must_use]
    pub fn derive(psk: &Psk, server: &ServerPublic, kid: &Kid) -> Self {
        let prk = Hkdf::<Sha256>::new(Some(b"spa1 psk"), psk.expose());
        let key = |label: &[u8]| {
            let mut out = [0; 32];
            expand(&prk, &[label, server.as_bytes(), kid.as_bytes()], &mut out);
            out
        };
        Self(Box::new(Keys {
            id: key(b"spa1 id\0"),
            mac: key(b"spa1 mac\0"),
            header: key(b"spa1 hdr\0"),
            dh: key(b"spa1 dh\0"),
        }))
    }

    /// As they go from the process that reads records to the one that meets packets.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 128]> {
        let Keys { id, mac, header, dh } = &*self.0;
        Zeroizing::new(concat(&[id, mac, header, dh]))
    }

    /// Undoes [`Self::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 128]) -> Self {
        Self(Box::new(Keys {
            id: field(bytes, 0..32),
            mac: field(bytes, 32..64),
            header: field(bytes, 64..96),
            dh: field(bytes, 96..128),
        }))
    }

    /// For whoever works with them.
    pub(crate) fn keys(&self) -> &Keys {
        &self.0
    }
}

impl Keys {
    /// What gives the client's pseudonyms.
    pub(crate) fn namer(&self) -> Namer {
        Namer(hmac(&self.id, &[]))
    }

    /// The tag over the covered part of a datagram.
    pub(crate) fn tag(&self, covered: &[u8]) -> [u8; TAG_LEN] {
        hmac(&self.mac, &[covered]).finalize().into_bytes().into()
    }

    /// Whether `tag` is right, in constant time.
    pub(crate) fn verify_tag(&self, covered: &[u8], tag: &[u8; TAG_LEN]) -> bool {
        hmac(&self.mac, &[covered]).verify(tag.into()).is_ok()
    }

    /// The stream that hides time and ephemeral key (protocol §5.2).
    pub(crate) fn header_stream(&self, nonce: &Nonce) -> Zeroizing<[u8; HEADER_LEN]> {
        let mut stream = Zeroizing::new([0; HEADER_LEN]);
        if let Ok(header) = Hkdf::<Sha256>::from_prk(&self.header) {
            expand(&header, &[b"spa1 stream\0", nonce.as_bytes()], stream.as_mut_slice());
        }
        stream
    }

    /// The cipher of one body, under a key that is used once (protocol §5.2).
    pub(crate) fn cipher(
        &self,
        shared: &SharedSecret,
        transcript: &Transcript,
    ) -> ChaCha20Poly1305 {
        let mut key = Zeroizing::new([0; 32]);
        let secret = Hkdf::<Sha256>::new(Some(&self.dh), shared.as_slice());
        expand(&secret, &[b"spa1 aead\0", &transcript.to_bytes()], key.as_mut_slice());
        ChaCha20Poly1305::new((&*key).into())
    }
}

/// HMAC with a client's k_id, before any text.
pub(crate) struct Namer(HmacSha256);

impl Namer {
    /// The client's pseudonym of an epoch (protocol §5.1).
    pub(crate) fn pseudonym(&self, epoch: u64) -> Pseudonym {
        let tag = self.0.clone().chain_update(epoch.to_be_bytes()).finalize().into_bytes();
        Pseudonym::truncate(&tag.into())
    }
}

/// HMAC-SHA256 (RFC 2104) over the parts, one after the other.
pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> HmacSha256 {
    // A key shorter than a block is padded with zeros (RFC 2104 §2).
    let block: Zeroizing<[u8; 64]> = Zeroizing::new(concat(&[key, &[0; 32]]));
    let mut mac = HmacSha256::new((&*block).into());
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// HKDF-Expand into at most 8160 bytes, the only case in which it fails.
fn expand(prk: &Hkdf<Sha256>, info: &[&[u8]], out: &mut [u8]) {
    debug_assert!(out.len() <= 255 * 32);
    if prk.expand_multi_info(info, out).is_err() {
        out.zeroize();
    }
}
