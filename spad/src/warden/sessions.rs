//! The connections made through grants: recorded as they open and end, cut
//! when their grant is taken back.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use spa_keys::{ClientName, Store};
use spa_proto::{Kid, Monotonic, Protocol};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use super::Warden;
use crate::clock;
use crate::config::Config;
use crate::firewall::{
    FirewallError, Flow, FlowEvent, FlowWatch, Flows, News, PortRange, Room, Traffic, keep_records,
};
use crate::grants::{Grant, Ledger, Standing};
use crate::journal::Record;
use crate::sessions::{Ends, Session, grant_of, lets_in};
use crate::sys::ready;

/// How many times a thousand notifications are read where all are wanted.
const BATCHES: usize = 64;
/// Where news was lost, and nobody asks for all of them, they are looked for no sooner than this
/// after the last time: whoever makes much news must not keep the warden at that.
const PAUSE: Duration = Duration::from_secs(1);

/// Of clients.
pub(super) type Names = HashMap<Kid, ClientName>;

/// Hears of connections, and cuts them.
pub(super) struct Connections {
    watch: FlowWatch,
    pub(super) flows: Flows,
    ready: AsyncFd<OwnedFd>,
    /// Whether it was said that not all of them are known.
    said: bool,
    /// Whether it was said that there is no room for more.
    full: bool,
    /// When what was not heard may be looked for.
    look_at: Instant,
    /// Connections that came in just before the end of their grant, and why they are cut. Not in
    /// the midst of the news: to cut is to hear more of it, and what is told last came to pass last.
    doomed: HashMap<Ends, &'static str>,
}

impl Connections {
    /// `None` where the kernel does not tell of connections: then they are
    /// neither recorded nor cut.
    pub(super) fn new(config: &Config) -> Option<Self> {
        keep_records().iter().for_each(|warning| warn!(warning, "sessions"));
        Self::open(config)
            .inspect_err(|error| {
                warn!(%error, "connections are neither recorded nor cut: the kernel does not tell of them");
            })
            .ok()
    }

    fn open(config: &Config) -> Result<Self, FirewallError> {
        let labels = config.firewall.labels;
        let watch = FlowWatch::open(labels, &ports(config), Room::default())?;
        let ready = watch.as_fd().try_clone_to_owned();
        let ready = ready.and_then(|fd| ready::register(fd, Interest::READABLE));
        let ready = ready
            .map_err(|source| FirewallError::Netlink { doing: "watch for connections", source })?;
        let (flows, look_at) = (Flows::open(labels)?, Instant::now());
        let (said, full) = (false, false);
        Ok(Self { watch, flows, ready, said, full, look_at, doomed: HashMap::new() })
    }

    /// Waits until there is something to hear.
    pub(super) async fn changed(connections: Option<&Self>) -> io::Result<()> {
        let Some(connections) = connections else { return std::future::pending().await };
        if connections.watch.has_more() {
            return Ok(());
        }
        let readable = async {
            // Cleared first: what comes while reading makes it ready again.
            connections.ready.readable().await?.clear_ready();
            Ok(())
        };
        match connections.watch.is_behind() {
            true => timeout_at(connections.look_at, readable).await.unwrap_or(Ok(())),
            false => readable.await,
        }
    }

    /// What was not heard, if it may be looked for now.
    fn looked_for(&mut self) -> Option<News> {
        let due = self.watch.is_behind() && self.look_at <= Instant::now();
        due.then(|| self.all())
    }

    fn all(&mut self) -> News {
        let news = self.watch.resynchronise();
        self.look_at = Instant::now() + PAUSE;
        news
    }

    fn turn_away(&mut self, crowded: &[Flow]) {
        let mut cut = 0;
        for flow in crowded {
            match self.flows.turn_away(flow) {
                Ok(was_open) => cut += usize::from(was_open),
                Err(error) => {
                    error!(%error, source = %flow.source, "a connection could not be cut");
                    self.watch.doubt();
                }
            }
        }
        if cut > 0 && !std::mem::replace(&mut self.full, true) {
            error!(cut, "there is no room for more connections: they are cut as they come");
        }
        self.full &= cut > 0 || self.watch.is_full();
    }
}

/// How many of them were open until now.
fn cut_all(flows: &mut Flows, open: &[Flow]) -> usize {
    let cut = |flow: &Flow| match flows.cut(flow) {
        Ok(was_open) => was_open.is_some(),
        Err(error) => {
            error!(%error, source = %flow.source, "a connection could not be cut");
            false
        }
    };
    open.iter().map(cut).filter(|was_open| *was_open).count()
}

/// The ports of the services that need a knock.
fn ports(config: &Config) -> Vec<PortRange> {
    let plan = config.plan();
    [Protocol::Tcp, Protocol::Udp].map(|protocol| plan.protected_ports(protocol)).concat()
}

