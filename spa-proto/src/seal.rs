//! The client's side: one request in, one datagram out (protocol §5.2).

use std::fmt;

use chacha20poly1305::aead::AeadInOut;
use hmac::Mac;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::key::{Kid, Nonce, ServerPublic, SigningKey};
use crate::packet::{
    COVERED, Datagram, HEADER, HEADER_LEN, NONCE, PACKET_LEN, PSEUDONYM, SEALED, SIGNATURE_LEN,
    TAG, field,
};
use crate::request::{BODY_LEN, NotCanonical, Request};
use crate::schedule::{ClientKeys, hmac};
use crate::secret::Cloak;
use crate::time::Timestamp;
use crate::transcript::{Transcript, concat};

/// What a client holds for one server.
#[derive(Clone)]
pub struct Credentials {
    /// The server's public key.
    pub server: ServerPublic,
    /// The client's key-id there.
    pub kid: Kid,
    /// What hides the pseudonym.
    pub cloak: Cloak,
    /// Derived from the pre-shared key.
    pub keys: ClientKeys,
    /// Made here for this server; never leaves.
    pub signing: SigningKey,
}

/// 32 bytes from the operating system's randomness, for one datagram.
///
/// They are mixed with the client's own secret, the time and the body, so that
/// a generator that fails, or a virtual machine that is rolled back, does not
/// make two different knocks share a nonce (protocol §5.2).
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Entropy([u8; 32]);

impl Entropy {
    /// Takes fresh random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Why a request could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The request has no canonical encoding.
    Request(NotCanonical),
    /// The server's public key is of small order: the token is not genuine.
    ServerKey,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request(NotCanonical) => {
                "the request contradicts itself: its width does not fit its address"
            }
            Self::ServerKey => {
                "the server's public key is not a usable X25519 key: get a new token"
            }
        })
    }
}

impl std::error::Error for SealError {}

/// Makes the datagram for `request` at the time `now`.
///
/// # Errors
/// [`SealError`] where the request is contradictory or the server's key is not
/// usable; nothing that depends on `entropy`.
pub fn seal(
    credentials: &Credentials,
    request: &Request,
    now: Timestamp,
    entropy: &Entropy,
) -> Result<Datagram, SealError> {
    let body = Zeroizing::new(request.encode().map_err(SealError::Request)?);
    let ephemeral =
        StaticSecret::from(*hedged(credentials, b"spa1 ephemeral\0", entropy, now, &body));
    let transcript = Transcript {
        server: credentials.server,
        kid: credentials.kid,
        nonce: Nonce::from_bytes(field(
            &*hedged(credentials, b"spa1 nonce\0", entropy, now, &body),
            0..16,
        )),
        time: now,
        ephemeral: PublicKey::from(&ephemeral).to_bytes(),
    };
    let sealed = encrypt(credentials, &ephemeral, &transcript, &body)?;
    Ok(assemble(credentials, &transcript, &sealed))
}

/// Fresh randomness and the client's own secret together: unpredictable while
/// either is.
fn hedged(
    credentials: &Credentials,
    label: &[u8],
    entropy: &Entropy,
    now: Timestamp,
    body: &[u8; BODY_LEN],
) -> Zeroizing<[u8; 32]> {
    let secret = credentials.signing.expose();
    let time = now.as_millis().to_be_bytes();
    Zeroizing::new(hmac(&secret, &[label, &entropy.0, &time, body]).finalize().into_bytes().into())
}

/// `AEAD(body | signature)` with its tag behind.
fn encrypt(
    credentials: &Credentials,
    ephemeral: &StaticSecret,
    transcript: &Transcript,
    body: &[u8; BODY_LEN],
) -> Result<[u8; SEALED.end - SEALED.start], SealError> {
    let signature = credentials.signing.sign(&*Zeroizing::new(transcript.to_sign(body)));
    let mut text: Zeroizing<[u8; BODY_LEN + SIGNATURE_LEN]> =
        Zeroizing::new(concat(&[body, &signature]));
    // By the ladder, and not as the server does it: to ask the processor for its vectors takes a
    // virtual machine longer than they save in a program that does this once.
    let shared = ephemeral.diffie_hellman(&PublicKey::from(*credentials.server.as_bytes()));
    if !shared.was_contributory() {
        return Err(SealError::ServerKey);
    }
    let shared = Zeroizing::new(shared.to_bytes());
    let cipher = credentials.keys.keys().cipher(&shared, transcript);
    let tag = cipher
        .encrypt_inout_detached(&[0; 12].into(), &transcript.to_bytes(), text.as_mut_slice().into())
        // ChaCha20-Poly1305 refuses only texts of more than 256 GiB.
        .map_err(|_| SealError::Request(NotCanonical))?;
    Ok(concat(&[text.as_slice(), &tag]))
}

fn assemble(credentials: &Credentials, transcript: &Transcript, sealed: &[u8]) -> Datagram {
    let (keys, cloak) = (credentials.keys.keys(), &credentials.cloak);
    let plain: [u8; HEADER_LEN] =
        concat(&[&transcript.time.as_millis().to_be_bytes(), &transcript.ephemeral]);
    let pseudonym = keys.namer().pseudonym(transcript.time.epoch());
    let mut out = [0; PACKET_LEN];
    out[NONCE].copy_from_slice(transcript.nonce.as_bytes());
    out[PSEUDONYM].copy_from_slice(&pseudonym.mask(cloak, &transcript.nonce));
    out[HEADER].copy_from_slice(&xor(plain, &keys.header_stream(&transcript.nonce)));
    out[SEALED].copy_from_slice(sealed);
    let tag = keys.tag(&out[COVERED]);
    out[TAG].copy_from_slice(&tag);
    out
}

/// Adds or takes off the stream that hides the header.
pub(crate) fn xor(mut header: [u8; HEADER_LEN], stream: &[u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
    header.iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= mask);
    header
}
