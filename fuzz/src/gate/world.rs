//! The server, its clients, the datagrams that were made, and the clocks.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use spa_proto::{
    Address, Arrival, BODY_LEN, ClientKeys, Cloak, Credentials, Datagram, EnrolHash, EnrolSecret,
    Enrolment, Entropy, Gate, GateSettings, Kid, Kind, Mode, Monotonic, Nonce, Prefix, Psk, Reason,
    Replay, Request, ServerPublic, ServerSecret, Services, SignedRequest, SigningKey, Timestamp,
    VerifiedKnock, Verifier, VerifyingKey, seal,
};

use super::Verdict;
use super::model::Model;
use crate::script::Script;

/// Where an epoch begins, in 2027.
const BORDER: u64 = 1_803_556_800_000;
const CLOAK: [u8; 16] = [0xc1; 16];
const SECRET: [u8; 32] = [0xe5; 32];
const CLIENTS: u8 = 2;
const SERVICES: [&str; 5] = ["ssh", "web", "tcp/22", "udp/65535", "abcdefghijklmnop"];

/// A datagram, and what is known of it.
#[derive(Clone)]
pub(super) struct Sent {
    number: usize,
    client: u8,
    enrols: bool,
    pub(super) time: Timestamp,
    pub(super) body: [u8; BODY_LEN],
    pub(super) datagram: Datagram,
}

impl Sent {
    pub(super) fn kid(&self) -> Kid {
        kid(self.client)
    }
}

pub(super) struct World {
    gate: Gate,
    model: Model,
    replay: Replay,
    used: HashSet<(Kid, Nonce)>,
    now: u64,
    clock: Duration,
    pub(super) sent: Vec<Sent>,
    pub(super) verdicts: Vec<Verdict>,
}

impl World {
    /// Half an epoch away from a border, both clients let in.
    pub(super) fn new() -> Self {
        let mut world = Self {
            gate: gate(),
            model: Model::default(),
            replay: Replay::default(),
            used: HashSet::new(),
            now: BORDER + 3 * 3_600_000,
            clock: Duration::from_secs(1000),
            sent: Vec::new(),
            verdicts: Vec::new(),
        };
        (0..CLIENTS).for_each(|client| world.insert(client));
        world
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::new(self.clock)
    }

    /// Time goes by.
    pub(super) fn pass(&mut self, millis: u64) {
        self.now += millis;
        self.clock += Duration::from_millis(millis);
    }

    /// Somebody sets the wall clock: near to where it was, to the edge of a
    /// window, or near a border of epochs.
    pub(super) fn set_clock(&mut self, script: &mut Script<'_>) {
        let by = i64::from(script.number()) - 32_768;
        self.now = match script.byte() % 4 {
            0 => self.now.saturating_add_signed(by),
            1 => BORDER.saturating_add_signed(by),
            2 => BORDER.saturating_add_signed(by * 1000),
            _ => by.unsigned_abs(),
        };
    }

    /// A client makes a knock; its clock may be off by half a minute and more.
    pub(super) fn seal(&mut self, script: &mut Script<'_>) {
        let client = script.byte() % CLIENTS;
        let time = self.now.saturating_add_signed(i64::from(script.number()) - 32_768);
        let time = Timestamp::from_millis(time);
        let request = request(client, script);
        let Ok(body) = request.encode() else { return };
        let entropy = Entropy::from_bytes(script.array());
        let sealed = seal(&credentials(client), &request, time, &entropy);
        let Ok(datagram) = sealed else { panic!("a canonical request was not sealed") };
        // The same bytes are the same datagram: an instruction that comes twice.
        if self.sent.iter().all(|sent| sent.datagram != datagram) {
            let (number, enrols) = (self.sent.len(), matches!(request.kind, Kind::Enrol(_)));
            self.sent.push(Sent { number, client, enrols, time, body, datagram });
        }
    }

    /// A client leaves, comes (or gets other keys), or the gate is told what it has used.
    pub(super) fn change_clients(&mut self, script: &mut Script<'_>) {
        let client = script.byte() % CLIENTS;
        match script.byte() % 3 {
            0 => {
                self.gate.remove(&kid(client));
                self.model.remove(&kid(client));
            }
            1 => self.insert(client),
            _ => {
                let back = u64::from(script.number());
                let floor = Timestamp::from_millis(self.now.saturating_sub(back));
                self.gate.recall(&kid(client), floor, []);
                self.model.recall(&kid(client), floor);
            }
        }
    }

    fn insert(&mut self, client: u8) {
        let keys = credentials(client).keys;
        self.gate.insert(kid(client), keys);
        self.model.insert(kid(client));
    }

    pub(super) fn admit(&mut self, datagram: &[u8]) -> Result<SignedRequest, Reason> {
        let (now, clock) = (self.now(), self.monotonic());
        let verdict = self.gate.admit(datagram, arrival(), now, clock);
        self.verdicts.push(verdict.as_ref().map(|it| it.to_bytes().to_vec()).map_err(|it| *it));
        verdict
    }

    pub(super) fn expected(&self, sent: &Sent) -> Result<(), Reason> {
        self.model.expected(&sent.kid(), sent.number, sent.time, self.now())
    }

