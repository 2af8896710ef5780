//! `hosts/ALIAS.toml`: all that this machine holds for one server.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::Path;

use serde::{Deserialize, Serialize};
use spa_keys::Token;
use spa_keys::document::{self, Malformed};
use spa_proto::{
    ClientKeys, Cloak, Credentials, EnrolSecret, Enrolment, GrantMode, Kid, Kind, Psk,
    ServerPublic, Service, ServiceName, SigningKey, Timestamp,
};
use zeroize::Zeroizing;

use crate::field::{self, Host};
use crate::lock::{Keys, Locked};
use crate::ports;

const COMMENT: &str = "# Written by `spa enroll`. Whoever reads this can knock in your place.\n";
const LOCKED_COMMENT: &str = "# Written by `spa passphrase`. Without that, this is of no use.\n";

/// A server that this machine can knock at.
pub(crate) struct HostEntry {
    host: Host,
    port: NonZeroU16,
    services: Vec<ServiceName>,
    lasting: BTreeMap<ServiceName, NonZeroU32>,
    mode: Option<GrantMode>,
    server_key: ServerPublic,
    key_id: Kid,
    keys: KeysInFile,
    enrolment: Option<PendingEnrolment>,
}

/// What of it is secret.
pub(crate) enum KeysInFile {
    /// Whoever reads the file has them.
    Plain(Keys),
    /// They take a passphrase.
    Locked(Locked),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OnDisk {
    #[serde(with = "field")]
    host: Host,
    port: NonZeroU16,
    #[serde(with = "field::services")]
    services: Vec<ServiceName>,
    /// Only ever written by people.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "field::optional")]
    mode: Option<GrantMode>,
    #[serde(with = "field")]
    server_key: ServerPublic,
    #[serde(with = "field")]
    key_id: Kid,
    // These three, or else `locked`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "field::optional")]
    cloak: Option<Cloak>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "field::optional")]
    psk: Option<Psk>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "field::optional")]
    signing_key: Option<SigningKey>,
    /// In clear beside locked keys: without those it is worth nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enrolment: Option<PendingEnrolment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locked: Option<Locked>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "field::times")]
    lasting: BTreeMap<ServiceName, NonZeroU32>,
}

impl OnDisk {
    fn into_entry(self) -> Result<HostEntry, &'static str> {
        let keys = match (self.cloak, self.psk, self.signing_key, self.locked) {
            (None, None, None, Some(locked)) => KeysInFile::Locked(locked),
            (_, _, _, Some(_)) => return Err("keys both in clear and under a passphrase"),
            (Some(cloak), Some(psk), Some(signing), None) => {
                KeysInFile::Plain(Keys { cloak, psk, signing })
            }
            (None, ..) => return Err("missing field `cloak`"),
            (_, None, ..) => return Err("missing field `psk`"),
            (_, _, None, _) => return Err("missing field `signing-key`"),
        };
        let Self { host, port, services, lasting, mode, server_key, key_id, enrolment, .. } = self;
        Ok(HostEntry { host, port, services, lasting, mode, server_key, key_id, keys, enrolment })
    }
}

/// What the token's first use takes, until it is known to have worked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PendingEnrolment {
    #[serde(with = "field")]
    secret: EnrolSecret,
    #[serde(with = "field")]
    expires: Timestamp,
}

impl PendingEnrolment {
    /// `expires` is by the server's clock.
    pub(crate) fn new(secret: EnrolSecret, expires: Timestamp) -> Self {
        Self { secret, expires }
    }
}

impl HostEntry {
    /// What a token and a signing key make together.
    ///
    /// # Errors
    /// What is wrong with the token's host or port.
    pub(crate) fn new(
        token: Token,
        signing_key: SigningKey,
        enrolment: Option<PendingEnrolment>,
    ) -> Result<Self, String> {
        let host = Host::new(&token.host).map_err(|error| error.to_string())?;
        let port = NonZeroU16::new(token.port).ok_or("port 0")?;
        let Token { services, lasting, server: server_key, kid: key_id, cloak, psk, .. } = token;
        let keys = KeysInFile::Plain(Keys { cloak, psk, signing: signing_key });
        let mode = None;
        Ok(Self { host, port, services, lasting, mode, server_key, key_id, keys, enrolment })
    }

    /// Name or address of the server.
    pub(crate) fn host(&self) -> &str {
        self.host.as_str()
    }

    /// The same, as it stands in files.
    pub(crate) fn host_name(&self) -> &Host {
        &self.host
    }

    /// UDP port to knock at.
    pub(crate) fn port(&self) -> NonZeroU16 {
        self.port
    }

    /// What the server lets this client knock for, the default first.
    pub(crate) fn services(&self) -> &[ServiceName] {
        &self.services
    }

    /// The same, as they are asked for.
    pub(crate) fn all_services(&self) -> Vec<Service> {
        self.services.iter().copied().map(Service::Named).collect()
    }

