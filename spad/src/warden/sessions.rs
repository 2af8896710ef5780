//! The connections made through grants: recorded as they open and end, cut
//! when their grant is taken back.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use spa_keys::{ClientName, Store};
use spa_proto::{Kid, Monotonic, Prefix, Protocol};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;
use tracing::{error, warn};

use super::Warden;
use crate::clock;
use crate::config::Config;
use crate::firewall::{
    FirewallError, Flow, FlowEvent, FlowWatch, Flows, News, PortRange, Traffic, keep_records,
};
use crate::grants::{Grant, Ledger};
use crate::journal::Record;
use crate::sessions::{Ends, Session, grant_of};
use crate::sys::ready;

/// How many times a thousand notifications are read where all are wanted.
const BATCHES: usize = 64;

/// Of clients.
pub(super) type Names = HashMap<Kid, ClientName>;

/// Hears of connections, and cuts them.
pub(super) struct Connections {
    watch: FlowWatch,
    flows: Flows,
    ready: AsyncFd<OwnedFd>,
    /// Whether it was said that not all of them are known.
    said: bool,
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
        let watch = FlowWatch::open(labels, &ports(config))?;
        let ready = watch.as_fd().try_clone_to_owned();
        let ready = ready.and_then(|fd| ready::register(fd, Interest::READABLE));
        let ready = ready
            .map_err(|source| FirewallError::Netlink { doing: "watch for connections", source })?;
        Ok(Self { watch, flows: Flows::open(labels)?, ready, said: false, doomed: HashMap::new() })
    }

    /// Waits until there is something to hear.
    pub(super) async fn changed(connections: Option<&Self>) -> io::Result<()> {
        let Some(connections) = connections else { return std::future::pending().await };
        if connections.watch.has_more() {
            return Ok(());
        }
        // Cleared first: what comes while reading makes it ready again.
        connections.ready.readable().await?.clear_ready();
        Ok(())
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
        self.cut_doomed();
    }

    /// Reads what connection tracking has told meanwhile: all of it, unless it
    /// tells faster than anybody can read.
    pub(super) fn hear_flows(&mut self) {
        for _ in 0..BATCHES {
            self.hear_some();
            if self.connections.as_ref().is_none_or(|connections| !connections.watch.has_more()) {
                break;
            }
        }
        self.cut_doomed();
    }

    fn hear_some(&mut self) {
        let Some(connections) = &mut self.connections else { return };
        let News { events, fault } = connections.watch.events();
        let said = std::mem::replace(&mut connections.said, fault.is_some());
        if let Some(error) = fault.filter(|_| !said) {
            error!(%error, "some connections are not known: looked for again");
        }
        events.into_iter().for_each(|event| self.flow_event(event));
    }

    fn flow_event(&mut self, event: FlowEvent) {
        match event {
            FlowEvent::Opened(flow) => self.session_began(&flow),
            FlowEvent::Closed(flow) => self.session_ended(&flow, Some(flow.traffic)),
            FlowEvent::Vanished(flow) => self.session_ended(&flow, None),
        }
    }

    /// Connections that nobody's grant let in are this host's own.
    fn session_began(&mut self, flow: &Flow) {
        let Some((grant, standing)) =
            grant_of(&self.ledger, &self.config, &self.ruleset.grants, flow)
        else {
            return;
        };
        let ends = Ends::from(flow);
        let session = Session::through(grant, ends, flow.started.unwrap_or_else(clock::wall));
        let service = self.config.services.get(&session.service);
        let why = standing.cuts(service.is_some_and(|service| service.cut_on_expiry));
        self.memory.note_session(&session, true, &self.ledger);
        self.audit.began(&session);
        self.ledger.sessions.open(session);
        if let Some((connections, why)) = self.connections.as_mut().zip(why) {
            connections.doomed.insert(ends, why);
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
        self.hear_flows();
        let unrecorded = self.cut_unrecorded(&which);
        let cut = self.cut_known(why, which);
        self.hear_flows();
        cut + unrecorded
    }

    /// Hears nothing meanwhile.
    fn cut_known(&mut self, why: &'static str, which: impl Fn(&Session) -> bool) -> usize {
        let condemned: HashSet<_> = self.ledger.sessions.condemn(why, which).into_iter().collect();
        let Some(Connections { watch, flows, .. }) = &mut self.connections else { return 0 };
        let open: Vec<Flow> =
            watch.flows().filter(|flow| condemned.contains(&Ends::from(*flow))).cloned().collect();
        cut_all(flows, &open)
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

    /// Where there were more connections than the watch has room for, or not all
    /// could be heard, those that it does not know are looked for in the kernel.
    fn cut_unrecorded(&mut self, which: impl Fn(&Session) -> bool) -> usize {
        let Some(Connections { watch, flows, .. }) = &mut self.connections else { return 0 };
        if watch.unrecorded() == 0 && !watch.is_behind() {
            return 0;
        }
        let mut open = flows.list().unwrap_or_else(|error| {
            error!(%error, "connections that are not recorded could not be looked for");
            Vec::new()
        });
        let (ledger, config, sets) = (&self.ledger, &self.config, &self.ruleset.grants);
        open.retain(|flow| {
            let grant = grant_of(ledger, config, sets, flow).map(|(grant, _)| grant);
            let unknown = ledger.sessions.get(&Ends::from(flow)).is_none();
            let session = |grant| Session::through(grant, Ends::from(flow), clock::wall());
            unknown && grant.map(session).is_some_and(|session| which(&session))
        });
        cut_all(flows, &open)
    }

    /// Ends every connection with an end in this network, whether made through a
    /// grant or not; how many.
    pub(super) fn cut_off(&mut self, network: &Prefix) -> Result<usize, FirewallError> {
        self.hear_flows();
        let of_them = |session: &Session| network.contains(session.ends.source.ip());
        self.ledger.sessions.condemn("banned", of_them);
        let Some(Connections { flows, .. }) = &mut self.connections else { return Ok(0) };
        let cut = flows.cut_peers(|peer| network.contains(peer));
        self.hear_flows();
        cut
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
            self.cut("grant expired", |session| over.contains(&session.grant));
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
        let News { events, fault } = connections.watch.resynchronise();
        if let Some(error) = fault {
            error!(%error, "connections cannot be listed");
        }
        for event in events {
            let FlowEvent::Opened(flow) = event else { continue };
            let ends = Ends::from(&flow);
            let began = || flow.started.unwrap_or_else(clock::wall);
            let through = || {
                let (grant, _) = grant_of(past, &self.config, &self.ruleset.grants, &flow)?;
                Some(Session::through(grant, ends, began()))
            };
            if let Some(session) = known.remove(&ends).or_else(through) {
                self.ledger.sessions.open(session);
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
        let gone: HashSet<_> = self.ledger.sessions.iter().map(|session| session.kid).collect();
        let gone: HashSet<_> = gone.into_iter().filter(|kid| !self.clients.is_open(kid)).collect();
        self.cut("revoked", |session| gone.contains(&session.kid));
        let in_force: HashSet<_> = self.ledger.iter().map(|grant| grant.id).collect();
        let config = self.config.clone();
        self.cut("grant expired", |session| {
            let service = config.services.get(&session.service);
            service.is_some_and(|service| service.cut_on_expiry)
                && !in_force.contains(&session.grant)
        });
    }
}
