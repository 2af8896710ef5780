//! What is here and what a backup says, as one: of two stories, the one in which
//! more was used and less is allowed.

use spa_proto::{Cloak, ServerSecret, Timestamp, Verifier};

use crate::identity::ServerIdentity;
use crate::record::ClientRecord;
use crate::rotation::FormerKeys;

/// The record as it comes back: with the keys that are there, where they are the
/// same client's, and else as one who may have done anything since.
pub(super) fn client(record: &ClientRecord, own: Option<&ClientRecord>) -> ClientRecord {
    let record = ClientRecord { person: None, ..record.clone() };
    let Some(own) = own.filter(|own| own.kid == record.kid) else { return alone(record) };
    let verifier = match own.verifier {
        Verifier::Pending { .. } if matches!(record.verifier, Verifier::Bound(_)) => {
            record.verifier.clone()
        }
        _ => own.verifier.clone(),
    };
    let mut new = ClientRecord {
        psk: own.psk.clone(),
        verifier,
        knocked: own.knocked || record.knocked,
        disabled: earlier(own.disabled, record.disabled),
        former: own.former.clone().map(|former| with_mark(former, &record)),
        former_kids: own.former_kids.clone(),
        ..record.clone()
    };
    new.remember(record.ever_kids());
    new
}

fn alone(record: ClientRecord) -> ClientRecord {
    let former = record.former.map(|former| FormerKeys { knocked: true, ..former });
    let (verifier, knocked) = match record.verifier {
        Verifier::Bound(key) => (Verifier::Bound(key), true),
        Verifier::Pending { secret, .. } => {
            (Verifier::Pending { secret, expires: Timestamp::ZERO }, record.knocked)
        }
    };
    ClientRecord { former, verifier, knocked, ..record }
}

fn with_mark(former: FormerKeys, record: &ClientRecord) -> FormerKeys {
    let other = record.former.as_ref().filter(|other| other.kid == former.kid);
    FormerKeys { knocked: former.knocked || other.is_some_and(|other| other.knocked), ..former }
}

/// Since when somebody is disabled of whom two things are said.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Whether this server has, or still knows, the other's keys: where it listens and
/// what else is in the file does not matter.
pub(super) fn is_known(own: &ServerIdentity, other: &ServerIdentity) -> bool {
    let is_other = |secret: &ServerSecret, cloak: &Cloak| {
        secret.public() == other.secret.public() && cloak.expose() == other.cloak.expose()
    };
    let former = own.former.as_ref();
    is_other(&own.secret, &own.cloak)
        || former.is_some_and(|former| is_other(&former.secret, &former.cloak))
}