    /// The default one.
    pub(crate) fn default_service(&self) -> Option<Service> {
        self.services.first().copied().map(Service::Named)
    }

    /// The one of them that lets ssh in, where sshd listens at its own port.
    pub(crate) fn service_of_ssh(&self) -> Option<Service> {
        ports::for_ssh(&self.all_services(), ports::SSH)
    }

    /// Whether it knows of services what a token does.
    pub(crate) fn says_of_services_what(&self, token: &Token) -> bool {
        self.services == token.services && self.lasting == token.lasting
    }

    /// For how many seconds at most these open for who asks for no duration, as the server had it
    /// when the token was made; `None` where that is not known of one of them.
    pub(crate) fn lasting(&self, services: &[Service]) -> Option<NonZeroU32> {
        let time = |service: &Service| match service {
            Service::Named(name) => self.lasting.get(name).copied(),
            Service::Port(..) => None,
        };
        let times: Option<Vec<_>> = services.iter().map(time).collect();
        times?.into_iter().max()
    }

    /// Grant mode to ask for unless told otherwise; without one, what the server says.
    pub(crate) fn mode(&self) -> Option<GrantMode> {
        self.mode
    }

    /// What people have written into a file stays when it is written anew.
    pub(crate) fn keep_mode_of(&mut self, old: &Self) {
        self.mode = old.mode;
    }

    /// The server's public key.
    pub(crate) fn server_key(&self) -> ServerPublic {
        self.server_key
    }

    /// Key-id of this client there.
    pub(crate) fn key_id(&self) -> Kid {
        self.key_id
    }

    /// Up to when the token has to be used first, by the server's clock, unless
    /// a knock is known to have done it.
    pub(crate) fn token_expires(&self) -> Option<Timestamp> {
        self.enrolment.as_ref().map(|pending| pending.expires)
    }

    /// The keys, or what they are locked in.
    pub(crate) fn keys(&self) -> &KeysInFile {
        &self.keys
    }

    /// Puts others in their place.
    pub(crate) fn set_keys(&mut self, keys: KeysInFile) {
        self.keys = keys;
    }

    /// What seals knocks for this server, given its keys.
    pub(crate) fn credentials(&self, keys: &Keys) -> Credentials {
        Credentials {
            server: self.server_key,
            kid: self.key_id,
            cloak: keys.cloak.clone(),
            keys: ClientKeys::derive(&keys.psk, &self.server_key, &self.key_id),
            signing: keys.signing.clone(),
        }
    }

    /// Of which kind knocks are: enrolling ones while there is a secret to show.
    pub(crate) fn knock_kind(&self, keys: &Keys) -> Kind {
        let Some(pending) = &self.enrolment else { return Kind::Knock };
        Kind::Enrol(Box::new(Enrolment {
            verifying_key: keys.signing.verifying_key(),
            secret: pending.secret.clone(),
        }))
    }

    /// Forgets the token's secret; whether there was one.
    pub(crate) fn forget_secret(&mut self) -> bool {
        self.enrolment.take().is_some()
    }

    /// Reads `text`, the contents of `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Malformed> {
        let on_disk: OnDisk = document::parse(path, text)?;
        on_disk.into_entry().map_err(|fault| Malformed::new(path, fault))
    }

    /// The file's text.
    pub(crate) fn into_text(self) -> Result<Zeroizing<String>, toml::ser::Error> {
        let Self { host, port, services, lasting, mode, server_key, key_id, keys, enrolment } =
            self;
        let (comment, plain, locked) = match keys {
            KeysInFile::Plain(keys) => (COMMENT, Some(keys), None),
            KeysInFile::Locked(locked) => (LOCKED_COMMENT, None, Some(locked)),
        };
        let (cloak, psk, signing_key) = match plain {
            None => (None, None, None),
            Some(Keys { cloak, psk, signing }) => (Some(cloak), Some(psk), Some(signing)),
        };
        let body = toml::to_string(&OnDisk {
            host,
            port,
            services,
            mode,
            server_key,
            key_id,
            cloak,
            psk,
            signing_key,
            enrolment,
            locked,
            lasting,
        });
        let body = Zeroizing::new(body?);
        Ok(Zeroizing::new(format!("{comment}{}", *body)))
    }
}

#[cfg(test)]
mod tests {
    use super::{HostEntry, KeysInFile, OnDisk, PendingEnrolment};
    use crate::kept::Kept;
    use crate::lock::{Keys, Locked};
    use crate::printable::assert_not_printable;
    use crate::save::SavedKnock;
    use crate::unlock::Opened;

    #[test]
    fn nothing_that_has_a_secret_inside_can_be_printed() {
        assert_not_printable![HostEntry, KeysInFile, OnDisk, PendingEnrolment];
        assert_not_printable![Keys, Locked, Kept, Opened, SavedKnock];
    }
}