impl Warden {
    pub(super) fn flows_changed(&mut self, heard: io::Result<()>) {
        if let Err(error) = heard {
            error!(%error, "connections are no longer watched");
            self.connections = None;
        }
        self.hear_some();
        let looked_for = self.connections.as_mut().and_then(Connections::looked_for);
        looked_for.into_iter().for_each(|news| self.take(news));
        self.cut_doomed();
    }

    /// Reads what connection tracking has told meanwhile: all of it, unless it
    /// tells faster than anybody can read. What was lost is looked for once.
    pub(super) fn hear_flows(&mut self) {
        for _ in 0..BATCHES {
            self.hear_some();
            if self.connections.as_ref().is_none_or(|connections| !connections.watch.has_more()) {
                break;
            }
        }
        let behind = self.connections.as_mut().filter(|connections| connections.watch.is_behind());
        let looked_for = behind.map(Connections::all);
        looked_for.into_iter().for_each(|news| self.take(news));
        self.cut_doomed();
    }

    fn hear_some(&mut self) {
        let Some(connections) = &mut self.connections else { return };
        let news = connections.watch.read();
        self.take(news);
    }

    fn take(&mut self, News { events, crowded, fault }: News) {
        let Some(connections) = &mut self.connections else { return };
        let said = connections.said;
        connections.said = fault.is_some() || said && connections.watch.is_behind();
        if let Some(error) = fault.filter(|_| !said) {
            error!(%error, "some connections are not known: looked for again");
        }
        connections.turn_away(&crowded);
        events.into_iter().for_each(|event| self.flow_event(event));
    }

    fn flow_event(&mut self, event: FlowEvent) {
        match event {
            FlowEvent::Begun(flow) => self.session_may_begin(&flow),
            FlowEvent::Failed(flow) => self.session_never_began(&flow),
            FlowEvent::Opened(flow) => self.session_began(&flow),
            FlowEvent::Closed(flow) => self.session_ended(&flow, Some(flow.traffic)),
            FlowEvent::Vanished(flow) => self.session_ended(&flow, None),
        }
    }

    /// Connections that nobody's grant let in are this host's own.
    fn session_through(&self, flow: &Flow) -> Option<(Session, Standing)> {
        let (grant, standing) = grant_of(&self.ledger, &self.config, &self.ruleset.grants, flow)?;
        let began = flow.started.unwrap_or_else(clock::wall);
        Some((Session::through(grant, Ends::from(flow), began), standing))
    }

    fn session_may_begin(&mut self, flow: &Flow) {
        if let Some((session, standing)) = self.session_through(flow) {
            self.doom(&session, standing);
            self.ledger.sessions.begin(session);
        }
    }

    fn session_never_began(&mut self, flow: &Flow) {
        self.ledger.sessions.take_begun(&Ends::from(flow));
        if let Some(connections) = &mut self.connections {
            connections.doomed.remove(&Ends::from(flow));
        }
    }

    fn session_began(&mut self, flow: &Flow) {
        let session = match self.ledger.sessions.take_begun(&Ends::from(flow)) {
            Some(session) => {
                // It ought to be cut by now.
                if let Some((connections, why)) = self.connections.as_mut().zip(session.cut) {
                    connections.doomed.insert(session.ends, why);
                }
                session
            }
            None => {
                let Some((session, standing)) = self.session_through(flow) else { return };
                self.doom(&session, standing);
                session
            }
        };
        self.memory.note_session(&session, true, &self.ledger);
        self.audit.began(&session);
        self.ledger.sessions.open(session);
    }

    /// Has it cut, if it came in just before the end of its grant.
    fn doom(&mut self, session: &Session, standing: Standing) {
        let service = self.config.services.get(&session.service);
        let why = standing.cuts(service.is_some_and(|service| service.cut_on_expiry));
        if let Some((connections, why)) = self.connections.as_mut().zip(why) {
            connections.doomed.insert(session.ends, why);
        }
    }

    fn session_ended(&mut self, flow: &Flow, traffic: Option<Traffic>) {
        if let Some(connections) = &mut self.connections {
            connections.doomed.remove(&Ends::from(flow));
        }
        let Some(session) = self.ledger.sessions.close(&Ends::from(flow)) else { return };
        self.memory.note_session(&session, false, &self.ledger);
        self.audit.over(&session, flow.ended.unwrap_or_else(clock::wall), traffic);
    }

