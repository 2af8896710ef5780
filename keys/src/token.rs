//! The token: what `spa-keys add` hands to a client (protocol §8).
//!
//! One line, `spa1.` and behind it, armoured:
//!
//! ```text
//! 0    kind           1   0 with a one-time secret, 1 for a key that the client has; 2, 3 with times
//! 1    port           2   not 0
//! 3    server key    32   X25519
//! 35   cloak         16
//! 51   kid           16
//! 67   psk           32
//! 99   secret        32   kind 0: of the enrolment; kind 1: the client's Ed25519 key
//! 131  expires        8   kind 0: ms since 1970; kind 1: zero
//! 139  host length    1
//! 140  host           …   ASCII
//! …    services       1   how many, at least one; then each: length 1, name
//! …    times          4   kinds 2 and 3: for each service, in seconds; 0: not known
//! ```
//! Numbers are big-endian. Nothing follows.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use spa_proto::{Cloak, EnrolSecret, Kid, Psk, ServerPublic, ServiceName, Timestamp, VerifyingKey};
use zeroize::Zeroizing;

use crate::host::check_host;
use crate::{armour, proof};
pub use sealed::SealedToken;

mod sealed;

const PREFIX: &str = "spa1.";
const FIXED_LEN: usize = 139;
/// Added to the kind where times follow the services.
const WITH_TIMES: u8 = 2;
/// Of the kinds that are known.
const HIGHEST_KIND: u8 = 3;

/// All that a client needs to know of a server.
#[derive(Clone)]
pub struct Token {
    /// Name or address of the server; see [`check_host`].
    pub host: String,
    /// UDP port to knock at, not 0.
    pub port: u16,
    /// The server's public key.
    pub server: ServerPublic,
    /// What hides pseudonyms from outsiders.
    pub cloak: Cloak,
    /// The client's key-id.
    pub kid: Kid,
    /// The client's pre-shared key.
    pub psk: Psk,
    /// How the client's signing key comes to the server.
    pub enrolment: TokenEnrolment,
    /// What the client may knock for, the default first; never empty, none twice.
    pub services: Vec<ServiceName>,
    /// For how many seconds these open for who asks for no duration, where that is known; none
    /// but these.
    pub lasting: BTreeMap<ServiceName, NonZeroU32>,
}

/// How the client's signing key comes to the server (protocol §8).
#[derive(Clone)]
pub enum TokenEnrolment {
    /// With the first knock.
    Secret {
        /// What that knock has to show.
        secret: EnrolSecret,
        /// Up to when, by the server's clock.
        expires: Timestamp,
    },
    /// It is there already: the client knocks with this key.
    Key(VerifyingKey),
}

/// Text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Something else altogether.
    NotAToken,
    /// A public key line, which goes the other way.
    PublicKeyLine,
    /// A token under a passphrase: see [`SealedToken`].
    Sealed,
    /// Not the passphrase, or somebody has changed what is under it.
    Passphrase,
    /// To be opened, it asks for more work than any that `spa-keys` writes.
    Cost,
    /// A token of a later version, or of a kind that has come since.
    Version,
    /// Mistyped, cut or broken.
    Damaged,
    /// Whole, but not what `spa-keys` writes.
    Contents,
}

impl fmt::Display for TokenError {
    /// Never quotes the text: it may be most of a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAToken => {
                "this is not a token: a token is the one line beginning with spa1. that \
                 spa-keys add prints"
            }
            Self::PublicKeyLine => {
                "this is a public key line, not a token: give it to spa-keys add --pubkey on the \
                 server, which prints the token"
            }
            Self::Sealed => "this token is under a passphrase: open it before",
            Self::Passphrase => {
                "that is not the token's passphrase, or the token was changed on its way"
            }
            Self::Cost => {
                "the token asks for more work to be opened than any that spa-keys writes: do not \
                 trust where it comes from"
            }
            Self::Version => {
                "the token is of a version or a kind that this program does not know: update spa"
            }
            Self::Damaged => {
                "the token is damaged: a character was mistyped, left out or added, or the line is \
                 broken; copy it again, whole"
            }
            Self::Contents => {
                "the token is whole, but there is something in it that spa-keys does not write: \
                 ask for another"
            }
        })
    }
}

impl std::error::Error for TokenError {}

impl Token {
    /// More than these have no place in a token.
    pub const MAX_SERVICES: usize = 255;

