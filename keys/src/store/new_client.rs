//! What makes a client of a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use spa_proto::{EnrolHash, EnrolSecret, Kid, Psk, ServiceName, Timestamp, Verifier, VerifyingKey};

use super::Store;
use crate::date::to_the_second;
use crate::error::StoreError;
use crate::identity::ServerIdentity;
use crate::lasting::Lasting;
use crate::policy::{self, Person, Policy};
use crate::random;
use crate::record::{ClientName, ClientRecord};
use crate::token::{Token, TokenEnrolment};

const NO_SERVICES: &str = "it may knock for nothing: name a service with --service that its person \
                           may knock for";

const TOO_MANY_SERVICES: &str = "it may knock for more than 255 services, which no token can name";

/// What `add` is told of a client.
pub struct NewClient {
    /// Under which people know it.
    pub name: ClientName,
    /// See [`ClientRecord::expires`].
    pub expires: Option<Timestamp>,
    /// What it may do.
    pub policy: Policy,
    /// The key it has made already; without one, the token carries a one-time secret.
    pub key: Option<VerifyingKey>,
}

impl NewClient {
    /// Refuses what no record may say.
    ///
    /// # Errors
    /// [`StoreError::Policy`].
    pub fn check(&self) -> Result<(), StoreError> {
        self.policy.check_for(&self.name).map_err(StoreError::Policy)
    }

    /// Refuses one who could knock for nothing, or for more than a token can say.
    pub(super) fn check_services(&self, person: Option<&Person>) -> Result<(), StoreError> {
        let policies = [Some(&self.policy), person.map(|person| &person.policy)];
        let services = policy::services(policies.into_iter().flatten());
        count(services.len())
    }

    /// Draws keys for it.
    pub(super) fn admit(
        self,
        server: ServerIdentity,
        person: Option<Arc<Person>>,
        now: Timestamp,
        configured: &BTreeMap<ServiceName, Lasting>,
    ) -> Result<(ClientRecord, Token), StoreError> {
        let created = to_the_second(now);
        let (verifier, enrolment) = enrolment(self.key, created.plus(Store::TOKEN_LIFETIME))?;
        self.check_services(person.as_deref())?;
        let record = ClientRecord { person, ..self.into_record(verifier, created)? };
        let token = token(server, &record, enrolment, configured)?;
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
            disabled: None,
            policy: self.policy.into(),
            person: None,
            former: None,
            former_kids: Vec::new(),
        })
    }
}

/// Whether a token can name so many services.
fn count(services: usize) -> Result<(), StoreError> {
    match services {
        0 => Err(StoreError::Policy(NO_SERVICES)),
        1..=Token::MAX_SERVICES => Ok(()),
        _ => Err(StoreError::Policy(TOO_MANY_SERVICES)),
    }
}

/// What the record's client is told: to be made before anything is written.
pub(super) fn token(
    server: ServerIdentity,
    record: &ClientRecord,
    enrolment: TokenEnrolment,
    configured: &BTreeMap<ServiceName, Lasting>,
) -> Result<Token, StoreError> {
    let services = record.services();
    count(services.len())?;
    Ok(Token {
        server: server.secret.public(),
        cloak: server.cloak,
        host: server.host,
        port: server.port,
        kid: record.kid,
        psk: record.psk.clone(),
        enrolment,
        services,
        lasting: Lasting::known(configured, record),
    })
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
