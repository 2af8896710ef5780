//! What passes from the gate to the warden, and what the warden makes of it
//! (protocol §6, steps 8 and 9).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zeroize::Zeroizing;

use crate::book::Generation;
use crate::key::{Kid, Nonce, ServerPublic, VerifyingKey};
use crate::packet::{SIGNATURE_LEN, field};
use crate::prepared::PreparedKeys;
use crate::reason::Reason;
use crate::request::{BODY_LEN, Body, Enrolment, Kind, Request};
use crate::secret::EnrolHash;
use crate::time::{Timestamp, Tolerance};
use crate::transcript::{Transcript, concat};

/// Length of a [`SignedRequest`] as bytes.
pub const SIGNED_REQUEST_LEN: usize = 16 + 16 + 8 + 32 + BODY_LEN + SIGNATURE_LEN + ARRIVAL_LEN + 4;
const ARRIVAL_LEN: usize = 1 + 16 + 16;

/// Between which addresses a datagram travelled; both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Source address of the packet, as seen: whoever is on the path can forge it.
    pub source: IpAddr,
    /// Destination address: the one of this host that was knocked at.
    pub destination: IpAddr,
}

/// A request that the gate let through: plain transcript, body, signature, and
/// the observed addresses. Of one fixed size, and worth nothing before
/// [`SignedRequest::verify`].
#[derive(Clone)]
pub struct SignedRequest {
    kid: Kid,
    nonce: Nonce,
    time: Timestamp,
    ephemeral: [u8; 32],
    body: Body,
    signature: [u8; SIGNATURE_LEN],
    arrival: Arrival,
    generation: Generation,
}

/// What the warden knows of a client's signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verifier {
    /// Bound: only this key signs for the client.
    Bound(VerifyingKey),
    /// A token is out. The first valid enrolment before `expires` binds its key.
    Pending {
        /// Of the token's secret.
        secret: EnrolHash,
        /// Up to which time of the server's clock.
        expires: Timestamp,
    },
}

/// A request that the client itself has signed, for this server, within the window.
pub struct VerifiedKnock {
    kid: Kid,
    nonce: Nonce,
    time: Timestamp,
    request: Request,
    arrival: Arrival,
    binds: Option<VerifyingKey>,
}

impl SignedRequest {
    pub(crate) fn new(
        transcript: &Transcript,
        body: Body,
        signature: [u8; SIGNATURE_LEN],
        arrival: Arrival,
        generation: Generation,
    ) -> Self {
        let Transcript { kid, nonce, time, ephemeral, .. } = *transcript;
        Self { kid, nonce, time, ephemeral, body, signature, arrival, generation }
    }

    /// Which client's record to verify it with.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// Where it came from.
    #[must_use]
    pub fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// For which of the server's keys it was made, as the gate says.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether it is an enrolment, which has the token's secret in it: whoever has dealt with
    /// one wipes the stack. Before [`Self::verify`] it is only what somebody says.
    #[must_use]
    pub fn enrols(&self) -> bool {
        Request::enrols(&self.body)
    }

