//! Which connection was made through which grant. Pure.
//!
//! The kernel knows that a connection was made through a grant, not through
//! whose. That follows from the element that let it in: its holder, and where
//! several clients hold it behind one address, the one that knocked last. Who
//! wants to be told apart there asks for a bound grant.

use std::collections::HashMap;
use std::net::SocketAddr;

use spa_keys::ClientName;
use spa_proto::{Kid, Protocol, Service, ServiceName, Timestamp};

use crate::config::Config;
use crate::firewall::{Element, Flow, GrantSet, Terms};
use crate::grants::{Grant, Ledger, Standing};

/// A connection's ends, as its client wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ends {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The client's end.
    pub source: SocketAddr,
    /// The service's.
    pub destination: SocketAddr,
}

impl From<&Flow> for Ends {
    fn from(flow: &Flow) -> Self {
        Self { protocol: flow.protocol, source: flow.source, destination: flow.destination }
    }
}

/// One connection, and who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Number of the grant.
    pub grant: u64,
    /// Name of the client.
    pub client: ClientName,
    /// Key-id of the client.
    pub kid: Kid,
    /// The service.
    pub service: ServiceName,
    /// From where to where.
    pub ends: Ends,
    /// When it was first seen.
    pub began: Timestamp,
    /// Why it was cut, if it was.
    pub cut: Option<&'static str>,
}

impl Session {
    /// A connection that was made through `grant`.
    #[must_use]
    pub fn through(grant: &Grant, ends: Ends, began: Timestamp) -> Self {
        Self {
            grant: grant.id,
            client: grant.client.clone(),
            kid: grant.kid,
            service: grant.element.service,
            ends,
            began,
            cut: None,
        }
    }
}

/// The connections that are open, and those that may become so: of these nothing
/// is told or written down, but they are cut as the others are.
#[derive(Debug, Default)]
pub struct Sessions {
    open: HashMap<Ends, Session>,
    begun: HashMap<Ends, Session>,
}

impl Sessions {
    /// Somebody has sent its first packet. Whose it is shows now: the grant may be long
    /// over when it is answered.
    pub fn begin(&mut self, session: Session) {
        self.begun.insert(session.ends, session);
    }

    /// It is no longer one that was merely begun.
    pub fn take_begun(&mut self, ends: &Ends) -> Option<Session> {
        self.begun.remove(ends)
    }

    /// It is open from now on.
    pub fn open(&mut self, session: Session) {
        self.open.insert(session.ends, session);
    }

    /// It has ended.
    pub fn close(&mut self, ends: &Ends) -> Option<Session> {
        self.open.remove(ends)
    }

    /// The open one with these ends.
    #[must_use]
    pub fn get(&self, ends: &Ends) -> Option<&Session> {
        self.open.get(ends)
    }

    /// The one with these ends, open or begun.
    #[must_use]
    pub fn find(&self, ends: &Ends) -> Option<&Session> {
        self.get(ends).or_else(|| self.begun.get(ends))
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// All that are open.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.open.values()
    }

    /// These, and those that were begun.
    pub fn with_begun(&self) -> impl Iterator<Item = &Session> {
        self.iter().chain(self.begun.values())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.open.values_mut().chain(self.begun.values_mut())
    }

    /// A client has another name now.
    pub fn rename(&mut self, kid: &Kid, name: &ClientName) {
        let own = self.all_mut().filter(|session| session.kid == *kid);
        own.for_each(|session| session.client.clone_from(name));
    }

    /// Those that `which` picks, open or begun, are being cut for this reason.
    pub fn condemn(&mut self, why: &'static str, which: impl Fn(&Session) -> bool) -> Vec<Ends> {
        let condemned = self.all_mut().filter(|session| which(session));
        condemned.map(|session| (session.cut = Some(why), session.ends).1).collect()
    }
}

/// The grant that let a connection in, of those in `ledger`, and what has become
/// of it since; `None` for one that this host has opened itself.
/// `sets` are those in force, in the order of the rules.
#[must_use]
pub fn grant_of<'a>(
    ledger: &'a Ledger,
    config: &Config,
    sets: &[GrantSet],
    flow: &Flow,
) -> Option<(&'a Grant, Standing)> {
    let mut elements: Vec<_> = ways(flow)
        .into_iter()
        .flat_map(|(from, to)| elements(config, sets, flow, from, to))
        .collect();
    // A bound grant is one client's alone.
    elements.sort_by_key(|element| !matches!(element.terms, Terms::Bound(_)));
    let in_force = elements.iter().find_map(|element| last_to_knock(ledger, element));
    let past = || elements.iter().find_map(|element| ledger.past_holder(element));
    in_force.map(|grant| (grant, Standing::InForce)).or_else(past)
}

/// Whether a grant in force lets such a connection in, whoever's.
#[must_use]
pub fn lets_in(ledger: &Ledger, config: &Config, sets: &[GrantSet], flow: &Flow) -> bool {
    matches!(grant_of(ledger, config, sets, flow), Some((_, Standing::InForce)))
}

/// Who may have come in to what, the likeliest first. Where somebody redirects
/// another port to the service, it is the second net that has let the connection
/// in, by the address and port behind. And a server that speaks first, over UDP,
/// has made the flow that its client's grant lets in.
fn ways(flow: &Flow) -> Vec<(SocketAddr, SocketAddr)> {
    let mut ways = vec![(flow.source, flow.destination), (flow.source, flow.reply_source)];
    if flow.protocol == Protocol::Udp {
        ways.push((flow.destination, flow.source));
    }
    ways
}

/// The elements that let such a connection in.
fn elements(
    config: &Config,
    sets: &[GrantSet],
    flow: &Flow,
    from: SocketAddr,
    to: SocketAddr,
) -> Vec<Element> {
    let service = config.service(Service::Port(flow.protocol, to.port()));
    let Some((name, _)) = service else { return Vec::new() };
    let fits = |set: &&GrantSet| set.service == name && set.v4 == to.is_ipv4();
    sets.iter().filter(fits).map(|set| set.element_for(from, to.ip())).collect()
}

fn last_to_knock<'a>(ledger: &'a Ledger, element: &Element) -> Option<&'a Grant> {
    ledger.holders(element).max_by_key(|grant| (grant.since, grant.id))
}
