//! What becomes of a datagram, and what can be found out about it beyond the first
//! check that fails: by the same code as the daemon's, with a gate that is new. Pure.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use spa_keys::{ClientRecord, ServerIdentity};
use spa_proto::{
    Address, Arrival, ClientKeys, Cloak, Datagram, Gate, GateSettings, Generation, Kid, Monotonic,
    Reason, Request, Sender, ServerKeys, ServerSecret, SignedRequest, Timestamp,
};

use crate::bans::Bans;
use crate::config::Config;
use crate::policy::{self, Approved};

/// How many HMACs are made at most to find out who has sent what the gate does not
/// know: some twenty seconds' worth. With 100 000 clients, 200 datagrams.
const PATIENCE: usize = 20_000_000;

/// All that the daemon goes by.
pub struct Server {
    /// Its configuration.
    pub config: Config,
    /// Its keys.
    pub identity: ServerIdentity,
    /// Its clients.
    pub records: Vec<ClientRecord>,
    /// How many clients were revoked: nothing is left of them to know them by.
    pub revoked: usize,
    /// This host's addresses.
    pub own: HashSet<IpAddr>,
    /// Who is banned, where bans hold against grants.
    pub bans: Bans,
}

/// A client, and what its datagrams are known by.
struct Client {
    record: ClientRecord,
    /// For each set of the server's keys.
    keys: Vec<ClientKeys>,
}

/// Judges datagrams, one after the other.
pub(super) struct Judge {
    pub(super) server: Server,
    sets: Sets,
    settings: GateSettings,
    gate: Gate,
    clients: HashMap<Kid, Client>,
    seen: HashMap<Print, Label>,
    patience: usize,
    clock: Monotonic,
}

/// The server's keys, and those from before while they work as well.
struct Sets {
    current: ServerKeys,
    former: Option<ServerKeys>,
}

/// Nonce and tag: they tell authentic datagrams apart.
type Print = [u8; 48];

/// Which datagram of which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) file: usize,
    pub(super) number: u64,
}

/// One datagram, and how it is to be judged.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) label: Label,
    /// When it comes to the server.
    pub(super) at: Timestamp,
    /// Whether that is when it was captured, and not a time that somebody wants to know of.
    pub(super) captured: bool,
    /// From where to where; `None` where that is not known.
    pub(super) arrival: Option<Arrival>,
    pub(super) datagram: &'a Datagram,
}

/// What was found out about a datagram.
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) who: Who,
    /// What is asked for, where that could be read and is signed.
    pub(super) request: Option<Request>,
    /// What would become of it if it came at the time that it bears.
    pub(super) in_time: Option<Verdict>,
    /// Which datagram it is a copy of.
    pub(super) copy_of: Option<Label>,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Granted(Vec<Approved>),
    Refused(Reason),
    /// It depends on the address that it comes from, which is not known.
    Depends,
}

/// Who has sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// This client, as its HMAC proves.
    Proven(Kid, Sender),
    /// It bears this client's pseudonym, and its HMAC does not verify.
    Claimed(Kid),
    /// Nobody who is a client.
    Nobody,
    /// Too many datagrams came before it.
    NotLookedFor,
}

/// What becomes of a datagram, and what it asks for.
type Decided = (Verdict, Option<Request>);

impl Judge {
    /// With a gate that has seen nothing yet, and is best prepared for the time `now`.
    pub(super) fn new(mut server: Server, now: Timestamp) -> Self {
        let sets = Sets::of(&server.identity);
        let keys = |record: &ClientRecord| {
            let derive = |set: &ServerKeys| {
                ClientKeys::derive(&record.psk, &set.secret.public(), &record.kid)
            };
            sets.iter().map(derive).collect()
        };
        // While its keys are being replaced a client knocks under either key-id.
        let each = |record: ClientRecord| {
            record.kids().filter_map(|kid| record.under(&kid)).collect::<Vec<_>>()
        };
        let records = std::mem::take(&mut server.records).into_iter().flat_map(each);
        let clients: HashMap<_, _> =
            records.map(|record| (record.kid, Client { keys: keys(&record), record })).collect();
        let settings =
            GateSettings { tolerance: server.config.tolerance, ..GateSettings::default() };
        let clock = Monotonic::new(Duration::ZERO);
        let mut gate = sets.gate(settings, clock);
        clients.iter().for_each(|(kid, client)| let_in(&mut gate, *kid, client));
        gate.prepare(now);
        let (seen, patience) = (HashMap::new(), PATIENCE);
        Self { server, sets, settings, gate, clients, seen, patience, clock }
    }

