//! The protocol of spa: bytes, keys and time in, verdicts out.
//!
//! There is no socket here, no clock and no source of randomness: each is an
//! argument, so that client and server can be run in memory, on a virtual
//! clock, packet by packet. `docs/protocol.md` is normative; comments cite it
//! as `protocol §n`.
//!
//! A knock goes through these rooms, one way:
//!
//! ```text
//! client   request → seal ─ one datagram of 336 bytes ─┐
//! server   ┌────────────────────────────────────────────┘
//!          gate (packet, schedule, budget) → signed → replay → the caller's policy
//! ```
//!
//! Two types carry proof. [`SignedRequest`] comes out of a [`Gate`]: the
//! datagram was covered by a known client's HMAC, fresh, new, within budget,
//! and decrypted to a canonical body. [`VerifiedKnock`] comes out of
//! [`SignedRequest::verify`]: the client's own key has signed it. Neither can
//! be made in another way, except that [`SignedRequest`] can be read from the
//! bytes that the other process sent, and therefore proves nothing until it is
//! verified.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod activity;
mod book;
mod budget;
mod gate;
mod key;
mod mode;
mod open;
mod packet;
mod prepared;
#[cfg(test)]
mod printable;
mod pseudonym;
mod reason;
mod replay;
mod request;
mod schedule;
mod seal;
mod secret;
mod sender;
mod service;
mod shelf;
mod signed;
mod time;
mod transcript;
mod x25519;

pub use book::{Generation, ServerKeys};
pub use budget::{Budget, Rate};
pub use gate::{Gate, GateSettings};
pub use key::{Kid, Nonce, ServerPublic, ServerSecret, SigningKey, VerifyingKey, WeakKey};
pub use mode::{GrantMode, InvalidMode};
pub use packet::{Datagram, PACKET_LEN};
pub use prepared::PreparedKeys;
pub use reason::Reason;
pub use replay::{Floor, History, Lease, RING_LEN, Replay};
pub use request::{Address, BODY_LEN, Enrolment, Kind, Mode, NotCanonical, Prefix, Request};
pub use schedule::ClientKeys;
pub use seal::{Credentials, Entropy, SealError, seal};
pub use secret::{Cloak, EnrolHash, EnrolSecret, Psk};
pub use sender::Sender;
pub use service::{InvalidService, Protocol, Service, ServiceName, Services};
pub use signed::{Arrival, SIGNED_REQUEST_LEN, SignedRequest, VerifiedKnock, Verifier};
pub use time::{Monotonic, Timestamp, Tolerance, millis};