    pub(super) fn attempted(&mut self, sent: &Sent) {
        self.model.attempt(&sent.kid(), sent.number);
    }

    /// Whether a client's burst can be used up. Copies and forgeries must not
    /// count; nor must what the client did before it left.
    pub(super) fn may_be_short(&self, sent: &Sent) -> bool {
        let burst = GateSettings::default().client_rate.burst;
        self.model.attempts(&sent.kid()) >= usize::try_from(burst).unwrap()
    }

    pub(super) fn verify(
        &self,
        signed: &SignedRequest,
        sent: &Sent,
    ) -> Result<VerifiedKnock, Reason> {
        let tolerance = GateSettings::default().tolerance;
        signed.verify(&server(), &verifier(sent), self.now(), tolerance)
    }

    pub(super) fn binds(&self, sent: &Sent) -> Option<VerifyingKey> {
        sent.enrols.then(|| signing(sent.client).verifying_key())
    }

    /// It is worth nothing on another server, nor under another client's key.
    pub(super) fn elsewhere(&self, signed: &SignedRequest, sent: &Sent) {
        let (now, tolerance) = (self.now(), GateSettings::default().tolerance);
        let other = ServerPublic::from_bytes([9; 32]);
        assert!(signed.verify(&other, &verifier(sent), now, tolerance).is_err());
        let stranger = Verifier::Bound(signing(sent.client + 1).verifying_key());
        assert!(signed.verify(&server(), &stranger, now, tolerance).is_err());
    }

    /// Whatever the clock does and however often the gate forgets, the memory
    /// of the warden lets a knock be used once.
    pub(super) fn use_once(&mut self, knock: &VerifiedKnock) {
        let (kid, time, nonce) = (knock.kid(), knock.time(), knock.nonce());
        if self.replay.judge(&kid, time, nonce, false, self.monotonic()).is_ok() {
            assert!(self.used.insert((kid, nonce)), "used twice");
            self.replay.record(kid, time, nonce);
        }
    }
}

/// Public keys are made once: they would cost more than all the rest.
static SERVER: LazyLock<ServerPublic> = LazyLock::new(|| ServerSecret::from_bytes(SECRET).public());
static SIGNING: LazyLock<Vec<SigningKey>> =
    LazyLock::new(|| (1..=CLIENTS + 1).map(|seed| SigningKey::from_seed(&[seed; 32])).collect());

fn server() -> ServerPublic {
    *SERVER
}

fn gate() -> Gate {
    let (secret, cloak) = (ServerSecret::from_bytes(SECRET), Cloak::from_bytes(CLOAK));
    Gate::new(secret, cloak, GateSettings::default(), Monotonic::new(Duration::from_secs(1000)))
}

fn kid(client: u8) -> Kid {
    Kid::from_bytes([client + 1; 16])
}

/// A client's, or with the number behind theirs a stranger's.
fn signing(client: u8) -> SigningKey {
    SIGNING[usize::from(client)].clone()
}

fn credentials(client: u8) -> Credentials {
    let (kid, cloak, server) = (kid(client), Cloak::from_bytes(CLOAK), server());
    let keys = ClientKeys::derive(&Psk::from_bytes([client + 0x40; 32]), &server, &kid);
    Credentials { server, kid, cloak, keys, signing: signing(client) }
}

fn enrol_secret(client: u8) -> EnrolSecret {
    EnrolSecret::from_bytes([client + 0x80; 32])
}

/// The record as it must be for this knock to be good.
fn verifier(sent: &Sent) -> Verifier {
    if sent.enrols {
        let secret = EnrolHash::of(&enrol_secret(sent.client));
        return Verifier::Pending { secret, expires: Timestamp::from_millis(u64::MAX) };
    }
    Verifier::Bound(signing(sent.client).verifying_key())
}

fn arrival() -> Arrival {
    let (source, destination) = (Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(203, 0, 113, 1));
    Arrival { source: source.into(), destination: destination.into() }
}

/// Some request; not every one of them has an encoding.
fn request(client: u8, script: &mut Script<'_>) -> Request {
    let shape = script.byte();
    let verifying_key = signing(client).verifying_key();
    let enrolment = Enrolment { verifying_key, secret: enrol_secret(client) };
    let (length, width) = (script.byte(), script.byte());
    Request {
        kind: if shape & 1 == 0 { Kind::Knock } else { Kind::Enrol(Box::new(enrolment)) },
        mode: match (shape >> 1) % 4 {
            0 => Mode::Default,
            1 => Mode::Window,
            2 => Mode::Once,
            _ => Mode::Bound { source_port: script.number() },
        },
        address: match (shape >> 3) % 4 {
            0 => Address::Seen,
            1 => Address::Explicit(IpAddr::from(script.array::<4>())),
            2 => Address::Explicit(IpAddr::from(script.array::<16>())),
            _ => Address::SeenWithin(Prefix::of(IpAddr::from(script.array::<4>()), length)),
        },
        width: (width != 0).then_some(width),
        seconds: NonZeroU32::new(script.number().into()),
        services: services(shape >> 5),
    }
}

fn services(count: u8) -> Services {
    let named = SERVICES.iter().take(usize::from(count % 4) + 1).map(|name| name.parse().unwrap());
    Services::new(named).unwrap()
}
