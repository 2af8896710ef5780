//! A knock made step by step, as protocol §5 has it, with every value on the
//! way open to view and to deviation. Shares no code with the crate.

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit as _};
use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use siphasher::sip::SipHasher24;
use x25519_dalek::{PublicKey, StaticSecret};

/// Length of the body.
pub(crate) const BODY: usize = 160;

/// What a client holds, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) server: [u8; 32],
    pub(crate) cloak: [u8; 16],
    pub(crate) kid: [u8; 16],
    pub(crate) psk: [u8; 32],
    pub(crate) seed: [u8; 32],
}

/// What is to be sent; a field that is `None` follows the protocol.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) body: [u8; BODY],
    pub(crate) ts: u64,
    pub(crate) randomness: [u8; 32],
    /// Another epoch for the pseudonym.
    pub(crate) epoch: Option<u64>,
    /// Another nonce.
    pub(crate) nonce: Option<[u8; 16]>,
    /// Another ephemeral public key, with the X25519 output that goes with it.
    pub(crate) ephemeral: Option<([u8; 32], [u8; 32])>,
    /// Another secret to go into the key beside the X25519 output: k_dh.
    pub(crate) salt: Option<[u8; 32]>,
    /// Another transcript for key and associated data.
    pub(crate) transcript: Option<[u8; 108]>,
    /// Another signature.
    pub(crate) sig: Option<[u8; 64]>,
}

impl Plan {
    pub(crate) fn new(body: [u8; BODY], ts: u64, randomness: [u8; 32]) -> Self {
        Self {
            body,
            ts,
            randomness,
            epoch: None,
            nonce: None,
            ephemeral: None,
            salt: None,
            transcript: None,
            sig: None,
        }
    }
}

/// Every value of protocol §5.1 and §5.2.
pub(crate) struct Steps {
    pub(crate) keys: Keys,
    pub(crate) epoch: u64,
    pub(crate) pid: [u8; 8],
    pub(crate) siphash: [u8; 8],
    pub(crate) nonce: [u8; 16],
    pub(crate) e: [u8; 32],
    pub(crate) ephemeral: [u8; 32],
    pub(crate) transcript: [u8; 108],
    pub(crate) dh: [u8; 32],
    pub(crate) k: [u8; 32],
    pub(crate) sig: [u8; 64],
    pub(crate) stream: [u8; 40],
    pub(crate) datagram: [u8; 336],
}

/// The key schedule of protocol §5.1.
pub(crate) struct Keys {
    pub(crate) prk: [u8; 32],
    pub(crate) id: [u8; 32],
    pub(crate) mac: [u8; 32],
    pub(crate) hdr: [u8; 32],
    pub(crate) dh: [u8; 32],
}

impl Sender {
    pub(crate) fn keys(&self) -> Keys {
        let prk = extract(b"spa1 psk", &self.psk);
        let key = |label: &[u8]| expand(&prk, &[label, &self.server, &self.kid].concat());
        Keys {
            id: key(b"spa1 id\0"),
            mac: key(b"spa1 mac\0"),
            hdr: key(b"spa1 hdr\0"),
            dh: key(b"spa1 dh\0"),
            prk,
        }
    }

    pub(crate) fn transcript(&self, nonce: [u8; 16], ts: u64, ephemeral: [u8; 32]) -> [u8; 108] {
        join(&[b"spa1", &self.server, &self.kid, &nonce, &ts.to_be_bytes(), &ephemeral])
    }

    pub(crate) fn sign(&self, transcript: &[u8; 108], body: &[u8; BODY]) -> [u8; 64] {
        let message = [b"spa1 knock\0".as_slice(), transcript, body].concat();
        SigningKey::from_bytes(&self.seed).sign(&message).to_bytes()
    }

    fn hedged(&self, label: &[u8], plan: &Plan) -> [u8; 32] {
        mac(&self.seed, &[label, &plan.randomness, &plan.ts.to_be_bytes(), &plan.body].concat())
    }

    pub(crate) fn knock(&self, plan: &Plan) -> Steps {
        let keys = self.keys();
        let nonce = plan.nonce.unwrap_or(cut(&self.hedged(b"spa1 nonce\0", plan)));
        let e = self.hedged(b"spa1 ephemeral\0", plan);
        let honest = || (public(e), agree(e, self.server));
        let (ephemeral, dh) = plan.ephemeral.unwrap_or_else(honest);
        let honest = self.transcript(nonce, plan.ts, ephemeral);
        let transcript = plan.transcript.unwrap_or(honest);
        let sig = plan.sig.unwrap_or_else(|| self.sign(&transcript, &plan.body));
        let salt = plan.salt.unwrap_or(keys.dh);
        let k = expand(&extract(&salt, &dh), &[b"spa1 aead\0".as_slice(), &transcript].concat());
        let epoch = plan.epoch.unwrap_or(plan.ts / super::parties::EPOCH_MS);
        let mut steps = Steps {
            epoch,
            pid: cut(&mac(&keys.id, &epoch.to_be_bytes())),
            siphash: SipHasher24::new_with_key(&self.cloak).hash(&nonce).to_be_bytes(),
            stream: expand(&keys.hdr, &[b"spa1 stream\0".as_slice(), &nonce].concat()),
            datagram: [0; 336],
            keys,
            nonce,
            e,
            ephemeral,
            transcript,
            dh,
            k,
            sig,
        };
        steps.datagram = steps.assemble(plan);
        steps
    }
}

impl Steps {
    fn assemble(&self, plan: &Plan) -> [u8; 336] {
        let header: [u8; 40] = join(&[&plan.ts.to_be_bytes(), &self.ephemeral]);
        let mut text = [plan.body.as_slice(), &self.sig].concat();
        let cipher = ChaCha20Poly1305::new((&self.k).into());
        let tag = cipher
            .encrypt_inout_detached(&[0; 12].into(), &self.transcript, text.as_mut_slice().into())
            .unwrap();
        let sealed = [text.as_slice(), &tag].concat();
        let covered: [u8; 304] =
            join(&[&self.nonce, &xor(self.pid, self.siphash), &xor(header, self.stream), &sealed]);
        join(&[&covered, &mac(&self.keys.mac, &covered)])
    }
}

/// Puts a right tag under a datagram that was altered.
pub(crate) fn tag_again(sender: &Sender, datagram: &mut [u8; 336]) {
    let tag = mac(&sender.keys().mac, &datagram[..304]);
    datagram[304..].copy_from_slice(&tag);
}

pub(crate) fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

pub(crate) fn public(secret: [u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(secret)).to_bytes()
}

fn agree(secret: [u8; 32], public: [u8; 32]) -> [u8; 32] {
    StaticSecret::from(secret).diffie_hellman(&PublicKey::from(public)).to_bytes()
}

fn extract(salt: &[u8], secret: &[u8]) -> [u8; 32] {
    Hkdf::<Sha256>::extract(Some(salt), secret).0.into()
}

fn expand<const N: usize>(prk: &[u8; 32], info: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::from_prk(prk).unwrap().expand(info, &mut out).unwrap();
    out
}

fn cut<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    bytes[..N].try_into().unwrap()
}

fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    parts.concat().try_into().unwrap()
}

fn xor<const N: usize>(left: [u8; N], right: [u8; N]) -> [u8; N] {
    std::array::from_fn(|at| left[at] ^ right[at])
}
