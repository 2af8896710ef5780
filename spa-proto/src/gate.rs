//! The gate: every datagram in, a signed request or the reason why not
//! (protocol §6, steps 1 to 8). It keeps the cheap checks before the dear
//! ones, and it is all that an outsider's bytes ever reach.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::activity::Activity;
use crate::book::{Book, Client, Generation, ServerKeys};
use crate::budget::{Budget, Rate};
use crate::key::{Kid, Nonce, ServerSecret};
use crate::open;
use crate::packet::Datagram;
use crate::reason::Reason;
use crate::request::Request;
use crate::schedule::ClientKeys;
use crate::secret::Cloak;
use crate::shelf::Place;
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
    settings: GateSettings,
    budget: Budget,
    current: Book,
    /// While both work (protocol §3.4).
    former: Option<Book>,
    /// Of clients who were heard of, by whichever keys.
    active: HashMap<Kid, Activity>,
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
        let generation = Generation::default();
        Self::of(ServerKeys { generation, secret, cloak }, None, settings, clock)
    }

    /// The same, of a server whose keys are being replaced: the former ones work as
    /// well (protocol §3.4).
    #[must_use]
    pub fn of(
        current: ServerKeys,
        former: Option<ServerKeys>,
        settings: GateSettings,
        clock: Monotonic,
    ) -> Self {
        Self {
            settings,
            budget: Budget::full(settings.global_rate, clock),
            current: Book::new(current),
            former: former.map(Book::new),
            active: HashMap::new(),
        }
    }

    /// Does what is to be done once in an epoch, or some of it, so that it is not
    /// done when a packet waits. To be called when a gate is made and then every
    /// now and then; without, it is all done beside packets.
    pub fn prepare(&mut self, now: Timestamp) {
        self.books_mut().for_each(|book| book.turn(now, QUIET));
    }

    /// Lets a client in, or replaces its keys: what it has attempted and spent stays
    /// so, until it is removed.
    pub fn insert(&mut self, kid: Kid, keys: ClientKeys) {
        self.current.insert(kid, &keys);
    }

    /// Lets a client in by what it shares with the server's former keys, if there
    /// are any.
    pub fn insert_former(&mut self, kid: Kid, keys: ClientKeys) {
        self.former.iter_mut().for_each(|book| book.insert(kid, &keys));
    }

    /// Forgets a client and wipes its keys.
    pub fn remove(&mut self, kid: &Kid) {
        self.books_mut().for_each(|book| book.remove(kid));
        self.active.remove(kid);
    }

    /// Tells what a client has used before this gate was made, so that copies
    /// of it cost no public-key work either.
    pub fn recall(
        &mut self,
        kid: &Kid,
        floor: Timestamp,
        used: impl IntoIterator<Item = (Timestamp, Nonce)>,
    ) {
        if self.knows(kid) {
            self.activity(*kid).recall(floor, used);
        }
    }

    /// Takes the place of another gate: what its clients have attempted, and
    /// spent of their budgets, stays so for those that are here too.
    pub fn succeed(&mut self, former: Self) {
        let settings = self.settings;
        self.budget = former.budget.under(settings.global_rate);
        for (kid, activity) in former.active {
            if self.knows(&kid) {
                self.activity(kid).succeed(activity, settings);
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
        self.books_mut().for_each(|book| book.turn(now, BESIDE));
        let Self { settings, budget, current, former, active } = self;
        let settings = *settings;
        let books = || std::iter::once(&*current).chain(former.as_ref());
        let (book, client, transcript) =
            authenticate(books(), active, settings.tolerance, datagram, now)?;
        if !settings.tolerance.admits(transcript.time, now) {
            return Err(Reason::Stale);
        }
        let activity = active.entry(client.kid).or_insert_with(|| Activity::new(settings));
        activity.expect_new(&transcript)?;
        activity.spend(budget, settings, clock)?;
        activity.remember(&transcript, open::mark(datagram), now, settings);
        let (body, signature) =
            open::unseal(datagram, &client.keys, &book.own.secret, &transcript)?;
        Request::decode(&body).map_err(|_| Reason::NotCanonical)?;
        Ok(SignedRequest::new(&transcript, body, signature, arrival, book.own.generation))
    }

    fn books_mut(&mut self) -> impl Iterator<Item = &mut Book> {
        std::iter::once(&mut self.current).chain(&mut self.former)
    }

    fn knows(&self, kid: &Kid) -> bool {
        self.current.knows(kid) || self.former.as_ref().is_some_and(|book| book.knows(kid))
    }

    fn activity(&mut self, kid: Kid) -> &mut Activity {
        self.active.entry(kid).or_insert_with(|| Activity::new(self.settings))
    }
}

/// Steps 2 and 3: who says so, by which of the server's keys, and whether it is
/// true. A name is looked for under each of them, and an HMAC made once. A copy of
/// what was attempted goes no further.
fn authenticate<'a>(
    mut books: impl Iterator<Item = &'a Book>,
    active: &HashMap<Kid, Activity>,
    tolerance: Tolerance,
    datagram: &Datagram,
    now: Timestamp,
) -> Result<(&'a Book, &'a Client, Transcript), Reason> {
    let found = books.find_map(|book| Some((book, book.find(datagram)?)));
    let (book, (client, epoch)) = found.ok_or(Reason::UnknownClient)?;
    let Client { kid, keys } = client;
    if !open::authentic(datagram, keys) {
        return Err(Reason::BadTag);
    }
    let (nonce, mark) = (open::nonce(datagram), open::mark(datagram));
    if let Some(reason) = active.get(kid).and_then(|it| it.of_copy(&nonce, mark, tolerance, now)) {
        return Err(reason);
    }
    let transcript = open::transcript(datagram, keys, book.public, *kid);
    let same_epoch = transcript.time.epoch() == epoch;
    same_epoch.then_some((book, client, transcript)).ok_or(Reason::EpochMismatch)
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
