//! Where a client's secret could be found: its bytes, and all that would let one knock in its
//! place as far as the server's symmetric checks go.

use hkdf::Hkdf;
use sha2::Sha256;
use sha2::block_api::compress256;
use spa_keys::{ClientName, ServerIdentity, Store, Token, TokenEnrolment};
use spa_proto::ClientKeys;

use super::Server;
use crate::lab::{Doing, Host, Result, fail, program};

/// What SHA-256 begins with (FIPS 180-4 §5.3.3).
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Byte strings that give a client's keys away, in two groups.
pub struct Traces {
    /// The pre-shared key: as bytes and as text.
    pub psk: Vec<Vec<u8>>,
    /// What is derived from it, and what HMAC makes of that.
    pub derived: Vec<Vec<u8>>,
}

impl Traces {
    /// Those of a client that the server has a record of.
    pub fn of(server: &Server, name: &str) -> Result<Self> {
        let dir = server.dir().join("keys");
        let name: ClientName = name.parse().doing("name of a client")?;
        let record = Store::open(&dir).client(&name).doing("the client's record")?;
        let public = ServerIdentity::load(&dir).doing("the server's key")?.secret.public();
        let keys = ClientKeys::derive(&record.psk, &public, &record.kid).to_bytes();
        let (prk, _) = Hkdf::<Sha256>::extract(Some(b"spa1 psk"), record.psk.expose());
        let keys = keys.chunks(32).chain([prk.as_slice()]);
        Ok(Self { psk: as_stored(record.psk.expose()), derived: keys.flat_map(as_used).collect() })
    }

    /// Those of the server's own private key, as it is now; there is nothing derived.
    pub fn of_own_key(server: &Server) -> Result<Self> {
        let dir = server.dir().join("keys");
        let secret = ServerIdentity::load(&dir).doing("the server's key")?.secret;
        Ok(Self { psk: as_stored(&secret.expose()), derived: Vec::new() })
    }

    /// The bytes of the one-time secret of a token, which nothing is derived from.
    pub fn of_token(token: &str) -> Result<Self> {
        let token = Token::decode(token).doing("a token")?;
        let TokenEnrolment::Secret { secret, .. } = token.enrolment else {
            return fail("no token with a secret");
        };
        Ok(Self { psk: halves(secret.expose()).to_vec(), derived: Vec::new() })
    }

    /// How many of these are somewhere in the memory of a process of this host.
    pub fn found(needles: &[Vec<u8>], host: &Host, pid: u64) -> Result<usize> {
        let lines: Vec<_> = needles.iter().map(|needle| hex(needle)).collect();
        let helper = program("spa-lab-helper")?.display().to_string();
        let scan = [helper.as_str(), "scan", &pid.to_string()];
        let counts = host.run_with_input(scan, &lines.join("\n"))?.ok()?;
        if counts.stdout.lines().count() != needles.len() {
            return fail(format!("not one line for each needle: {counts}"));
        }
        Ok(counts.stdout.lines().filter(|count| *count != "0").count())
    }
}

/// Halves of a secret in all forms in which it could be part of a text: hexadecimal, as files have
/// it, and as a list of numbers.
pub fn texts(secret: &[u8]) -> Vec<String> {
    let base64 = spa_keys::encoding::to_base64(secret);
    let (one, other) = base64.trim_end_matches('=').split_at(base64.len() / 2);
    let mut texts = vec![one.to_owned(), other.to_owned()];
    for half in halves(secret) {
        let numbers: Vec<_> = half.iter().map(u8::to_string).collect();
        texts.extend([hex(&half), hex(&half).to_uppercase(), numbers.join(", ")]);
    }
    texts
}

/// A secret as bytes, as hexadecimal, and as the record has it.
fn as_stored(key: &[u8; 32]) -> Vec<Vec<u8>> {
    let text = spa_keys::encoding::to_base64(key);
    [key.as_slice(), hex(key).as_bytes(), text.as_bytes()].into_iter().flat_map(halves).collect()
}

/// A key of HMAC-SHA256 as bytes, as its two padded blocks, and as the two states that these
/// leave SHA-256 in: either pair is as good as the key (RFC 2104 §4).
fn as_used(key: &[u8]) -> Vec<Vec<u8>> {
    let padded = [0x36_u8, 0x5c].map(|pad| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    });
    let states = padded.map(|block| {
        let mut state = INITIAL;
        compress256(&mut state, &[block]);
        state.map(u32::to_ne_bytes).concat()
    });
    let blocks = padded.iter().map(|block| &block[..32]);
    let all = [key].into_iter().chain(blocks).chain(states.iter().map(Vec::as_slice));
    all.flat_map(halves).collect()
}

/// Half a key is too much as well.
fn halves(bytes: &[u8]) -> [Vec<u8>; 2] {
    let (one, other) = bytes.split_at(bytes.len() / 2);
    [one.to_vec(), other.to_vec()]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
