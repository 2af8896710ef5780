//! The gate: every datagram in, a signed request or the reason why not
//! (protocol §6, steps 1 to 8). It keeps the cheap checks before the dear
//! ones, and it is all that an outsider's bytes ever reach.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::budget::{Budget, Rate};
use crate::key::{Kid, Nonce, ServerPublic, ServerSecret};
use crate::open;
use crate::packet::Datagram;
use crate::pseudonym::Pseudonyms;
use crate::reason::Reason;
use crate::request::Request;
use crate::schedule::ClientKeys;
use crate::secret::Cloak;
use crate::signed::{Arrival, SignedRequest};
use crate::time::{Monotonic, Timestamp, Tolerance};
use crate::transcript::Transcript;

/// What the gate is told beyond keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateSettings {
    /// How far a knock's time may be off.
    pub tolerance: Tolerance,
    /// Public-key work that one client may cause.
    pub client_rate: Rate,
    /// Public-key work that all clients together may cause.
    pub global_rate: Rate,
}

impl Default for GateSettings {
    /// 30 s; a burst of 20 and 5 a second for each client; 20 000 and 10 000 for all.
    fn default() -> Self {
        Self {
            tolerance: Tolerance::DEFAULT,
            client_rate: Rate { burst: 20, per_second: 5 },
            global_rate: Rate { burst: 20_000, per_second: 10_000 },
        }
    }
}

/// The gate of one server.
pub struct Gate {
    secret: ServerSecret,
    public: ServerPublic,
    cloak: Cloak,
    settings: GateSettings,
    budget: Budget,
    places: HashMap<Kid, usize>,
    clients: Vec<Option<Client>>,
    vacant: Vec<usize>,
    pseudonyms: Pseudonyms,
}

struct Client {
    kid: Kid,
    keys: ClientKeys,
    budget: Budget,
    floor: Timestamp,
    attempted: Vec<(Timestamp, Nonce)>,
}

impl Gate {
    /// A gate without clients, which refuses everything.
    #[must_use]
    pub fn new(
        secret: ServerSecret,
        cloak: Cloak,
        settings: GateSettings,
        clock: Monotonic,
    ) -> Self {
        Self {
            public: secret.public(),
            secret,
            cloak,
            settings,
            budget: Budget::full(settings.global_rate, clock),
            places: HashMap::new(),
            clients: Vec::new(),
            vacant: Vec::new(),
            pseudonyms: Pseudonyms::default(),
        }
    }

    /// Lets a client in, or replaces its keys.
    pub fn insert(&mut self, kid: Kid, keys: ClientKeys, clock: Monotonic) {
        self.remove(&kid);
        let place = self.vacant.pop().unwrap_or(self.clients.len());
        self.pseudonyms.insert(place, &keys);
        let budget = Budget::full(self.settings.client_rate, clock);
        let client = Client { kid, keys, budget, floor: Timestamp::ZERO, attempted: Vec::new() };
        match self.clients.get_mut(place) {
            Some(slot) => *slot = Some(client),
            None => self.clients.push(Some(client)),
        }
        self.places.insert(kid, place);
    }

    /// Forgets a client and wipes its keys.
    pub fn remove(&mut self, kid: &Kid) {
        let Some(place) = self.places.remove(kid) else { return };
        if let Some(client) = self.clients.get_mut(place).and_then(Option::take) {
            self.pseudonyms.remove(&client.keys);
            self.vacant.push(place);
        }
    }

    /// Tells what a client has used before this gate was made, so that copies
    /// of it cost no public-key work either.
    pub fn recall(
        &mut self,
        kid: &Kid,
        floor: Timestamp,
        used: impl IntoIterator<Item = (Timestamp, Nonce)>,
    ) {
        let place = self.places.get(kid).copied();
        if let Some(client) = place.and_then(|place| self.clients.get_mut(place)?.as_mut()) {
            client.floor = client.floor.max(floor);
            client.attempted.extend(used);
        }
    }