    /// The record of a client.
    pub(super) fn record(&self, kid: &Kid) -> Option<&ClientRecord> {
        self.clients.get(kid).map(|client| &client.record)
    }

    /// Judges one datagram.
    pub(super) fn judge(&mut self, case: Case<'_>) -> Finding {
        // Budgets fill with the time between captures, which never goes back. Of what
        // was not captured nobody knows how much came at once: not too much.
        self.clock = match case.captured {
            true => self.clock.max(Monotonic::new(Duration::from_millis(case.at.as_millis()))),
            false => self.clock.plus(Duration::from_secs(3600)),
        };
        let admitted = self.gate.admit(case.datagram, arrival(case.arrival), case.at, self.clock);
        let who = self.find(case, admitted.as_ref().map(SignedRequest::kid).map_err(|why| *why));
        let (verdict, request) = match &admitted {
            Ok(signed) => self.decide(signed, case, case.at),
            Err(reason) => (Verdict::Refused(*reason), None),
        };
        let Who::Proven(kid, sender) = who else {
            return Finding { verdict, who, request, in_time: None, copy_of: None };
        };
        let copy_of = self.note(case);
        let later = admitted.is_err().then(|| self.alone(&kid, case, sender.time));
        let (in_time, asked) = later.flatten().unzip();
        let request = request.or(asked.flatten());
        Finding { verdict, who, request, in_time, copy_of }
    }

    /// Who has sent it, whether it was admitted or not.
    fn find(&mut self, case: Case<'_>, admitted: Result<Kid, Reason>) -> Who {
        let datagram = case.datagram;
        let sender = |(kid, client): (&Kid, &Client)| {
            let of = |(set, keys): (&ServerKeys, _)| {
                Sender::of(datagram, (kid, keys), set.secret.public(), &set.cloak)
            };
            let found = self.sets.iter().zip(&client.keys).filter_map(of);
            // With the same key and another cloak, the one that names it is it.
            let found = found.max_by_key(|sender| sender.named)?;
            Some(Who::Proven(*kid, found))
        };
        if let Ok(kid) = admitted {
            let known = self.clients.get_key_value(&kid);
            return known.and_then(sender).unwrap_or(Who::Nobody);
        }
        if self.patience < self.clients.len() {
            return Who::NotLookedFor;
        }
        self.patience -= self.clients.len();
        let is_claimed = |(_, client): &(&Kid, &Client)| {
            let claims = |(set, keys): (&ServerKeys, _)| {
                Sender::is_claimed(datagram, keys, &set.cloak, case.at)
            };
            admitted == Err(Reason::BadTag) && self.sets.iter().zip(&client.keys).any(claims)
        };
        let claimed = || self.clients.iter().find(is_claimed).map(|(kid, _)| Who::Claimed(*kid));
        self.clients.iter().find_map(sender).or_else(claimed).unwrap_or(Who::Nobody)
    }

