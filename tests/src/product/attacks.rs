//! What scenarios and the hostile gatekeeper agree on; see `src/bin/spa-lab-hostile`.

use std::net::Ipv4Addr;
use std::time::Duration;

use spa_proto::SIGNED_REQUEST_LEN;

/// How often an attack repeats a request that was passed on once.
pub const COPIES: u64 = 100;

/// How much of a request counts: all but the addresses it was seen between and the number of the
/// server's keys, which the gatekeeper is believed, as far as there are such keys.
pub const SIGNED: usize = SIGNED_REQUEST_LEN - 37;

/// From where a lying gatekeeper says that a knock came.
pub const LIE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);

/// An address of the server, beside the one that a knock came to, which a lying gatekeeper says it
/// came to.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);

/// The same, of somebody else.
pub const NOT_OURS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 99);

/// By how much the clock has to be ahead of a knock's arrival, for who is late to pass it on.
pub const LATE: Duration = Duration::from_secs(15);

/// What it writes where the daemon's log could be.
pub const FORGED: &str = "2026-01-01T00:00:00.000000Z  INFO spad::audit: granted client=mallory";

/// What no gatekeeper sends, and what the warden's log calls it.
pub const MALFORMED: [(&str, &str); 12] = [
    ("cut", NO_MESSAGE),
    ("short", NO_MESSAGE),
    // What a socket says at its end, too.
    ("empty", "unexpected end of file"),
    ("long", NO_MESSAGE),
    ("doubled", NO_MESSAGE),
    ("huge", NO_MESSAGE),
    ("unknown", NO_MESSAGE),
    ("trailing", NO_MESSAGE),
    ("family", NO_MESSAGE),
    ("unasked-counters", UNASKED),
    ("unasked-listening", UNASKED),
    ("descriptor", NO_MESSAGE),
];

const NO_MESSAGE: &str = "invalid data";
const UNASKED: &str = "an answer that nobody asked for";
