//! What the server knows of one client.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use spa_proto::{Kid, Prefix, Psk, ServiceName, Timestamp, Verifier, VerifyingKey};

use crate::limits::{Modes, Widest};
use crate::rotation::FormerKeys;

const MAX_NAME_LEN: usize = 64;

/// Name of a client: at most 64 of `a-z 0-9 . _ @ -`, the first a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientName(Box<str>);

impl ClientName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClientName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let ordinary = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = text.len() <= MAX_NAME_LEN
            && text.bytes().next().is_some_and(ordinary)
            && text.bytes().all(|byte| ordinary(byte) || b"._@-".contains(&byte));
        if fits { Ok(Self(text.into())) } else { Err(InvalidName(text.to_owned())) }
    }
}

/// Text that cannot name a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName(String);

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a client's name: expected at most 64 lower-case letters, digits and any \
             of . _ @ -, of which the first is a letter or a digit",
            self.0
        )
    }
}

impl std::error::Error for InvalidName {}

/// For which kind of address a client may ask (protocol §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressRule {
    /// Only one that it names itself.
    This,
    /// Only the one that the server sees.
    Seen,
    /// Either.
    Both,
}

impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::This => "this",
            Self::Seen => "seen",
            Self::Both => "both",
        })
    }
}

impl FromStr for AddressRule {
    type Err = InvalidAddressRule;

    fn from_str(text: &str) -> Result<Self, InvalidAddressRule> {
        let all = [Self::This, Self::Seen, Self::Both];
        let found = all.into_iter().find(|rule| rule.to_string() == text);
        found.ok_or_else(|| InvalidAddressRule(text.to_owned()))
    }
}

/// Text that is no [`AddressRule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAddressRule(String);

impl fmt::Display for InvalidAddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is none of this, seen and both", self.0)
    }
}

impl std::error::Error for InvalidAddressRule {}

/// One client: its keys, and what it may do.
#[derive(Clone)]
pub struct ClientRecord {
    /// Under which people know it.
    pub name: ClientName,
    /// Key-id: under which the protocol knows it.
    pub kid: Kid,
    /// Pre-shared key.
    pub psk: Psk,
    /// Its verifying key, or what will bind one.
    pub verifier: Verifier,
    /// Whether a knock of this record was ever accepted; false can be trusted.
    pub knocked: bool,
    /// When it was added.
    pub created: Timestamp,
    /// Up to when it may knock.
    pub expires: Option<Timestamp>,
    /// What it may knock for, the default first; never empty, none twice.
    pub services: Vec<ServiceName>,
    /// How long its grants last if it does not say, in place of the service's own.
    pub ttl: Option<Duration>,
    /// How long they last at most, in place of the service's own.
    pub max_ttl: Option<Duration>,
    /// For which addresses; empty: any.
    pub sources: Vec<Prefix>,
    /// For which kind of address.
    pub address: AddressRule,
    /// Which grant modes it may ask for.
    pub modes: Modes,
    /// How wide a prefix it may be granted.
    pub widest: Widest,
    /// What it had before, while that still works.
    pub former: Option<FormerKeys>,
}

