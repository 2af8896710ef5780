//! `hosts/ALIAS.toml`: all that this machine holds for one server.

use std::num::NonZeroU16;
use std::path::Path;

use serde::{Deserialize, Serialize};
use spa_keys::Token;
use spa_keys::document::{self, Malformed};
use spa_proto::{
    ClientKeys, Cloak, Credentials, EnrolSecret, Enrolment, GrantMode, Kid, Kind, Psk,
    ServerPublic, ServiceName, SigningKey, Timestamp,
};
use zeroize::Zeroizing;

use crate::field::{self, Host};

const COMMENT: &str = "# Written by `spa enroll`. Whoever reads this can knock in your place.\n";

/// A server that this machine can knock at.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct HostEntry {
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
    #[serde(with = "field")]
    cloak: Cloak,
    #[serde(with = "field")]
    psk: Psk,
    #[serde(with = "field")]
    signing_key: SigningKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enrolment: Option<PendingEnrolment>,
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
        let Token { services, server: server_key, kid: key_id, cloak, psk, .. } = token;
        let mode = None;
        Ok(Self {
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
        })
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

    /// Grant mode to ask for unless told otherwise; without one, what the server says.
    pub(crate) fn mode(&self) -> Option<GrantMode> {
        self.mode
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

    /// What seals knocks for this server.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            server: self.server_key,
            kid: self.key_id,
            cloak: self.cloak.clone(),
            keys: ClientKeys::derive(&self.psk, &self.server_key, &self.key_id),
            signing: self.signing_key.clone(),
        }
    }

    /// Of which kind knocks are: enrolling ones while there is a secret to show.
    pub(crate) fn knock_kind(&self) -> Kind {
        let Some(pending) = &self.enrolment else { return Kind::Knock };
        Kind::Enrol(Box::new(Enrolment {
            verifying_key: self.signing_key.verifying_key(),
            secret: pending.secret.clone(),
        }))
    }

    /// Forgets the token's secret; whether there was one.
    pub(crate) fn forget_secret(&mut self) -> bool {
        self.enrolment.take().is_some()
    }

    /// Reads `text`, the contents of `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Malformed> {
        document::parse(path, text)
    }

    /// The file's text.
    pub(crate) fn to_text(&self) -> Result<Zeroizing<String>, toml::ser::Error> {
        let body = Zeroizing::new(toml::to_string(self)?);
        Ok(Zeroizing::new(format!("{COMMENT}{}", *body)))
    }
}
