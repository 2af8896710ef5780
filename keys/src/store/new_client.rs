//! What makes a client of a name.

use std::time::Duration;

use spa_proto::{
    EnrolHash, EnrolSecret, Kid, Prefix, Psk, ServiceName, Timestamp, Verifier, VerifyingKey,
};

use super::Store;
use crate::error::StoreError;
use crate::identity::ServerIdentity;
use crate::limits::{Modes, Widest};
use crate::random;
use crate::record::{AddressRule, ClientName, ClientRecord, check_policy};
use crate::token::{Token, TokenEnrolment};

/// What `add` is told of a client.
pub struct NewClient {
    /// Under which people know it.
    pub name: ClientName,
    /// What it may knock for, the default first.
    pub services: Vec<ServiceName>,
    /// See [`ClientRecord::ttl`].
    pub ttl: Option<Duration>,
    /// See [`ClientRecord::max_ttl`].
    pub max_ttl: Option<Duration>,
    /// See [`ClientRecord::expires`].
    pub expires: Option<Timestamp>,
    /// See [`ClientRecord::sources`].
    pub sources: Vec<Prefix>,
    /// See [`ClientRecord::address`].
    pub address: AddressRule,
    /// See [`ClientRecord::modes`].
    pub modes: Modes,
    /// See [`ClientRecord::widest`].
    pub widest: Widest,
    /// The key it has made already; without one, the token carries a one-time secret.
    pub key: Option<VerifyingKey>,
}

impl NewClient {
    /// What no record may say.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        check_policy(&self.services, self.ttl, self.max_ttl, self.modes, self.widest)
    }

    /// Draws keys for it.
    pub(super) fn admit(
        self,
        server: ServerIdentity,
        now: Timestamp,
    ) -> Result<(ClientRecord, Token), StoreError> {
        let created = to_the_second(now);
        let (verifier, enrolment) = enrolment(self.key, created.plus(Store::TOKEN_LIFETIME))?;
        let record = self.into_record(verifier, created)?;
        let token = token(server, &record, enrolment);
        Ok((record, token))
    }

    fn into_record(
        self,
        verifier: Verifier,
        created: Timestamp,
    ) -> Result<ClientRecord, StoreError> {
        Ok(ClientRecord {
            name: self.name,
            kid: Kid::from_bytes(*random::bytes()?),
            psk: Psk::from_bytes(*random::bytes()?),
            verifier,
            knocked: false,
            created,
            expires: self.expires,
            services: self.services,
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            sources: self.sources,
            address: self.address,
            modes: self.modes,
            widest: self.widest,
            former: None,
        })
    }
}

pub(super) fn token(
    server: ServerIdentity,
    record: &ClientRecord,
    enrolment: TokenEnrolment,
) -> Token {
    Token {
        server: server.secret.public(),
        cloak: server.cloak,
        host: server.host,
        port: server.port,
        kid: record.kid,
        psk: record.psk.clone(),
        enrolment,
        services: record.services.clone(),
    }
}

/// What the record and what the token say of how the key gets here.
pub(super) fn enrolment(
    key: Option<VerifyingKey>,
    expires: Timestamp,
) -> Result<(Verifier, TokenEnrolment), StoreError> {
    if let Some(key) = key {
        return Ok((Verifier::Bound(key), TokenEnrolment::Key(key)));
    }
    let secret = EnrolSecret::from_bytes(*random::bytes()?);
    let pending = Verifier::Pending { secret: EnrolHash::of(&secret), expires };
    Ok((pending, TokenEnrolment::Secret { secret, expires }))
}

/// Dates that people read: without fractions.
pub(super) fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis() / 1000 * 1000)
}