/// What is left of a client that was revoked: no secrets.
#[derive(Clone, Debug)]
pub struct RevokedClient {
    /// Under which people knew it.
    pub name: ClientName,
    /// Key-id: under which the protocol knew it.
    pub kid: Kid,
    /// Its verifying key, if it ever had one.
    pub key: Option<VerifyingKey>,
    /// Whether a knock of this record was ever accepted.
    pub knocked: bool,
    /// When it was added.
    pub created: Timestamp,
    /// Up to when it could knock.
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Timestamp,
    /// What it could knock for.
    pub services: Vec<ServiceName>,
    /// See [`ClientRecord::ttl`].
    pub ttl: Option<Duration>,
    /// See [`ClientRecord::max_ttl`].
    pub max_ttl: Option<Duration>,
    /// See [`ClientRecord::sources`].
    pub sources: Vec<Prefix>,
    /// See [`ClientRecord::address`].
    pub address: AddressRule,
    /// See [`ClientRecord::modes`].
    pub modes: Modes,
    /// See [`ClientRecord::widest`].
    pub widest: Widest,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// Its token has not been used yet.
    Pending,
    /// Its token was not used in time.
    TokenExpired,
    /// Its key is bound, but it has never knocked.
    NeverKnocked,
    /// It has knocked.
    Enrolled,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl ClientState {
    /// Name in tables and JSON: lower case, words joined by hyphens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::TokenExpired => "token-expired",
            Self::NeverKnocked => "never-knocked",
            Self::Enrolled => "enrolled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl ClientRecord {
    /// Where the client stands at the time `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> ClientState {
        match self.verifier {
            _ if self.expires.is_some_and(|expires| now > expires) => ClientState::Expired,
            Verifier::Pending { expires, .. } if now > expires => ClientState::TokenExpired,
            Verifier::Pending { .. } => ClientState::Pending,
            Verifier::Bound(_) if self.knocked => ClientState::Enrolled,
            Verifier::Bound(_) => ClientState::NeverKnocked,
        }
    }

    /// What is to be kept of it once it is revoked.
    #[must_use]
    pub fn without_secrets(self, revoked: Timestamp) -> RevokedClient {
        let key = match self.verifier {
            Verifier::Bound(key) => Some(key),
            Verifier::Pending { .. } => None,
        };
        RevokedClient {
            name: self.name,
            kid: self.kid,
            key,
            knocked: self.knocked,
            created: self.created,
            expires: self.expires,
            revoked,
            services: self.services,
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            sources: self.sources,
            address: self.address,
            modes: self.modes,
            widest: self.widest,
        }
    }
}

/// What no record may say, whoever writes it.
pub(crate) fn check_policy(
    services: &[ServiceName],
    ttl: Option<Duration>,
    max_ttl: Option<Duration>,
    modes: Modes,
    widest: Widest,
) -> Result<(), &'static str> {
    let mut seen = HashSet::new();
    if services.is_empty() {
        return Err("services is empty: a client needs at least one");
    }
    if !services.iter().all(|service| seen.insert(service)) {
        return Err("services names one twice");
    }
    if ttl.is_some_and(|ttl| ttl.is_zero()) || max_ttl.is_some_and(|max| max.is_zero()) {
        return Err("ttl and max-ttl cannot be 0");
    }
    if ttl.zip(max_ttl).is_some_and(|(ttl, max)| ttl > max) {
        return Err("ttl is longer than max-ttl");
    }
    if modes.is_empty() {
        return Err("modes is empty: leave it out to allow all");
    }
    widest.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names() {
        let longest = "a".repeat(64);
        for name in ["a", "0", "alice", "alice@laptop.example.com", "a_b-c.", &longest] {
            assert_eq!(name.parse::<ClientName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_what_could_be_a_path_or_an_option() {
        let long = "a".repeat(65);
        for name in ["", ".", "..", ".a", "-a", "@a", "a/b", "A", "a b", "a\n", "ä", "a\0", &long]
        {
            assert!(name.parse::<ClientName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn policies_that_contradict_themselves() {
        let (ssh, web) = ("ssh".parse().unwrap(), "web".parse().unwrap());
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let check = |services: &[_], ttl, max_ttl| {
            check_policy(services, ttl, max_ttl, Modes::ALL, Widest::ADDRESS)
        };
        assert_eq!(check(&[ssh, web], seconds(30), seconds(30)), Ok(()));
        assert!(check(&[], None, None).is_err());
        assert!(check(&[ssh, web, ssh], None, None).is_err());
        assert!(check(&[ssh], seconds(0), None).is_err());
        assert!(check(&[ssh], None, seconds(0)).is_err());
        assert!(check(&[ssh], seconds(31), seconds(30)).is_err());
        let none = Modes::from_iter([]);
        assert!(check_policy(&[ssh], None, None, none, Widest::ADDRESS).is_err());
        let wide = Widest { v4: 0, v6: 128 };
        assert!(check_policy(&[ssh], None, None, Modes::ALL, wide).is_err());
    }
}
