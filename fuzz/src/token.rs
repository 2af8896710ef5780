//! Tokens and public key lines: text that people hand to each other.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use spa_keys::{PublicKeyLine, SealedToken, Token};
use spa_proto::SigningKey;

const TOKEN: &str = "spa1.";
const SEALED: &str = "spa1-sealed.";
const LINE: &str = "spa1-key.";

/// First byte: 0, the rest is the line; 1 or 2, it is what is in a token or a
/// public key line, which is then put together; otherwise it is a seed and
/// what becomes of the line made with it. Through: the line is good.
pub fn run(input: &[u8]) -> bool {
    let Some((kind, rest)) = input.split_first() else { return false };
    match kind % 4 {
        0 => std::str::from_utf8(rest).is_ok_and(|text| {
            sealed(text);
            token(text) | line(text)
        }),
        1 => {
            sealed(&armour(SEALED, rest));
            token(&armour(TOKEN, rest))
        }
        2 => line(&armour(LINE, rest)),
        _ => own_line(rest),
    }
}

/// There is one line for what is in it.
fn token(text: &str) -> bool {
    let Ok(token) = Token::decode(text) else { return false };
    assert!(*token.encode() == *text.trim(), "two lines for one token");
    assert!(token.port != 0 && !token.services.is_empty());
    true
}

/// The same for one under a passphrase; what is under it takes too long here.
fn sealed(text: &str) {
    if let Ok(sealed) = SealedToken::decode(text) {
        assert!(*sealed.encode() == *text.trim(), "two lines for one sealed token");
    }
}

fn line(text: &str) -> bool {
    let Ok(line) = PublicKeyLine::decode(text) else { return false };
    let start = armour(LINE, &line.key.to_bytes());
    // 42 characters are whole bytes of the key; behind them is the signature.
    assert_eq!(text.trim()[..LINE.len() + 42], start[..LINE.len() + 42]);
    true
}

/// A line that a client has made is good, and no other under its key is that
/// differs from it.
fn own_line(rest: &[u8]) -> bool {
    let Some((seed, changes)) = rest.split_first_chunk::<32>() else { return false };
    let key = SigningKey::from_seed(seed);
    let text = PublicKeyLine::encode(&key);
    assert_eq!(PublicKeyLine::decode(&text).map(|line| line.key), Ok(key.verifying_key()));
    let mut payload = URL_SAFE_NO_PAD.decode(&text[LINE.len()..]).unwrap();
    payload.truncate(96);
    let whole = payload.clone();
    for pair in changes.as_chunks::<2>().0 {
        payload[usize::from(pair[0]) % 96] ^= pair[1];
    }
    let good = line(&armour(LINE, &payload));
    assert!(!good || payload == whole, "altered, and still signed");
    good
}

/// Protocol §8: the payload and its checksum.
fn armour(prefix: &str, payload: &[u8]) -> String {
    let hash = Sha256::new().chain_update(prefix).chain_update(payload).finalize();
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode([payload, &hash[..6]].concat()))
}
