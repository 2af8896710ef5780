//! Records as TOML: one file for each client, and for each that was revoked.

use std::fmt::{Display, Write};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use spa_proto::{EnrolHash, Kid, Prefix, Psk, ServiceName, Timestamp, Verifier, VerifyingKey};
use zeroize::Zeroizing;

use crate::document::{self, Malformed};
use crate::encoding::to_base64;
use crate::hours::Hours;
use crate::limits::{Modes, Widest};
use crate::policy::{Person, Policy};
use crate::record::{AddressRule, ClientName, ClientRecord, RevokedClient};
use crate::rotation::FormerKeys;
use crate::{date, duration, field};

/// What the file says, in the order in which it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RecordFile {
    #[serde(deserialize_with = "field::required")]
    name: ClientName,
    #[serde(default, deserialize_with = "field::optional")]
    disabled: Option<Timestamp>,
    #[serde(default, deserialize_with = "field::optional")]
    expires: Option<Timestamp>,
    #[serde(default, deserialize_with = "field::list")]
    services: Vec<ServiceName>,
    #[serde(default, deserialize_with = "field::optional")]
    ttl: Option<Duration>,
    #[serde(default, deserialize_with = "field::optional")]
    max_ttl: Option<Duration>,
    #[serde(default, deserialize_with = "field::list")]
    sources: Vec<Prefix>,
    #[serde(default, deserialize_with = "field::list")]
    hours: Vec<Hours>,
    #[serde(default, deserialize_with = "field::optional")]
    address: Option<AddressRule>,
    #[serde(default, deserialize_with = "field::modes")]
    modes: Modes,
    #[serde(default)]
    widest_ipv4: Option<u8>,
    #[serde(default)]
    widest_ipv6: Option<u8>,
    #[serde(deserialize_with = "field::required")]
    created: Timestamp,
    #[serde(default, deserialize_with = "field::optional")]
    revoked: Option<Timestamp>,
    #[serde(default)]
    knocked: Option<bool>,
    #[serde(default, deserialize_with = "field::optional")]
    kid: Option<Kid>,
    #[serde(default, deserialize_with = "field::list")]
    former_key_ids: Vec<Kid>,
    #[serde(default, deserialize_with = "field::optional")]
    key: Option<VerifyingKey>,
    #[serde(default, deserialize_with = "field::optional")]
    enrolment_hash: Option<EnrolHash>,
    #[serde(default, deserialize_with = "field::optional")]
    enrolment_expires: Option<Timestamp>,
    #[serde(default, deserialize_with = "field::optional")]
    psk: Option<Psk>,
    #[serde(default)]
    former: Option<FormerInFile>,
}

/// What a client had before its keys were replaced.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FormerInFile {
    #[serde(deserialize_with = "field::required")]
    until: Timestamp,
    knocked: bool,
    #[serde(deserialize_with = "field::required")]
    kid: Kid,
    #[serde(deserialize_with = "field::required")]
    key: VerifyingKey,
    #[serde(deserialize_with = "field::required")]
    psk: Psk,
}

impl From<FormerInFile> for FormerKeys {
    fn from(FormerInFile { until, knocked, kid, key, psk }: FormerInFile) -> Self {
        Self { kid, psk, key, knocked, until }
    }
}

impl From<&FormerKeys> for FormerInFile {
    fn from(former: &FormerKeys) -> Self {
        let FormerKeys { kid, psk, key, knocked, until } = former.clone();
        Self { until, knocked, kid, key, psk }
    }
}

/// What is written here where a file has none.
const MISSING_ADDRESS: &str = "missing field `address`";
const MISSING_KID: &str = "missing field `kid`";
const MISSING_KNOCKED: &str = "missing field `knocked`";

