//! What the server knows of one client.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use spa_proto::{Kid, Psk, ServiceName, Timestamp, Verifier, VerifyingKey};

use crate::hours;
use crate::policy::{self, Person, Policy};
use crate::rotation::FormerKeys;

const MAX_NAME_LEN: usize = 64;
/// How many key-ids that work no more are kept of a client.
pub(crate) const MAX_FORMER_KIDS: usize = 64;

/// Name of a client: at most 64 of `a-z 0-9 . _ @ -`, the first a letter or a digit;
/// or of a person's device, two such with a slash between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientName(Box<str>);

impl ClientName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose device this is: what comes before the slash, or all of it.
    #[must_use]
    pub fn person(&self) -> Self {
        Self(self.0.split('/').next().unwrap_or_default().into())
    }

    /// What comes behind the slash.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, device)| device)
    }

    /// Whether `who` means this client: by its name, or by its person's.
    #[must_use]
    pub fn is_of(&self, who: &Self) -> bool {
        self == who || (who.device().is_none() && self.person() == *who)
    }

    /// The same device of another person.
    #[must_use]
    pub fn with_person(&self, person: &Self) -> Option<Self> {
        format!("{person}/{}", self.device()?).parse().ok()
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
        let is_name = |part: &str| {
            part.bytes().next().is_some_and(ordinary)
                && part.bytes().all(|byte| ordinary(byte) || b"._@-".contains(&byte))
        };
        let parts = text.split_once('/').map_or([text, text], |(person, device)| [person, device]);
        let fits = text.len() <= MAX_NAME_LEN && parts.into_iter().all(is_name);
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
             of . _ @ -, of which the first is a letter or a digit; a person's device is \
             person/device",
            self.0
        )
    }
}

impl std::error::Error for InvalidName {}

/// For which kind of address a client may ask (protocol §5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AddressRule {
    /// Only one that it names itself.
    This,
    /// Only the one that the server sees.
    Seen,
    /// Either.
    #[default]
    Both,
}

impl AddressRule {
    /// Whether it may ask for one that it names (`explicit`), or else for the one seen.
    #[must_use]
    pub const fn allows(self, explicit: bool) -> bool {
        match self {
            Self::This => explicit,
            Self::Seen => !explicit,
            Self::Both => true,
        }
    }
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
    /// Since when it is shut out, for a while.
    pub disabled: Option<Timestamp>,
    /// What it may do. Many clients may do the same, and share it.
    pub policy: Arc<Policy>,
    /// For a device: what its person may do, if that was ever said. Not in its file.
    pub person: Option<Arc<Person>>,
    /// What it had before, while that still works.
    pub former: Option<FormerKeys>,
    /// Key-ids that it had before and that work no more, the latest last: a backup that
    /// has one of them does not bring it back. At most 64.
    pub former_kids: Vec<Kid>,
}

/// What is left of a client that was revoked: no secrets.
#[derive(Clone, Debug)]
pub struct RevokedClient {
    /// Under which people knew it.
    pub name: ClientName,
    /// Key-id: under which the protocol knew it.
    pub kid: Kid,
    /// Those that it had before.
    pub former_kids: Vec<Kid>,
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
    /// What it could do.
    pub policy: Policy,
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
    /// It is shut out until somebody enables it again.
    Disabled,
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
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
        }
    }
}

impl ClientRecord {
    /// Where the client stands at the time `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> ClientState {
        match self.verifier {
            _ if self.is_disabled() => ClientState::Disabled,
            _ if self.ends().is_some_and(|ends| now > ends) => ClientState::Expired,
            _ if self
                .former
                .as_ref()
                .is_some_and(|former| former.knocked && former.until >= now) =>
            {
                ClientState::Enrolled
            }
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
            Verifier::Pending { .. } => self.former.as_ref().map(|former| former.key),
        };
        let former_kids = self.ever_kids().filter(|kid| *kid != self.kid).collect();
        RevokedClient {
            name: self.name,
            kid: self.kid,
            former_kids,
            key,
            knocked: self.knocked,
            created: self.created,
            expires: self.expires,
            revoked,
            policy: Arc::unwrap_or_clone(self.policy),
        }
    }
}

/// What it may do, together with its person.
impl ClientRecord {
    /// Its own policy and its person's: what is granted must be allowed by each.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> + Clone {
        std::iter::once(&*self.policy).chain(self.person.as_ref().map(|person| &person.policy))
    }

    /// Whether it is shut out for a while, or its person is.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        let person = self.person.as_ref();
        self.disabled.is_some() || person.is_some_and(|person| person.disabled.is_some())
    }

    /// Up to when it may knock.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        let person = self.person.as_ref().and_then(|person| person.expires);
        self.expires.into_iter().chain(person).min()
    }

    /// What it may knock for, the default first.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceName> {
        policy::services(self.policies())
    }

    /// Whether it may knock for this service.
    #[must_use]
    pub fn may_open(&self, service: &ServiceName) -> bool {
        policy::allow(self.policies(), service)
    }

    /// How long its grants last if it does not say.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.policies().filter_map(|policy| policy.ttl).min()
    }

    /// How long they last at most.
    #[must_use]
    pub fn max_ttl(&self) -> Option<Duration> {
        self.policies().filter_map(|policy| policy.max_ttl).min()
    }

    /// For how long from `now` on it is the time of day for it; see [`hours::left`].
    #[must_use]
    pub fn hours_left(&self, now: Timestamp) -> Option<Duration> {
        let left = self.policies().map(|policy| hours::left(&policy.hours, now));
        left.reduce(|one, other| one.zip(other).map(|(one, other)| one.min(other))).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names() {
        let longest = "a".repeat(64);
        for name in ["a", "0", "alice", "alice@laptop.example.com", "a_b-c.", "a/b", &longest] {
            assert_eq!(name.parse::<ClientName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_what_could_be_a_path_or_an_option() {
        let long = "a".repeat(65);
        for name in [
            "", ".", "..", ".a", "-a", "@a", "/", "a/", "/a", "a/b/c", "a/..", "a/-b", "a//b",
            "a+b", "A", "a b", "a\n", "ä", "a\0", &long,
        ] {
            assert!(name.parse::<ClientName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn people_and_their_devices() {
        let name = |text: &str| text.parse::<ClientName>().unwrap();
        let (alice, laptop) = (name("alice"), name("alice/laptop"));
        assert_eq!((laptop.person(), laptop.device()), (alice.clone(), Some("laptop")));
        assert_eq!((alice.person(), alice.device()), (alice.clone(), None));
        assert!(laptop.is_of(&alice) && laptop.is_of(&laptop) && alice.is_of(&alice));
        assert!(!laptop.is_of(&name("alice/phone")) && !alice.is_of(&laptop));
        assert!(!name("alicia/laptop").is_of(&alice) && !name("bob/alice").is_of(&alice));
        assert_eq!(laptop.with_person(&name("bob")), Some(name("bob/laptop")));
        assert_eq!(alice.with_person(&name("bob")), None);
    }
}
