//! Tokens that are still out: withdrawn, and made anew.

use spa_proto::{Kid, Psk, Timestamp, Verifier};

use super::new_client::{enrolment, token};
use super::{Store, files};
use crate::date::to_the_second;
use crate::error::StoreError;
use crate::identity::ServerIdentity;
use crate::random;
use crate::record::{ClientName, ClientRecord, RevokedClient};
use crate::token::Token;

impl Store {
    /// Every client that has never knocked: its token is still out, in time or not. One
    /// whose keys are being replaced is not among them.
    ///
    /// # Errors
    /// As [`Self::clients`]; records that cannot be read are told of as well.
    pub fn pending(&self) -> Result<(Vec<ClientRecord>, Vec<StoreError>), StoreError> {
        let clients = self.clients()?;
        let pending = clients.records.into_iter().filter(is_unused).collect();
        Ok((pending, clients.broken))
    }

    /// Takes back a token that nobody has used: its client is revoked.
    ///
    /// # Errors
    /// [`StoreError::Enrolled`] where somebody has, or [`StoreError::Overlap`] where it was
    /// for other keys, which changes nothing; else as
    /// [`Self::revoke`].
    pub fn withdraw(&self, name: &ClientName, now: Timestamp) -> Result<RevokedClient, StoreError> {
        let _lock = self.begin_writing()?;
        let record = self.unused(name)?;
        // What is to be withdrawn then are the new keys, and not the client.
        if let Some(former) = record.former {
            return Err(StoreError::Overlap { of: name.to_string(), until: former.until });
        }
        self.take_away_whole(record, now)
    }

    /// Makes another token for a client that has never knocked, with keys of its
    /// own: the one before is as good as withdrawn. What the client may do stays.
    ///
    /// # Errors
    /// [`StoreError::Enrolled`], [`StoreError::Unknown`], [`StoreError::Revoked`],
    /// [`StoreError::Policy`] where it may knock for nothing by now, or whatever kept the record from being written; then the token before
    /// still works.
    pub fn renew(&self, name: &ClientName, now: Timestamp) -> Result<Token, StoreError> {
        let server = ServerIdentity::load(&self.dir)?;
        let _lock = self.begin_writing()?;
        let record = self.unused(name)?;
        let key = match record.verifier {
            Verifier::Bound(key) => Some(key),
            Verifier::Pending { .. } => None,
        };
        let expires = to_the_second(now).plus(Self::TOKEN_LIFETIME);
        let (verifier, enrolment) = enrolment(key, expires)?;
        let former = record.kid;
        let mut record = ClientRecord {
            kid: Kid::from_bytes(*random::bytes()?),
            psk: Psk::from_bytes(*random::bytes()?),
            verifier,
            ..record
        };
        record.remember([former]);
        let token = token(server, &record, enrolment, &self.services())?;
        files::write_atomic(&self.client_path(name), &record.to_text())?;
        Ok(token)
    }

    /// To be called under the lock, which whoever notes a first knock has to have.
    fn unused(&self, name: &ClientName) -> Result<ClientRecord, StoreError> {
        let record = self.one_client(name)?;
        if record.knocked { Err(StoreError::Enrolled(name.clone())) } else { Ok(record) }
    }
}

fn is_unused(record: &ClientRecord) -> bool {
    !record.knocked && record.former.is_none()
}