impl RecordFile {
    /// Reads the contents of `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Malformed> {
        document::parse(path, text)
    }

    /// The record of a client, which has the psk and either a key or a hash.
    pub(crate) fn into_client(self, path: &Path) -> Result<ClientRecord, Malformed> {
        let malformed = |message| Malformed::new(path, message);
        if path.file_name() != Some(client_file_name(&self.name).as_ref()) {
            return Err(malformed("the file is named for another client than its name"));
        }
        if self.revoked.is_some() {
            return Err(malformed("revoked: such a record lets nobody in"));
        }
        if self.former.as_ref().is_some_and(|former| Some(former.kid) == self.kid) {
            return Err(malformed("former: it has the kid of the keys in use"));
        }
        self.address.ok_or_else(|| malformed(MISSING_ADDRESS))?;
        let policy = self.policy(Widest::ADDRESS);
        policy.check_for(&self.name).map_err(malformed)?;
        Ok(ClientRecord {
            verifier: self.verifier().map_err(malformed)?,
            psk: self.psk.ok_or_else(|| malformed("missing field `psk`"))?,
            name: self.name,
            kid: self.kid.ok_or_else(|| malformed(MISSING_KID))?,
            knocked: self.knocked.ok_or_else(|| malformed(MISSING_KNOCKED))?,
            created: self.created,
            expires: self.expires,
            disabled: self.disabled,
            policy: policy.into(),
            person: None,
            former: self.former.map(Into::into),
            former_kids: self.former_key_ids,
        })
    }

    /// What is left of a client, which has no secrets.
    pub(crate) fn into_revoked(self, path: &Path) -> Result<RevokedClient, Malformed> {
        let malformed = |message| Malformed::new(path, message);
        let revoked = self.revoked.ok_or_else(|| malformed("missing field `revoked`"))?;
        self.address.ok_or_else(|| malformed(MISSING_ADDRESS))?;
        let policy = self.policy(Widest::ADDRESS);
        policy.check_for(&self.name).map_err(malformed)?;
        Ok(RevokedClient {
            name: self.name,
            kid: self.kid.ok_or_else(|| malformed(MISSING_KID))?,
            former_kids: self.former_key_ids,
            key: self.key,
            knocked: self.knocked.ok_or_else(|| malformed(MISSING_KNOCKED))?,
            created: self.created,
            expires: self.expires,
            revoked,
            policy,
        })
    }

    /// What a person's devices may do: there are no keys in it.
    pub(crate) fn into_person(self, path: &Path) -> Result<Person, Malformed> {
        let malformed = |message| Malformed::new(path, message);
        if path.file_name() != Some(person_file_name(&self.name).as_ref()) {
            return Err(malformed("the file is named for another person than its name"));
        }
        if self.kid.is_some() || self.psk.is_some() || self.key.is_some() || self.former.is_some() {
            return Err(malformed("kid, psk, key and former are a device's, not a person's"));
        }
        let policy = self.policy(Widest::ANY);
        policy.check().map_err(malformed)?;
        let Self { name, created, expires, disabled, .. } = self;
        Ok(Person { name, created, expires, disabled, policy })
    }

    /// What it says of rights; where it says nothing of widths, these.
    fn policy(&self, Widest { v4, v6 }: Widest) -> Policy {
        Policy {
            services: self.services.clone(),
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            sources: self.sources.clone(),
            hours: self.hours.clone(),
            address: self.address.unwrap_or_default(),
            modes: self.modes,
            widest: Widest {
                v4: self.widest_ipv4.unwrap_or(v4),
                v6: self.widest_ipv6.unwrap_or(v6),
            },
        }
    }

    fn verifier(&self) -> Result<Verifier, &'static str> {
        match (self.key, self.enrolment_hash, self.enrolment_expires) {
            (Some(key), None, None) => Ok(Verifier::Bound(key)),
            // A token that is still out has never been knocked with.
            (None, Some(secret), Some(expires)) if self.knocked != Some(true) => {
                Ok(Verifier::Pending { secret, expires })
            }
            (None, Some(_), Some(_)) => Err("knocked, but no key is bound"),
            _ => Err("expected either key, or enrolment-hash and enrolment-expires"),
        }
    }

    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Text::with_room_for(self);
        text.line(match (self.revoked, &self.kid) {
            (Some(_), _) => "# What is left of a client that was revoked.",
            (None, Some(_)) => {
                "# What this client may do can be edited here; spad takes it up at once."
            }
            (None, None) => {
                "# What all devices of this person may do, each as far as its own file allows it too."
            }
        });
        text.value("name", Some(&self.name));
        text.date("disabled", self.disabled);
        text.date("expires", self.expires);
        text.values("services", &self.services);
        text.value("ttl", self.ttl.map(duration::format).as_ref());
        text.value("max-ttl", self.max_ttl.map(duration::format).as_ref());
        text.values("sources", &self.sources);
        if !self.hours.is_empty() {
            text.values("hours", &self.hours);
        }
        text.value("address", self.address.as_ref());
        text.modes(self.modes);
        text.number("widest-ipv4", self.widest_ipv4);
        text.number("widest-ipv6", self.widest_ipv6);
        text.line("\n# Kept by the programs.");
        text.date("created", self.created.into());
        text.date("revoked", self.revoked);
        if let Some(knocked) = self.knocked {
            text.line(&format!("knocked = {knocked}"));
        }
        text.value("kid", self.kid.as_ref());
        if !self.former_key_ids.is_empty() {
            text.values("former-key-ids", &self.former_key_ids);
        }
        text.bytes("key", self.key.map(|key| key.to_bytes()).as_ref());
        text.bytes("enrolment-hash", self.enrolment_hash.as_ref().map(EnrolHash::as_bytes));
        text.date("enrolment-expires", self.enrolment_expires);
        text.bytes("psk", self.psk.as_ref().map(Psk::expose));
        text.former(self.former.as_ref());
        text.0
    }

    /// Rights alone, for somebody whose widths are these if nothing is said.
    fn of_policy(
        name: &ClientName,
        created: Timestamp,
        expires: Option<Timestamp>,
        policy: &Policy,
        usual: Widest,
    ) -> Self {
        Self {
            name: name.clone(),
            disabled: None,
            expires,
            services: policy.services.clone(),
            ttl: policy.ttl,
            max_ttl: policy.max_ttl,
            sources: policy.sources.clone(),
            hours: policy.hours.clone(),
            address: Some(policy.address),
            modes: policy.modes,
            widest_ipv4: unusual(policy.widest.v4, usual.v4),
            widest_ipv6: unusual(policy.widest.v6, usual.v6),
            created,
            revoked: None,
            knocked: None,
            kid: None,
            key: None,
            enrolment_hash: None,
            enrolment_expires: None,
            former_key_ids: Vec::new(),
            psk: None,
            former: None,
        }
    }
}

