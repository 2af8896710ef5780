//! Keys that take the place of others: for a while both work (protocol §3.4).

use spa_proto::{Kid, Psk, Timestamp, Verifier, VerifyingKey};

use crate::record::{ClientRecord, MAX_FORMER_KIDS, RevokedClient};

/// What a client had before its keys were replaced.
#[derive(Clone)]
pub struct FormerKeys {
    /// Its key-id.
    pub kid: Kid,
    /// Its pre-shared key.
    pub psk: Psk,
    /// Its verifying key: who has none yet has nothing to be replaced.
    pub key: VerifyingKey,
    /// Whether a knock under this key-id was ever accepted; false can be trusted.
    pub knocked: bool,
    /// Up to when it works.
    pub until: Timestamp,
}

/// What of a client's keys is replaced; key-id and pre-shared key in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// Its signing key stays.
    Psk,
    /// Its signing key as well, by another enrolment.
    All,
}

impl ClientRecord {
    /// Under which key-ids it can knock.
    pub fn kids(&self) -> impl Iterator<Item = Kid> {
        std::iter::once(self.kid).chain(self.former.as_ref().map(|former| former.kid))
    }

    /// Every key-id that it has or had, as far as they are known: the same client,
    /// whatever of its keys was replaced.
    pub fn ever_kids(&self) -> impl Iterator<Item = Kid> {
        self.kids().chain(self.former_kids.iter().copied())
    }

    /// Keeps in mind what works no more.
    pub(crate) fn remember(&mut self, kids: impl IntoIterator<Item = Kid>) {
        for kid in kids {
            if !self.ever_kids().any(|known| known == kid) {
                self.former_kids.push(kid);
            }
        }
        let over = self.former_kids.len().saturating_sub(MAX_FORMER_KIDS);
        self.former_kids.drain(..over);
    }

    /// The record as it is for knocks under a key-id: under the former one, with the
    /// former keys, which expire; `None` where it has no such key-id.
    #[must_use]
    pub fn under(&self, kid: &Kid) -> Option<Self> {
        if self.kid == *kid {
            return Some(self.clone());
        }
        let former = self.former.as_ref().filter(|former| former.kid == *kid)?;
        let expires = self.expires.map_or(former.until, |expires| expires.min(former.until));
        Some(Self { expires: Some(expires), ..self.clone().with_former(former) })
    }

    /// The record with the former keys alone.
    fn with_former(self, former: &FormerKeys) -> Self {
        let FormerKeys { kid, psk, key, knocked, .. } = former.clone();
        Self { kid, psk, verifier: Verifier::Bound(key), knocked, former: None, ..self }
    }

    /// As it is when the new keys are given up; `None` where there are no former ones.
    pub(crate) fn aborted(&self) -> Option<Self> {
        self.former.as_ref().map(|former| self.clone().with_former(former))
    }

    /// With the mark that it was knocked with under this key-id, and the key that
    /// this binds; `None` where the knock does not fit the record.
    pub(crate) fn noted(mut self, kid: &Kid, binds: Option<VerifyingKey>) -> Option<Self> {
        if self.kid == *kid && !self.knocked {
            self.verifier = bound(&self.verifier, binds)?;
            self.knocked = true;
            return Some(self);
        }
        let former = self.former.as_mut()?;
        let fits = former.kid == *kid && !former.knocked && binds.is_none();
        former.knocked |= fits;
        fits.then_some(self)
    }
}

impl RevokedClient {
    /// See [`ClientRecord::ever_kids`].
    pub fn ever_kids(&self) -> impl Iterator<Item = Kid> {
        std::iter::once(self.kid).chain(self.former_kids.iter().copied())
    }
}

/// The verifier after a first knock; `None` where the knock does not fit the record.
fn bound(verifier: &Verifier, binds: Option<VerifyingKey>) -> Option<Verifier> {
    match (verifier, binds) {
        (Verifier::Pending { .. }, Some(key)) => Some(Verifier::Bound(key)),
        (Verifier::Bound(key), None) => Some(Verifier::Bound(*key)),
        _ => None,
    }
}