    /// Judges one datagram that arrived at wall-clock time `now` and monotonic
    /// time `clock` (protocol §6, steps 1 to 8).
    ///
    /// # Errors
    /// The [`Reason`] of the first check that failed.
    pub fn admit(
        &mut self,
        datagram: &[u8],
        arrival: Arrival,
        now: Timestamp,
        clock: Monotonic,
    ) -> Result<SignedRequest, Reason> {
        let datagram = datagram.try_into().map_err(|_| Reason::Length)?;
        sane(arrival)?;
        let (place, transcript) = self.authenticate(datagram, now)?;
        let client =
            self.clients.get_mut(place).and_then(Option::as_mut).ok_or(Reason::UnknownClient)?;
        if !self.settings.tolerance.admits(transcript.time, now) {
            return Err(Reason::Stale);
        }
        client.expect_new(&transcript)?;
        client.spend(&mut self.budget, self.settings, clock)?;
        client.remember(&transcript, now, self.settings);
        let (body, signature) = open::unseal(datagram, &client.keys, &self.secret, &transcript)?;
        Request::decode(&body).map_err(|_| Reason::NotCanonical)?;
        Ok(SignedRequest::new(&transcript, body, signature, arrival))
    }

    /// Steps 2 and 3: who says so, and whether it is true.
    fn authenticate(
        &mut self,
        datagram: &Datagram,
        now: Timestamp,
    ) -> Result<(usize, Transcript), Reason> {
        self.turn(now);
        let entry = self
            .pseudonyms
            .find(open::pseudonym(datagram, &self.cloak))
            .ok_or(Reason::UnknownClient)?;
        let client =
            self.clients.get(entry.client).and_then(Option::as_ref).ok_or(Reason::UnknownClient)?;
        if !open::authentic(datagram, &client.keys) {
            return Err(Reason::BadTag);
        }
        let transcript = open::transcript(datagram, &client.keys, self.public, client.kid);
        let same_epoch = transcript.time.epoch() == entry.epoch;
        same_epoch.then_some((entry.client, transcript)).ok_or(Reason::EpochMismatch)
    }

    /// Tabulates pseudonyms anew when the epoch turns.
    fn turn(&mut self, now: Timestamp) {
        if self.pseudonyms.turn(now) {
            for (place, client) in self.clients.iter().enumerate() {
                if let Some(client) = client {
                    self.pseudonyms.insert(place, &client.keys);
                }
            }
        }
    }
}

impl Client {
    /// Step 5. Silent and free for the owner: whoever copies its packets takes
    /// nothing from its budget.
    fn expect_new(&self, transcript: &Transcript) -> Result<(), Reason> {
        let attempted = self.attempted.iter().any(|(_, nonce)| *nonce == transcript.nonce);
        let known = attempted || transcript.time <= self.floor;
        if known { Err(Reason::Duplicate) } else { Ok(()) }
    }

    /// Step 6. Both budgets are charged or neither: what the common one refuses
    /// is not remembered, and copies of it must not use up the owner's.
    fn spend(
        &mut self,
        global: &mut Budget,
        settings: GateSettings,
        clock: Monotonic,
    ) -> Result<(), Reason> {
        if !self.budget.holds(settings.client_rate, clock) {
            return Err(Reason::OverBudget);
        }
        if !global.take(settings.global_rate, clock) {
            return Err(Reason::OverCap);
        }
        self.budget.charge();
        Ok(())
    }

    /// Remembers the datagram as attempted. What the window refuses anyway is
    /// let go; the budget bounds the rest, and so does this list whatever the
    /// clock does.
    fn remember(&mut self, transcript: &Transcript, now: Timestamp, settings: GateSettings) {
        if self.attempted.len() >= capacity(settings) {
            self.attempted.retain(|(time, _)| settings.tolerance.admits(*time, now));
            if self.attempted.len() >= capacity(settings) {
                self.attempted.remove(0);
            }
        }
        self.attempted.push((transcript.time, transcript.nonce));
    }
}

/// How many datagrams of one client its budget lets through within one window.
fn capacity(settings: GateSettings) -> usize {
    let window = settings.tolerance.as_duration().as_secs().saturating_mul(2).saturating_add(1);
    let flow = window.saturating_mul(u64::from(settings.client_rate.per_second));
    let total = flow.saturating_add(u64::from(settings.client_rate.burst));
    usize::try_from(total).unwrap_or(usize::MAX).max(64)
}

/// Step 1: an answerable source. An IPv4-mapped IPv6 address on the wire is a
/// trick, whoever plays it.
fn sane(arrival: Arrival) -> Result<(), Reason> {
    let source = arrival.source;
    let odd = match source {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    let bad = odd
        || source.is_unspecified()
        || source.is_multicast()
        || arrival.destination.is_multicast();
    if bad { Err(Reason::Addressing) } else { Ok(()) }
}