impl ClientRecord {
    /// Reads the text of the file `path`, which is named for the client.
    ///
    /// # Errors
    /// [`Malformed`] says the line and what is wrong there.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Malformed> {
        RecordFile::parse(path, text)?.into_client(path)
    }

    /// The text of its file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        RecordFile::from(self).to_text()
    }
}

impl RevokedClient {
    /// Reads the text of the file `path`.
    ///
    /// # Errors
    /// As [`ClientRecord::parse`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, Malformed> {
        RecordFile::parse(path, text)?.into_revoked(path)
    }

    /// The text of its file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        RecordFile::from(self).to_text()
    }
}

impl Person {
    /// Reads the text of the file `path`, which is named for the person.
    ///
    /// # Errors
    /// As [`ClientRecord::parse`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, Malformed> {
        RecordFile::parse(path, text)?.into_person(path)
    }

    /// The text of its file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        RecordFile::from(self).to_text()
    }
}

impl From<&ClientRecord> for RecordFile {
    fn from(record: &ClientRecord) -> Self {
        let ClientRecord { name, created, expires, policy, .. } = record;
        let (key, enrolment_hash, enrolment_expires) = match &record.verifier {
            Verifier::Bound(key) => (Some(*key), None, None),
            Verifier::Pending { secret, expires } => (None, Some(*secret), Some(*expires)),
        };
        Self {
            psk: Some(record.psk.clone()),
            key,
            enrolment_hash,
            enrolment_expires,
            kid: Some(record.kid),
            former_key_ids: record.former_kids.clone(),
            knocked: Some(record.knocked),
            disabled: record.disabled,
            former: record.former.as_ref().map(Into::into),
            ..Self::of_policy(name, *created, *expires, policy, Widest::ADDRESS)
        }
    }
}

impl From<&RevokedClient> for RecordFile {
    fn from(client: &RevokedClient) -> Self {
        let RevokedClient { name, created, expires, policy, .. } = client;
        Self {
            key: client.key,
            kid: Some(client.kid),
            former_key_ids: client.former_kids.clone(),
            knocked: Some(client.knocked),
            revoked: Some(client.revoked),
            ..Self::of_policy(name, *created, *expires, policy, Widest::ADDRESS)
        }
    }
}

