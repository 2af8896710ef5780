//! Taking a datagram apart, one step at a time (protocol §6). The order of the
//! steps, and what stands between them, is the gate's.

use chacha20poly1305::aead::AeadInOut;
use zeroize::Zeroizing;

use crate::activity::Mark;
use crate::key::{Kid, Nonce, ServerPublic, ServerSecret};
use crate::packet::{
    COVERED, Datagram, HEADER, NONCE, PSEUDONYM, SEALED, SIGNATURE_LEN, TAG, field,
};
use crate::pseudonym::Pseudonym;
use crate::reason::Reason;
use crate::request::{BODY_LEN, Body};
use crate::schedule::Keys;
use crate::seal::xor;
use crate::secret::Cloak;
use crate::time::Timestamp;
use crate::transcript::Transcript;

/// Body and signature, decrypted.
pub(crate) type Opened = (Body, [u8; SIGNATURE_LEN]);

pub(crate) fn nonce(datagram: &Datagram) -> Nonce {
    Nonce::from_bytes(field(datagram, NONCE))
}

/// Step 2: under which pseudonym the sender is to be looked up.
pub(crate) fn pseudonym(datagram: &Datagram, cloak: &Cloak) -> Pseudonym {
    Pseudonym::unmask(field(datagram, PSEUDONYM), cloak, &nonce(datagram))
}

/// The first bytes of the tag. Of two datagrams that both are authentic, the same
/// nonce and these make them the same.
pub(crate) fn mark(datagram: &Datagram) -> Mark {
    field(datagram, TAG.start..TAG.start + size_of::<Mark>())
}

/// Step 3: whether this client's HMAC covers the datagram.
pub(crate) fn authentic(datagram: &Datagram, keys: &Keys) -> bool {
    keys.verify_tag(&datagram[COVERED], &field(datagram, TAG))
}

/// The plain values behind the header, to be used only after step 3.
pub(crate) fn transcript(
    datagram: &Datagram,
    keys: &Keys,
    server: ServerPublic,
    kid: Kid,
) -> Transcript {
    let nonce = nonce(datagram);
    let plain = xor(field(datagram, HEADER), &keys.header_stream(&nonce));
    Transcript {
        server,
        kid,
        nonce,
        time: Timestamp::from_millis(u64::from_be_bytes(field(&plain, 0..8))),
        ephemeral: field(&plain, 8..40),
    }
}

/// Step 7: the public-key work, and the decryption.
pub(crate) fn unseal(
    datagram: &Datagram,
    keys: &Keys,
    secret: &ServerSecret,
    transcript: &Transcript,
) -> Result<Opened, Reason> {
    let shared = secret.agree(transcript.ephemeral).ok_or(Reason::BadEphemeral)?;
    let cipher = keys.cipher(&shared, transcript);
    let sealed: [u8; SEALED.end - SEALED.start] = field(datagram, SEALED);
    let (text, tag) = sealed.split_at(BODY_LEN + SIGNATURE_LEN);
    let mut text: Zeroizing<[u8; BODY_LEN + SIGNATURE_LEN]> =
        Zeroizing::new(field(text, 0..text.len()));
    let tag: [u8; 16] = field(tag, 0..tag.len());
    cipher
        .decrypt_inout_detached(
            &[0; 12].into(),
            &transcript.to_bytes(),
            text.as_mut_slice().into(),
            &tag.into(),
        )
        .map_err(|_| Reason::BadSeal)?;
    let body = Box::new(Zeroizing::new(field(&*text, 0..BODY_LEN)));
    Ok((body, field(&*text, BODY_LEN..text.len())))
}
