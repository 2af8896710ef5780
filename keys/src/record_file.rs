//! Records as TOML: one file for each client, and for each that was revoked.

use std::fmt::{Display, Write};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use spa_proto::{EnrolHash, Kid, Prefix, Psk, ServiceName, Timestamp, Verifier, VerifyingKey};
use zeroize::Zeroizing;

use crate::document::{self, Malformed};
use crate::encoding::to_base64;
use crate::limits::{Modes, Widest};
use crate::record::{AddressRule, ClientName, ClientRecord, RevokedClient, check_policy};
use crate::rotation::FormerKeys;
use crate::{date, duration, field};

/// What the file says, in the order in which it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RecordFile {
    #[serde(deserialize_with = "field::required")]
    name: ClientName,
    #[serde(default, deserialize_with = "field::optional")]
    expires: Option<Timestamp>,
    #[serde(deserialize_with = "field::list")]
    services: Vec<ServiceName>,
    #[serde(default, deserialize_with = "field::optional")]
    ttl: Option<Duration>,
    #[serde(default, deserialize_with = "field::optional")]
    max_ttl: Option<Duration>,
    #[serde(default, deserialize_with = "field::list")]
    sources: Vec<Prefix>,
    #[serde(deserialize_with = "field::required")]
    address: AddressRule,
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
    knocked: bool,
    #[serde(deserialize_with = "field::required")]
    kid: Kid,
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

impl RecordFile {
    /// Reads the contents of `path`; what every record must be is checked here.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Malformed> {
        let file: Self = document::parse(path, text)?;
        check_policy(&file.services, file.ttl, file.max_ttl, file.modes, file.widest())
            .map_err(|message| Malformed::new(path, message))?;
        Ok(file)
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
        if self.former.as_ref().is_some_and(|former| former.kid == self.kid) {
            return Err(malformed("former: it has the kid of the keys in use"));
        }
        let widest = self.widest();
        Ok(ClientRecord {
            verifier: self.verifier().map_err(malformed)?,
            psk: self.psk.ok_or_else(|| malformed("missing field `psk`"))?,
            name: self.name,
            kid: self.kid,
            knocked: self.knocked,
            created: self.created,
            expires: self.expires,
            services: self.services,
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            sources: self.sources,
            address: self.address,
            modes: self.modes,
            widest,
            former: self.former.map(Into::into),
        })
    }

    /// What is left of a client, which has no secrets.
    pub(crate) fn into_revoked(self, path: &Path) -> Result<RevokedClient, Malformed> {
        let revoked =
            self.revoked.ok_or_else(|| Malformed::new(path, "missing field `revoked`"))?;
        let widest = self.widest();
        Ok(RevokedClient {
            name: self.name,
            kid: self.kid,
            key: self.key,
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
            widest,
        })
    }

    fn widest(&self) -> Widest {
        let Widest { v4, v6 } = Widest::ADDRESS;
        Widest { v4: self.widest_ipv4.unwrap_or(v4), v6: self.widest_ipv6.unwrap_or(v6) }
    }

    fn verifier(&self) -> Result<Verifier, &'static str> {
        match (self.key, self.enrolment_hash, self.enrolment_expires) {
            (Some(key), None, None) => Ok(Verifier::Bound(key)),
            // A token that is still out has never been knocked with.
            (None, Some(secret), Some(expires)) if !self.knocked => {
                Ok(Verifier::Pending { secret, expires })
            }
            (None, Some(_), Some(_)) => Err("knocked, but no key is bound"),
            _ => Err("expected either key, or enrolment-hash and enrolment-expires"),
        }
    }

    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Text::with_room_for(self);
        text.line(match self.revoked {
            None => "# What this client may do can be edited here; spad takes it up at once.",
            Some(_) => "# What is left of a client that was revoked.",
        });
        text.value("name", Some(&self.name));
        text.date("expires", self.expires);
        text.values("services", &self.services);
        text.value("ttl", self.ttl.map(duration::format).as_ref());
        text.value("max-ttl", self.max_ttl.map(duration::format).as_ref());
        text.values("sources", &self.sources);
        text.value("address", Some(&self.address));
        text.modes(self.modes);
        text.number("widest-ipv4", self.widest_ipv4);
        text.number("widest-ipv6", self.widest_ipv6);
        text.line("\n# Kept by the programs.");
        text.date("created", self.created.into());
        text.date("revoked", self.revoked);
        text.line(&format!("knocked = {}", self.knocked));
        text.value("kid", Some(&self.kid));
        text.bytes("key", self.key.map(|key| key.to_bytes()).as_ref());
        text.bytes("enrolment-hash", self.enrolment_hash.as_ref().map(EnrolHash::as_bytes));
        text.date("enrolment-expires", self.enrolment_expires);
        text.bytes("psk", self.psk.as_ref().map(Psk::expose));
        text.former(self.former.as_ref());
        text.0
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

impl From<&ClientRecord> for RecordFile {
    fn from(record: &ClientRecord) -> Self {
        let (key, enrolment_hash, enrolment_expires) = match &record.verifier {
            Verifier::Bound(key) => (Some(*key), None, None),
            Verifier::Pending { secret, expires } => (None, Some(*secret), Some(*expires)),
        };
        Self {
            psk: Some(record.psk.clone()),
            key,
            enrolment_hash,
            enrolment_expires,
            name: record.name.clone(),
            kid: record.kid,
            knocked: record.knocked,
            created: record.created,
            expires: record.expires,
            revoked: None,
            services: record.services.clone(),
            ttl: record.ttl,
            max_ttl: record.max_ttl,
            sources: record.sources.clone(),
            address: record.address,
            modes: record.modes,
            widest_ipv4: unusual(record.widest.v4, Widest::ADDRESS.v4),
            widest_ipv6: unusual(record.widest.v6, Widest::ADDRESS.v6),
            former: record.former.as_ref().map(Into::into),
        }
    }
}

impl From<&RevokedClient> for RecordFile {
    fn from(client: &RevokedClient) -> Self {
        Self {
            psk: None,
            key: client.key,
            enrolment_hash: None,
            enrolment_expires: None,
            name: client.name.clone(),
            kid: client.kid,
            knocked: client.knocked,
            created: client.created,
            expires: client.expires,
            revoked: Some(client.revoked),
            services: client.services.clone(),
            ttl: client.ttl,
            max_ttl: client.max_ttl,
            sources: client.sources.clone(),
            address: client.address,
            modes: client.modes,
            widest_ipv4: unusual(client.widest.v4, Widest::ADDRESS.v4),
            widest_ipv6: unusual(client.widest.v6, Widest::ADDRESS.v6),
            former: None,
        }
    }
}

/// What is as everywhere is left out.
fn unusual(len: u8, usual: u8) -> Option<u8> {
    (len != usual).then_some(len)
}

/// Name of the file in `clients/`.
pub(crate) fn client_file_name(name: &ClientName) -> String {
    format!("{name}.toml")
}

/// Name of the file in `revoked/`: a name can come to be revoked more than once.
pub(crate) fn revoked_file_name(name: &ClientName, kid: &Kid) -> String {
    format!("{name}-{:.8}.toml", kid.to_string())
}

/// TOML, line by line. No value needs escaping: all are made of letters,
/// digits and a few harmless signs.
struct Text(Zeroizing<String>);

impl Text {
    /// Large enough from the start: growing would leave copies of the psk behind.
    fn with_room_for(file: &RecordFile) -> Self {
        let lists = file.services.len() * 20 + file.sources.len() * 52;
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