impl From<&Person> for RecordFile {
    fn from(person: &Person) -> Self {
        let Person { name, created, expires, disabled, policy } = person;
        Self {
            disabled: *disabled,
            ..Self::of_policy(name, *created, *expires, policy, Widest::ANY)
        }
    }
}

/// What is as everywhere is left out.
fn unusual(len: u8, usual: u8) -> Option<u8> {
    (len != usual).then_some(len)
}

/// What stands in place of the slash in names of files, and in no name.
const SLASH: &str = "+";

/// Name of the file in `clients/`.
pub(crate) fn client_file_name(name: &ClientName) -> String {
    format!("{}.toml", stem(name))
}

/// Name of the file in `clients/` of what a person's devices may do.
pub(crate) fn person_file_name(name: &ClientName) -> String {
    format!("{}{SLASH}.toml", stem(name))
}

/// Name of the file in `revoked/`: a name can come to be revoked more than once.
pub(crate) fn revoked_file_name(name: &ClientName, kid: &Kid) -> String {
    format!("{}-{:.8}.toml", stem(name), kid.to_string())
}

/// Without what a path is made of.
fn stem(name: &ClientName) -> String {
    name.as_str().replace('/', SLASH)
}

/// Whose record a file is for.
pub(crate) fn name_in(file: &str) -> Option<FileOf> {
    let stem = file.strip_suffix(".toml")?;
    match stem.strip_suffix(SLASH) {
        Some(person) => person.parse().ok().map(FileOf::Person),
        // A slash is in no file's name: nothing stands for two names.
        None => stem.replace(SLASH, "/").parse().ok().map(FileOf::Client),
    }
}

/// Whose file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOf {
    /// A client's, or a device's.
    Client(ClientName),
    /// A person's: what its devices may do.
    Person(ClientName),
}

/// TOML, line by line. No value needs escaping: all are made of letters,
/// digits and a few harmless signs.
struct Text(Zeroizing<String>);

impl Text {
    /// Large enough from the start: growing would leave copies of the psk behind.
    fn with_room_for(file: &RecordFile) -> Self {
        let hours: usize = file.hours.iter().map(|hours| hours.to_string().len() + 4).sum();
        let kids = file.former_key_ids.len() * 36;
        let lists = file.services.len() * 20 + file.sources.len() * 52 + hours + kids;
        Self(Zeroizing::new(String::with_capacity(1024 + lists)))
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn value<T: Display>(&mut self, key: &str, value: Option<&T>) {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = writeln!(self.0, "{key} = \"{value}\"");
        }
    }

    fn values<T: Display>(&mut self, key: &str, values: &[T]) {
        let quoted: Vec<_> = values.iter().map(|value| format!("\"{value}\"")).collect();
        self.line(&format!("{key} = [{}]", quoted.join(", ")));
    }

    /// Nothing where all are allowed.
    fn modes(&mut self, modes: Modes) {
        if modes != Modes::ALL {
            self.values("modes", &modes.iter().collect::<Vec<_>>());
        }
    }

    fn number(&mut self, key: &str, value: Option<u8>) {
        if let Some(value) = value {
            self.line(&format!("{key} = {value}"));
        }
    }

    fn date(&mut self, key: &str, time: Option<Timestamp>) {
        if let Some(time) = time {
            self.line(&format!("{key} = {}", date::format(time)));
        }
    }

    fn former(&mut self, former: Option<&FormerInFile>) {
        let Some(FormerInFile { until, knocked, kid, key, psk }) = former else { return };
        self.line(
            "\n# What it had before, while that still works: spa-keys rotate --status\n[former]",
        );
        self.date("until", Some(*until));
        self.line(&format!("knocked = {knocked}"));
        self.value("kid", Some(kid));
        self.bytes("key", Some(&key.to_bytes()));
        self.bytes("psk", Some(psk.expose()));
    }

    fn bytes(&mut self, key: &str, bytes: Option<&[u8; 32]>) {
        self.value(key, bytes.map(|bytes| to_base64(bytes)).as_deref());
    }
}

#[cfg(test)]
mod tests;
