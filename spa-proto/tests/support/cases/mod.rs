//! The test vectors, made anew: what `tests/vectors/` must hold.

mod gate;
mod signed;
mod warden;

use spa_proto::{EnrolHash, EnrolSecret, Enrolment, Kind, Request};

use super::case::{Case, hex};
use super::craft::{Plan, Sender, Steps};
use super::parties::{Client, NOW, Server, bytes, ssh};

/// Every case with the name of its file.
pub(crate) fn all() -> Vec<(&'static str, Case)> {
    [signed::cases(), gate::cases(), warden::cases()].concat()
}

/// A server, a client that it knows, and one knock: to be changed, then written.
struct Scene {
    about: &'static str,
    server: Server,
    client: Client,
    request: Request,
    ts: u64,
    now: u64,
    source: &'static str,
    destination: &'static str,
    /// The clients that the gate knows.
    known: Vec<Client>,
    record: String,
    /// Settings, and whatever else the server knows.
    server_knows: Vec<(&'static str, String)>,
}

impl Scene {
    fn new(about: &'static str) -> Self {
        let server = Server::new(1);
        let client = Client::new(1, &server);
        Self {
            about,
            request: ssh(),
            ts: NOW,
            now: NOW + 40,
            source: "198.51.100.7",
            destination: "203.0.113.1",
            known: vec![client.clone()],
            record: key_record(&client),
            server_knows: Vec::new(),
            server,
            client,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// A first knock, with a token that is out.
    fn enrolling(about: &'static str) -> Self {
        Self::new(about).with(|scene| {
            scene.request = enrolment(&scene.client);
            scene.record = token_record(scene.now + 3_600_000);
        })
    }

    /// The knock follows the protocol and is let through.
    fn signed(self) -> Case {
        let steps = self.client.sender().knock(&self.plan());
        let case = self.server_half("signed", None, &steps.datagram);
        self.client_half(case, &steps)
    }

    /// The knock follows the protocol, but not for this server at this time.
    fn refused(self, at: &str, reason: &str) -> Case {
        let steps = self.client.sender().knock(&self.plan());
        let case = self.server_half(reason, Some(at), &steps.datagram);
        self.client_half(case, &steps)
    }

    /// Somebody deviates from the protocol.
    fn deviating(
        self,
        at: &str,
        reason: &str,
        deviate: impl FnOnce(&mut Plan, &Sender, &Steps),
    ) -> Case {
        let sender = self.client.sender();
        let mut plan = self.plan();
        let honest = sender.knock(&plan);
        deviate(&mut plan, &sender, &honest);
        self.server_half(reason, Some(at), &sender.knock(&plan).datagram)
    }

    /// Somebody alters the bytes.
    fn altered(self, at: &str, reason: &str, alter: impl FnOnce(&mut Vec<u8>)) -> Case {
        let mut datagram = self.client.sender().knock(&self.plan()).datagram.to_vec();
        alter(&mut datagram);
        self.server_half(reason, Some(at), &datagram)
    }

    fn plan(&self) -> Plan {
        Plan::new(self.request.encode().unwrap(), self.ts, self.randomness())
    }

    /// Another for each case, so that no two share values that they need not.
    fn randomness(&self) -> [u8; 32] {
        bytes(self.about, 0)
    }

    fn server_half(&self, expect: &str, at: Option<&str>, datagram: &[u8]) -> Case {
        let mut case = Case::about(self.about).with("expect", expect);
        if let Some(at) = at {
            case = case.with("at", at);
        }
        case = case
            .gap()
            .with_bytes("s", &self.server.secret)
            .with("S", self.server.public())
            .with_bytes("cloak", &self.server.cloak);
        for client in &self.known {
            case = case.with("client", format!("{} {}", hex(&client.kid), hex(&client.psk)));
        }
        case = case.with("record", &self.record).with("now", self.now);
        for (key, value) in &self.server_knows {
            case = case.with(key, value);
        }
        case = case.with("source", self.source).with("destination", self.destination);
        case.gap().with_bytes("datagram", datagram)
    }

    fn client_half(&self, case: Case, steps: &Steps) -> Case {
        let Client { kid, psk, seed, .. } = &self.client;
        let case = case
            .gap()
            .with("server", self.client.server)
            .with_bytes("kid", kid)
            .with_bytes("psk", psk)
            .with_bytes("seed", seed)
            .with_bytes("randomness", &self.randomness())
            .with("ts", self.ts)
            .with_request(&self.request)
            .gap();
        values(steps).into_iter().fold(case, |case, (key, value)| case.with(key, value))
    }
}

/// The values on the way, in the order in which protocol §5 makes them.
pub(crate) fn values(steps: &Steps) -> [(&'static str, String); 16] {
    [
        ("prk", hex(&steps.keys.prk)),
        ("k-id", hex(&steps.keys.id)),
        ("k-mac", hex(&steps.keys.mac)),
        ("k-hdr", hex(&steps.keys.hdr)),
        ("k-dh", hex(&steps.keys.dh)),
        ("nonce", hex(&steps.nonce)),
        ("e", hex(&steps.e)),
        ("E", hex(&steps.ephemeral)),
        ("T", hex(&steps.transcript)),
        ("sig", hex(&steps.sig)),
        ("dh", hex(&steps.dh)),
        ("k", hex(&steps.k)),
        ("epoch", steps.epoch.to_string()),
        ("pid", hex(&steps.pid)),
        ("siphash", hex(&steps.siphash)),
        ("stream", hex(&steps.stream)),
    ]
}

const SECRET: [u8; 32] = [0x5e; 32];

fn enrolment(client: &Client) -> Request {
    let verifying_key = client.signing().verifying_key();
    let secret = EnrolSecret::from_bytes(SECRET);
    Request { kind: Kind::Enrol(Box::new(Enrolment { verifying_key, secret })), ..ssh() }
}

fn key_record(client: &Client) -> String {
    format!("key {}", hex(&client.signing().verifying_key().to_bytes()))
}

fn token_record(expires: u64) -> String {
    let hash = EnrolHash::of(&EnrolSecret::from_bytes(SECRET));
    format!("token {} {expires}", hex(hash.as_bytes()))
}
