//! Servers and clients in memory, on a clock that only a test moves.

use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use spa_proto::{
    Address, Arrival, ClientKeys, Cloak, Credentials, Datagram, Entropy, Gate, GateSettings, Kid,
    Kind, Mode, Monotonic, Psk, Reason, Request, ServerPublic, ServerSecret, Services,
    SignedRequest, SigningKey, Timestamp, VerifiedKnock, Verifier, seal,
};

use super::craft::Sender;

/// Length of a pseudonym epoch, in milliseconds.
pub(crate) const EPOCH_MS: u64 = 6 * 3_600_000;

/// Where an epoch begins, in 2027.
pub(crate) const BORDER: u64 = 1_803_556_800_000;

/// The usual time of a test, far from any border.
pub(crate) const NOW: u64 = BORDER + EPOCH_MS / 2;

/// Bytes that look random and are the same each time.
pub(crate) fn bytes<const N: usize>(label: &str, number: u64) -> [u8; N] {
    assert!(N <= 32);
    let hash = Sha256::new().chain_update(label).chain_update(number.to_be_bytes()).finalize();
    let mut out = [0; N];
    out.copy_from_slice(&hash[..N]);
    out
}

/// Wall time and monotonic time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: u64,
    since_boot: Duration,
}

impl Clock {
    pub(crate) fn at(wall: u64) -> Self {
        Self { wall, since_boot: Duration::from_secs(1000) }
    }

    pub(crate) fn now(self) -> Timestamp {
        Timestamp::from_millis(self.wall)
    }

    pub(crate) fn monotonic(self) -> Monotonic {
        Monotonic::new(self.since_boot)
    }

    /// Time goes by.
    pub(crate) fn pass(&mut self, millis: u64) {
        self.wall = self.wall.saturating_add(millis);
        self.since_boot += Duration::from_millis(millis);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn step(&mut self, millis: i64) {
        self.wall = self.wall.saturating_add_signed(millis);
    }

    /// The machine starts again.
    pub(crate) fn reboot(&mut self) {
        self.since_boot = Duration::from_secs(5);
    }
}

/// One server's keys.
pub(crate) struct Server {
    pub(crate) secret: [u8; 32],
    pub(crate) cloak: [u8; 16],
    pub(crate) settings: GateSettings,
}

impl Server {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            secret: bytes("server", number),
            cloak: bytes("cloak", number),
            settings: GateSettings::default(),
        }
    }

    pub(crate) fn public(&self) -> ServerPublic {
        ServerSecret::from_bytes(self.secret).public()
    }

    /// A gate that has seen nothing yet.
    pub(crate) fn gate(&self, clients: &[&Client], clock: Clock) -> Gate {
        let secret = ServerSecret::from_bytes(self.secret);
        let cloak = Cloak::from_bytes(self.cloak);
        let mut gate = Gate::new(secret, cloak, self.settings, clock.monotonic());
        for client in clients {
            gate.insert(client.kid(), client.keys());
        }
        gate
    }

    /// The warden's part, with a record that has the client's key bound.
    pub(crate) fn verify(
        &self,
        signed: &SignedRequest,
        verifier: &Verifier,
        clock: Clock,
    ) -> Result<VerifiedKnock, Reason> {
        signed.verify(&self.public(), verifier, clock.now(), self.settings.tolerance)
    }
}

/// One client of one server, and all that it holds.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) server: ServerPublic,
    pub(crate) cloak: [u8; 16],
    pub(crate) kid: [u8; 16],
    pub(crate) psk: [u8; 32],
    pub(crate) seed: [u8; 32],
}

impl Client {
    pub(crate) fn new(number: u64, server: &Server) -> Self {
        Self {
            server: server.public(),
            cloak: server.cloak,
            kid: bytes("kid", number),
            psk: bytes("psk", number),
            seed: bytes("seed", number),
        }
    }

    pub(crate) fn kid(&self) -> Kid {
        Kid::from_bytes(self.kid)
    }

    pub(crate) fn keys(&self) -> ClientKeys {
        ClientKeys::derive(&Psk::from_bytes(self.psk), &self.server, &self.kid())
    }

    pub(crate) fn signing(&self) -> SigningKey {
        SigningKey::from_seed(&self.seed)
    }

    /// The record of a client that has enrolled.
    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::Bound(self.signing().verifying_key())
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            server: self.server,
            kid: self.kid(),
            cloak: Cloak::from_bytes(self.cloak),
            keys: self.keys(),
            signing: self.signing(),
        }
    }

    /// The program's own way of making a knock; `number` makes each one another.
    pub(crate) fn knock(&self, request: &Request, clock: Clock, number: u64) -> Datagram {
        let entropy = Entropy::from_bytes(bytes("entropy", number));
        seal(&self.credentials(), request, clock.now(), &entropy).unwrap()
    }

    /// For knocks that no program makes.
    pub(crate) fn sender(&self) -> Sender {
        let Self { server, cloak, kid, psk, seed } = *self;
        Sender { server: *server.as_bytes(), cloak, kid, psk, seed }
    }
}

/// A server and one client of it.
pub(crate) fn pair() -> (Server, Client) {
    let server = Server::new(1);
    let client = Client::new(1, &server);
    (server, client)
}

/// "Open ssh for the address you see."
pub(crate) fn ssh() -> Request {
    Request {
        kind: Kind::Knock,
        mode: Mode::Default,
        address: Address::Seen,
        width: None,
        seconds: None,
        services: services("ssh"),
    }
}

/// Services by their text, separated by spaces.
pub(crate) fn services(text: &str) -> Services {
    Services::new(text.split(' ').map(|name| name.parse().unwrap())).unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// From a client's usual address to the server's.
pub(crate) fn arrival() -> Arrival {
    Arrival { source: ip("198.51.100.7"), destination: ip("203.0.113.1") }
}

/// What the gate makes of a datagram from the usual address.
pub(crate) fn admit(
    gate: &mut Gate,
    datagram: &[u8],
    clock: Clock,
) -> Result<SignedRequest, Reason> {
    gate.admit(datagram, arrival(), clock.now(), clock.monotonic())
}

/// Only the reason; `None` where the gate lets it through.
pub(crate) fn refusal(gate: &mut Gate, datagram: &[u8], clock: Clock) -> Option<Reason> {
    admit(gate, datagram, clock).err()
}