    /// Which datagram was the same, of those that came before.
    fn note(&mut self, case: Case<'_>) -> Option<Label> {
        let (nonce, tag) = (case.datagram.first_chunk::<16>()?, case.datagram.last_chunk::<32>()?);
        let mut print = [0; size_of::<Print>()];
        print.iter_mut().zip(nonce.iter().chain(tag)).for_each(|(to, from)| *to = *from);
        match self.seen.entry(print) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(place) => {
                place.insert(case.label);
                None
            }
        }
    }

    /// At a gate of its own, at the time `now`; `None` where not even that knows it.
    fn alone(&self, kid: &Kid, case: Case<'_>, now: Timestamp) -> Option<Decided> {
        let client = self.clients.get(kid)?;
        let mut gate = self.sets.gate(self.settings, self.clock);
        let_in(&mut gate, *kid, client);
        match gate.admit(case.datagram, arrival(case.arrival), now, self.clock) {
            Ok(signed) => Some(self.decide(&signed, case, now)),
            Err(Reason::UnknownClient) => None,
            Err(reason) => Some((Verdict::Refused(reason), None)),
        }
    }

    /// The warden's part, as far as it can be known afterwards.
    fn decide(&self, signed: &SignedRequest, case: Case<'_>, now: Timestamp) -> Decided {
        let config = &self.server.config;
        let Some(record) = self.record(&signed.kid()) else {
            return (Verdict::Refused(Reason::NoRecord), None);
        };
        let mut sets = self.sets.iter();
        let Some(set) = sets.find(|set| set.generation == signed.generation()) else {
            return (Verdict::Refused(Reason::NoRecord), None);
        };
        let public = set.secret.public();
        let verified = signed.verify(&public, &record.verifier, now, config.tolerance);
        let knock = match verified {
            Ok(knock) => knock,
            Err(reason) => return (Verdict::Refused(reason), None),
        };
        let request = Some(knock.request().clone());
        match (case.arrival, knock.request().address) {
            (None, Address::Explicit(address)) => {
                // Any way that leads from an address of this family will do.
                let case = Case { arrival: Some(stand_in(address)), ..case };
                let decided = self.alone(&signed.kid(), case, knock.time());
                return (decided.map_or(Verdict::Depends, |(verdict, _)| verdict), request);
            }
            (None, _) => return (Verdict::Depends, request),
            (Some(_), _) => {}
        }
        let is_own = |ip| self.server.own.contains(&ip);
        let judged = policy::judge(&knock, record, config, case.at, is_own);
        let verdict = match judged.map(|judgement| judgement.grants().to_vec()) {
            Ok(grants) if self.is_banned(&grants) => Verdict::Refused(Reason::SourceNotAllowed),
            Ok(grants) => Verdict::Granted(grants),
            Err(reason) => Verdict::Refused(reason),
        };
        (verdict, request)
    }

    /// Whether bans hold against any of this.
    pub(super) fn is_banned(&self, grants: &[Approved]) -> bool {
        let Server { config, bans, .. } = &self.server;
        let held = |grant: &Approved| bans.holds_against(&grant.element.source, &config.trusted);
        config.firewall.absolute_bans && grants.iter().any(held)
    }
}

impl Sets {
    fn of(identity: &ServerIdentity) -> Self {
        let set = |number, secret: &ServerSecret, cloak: &Cloak| ServerKeys {
            generation: Generation::new(number),
            secret: secret.clone(),
            cloak: cloak.clone(),
        };
        let ServerIdentity { secret, cloak, former, .. } = identity;
        let former = former.as_ref().map(|former| set(1, &former.secret, &former.cloak));
        Self { current: set(0, secret, cloak), former }
    }

    fn iter(&self) -> impl Iterator<Item = &ServerKeys> {
        std::iter::once(&self.current).chain(&self.former)
    }

    fn gate(&self, settings: GateSettings, clock: Monotonic) -> Gate {
        Gate::of(self.current.clone(), self.former.clone(), settings, clock)
    }
}

fn let_in(gate: &mut Gate, kid: Kid, client: &Client) {
    let mut keys = client.keys.iter().cloned();
    keys.next().into_iter().for_each(|keys| gate.insert(kid, keys));
    keys.next().into_iter().for_each(|keys| gate.insert_former(kid, keys));
}

/// Where it is not known, some way over IPv4: the gate asks for an address that can be
/// answered to, and nothing more is made of it.
fn arrival(known: Option<Arrival>) -> Arrival {
    known.unwrap_or(stand_in(Ipv4Addr::new(192, 0, 2, 1).into()))
}

/// A way from this address to one of its family.
fn stand_in(source: IpAddr) -> Arrival {
    let destination = match source {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 2).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).into(),
    };
    Arrival { source, destination }
}
