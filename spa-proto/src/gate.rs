//! The gate: every datagram in, a signed request or the reason why not
//! (protocol §6, steps 1 to 8). It keeps the cheap checks before the dear
//! ones, and it is all that an outsider's bytes ever reach.

use std::collections::HashMap;
use std::net::IpAddr;

use hashbrown::HashTable;
use siphasher::sip::SipHasher24;

use crate::activity::Activity;
use crate::budget::{Budget, Rate};
use crate::key::{Kid, Nonce, ServerPublic, ServerSecret};
use crate::open;
use crate::packet::Datagram;
use crate::pseudonym::{Entry, Pseudonyms};
use crate::reason::Reason;
use crate::request::Request;
use crate::schedule::{ClientKeys, Keys};
use crate::secret::Cloak;
use crate::shelf::{Place, Shelf};
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
    clients: Shelf<Client>,
    places: HashTable<Place>,
    pseudonyms: Pseudonyms,
    /// Of those who were heard of.
    active: HashMap<Place, Activity>,
}

struct Client {
    kid: Kid,
    keys: Keys,
}

impl AsRef<Keys> for Client {
    fn as_ref(&self) -> &Keys {
        &self.keys
    }
}

/// How many pseudonyms are made beside one packet, and in a quiet moment.
const BESIDE: Place = 2;
const QUIET: Place = 4096;

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
            clients: Shelf::new(),
            places: HashTable::new(),
            pseudonyms: Pseudonyms::default(),
            active: HashMap::new(),
        }
    }

    /// Does what is to be done once in an epoch, or some of it, so that it is not
    /// done when a packet waits. To be called when a gate is made and then every
    /// now and then; without, it is all done beside packets.
    pub fn prepare(&mut self, now: Timestamp) {
        self.pseudonyms.turn(now, &self.clients, QUIET);
    }

    /// Lets a client in, or replaces its keys.
    pub fn insert(&mut self, kid: Kid, keys: ClientKeys) {
        let client = Client { kid, keys: keys.keys().clone() };
        let place = match self.place(&kid) {
            Some(place) => {
                self.forget_names(place);
                self.clients.set(place, client);
                place
            }
            None => self.take_place(client),
        };
        self.pseudonyms.insert(place, keys.keys());
    }

    /// Forgets a client and wipes its keys.
    pub fn remove(&mut self, kid: &Kid) {
        let Some(place) = self.place(kid) else { return };
        self.forget_names(place);
        if let Ok(entry) = self.places.find_entry(hash(&self.cloak, kid), |found| *found == place) {
            entry.remove();
        }
        self.active.remove(&place);
        self.clients.remove(place);
    }

    /// Tells what a client has used before this gate was made, so that copies
    /// of it cost no public-key work either.
    pub fn recall(
        &mut self,
        kid: &Kid,
        floor: Timestamp,
        used: impl IntoIterator<Item = (Timestamp, Nonce)>,
    ) {
        if let Some(place) = self.place(kid) {
            self.activity(place).recall(floor, used);
        }
    }

    /// Takes the place of another gate: what its clients have attempted, and
    /// spent of their budgets, stays so for those that are here too.
    pub fn succeed(&mut self, former: Self) {
        let settings = self.settings;
        self.budget = former.budget.under(settings.global_rate);
        for (place, activity) in former.active {
            let place = former.clients.get(place).and_then(|client| self.place(&client.kid));
            if let Some(place) = place {
                self.activity(place).succeed(activity, settings);
            }
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
        self.pseudonyms.turn(now, &self.clients, BESIDE);
        let (place, transcript) = self.authenticate(datagram, now)?;
        if !self.settings.tolerance.admits(transcript.time, now) {
            return Err(Reason::Stale);
        }
        let settings = self.settings;
        let activity = self.active.entry(place).or_insert_with(|| Activity::new(settings));
        activity.expect_new(&transcript)?;
        activity.spend(&mut self.budget, settings, clock)?;
        activity.remember(&transcript, open::mark(datagram), now, settings);
        let keys = self.clients.get(place).ok_or(Reason::UnknownClient)?.as_ref();
        let (body, signature) = open::unseal(datagram, keys, &self.secret, &transcript)?;
        Request::decode(&body).map_err(|_| Reason::NotCanonical)?;
        Ok(SignedRequest::new(&transcript, body, signature, arrival))
    }

    /// Steps 2 and 3: who says so, and whether it is true. A copy of what was
    /// attempted goes no further.
    fn authenticate(
        &self,
        datagram: &Datagram,
        now: Timestamp,
    ) -> Result<(Place, Transcript), Reason> {
        let pseudonym = open::pseudonym(datagram, &self.cloak);
        let Entry { place, epoch } =
            self.pseudonyms.find(pseudonym).ok_or(Reason::UnknownClient)?;
        let Client { kid, keys } = self.clients.get(place).ok_or(Reason::UnknownClient)?;
        if !open::authentic(datagram, keys) {
            return Err(Reason::BadTag);
        }
        let (nonce, mark) = (open::nonce(datagram), open::mark(datagram));
        let activity = self.active.get(&place);
        let tolerance = self.settings.tolerance;
        if let Some(reason) = activity.and_then(|it| it.of_copy(&nonce, mark, tolerance, now)) {
            return Err(reason);
        }
        let transcript = open::transcript(datagram, keys, self.public, *kid);
        let same_epoch = transcript.time.epoch() == epoch;
        same_epoch.then_some((place, transcript)).ok_or(Reason::EpochMismatch)
    }

    fn place(&self, kid: &Kid) -> Option<Place> {
        let own = |place: &Place| self.clients.get(*place).is_some_and(|it| it.kid == *kid);
        self.places.find(hash(&self.cloak, kid), own).copied()
    }

    fn take_place(&mut self, client: Client) -> Place {
        let hash = |kid: &Kid| hash(&self.cloak, kid);
        let hash_of_client = hash(&client.kid);
        let place = self.clients.insert(client);
        let hash_at = |place: &Place| self.clients.get(*place).map_or(0, |it| hash(&it.kid));
        self.places.insert_unique(hash_of_client, place, hash_at);
        place
    }

    fn forget_names(&mut self, place: Place) {
        if let Some(client) = self.clients.get(place) {
            self.pseudonyms.remove(place, &client.keys);
        }
    }

    fn activity(&mut self, place: Place) -> &mut Activity {
        self.active.entry(place).or_insert_with(|| Activity::new(self.settings))
    }
}

/// Keyed, so that it does not matter who has chosen the key-ids, and how.
fn hash(cloak: &Cloak, kid: &Kid) -> u64 {
    SipHasher24::new_with_key(cloak.expose()).hash(kid.as_bytes())
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