    /// Ends connections for good; how many.
    pub(super) fn cut(&mut self, why: &'static str, which: impl Fn(&Session) -> bool) -> usize {
        // Those that are known first: there may be much to hear.
        let known = self.cut_open(why, &which);
        self.hear_flows();
        let unrecorded = self.cut_unrecorded(&which);
        let new = self.cut_known(why, which);
        let over = self.cut_over();
        self.hear_flows();
        known + unrecorded + new + over
    }

    /// Hears nothing meanwhile. What is half open is cut as well, and not counted.
    fn cut_known(&mut self, why: &'static str, which: impl Fn(&Session) -> bool) -> usize {
        let cut = self.cut_open(why, &which);
        let condemned = self.condemned(why, which);
        let Some(Connections { watch, flows, .. }) = &mut self.connections else { return cut };
        for flow in watch.half_open().filter(|flow| condemned.contains(&Ends::from(*flow))) {
            if let Err(error) = flows.cut_half_open(flow) {
                error!(%error, source = %flow.source, "a connection could not be cut");
            }
        }
        cut
    }

    fn cut_open(&mut self, why: &'static str, which: impl Fn(&Session) -> bool) -> usize {
        let condemned = self.condemned(why, which);
        let Some(Connections { watch, flows, .. }) = &mut self.connections else { return 0 };
        let open: Vec<Flow> =
            watch.flows().filter(|flow| condemned.contains(&Ends::from(*flow))).cloned().collect();
        cut_all(flows, &open)
    }

    fn condemned(&mut self, why: &'static str, which: impl Fn(&Session) -> bool) -> HashSet<Ends> {
        self.ledger.sessions.condemn(why, which).into_iter().collect()
    }

    fn cut_doomed(&mut self) {
        let Some(connections) = &mut self.connections else { return };
        let mut doomed: HashMap<_, HashSet<_>> = HashMap::new();
        for (ends, why) in connections.doomed.drain() {
            doomed.entry(why).or_default().insert(ends);
        }
        for (why, ends) in doomed {
            self.cut_known(why, |session| ends.contains(&session.ends));
        }
    }

    /// Where not all connections could be heard, those that the watch does not know
    /// are looked for in the kernel.
    fn cut_unrecorded(&mut self, which: impl Fn(&Session) -> bool) -> usize {
        let Some(Connections { watch, flows, .. }) = &mut self.connections else { return 0 };
        if !watch.is_behind() {
            return 0;
        }
        let mut open = flows.list().unwrap_or_else(|error| {
            error!(%error, "connections that are not recorded could not be looked for");
            Vec::new()
        });
        let (ledger, config, sets) = (&self.ledger, &self.config, &self.ruleset.grants);
        open.retain(|flow| {
            let grant = grant_of(ledger, config, sets, flow).map(|(grant, _)| grant);
            let unknown = ledger.sessions.find(&Ends::from(flow)).is_none();
            let session = |grant| Session::through(grant, Ends::from(flow), clock::wall());
            unknown && grant.map(session).is_some_and(|session| which(&session))
        });
        cut_all(flows, &open)
    }

    /// A source that is granted something may use ports again on which it had
    /// connections that were cut.
    pub(super) fn welcome(&mut self, grant: &Grant) {
        let Some(Connections { flows, .. }) = &mut self.connections else { return };
        if let Err(error) = flows.release(|source| grant.element.source.contains(source)) {
            warn!(%error, "connections that were cut earlier stay in the way");
        }
    }

    /// Lets go of grants that have ended by themselves. Whoever connected
    /// before that is heard first: the connection is still that client's.
    pub(super) fn expire(&mut self, now: Monotonic) {
        if self.ledger.next_end().is_none_or(|end| end > now) {
            return;
        }
        self.hear_flows();
        let ended = self.ledger.expire(now);
        let told: Vec<_> = ended.iter().filter(|grant| grant.told).cloned().collect();
        if !told.is_empty() {
            // Written down, so that a restart does not tell it again.
            self.memory.note_ended(&told, &self.ledger);
            self.tell_ends(&told, "expired");
        }
        let services = &self.config.services;
        let cutting = ended.iter().filter(|grant| {
            services.get(&grant.element.service).is_some_and(|service| service.cut_on_expiry)
        });
        let over: HashSet<u64> = cutting.map(|grant| grant.id).collect();
        if !over.is_empty() {
            self.cut_unrecorded(|session| over.contains(&session.grant));
            self.cut_over();
            self.hear_flows();
        }
    }