    /// The token as one line, for a host that [`check_host`] accepts and at
    /// most [`Self::MAX_SERVICES`] services.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        armour::write(PREFIX, &self.payload())
    }

    /// All that a line holds.
    fn payload(&self) -> Zeroizing<Vec<u8>> {
        let mut payload = Zeroizing::new(Vec::with_capacity(self.payload_len()));
        let times = if self.lasting.is_empty() { 0 } else { WITH_TIMES };
        payload.push(u8::from(matches!(self.enrolment, TokenEnrolment::Key(_))) | times);
        payload.extend_from_slice(&self.port.to_be_bytes());
        payload.extend_from_slice(self.server.as_bytes());
        payload.extend_from_slice(self.cloak.expose());
        payload.extend_from_slice(self.kid.as_bytes());
        payload.extend_from_slice(self.psk.expose());
        self.enrolment.write(&mut payload);
        write_text(&mut payload, &self.host);
        payload.push(length(self.services.len()));
        self.services.iter().for_each(|service| write_text(&mut payload, service.as_str()));
        if times != 0 {
            let seconds = |service| self.lasting.get(service).map_or(0, |time| time.get());
            payload.extend(self.services.iter().flat_map(|name| seconds(name).to_be_bytes()));
        }
        payload
    }

    /// Reads one line; white space around it does not matter.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let rest = text.strip_prefix(PREFIX).ok_or_else(|| other_kind(text))?;
        let payload = armour::read(PREFIX, rest).ok_or(TokenError::Damaged)?;
        Self::of_payload(&payload)
    }

    fn of_payload(payload: &[u8]) -> Result<Self, TokenError> {
        if payload.first().is_some_and(|kind| *kind > HIGHEST_KIND) {
            return Err(TokenError::Version);
        }
        Self::read(&mut Reader(payload)).ok_or(TokenError::Contents)
    }

    fn payload_len(&self) -> usize {
        let services: usize = self.services.iter().map(|service| 1 + service.as_str().len()).sum();
        let times = if self.lasting.is_empty() { 0 } else { 4 * self.services.len() };
        FIXED_LEN + 1 + self.host.len() + 1 + services + times
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let kind = u8::from_be_bytes(*reader.array()?);
        let mut token = Self {
            port: u16::from_be_bytes(*reader.array()?),
            server: ServerPublic::from_bytes(*reader.array()?),
            cloak: Cloak::from_bytes(*reader.array()?),
            kid: Kid::from_bytes(*reader.array()?),
            psk: Psk::from_bytes(*reader.array()?),
            enrolment: TokenEnrolment::read(kind & !WITH_TIMES, reader)?,
            host: reader.text()?.to_owned(),
            services: reader.services()?,
            lasting: BTreeMap::new(),
        };
        if kind & WITH_TIMES != 0 {
            token.lasting = reader.times(&token.services)?;
        }
        let sound = token.port != 0 && check_host(&token.host).is_ok() && reader.0.is_empty();
        sound.then_some(token)
    }
}

impl TokenEnrolment {
    fn write(&self, payload: &mut Vec<u8>) {
        match self {
            Self::Secret { secret, expires } => {
                payload.extend_from_slice(secret.expose());
                payload.extend_from_slice(&expires.as_millis().to_be_bytes());
            }
            Self::Key(key) => {
                payload.extend_from_slice(&key.to_bytes());
                payload.extend_from_slice(&[0; 8]);
            }
        }
    }

    fn read(kind: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let secret = reader.array()?;
        let expires = u64::from_be_bytes(*reader.array()?);
        match (kind, expires) {
            (0, _) => Some(Self::Secret {
                secret: EnrolSecret::from_bytes(*secret),
                expires: Timestamp::from_millis(expires),
            }),
            (1, 0) => VerifyingKey::from_bytes(secret).ok().map(Self::Key),
            _ => None,
        }
    }
}

/// What a line is that does not begin as a token of this version.
fn other_kind(text: &str) -> TokenError {
    let version = text.strip_prefix("spa").and_then(|rest| rest.split_once('.'));
    match version {
        _ if text.starts_with(proof::PREFIX) => TokenError::PublicKeyLine,
        _ if SealedToken::is_one(text) => TokenError::Sealed,
        Some((digits, _)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            TokenError::Version
        }
        _ => TokenError::NotAToken,
    }
}

fn write_text(payload: &mut Vec<u8>, text: &str) {
    let len = length(text.len());
    payload.push(len);
    payload.extend(text.bytes().take(len.into()));
}

fn length(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

/// What is left of the payload.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }

    fn text(&mut self) -> Option<&'a str> {
        let [len] = self.array()?;
        let (text, rest) = self.0.split_at_checked(usize::from(*len))?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// At least one, none twice.
    fn services(&mut self) -> Option<Vec<ServiceName>> {
        let [count] = self.array()?;
        let mut services = Vec::new();
        for _ in 0..*count {
            let service = self.text()?.parse().ok()?;
            if services.contains(&service) {
                return None;
            }
            services.push(service);
        }
        (!services.is_empty()).then_some(services)
    }

    /// One for each of these, not all of them unknown.
    fn times(&mut self, services: &[ServiceName]) -> Option<BTreeMap<ServiceName, NonZeroU32>> {
        let mut times = BTreeMap::new();
        for service in services {
            let seconds = NonZeroU32::new(u32::from_be_bytes(*self.array()?));
            times.extend(seconds.map(|seconds| (*service, seconds)));
        }
        (!times.is_empty()).then_some(times)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
