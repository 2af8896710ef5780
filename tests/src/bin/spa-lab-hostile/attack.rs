//! What a gatekeeper can do with the channel, once it has a client's request in its hands.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::str::FromStr;
use std::thread;

use nix::poll::PollTimeout;
use nix::sys::socket::{MsgFlags, send};
use spa_proto::{GateSettings, Rate, Reason, SIGNED_REQUEST_LEN, SignedRequest};
use spa_tests::Result;
use spa_tests::lab::{LabError, fail};
use spa_tests::product::attacks;
use spad::clock;
use spad::ipc::{FRAME_LEN, ToWarden};

use super::gatekeeper::Hostile;

/// Bytes of a request.
type Bytes = [u8; SIGNED_REQUEST_LEN];

/// What to do at the first knock, and, of some, all the time.
#[derive(Clone, PartialEq)]
pub(crate) enum Attack {
    /// End at once, each time.
    Die,
    /// Stop reading and writing.
    Silence,
    /// Pass the request on, and then again and again.
    Again,
    /// Pass it on changed: each byte that counts once.
    Forge,
    /// Pass it on as every other client's.
    Relabel,
    /// Pass it on as seen from elsewhere.
    Lie,
    /// Pass it on as sent to another address.
    LieTo(Ipv4Addr),
    /// Pass it on with its addresses as those of IPv6.
    LieFamily,
    /// Pass it on as made for keys of the server that there are not.
    LieGeneration,
    /// Keep it, and pass it on when the clock has moved on.
    Late,
    /// Pass it on, and then old and forged ones without end.
    Flood,
    /// Pass on whatever its clients have signed, however much that is.
    Unbounded,
    /// Write to standard error without end, what looks like the daemon's own lines.
    Talk,
    /// Say that the counters are as large as can be.
    Absurd,
    /// Send something that is no message; which, the name says.
    Malformed(&'static str),
}

impl FromStr for Attack {
    type Err = LabError;

    fn from_str(name: &str) -> Result<Self> {
        let mut kinds = attacks::MALFORMED.into_iter().map(|(kind, _)| kind);
        let malformed = kinds.find(|kind| *kind == name);
        Ok(match name {
            "die" => Self::Die,
            "silence" => Self::Silence,
            "again" => Self::Again,
            "forge" => Self::Forge,
            "relabel" => Self::Relabel,
            "lie" => Self::Lie,
            "lie-second" => Self::LieTo(attacks::SECOND),
            "lie-not-ours" => Self::LieTo(attacks::NOT_OURS),
            "lie-family" => Self::LieFamily,
            "lie-generation" => Self::LieGeneration,
            "late" => Self::Late,
            "flood" => Self::Flood,
            "unbounded" => Self::Unbounded,
            "talk" => Self::Talk,
            "absurd" => Self::Absurd,
            _ => match malformed {
                Some(kind) => Self::Malformed(kind),
                None => return fail(format!("no such attack: {name}")),
            },
        })
    }
}

impl Attack {
    pub(crate) fn counters(&self) -> [u64; Reason::COUNT] {
        [if *self == Self::Absurd { u64::MAX } else { 0 }; Reason::COUNT]
    }

    /// How often a client may knock at this gate.
    pub(crate) fn settings(&self, told: GateSettings) -> GateSettings {
        let without_end = Rate { burst: u32::MAX, per_second: u32::MAX };
        match self {
            Self::Unbounded => GateSettings { client_rate: without_end, ..told },
            _ => told,
        }
    }