    /// For the channel between the two processes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SIGNED_REQUEST_LEN] {
        let Arrival { source, destination } = self.arrival;
        concat(&[
            self.kid.as_bytes(),
            self.nonce.as_bytes(),
            &self.time.as_millis().to_be_bytes(),
            &self.ephemeral,
            self.body.as_slice(),
            &self.signature,
            &[if source.is_ipv4() { 4 } else { 6 }],
            &to_octets(source),
            &to_octets(destination),
            &self.generation.number().to_be_bytes(),
        ])
    }

    /// Reads what the other process sent; `None` where no [`Self::to_bytes`]
    /// writes this.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SIGNED_REQUEST_LEN]) -> Option<Self> {
        let arrival = bytes.len() - ARRIVAL_LEN - 4;
        let read = Self {
            kid: Kid::from_bytes(field(bytes, 0..16)),
            nonce: Nonce::from_bytes(field(bytes, 16..32)),
            time: Timestamp::from_millis(u64::from_be_bytes(field(bytes, 32..40))),
            ephemeral: field(bytes, 40..72),
            body: Box::new(Zeroizing::new(field(bytes, 72..72 + BODY_LEN))),
            signature: field(bytes, 72 + BODY_LEN..arrival),
            arrival: Arrival {
                source: from_octets(bytes[arrival], field(bytes, arrival + 1..arrival + 17))?,
                destination: from_octets(bytes[arrival], field(bytes, arrival + 17..arrival + 33))?,
            },
            generation: Generation::new(u32::from_be_bytes(field(
                bytes,
                bytes.len() - 4..bytes.len(),
            ))),
        };
        (read.to_bytes() == *bytes).then_some(read)
    }

    /// Steps 4 and 8 again, and 9: window, canonical body, signature, and for
    /// an enrolment the token's secret.
    ///
    /// # Errors
    /// The [`Reason`] of the first check that failed.
    pub fn verify(
        &self,
        server: &ServerPublic,
        verifier: &Verifier,
        now: Timestamp,
        tolerance: Tolerance,
    ) -> Result<VerifiedKnock, Reason> {
        self.verify_with(&mut PreparedKeys::none(), server, verifier, now, tolerance)
    }

    /// As [`SignedRequest::verify`], faster for clients whose keys `prepared` has.
    ///
    /// # Errors
    /// The same.
    pub fn verify_with(
        &self,
        prepared: &mut PreparedKeys,
        server: &ServerPublic,
        verifier: &Verifier,
        now: Timestamp,
        tolerance: Tolerance,
    ) -> Result<VerifiedKnock, Reason> {
        if !tolerance.admits(self.time, now) {
            return Err(Reason::Stale);
        }
        let request = Request::decode(&self.body).map_err(|_| Reason::NotCanonical)?;
        let signer = signer(verifier, &request.kind)?;
        let message = self.transcript(*server).to_sign(&self.body);
        if !prepared.verify(&signer, &message, &self.signature) {
            return Err(Reason::BadSignature);
        }
        let binds = binds(verifier, &request.kind, now)?;
        let Self { kid, nonce, time, arrival, .. } = *self;
        Ok(VerifiedKnock { kid, nonce, time, request, arrival, binds })
    }

    fn transcript(&self, server: ServerPublic) -> Transcript {
        let Self { kid, nonce, time, ephemeral, .. } = *self;
        Transcript { server, kid, nonce, time, ephemeral }
    }
}

impl VerifiedKnock {
    /// The client's key-id.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// With the key-id, the identity of the knock.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// The client's clock when it was made.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// What is asked for.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Where it came from.
    #[must_use]
    pub fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// The key to be bound to the record before anything is granted, if this
    /// knock enrols the client.
    #[must_use]
    pub fn binds(&self) -> Option<VerifyingKey> {
        self.binds
    }
}

/// Whose signature it must be: an enrolment is signed with the key it brings.
fn signer(verifier: &Verifier, kind: &Kind) -> Result<VerifyingKey, Reason> {
    match (verifier, kind) {
        (Verifier::Bound(key), Kind::Knock) => Ok(*key),
        (Verifier::Bound(key), Kind::Enrol(enrolment)) if *key == enrolment.verifying_key => {
            Ok(*key)
        }
        (Verifier::Bound(_), Kind::Enrol(_)) => Err(Reason::EnrolTaken),
        (Verifier::Pending { .. }, Kind::Knock) => Err(Reason::NotEnrolled),
        (Verifier::Pending { .. }, Kind::Enrol(enrolment)) => Ok(enrolment.verifying_key),
    }
}

/// The key that a valid enrolment binds; `None` where one is bound already.
fn binds(verifier: &Verifier, kind: &Kind, now: Timestamp) -> Result<Option<VerifyingKey>, Reason> {
    let (Verifier::Pending { secret, expires }, Kind::Enrol(enrolment)) = (verifier, kind) else {
        return Ok(None);
    };
    let Enrolment { verifying_key, secret: shown } = &**enrolment;
    if !secret.matches(shown) {
        return Err(Reason::BadEnrolSecret);
    }
    if now > *expires {
        return Err(Reason::EnrolExpired);
    }
    Ok(Some(*verifying_key))
}

/// IPv4 addresses in the first four bytes: never as mapped IPv6, which would
/// make one out of the other.
fn to_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => concat(&[&v4.octets(), &[0; 12]]),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn from_octets(family: u8, octets: [u8; 16]) -> Option<IpAddr> {
    match family {
        4 => Some(Ipv4Addr::from(field::<4>(&octets, 0..4)).into()),
        6 => Some(Ipv6Addr::from(octets).into()),
        _ => None,
    }
}
