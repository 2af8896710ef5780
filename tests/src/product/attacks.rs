//! What scenarios and the hostile gatekeeper agree on; see `src/bin/spa-lab-hostile`.

use std::net::Ipv4Addr;

use spa_proto::SIGNED_REQUEST_LEN;

/// How often an attack repeats a request that was passed on once.
pub const COPIES: u64 = 100;

/// How much of a request counts: all but the addresses it was seen between and the number of the
/// server's keys, which the gatekeeper is believed, as far as there are such keys.
pub const SIGNED: usize = SIGNED_REQUEST_LEN - 37;

/// From where a lying gatekeeper says that a knock came.
pub const LIE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);

/// What no gatekeeper sends.
pub const MALFORMED: [&str; 12] = [
    "cut",
    "short",
    "empty",
    "long",
    "doubled",
    "huge",
    "unknown",
    "trailing",
    "family",
    "unasked-counters",
    "unasked-listening",
    "descriptor",
];