    /// Of services that say so, cuts the connections that no grant lets in any more. Their own
    /// may be over: where several clients share one address it is that of whoever knocked last,
    /// whose time must not end what another's lets in.
    fn cut_over(&mut self) -> usize {
        let cuts =
            |name| self.config.services.get(name).is_some_and(|service| service.cut_on_expiry);
        let (ledger, sets) = (&self.ledger, &self.ruleset.grants);
        let is_over = |flow: &&Flow| {
            let session = ledger.sessions.find(&Ends::from(*flow));
            session.is_some_and(|own| cuts(&own.service) && ledger.get(own.grant).is_none())
                && !lets_in(ledger, &self.config, sets, flow)
        };
        let Some(Connections { watch, .. }) = &self.connections else { return 0 };
        let flows = watch.flows().chain(watch.half_open()).filter(is_over);
        let over: HashSet<_> = flows.map(Ends::from).collect();
        match over.is_empty() {
            true => 0,
            false => self.cut_known("grant expired", |session| over.contains(&session.ends)),
        }
    }

    /// When the next grant ends that takes its connections with it, or of whose end
    /// a hook is told.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let cuts = self.config.services.values().any(|service| service.cut_on_expiry);
        let end = self.ledger.next_end().filter(|_| cuts || self.hooks.tells_ends())?;
        // The clock of grants goes on while the machine is suspended; a look
        // each minute makes up for that.
        Some(Instant::now() + end.since(clock::monotonic()).min(Duration::from_secs(60)))
    }

    /// After a reload: the services may have other ports.
    pub(super) fn watch_ports(&mut self) {
        let ports = ports(&self.config);
        let Some(connections) = &mut self.connections else { return };
        if let Err(error) = connections.watch.set_ports(&ports) {
            error!(%error, "connections to new ports are not recorded");
        }
    }

    /// Takes over the connections that are open: those that the journal knows,
    /// and those that were made through one of the `past` grants while nobody
    /// looked. What belongs to a client that is gone is cut.
    pub(super) fn restore_sessions(&mut self, remembered: &[Record], gone: &Names, past: &Ledger) {
        let known = remembered.iter().filter_map(|record| self.session_of(record, gone));
        let mut known: HashMap<Ends, Session> = known.map(|s| (s.ends, s)).collect();
        let Some(connections) = &mut self.connections else { return };
        let News { events, crowded, fault } = connections.watch.resynchronise();
        if let Some(error) = fault {
            error!(%error, "connections cannot be listed");
        }
        connections.turn_away(&crowded);
        for event in events {
            let (FlowEvent::Begun(flow) | FlowEvent::Opened(flow)) = &event else { continue };
            let ends = Ends::from(flow);
            let began = || flow.started.unwrap_or_else(clock::wall);
            let through = || {
                let (grant, _) = grant_of(past, &self.config, &self.ruleset.grants, flow)?;
                Some(Session::through(grant, ends, began()))
            };
            match event {
                FlowEvent::Opened(_) => {
                    let session = known.remove(&ends).or_else(through);
                    session.into_iter().for_each(|session| self.ledger.sessions.open(session));
                }
                _ => through().into_iter().for_each(|session| self.ledger.sessions.begin(session)),
            }
        }
        known.values().for_each(|session| self.audit.over(session, clock::wall(), None));
        self.cut_leftovers();
    }

    fn session_of(&self, record: &Record, gone: &Names) -> Option<Session> {
        let &Record::Session { grant, kid, service, ends, began } = record else { return None };
        Some(Session {
            grant,
            client: self.name_of(&kid, gone)?,
            kid,
            service,
            ends,
            began,
            cut: None,
        })
    }

    /// What clients were called that are revoked, if any of them is remembered.
    pub(super) fn names_of_gone(&self, remembered: &[Record]) -> Names {
        let is_gone = |record: &Record| match record {
            Record::Grant { kid, .. } | Record::Session { kid, .. } => {
                self.clients.get(kid).is_none()
            }
            _ => false,
        };
        if !remembered.iter().any(is_gone) {
            return Names::new();
        }
        let listing = Store::open(&self.config.keys_dir).revoked();
        let records = listing.map(|listing| listing.records).unwrap_or_else(|error| {
            warn!(%error, "of revoked clients the key-ids stand for their names");
            Vec::new()
        });
        records.into_iter().map(|record| (record.kid, record.name)).collect()
    }

    /// Of a client of which nobody knows the name, the key-id stands for it.
    pub(super) fn name_of(&self, kid: &Kid, gone: &Names) -> Option<ClientName> {
        let name = self.clients.get(kid).map(|record| record.name.clone());
        name.or_else(|| gone.get(kid).cloned()).or_else(|| kid.to_string().parse().ok())
    }

    /// What should have been cut while nobody was there to do it.
    fn cut_leftovers(&mut self) {
        let gone: HashSet<_> =
            self.ledger.sessions.with_begun().map(|session| session.kid).collect();
        let gone: HashSet<_> = gone.into_iter().filter(|kid| !self.clients.is_open(kid)).collect();
        self.cut("revoked", |session| gone.contains(&session.kid));
    }
}
