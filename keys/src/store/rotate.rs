//! Keys of clients are replaced by others, with an overlap (protocol §3.4).

use std::time::Duration;

use spa_proto::{Kid, Psk, Timestamp, Verifier};

use super::Store;
use super::new_client::{enrolment, token};
use crate::date::to_the_second;
use crate::error::StoreError;
use crate::files;
use crate::identity::ServerIdentity;
use crate::lock::WriteLock;
use crate::random;
use crate::record::{ClientName, ClientRecord};
use crate::rotation::{FormerKeys, Replaced};
use crate::token::{Token, TokenEnrolment};

impl Store {
    /// Gives a client new keys, beside which those that it has work for as long as
    /// `overlap`; the token brings them to it.
    ///
    /// # Errors
    /// [`StoreError::NotEnrolled`] where it has no key yet, [`StoreError::Overlap`]
    /// where its keys are being replaced already, [`StoreError::Policy`] where it may knock
    /// for nothing by now, or what is wrong with the record.
    pub fn rotate(
        &self,
        name: &ClientName,
        replaced: Replaced,
        overlap: Duration,
        now: Timestamp,
    ) -> Result<Token, StoreError> {
        let server = ServerIdentity::load(self.dir())?;
        let _lock = self.begin_writing()?;
        let record = self.one_client(name)?;
        let Verifier::Bound(key) = record.verifier else {
            return Err(StoreError::NotEnrolled(name.clone()));
        };
        if let Some(former) = record.former {
            return Err(StoreError::Overlap { of: name.to_string(), until: former.until });
        }
        let now = to_the_second(now);
        let kept = (replaced == Replaced::Psk).then_some(key);
        let (verifier, enrolment) = enrolment(kept, now.plus(Self::TOKEN_LIFETIME))?;
        let ClientRecord { kid, psk, knocked, .. } = record;
        let former = Some(FormerKeys { kid, psk, key, knocked, until: now.plus(overlap) });
        let (kid, psk) = (Kid::from_bytes(*random::bytes()?), Psk::from_bytes(*random::bytes()?));
        let record = ClientRecord { kid, psk, verifier, knocked: false, former, ..record };
        let token = token(server, &record, enrolment, &self.services())?;
        self.write_again(&record)?;
        Ok(token)
    }

    /// Ends the overlap of a client's keys: from now on only the new ones work. With
    /// `kid`, only if those that end have this key-id.
    ///
    /// # Errors
    /// [`StoreError::NoOverlap`], or what is wrong with the record.
    pub fn finish(&self, name: &ClientName, kid: Option<&Kid>) -> Result<ClientRecord, StoreError> {
        let _lock = self.begin_writing()?;
        self.finish_locked(name, kid)
    }

    /// The same for former keys whose time is over, by a daemon, which does not wait for
    /// another writer: it comes again.
    ///
    /// # Errors
    /// [`StoreError::Locked`], else as [`Self::finish`].
    pub fn end_overlap(&self, name: &ClientName, kid: &Kid) -> Result<ClientRecord, StoreError> {
        let _lock = WriteLock::acquire_within(self.dir(), Duration::ZERO)?;
        self.finish_locked(name, Some(kid))
    }

    fn finish_locked(
        &self,
        name: &ClientName,
        kid: Option<&Kid>,
    ) -> Result<ClientRecord, StoreError> {
        let mut record = self.client(name)?;
        let ended = record.former.take().filter(|former| kid.is_none_or(|kid| former.kid == *kid));
        let ended = ended.ok_or_else(|| StoreError::NoOverlap(name.to_string()))?;
        record.remember([ended.kid]);
        self.write_again(&record)?;
        Ok(record)
    }

    /// Ends it the other way: the new keys are gone, and those from before stay.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn abort(&self, name: &ClientName) -> Result<ClientRecord, StoreError> {
        let _lock = self.begin_writing()?;
        let record = self.client(name)?.aborted();
        let record = record.ok_or_else(|| StoreError::NoOverlap(name.to_string()))?;
        self.write_again(&record)?;
        Ok(record)
    }

    /// A token for a client whose key is bound: it brings the client all else that
    /// is in force now, and works with that key alone.
    ///
    /// # Errors
    /// [`StoreError::NotEnrolled`], or what is wrong with the record.
    pub fn update_token(&self, name: &ClientName) -> Result<Token, StoreError> {
        let server = ServerIdentity::load(self.dir())?;
        let record = self.client(name)?;
        match record.verifier {
            Verifier::Bound(key) => {
                token(server, &record, TokenEnrolment::Key(key), &self.services())
            }
            Verifier::Pending { .. } => Err(StoreError::NotEnrolled(name.clone())),
        }
    }

    fn write_again(&self, record: &ClientRecord) -> Result<(), StoreError> {
        Ok(files::write_atomic(&self.client_path(&record.name), &record.to_text())?)
    }
}