    pub(crate) fn begin(&self, hostile: &mut Hostile, request: &SignedRequest) -> Result {
        let bytes = request.to_bytes();
        match self {
            Self::Die | Self::Absurd | Self::Unbounded => pass_on(hostile, bytes),
            Self::Talk => loop {
                eprintln!("{}", attacks::FORGED);
            },
            Self::Silence => loop {
                thread::park();
            },
            Self::Again => (0..=attacks::COPIES).try_for_each(|_| pass_on(hostile, bytes)),
            Self::Forge => {
                (0..attacks::SIGNED).try_for_each(|at| pass_on(hostile, flipped(bytes, at)))
            }
            Self::Relabel => relabel(hostile, bytes),
            Self::Lie => pass_on(hostile, with(bytes, SOURCE, &attacks::LIE.octets())),
            Self::LieTo(address) => pass_on(hostile, with(bytes, DESTINATION, &address.octets())),
            Self::LieFamily => pass_on(hostile, with(bytes, FAMILY, &[6])),
            Self::LieGeneration => pass_on(hostile, with(bytes, GENERATION, &[0, 0, 0, 7])),
            Self::Late => late(hostile, bytes),
            Self::Flood => flood(hostile, bytes),
            Self::Malformed(kind) => malformed(hostile, kind, bytes),
        }
    }
}

fn pass_on(hostile: &Hostile, bytes: Bytes) -> Result {
    match SignedRequest::from_bytes(&bytes) {
        Some(request) => hostile.say(&ToWarden::Request(request)),
        None => fail("not a request"),
    }
}

fn flipped(mut bytes: Bytes, at: usize) -> Bytes {
    bytes[at] ^= 1;
    bytes
}

/// The key-id comes first.
fn relabel(hostile: &Hostile, bytes: Bytes) -> Result {
    let others = hostile.kids.iter().filter(|kid| kid.as_bytes() != &bytes[..16]);
    others.into_iter().try_for_each(|kid| {
        let mut bytes = bytes;
        bytes[..16].copy_from_slice(kid.as_bytes());
        pass_on(hostile, bytes)
    })
}

/// What follows what is signed.
const FAMILY: usize = attacks::SIGNED;
const SOURCE: usize = FAMILY + 1;
const DESTINATION: usize = SOURCE + 16;
const GENERATION: usize = DESTINATION + 16;

fn with(mut bytes: Bytes, at: usize, field: &[u8]) -> Bytes {
    bytes[at..at + field.len()].copy_from_slice(field);
    bytes
}

/// Answers what the warden asks meanwhile, as if nothing had come.
fn late(hostile: &mut Hostile, bytes: Bytes) -> Result {
    let came = clock::wall();
    while clock::wall().since(came) < attacks::LATE {
        hostile.turn(PollTimeout::from(50_u8))?;
    }
    pass_on(hostile, bytes)
}

/// As fast as the warden takes it, answering what it asks meanwhile.
fn flood(hostile: &mut Hostile, bytes: Bytes) -> Result {
    pass_on(hostile, bytes)?;
    loop {
        for at in 0..attacks::SIGNED {
            pass_on(hostile, bytes)?;
            pass_on(hostile, flipped(bytes, at))?;
        }
        hostile.turn(PollTimeout::ZERO)?;
    }
}

fn malformed(hostile: &Hostile, kind: &str, bytes: Bytes) -> Result {
    let Some(request) = SignedRequest::from_bytes(&bytes) else { return fail("not a request") };
    let frame = ToWarden::Request(request).encode();
    let mut strange = frame.to_vec();
    // In the daemon's log: it has come this far.
    eprintln!("sending what is {kind}");
    match kind {
        "cut" => strange.truncate(FRAME_LEN - 1),
        "short" => strange.truncate(1),
        "empty" => strange.clear(),
        "long" => strange.push(0),
        "doubled" => strange.extend_from_slice(frame.as_slice()),
        "huge" => strange.resize(100 * FRAME_LEN, 0),
        "unknown" => strange[0] = 99,
        "trailing" => strange[FRAME_LEN - 1] = 1,
        "family" => strange[1 + attacks::SIGNED] = 5,
        "unasked-counters" => {
            let counters = [u64::MAX; Reason::COUNT];
            strange = ToWarden::Counters(counters).encode().to_vec();
        }
        "unasked-listening" => strange = ToWarden::Listening.encode().to_vec(),
        "descriptor" => return Ok(hostile.channel.send(&frame, &[hostile.channel.as_fd()])?),
        _ => return fail("no such message"),
    }
    send(hostile.channel.as_raw_fd(), &strange, MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}
