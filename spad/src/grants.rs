//! Who holds which grant. The kernel keeps the time; this keeps the names, so
//! that two clients behind one address can share an element without either
//! ending the other's. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use spa_keys::ClientName;
use spa_proto::{Kid, Monotonic};

use crate::firewall::Element;
use crate::sessions::Sessions;

/// One client's grant for one service from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Number of the grant; no other of this daemon has it.
    pub id: u64,
    /// Name of the client when it was made.
    pub client: ClientName,
    /// Key-id of the client.
    pub kid: Kid,
    /// The element in the kernel.
    pub element: Element,
    /// When it was last asked for.
    pub since: Monotonic,
    /// When it ends, unless extended.
    pub ends: Monotonic,
    /// Whether a hook is to be told of its end: it was told of its beginning.
    pub told: bool,
}

/// All grants in force, and where to find them.
#[derive(Debug, Default)]
pub struct Ledger {
    grants: BTreeMap<u64, Grant>,
    by_element: HashMap<Element, BTreeSet<u64>>,
    by_end: BTreeSet<(Monotonic, u64)>,
    last: u64,
    /// Grants that have ended not long ago: news of a connection may come late.
    past: VecDeque<Past>,
    /// The connections made through grants, also of those that are over.
    pub sessions: Sessions,
}

/// A grant that has ended.
#[derive(Debug)]
struct Past {
    grant: Grant,
    at: Monotonic,
    how: Standing,
}

/// What has become of a grant when news comes of a connection through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is in force.
    InForce,
    /// It has ended by itself.
    Expired,
    /// It was taken back.
    Revoked,
}

impl Standing {
    /// Why such a connection is cut at once, if it is: it has come in just before the end.
    #[must_use]
    pub fn cuts(self, cut_on_expiry: bool) -> Option<&'static str> {
        match self {
            Self::Revoked => Some("revoked"),
            Self::Expired if cut_on_expiry => Some("grant expired"),
            Self::InForce | Self::Expired => None,
        }
    }
}

/// For how long news of a connection through a grant may be late.
const LATE: Duration = Duration::from_secs(10);

/// What the kernel has to be told after grants have ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nobody holds it any more.
    Withdraw(Element),
    /// Somebody else still does, for this long.
    Shorten(Element, Duration),
}

impl Ledger {
    /// What a grant is going to be: a new one, or one that is there already and
    /// lasts longer now. Not in force before [`Self::put`].
    #[must_use]
    pub fn prepare(
        &mut self,
        client: &ClientName,
        kid: Kid,
        element: Element,
        now: Monotonic,
        ends: Monotonic,
    ) -> Grant {
        if let Some(grant) = self.holders(&element).find(|grant| grant.kid == kid) {
            return Grant { since: now, ends: grant.ends.max(ends), ..grant.clone() };
        }
        self.last += 1;
        Grant { id: self.last, client: client.clone(), kid, element, since: now, ends, told: false }
    }

    /// Puts a grant in force: prepared, or read from a journal.
    pub fn put(&mut self, grant: Grant) {
        self.last = self.last.max(grant.id);
        self.take(grant.id);
        self.by_element.entry(grant.element).or_default().insert(grant.id);
        self.by_end.insert((grant.ends, grant.id));
        self.grants.insert(grant.id, grant);
    }

    /// A client has another name now, and so have its grants and connections.
    pub fn rename(&mut self, kid: &Kid, name: &ClientName) {
        let grants = self.grants.values_mut().filter(|grant| grant.kid == *kid);
        grants.for_each(|grant| grant.client.clone_from(name));
        self.sessions.rename(kid, name);
    }

    /// Of no grant in force an end is to be told; whether there was one.
    pub fn forget_told(&mut self) -> bool {
        let mut told = self.grants.values_mut().filter(|grant| grant.told).peekable();
        let any = told.peek().is_some();
        told.for_each(|grant| grant.told = false);
        any
    }

    /// Numbers up to this one belong to grants that are over.
    pub fn begin_after(&mut self, id: u64) {
        self.last = self.last.max(id);
    }

    fn take(&mut self, id: u64) -> Option<Grant> {
        let grant = self.grants.remove(&id)?;
        self.by_end.remove(&(grant.ends, id));
        if let Some(holders) = self.by_element.get_mut(&grant.element) {
            holders.remove(&id);
            if holders.is_empty() {
                self.by_element.remove(&grant.element);
            }
        }
        Some(grant)
    }

    /// Who holds `element`.
    pub fn holders(&self, element: &Element) -> impl Iterator<Item = &Grant> {
        let ids = self.by_element.get(element).into_iter().flatten();
        ids.filter_map(|id| self.grants.get(id))
    }

    /// Whether anybody does.
    #[must_use]
    pub fn is_held(&self, element: &Element) -> bool {
        self.holders(element).next().is_some()
    }

    /// How long the kernel must keep `element`: as long as whoever holds it
    /// longest.
    #[must_use]
    pub fn remaining(&self, element: &Element, now: Monotonic) -> Duration {
        self.holders(element).map(|grant| grant.ends.since(now)).max().unwrap_or_default()
    }

    /// The grant of this number, if it is in force.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Grant> {
        self.grants.get(&id)
    }

    /// How many grants are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// The grants in force, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }

    /// The same, in the order in which they end.
    pub fn next_to_end(&self) -> impl Iterator<Item = &Grant> {
        self.by_end.iter().filter_map(|(_, id)| self.grants.get(id))
    }

    /// When the next one ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Monotonic> {
        self.by_end.first().map(|(ends, _)| *ends)
    }

    /// Lets go of what has ended by itself, and returns it.
    pub fn expire(&mut self, now: Monotonic) -> Vec<Grant> {
        let mut ended = Vec::new();
        while let Some((_, id)) = self.by_end.first().filter(|(ends, _)| *ends <= now) {
            ended.extend(self.take(*id));
        }
        self.bury(&ended, now, Standing::Expired);
        ended
    }

    fn bury(&mut self, ended: &[Grant], now: Monotonic, how: Standing) {
        while self.past.front().is_some_and(|past| now.since(past.at) > LATE) {
            self.past.pop_front();
        }
        let past = ended.iter().map(|grant| Past { grant: grant.clone(), at: now, how });
        self.past.extend(past);
    }

    /// Who held `element` until not long ago, and how that has ended.
    #[must_use]
    pub fn past_holder(&self, element: &Element) -> Option<(&Grant, Standing)> {
        let past = self.past.iter().rev().find(|past| past.grant.element == *element)?;
        Some((&past.grant, past.how))
    }

    /// Ends the grants that `which` picks. Returns them, and what the kernel
    /// has to be told.
    pub fn end(
        &mut self,
        now: Monotonic,
        which: impl Fn(&Grant) -> bool,
    ) -> (Vec<Grant>, Vec<Change>) {
        let ids: Vec<_> = self.iter().filter(|grant| which(grant)).map(|grant| grant.id).collect();
        let ended: Vec<_> = ids.into_iter().filter_map(|id| self.take(id)).collect();
        self.bury(&ended, now, Standing::Revoked);
        let elements: BTreeSet<_> = ended.iter().map(|grant| grant.element).collect();
        let change = |element: Element| match self.remaining(&element, now) {
            // The kernel counts in milliseconds.
            left if left.as_millis() == 0 => Change::Withdraw(element),
            left => Change::Shorten(element, left),
        };
        let changes = elements.into_iter().map(change).collect();
        (ended, changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::Terms;
    use spa_proto::Prefix;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::new(Duration::from_secs(seconds))
    }

    fn element(port: u16) -> Element {
        Element {
            service: format!("s{port}").parse().unwrap(),
            source: Prefix::of("192.0.2.1".parse().unwrap(), 32),
            destination: None,
            terms: Terms::Window,
        }
    }

    fn give(ledger: &mut Ledger, client: &str, port: u16, ends: u64) -> u64 {
        let kid = Kid::from_bytes([client.as_bytes()[0]; 16]);
        let name = client.parse().unwrap();
        let grant = ledger.prepare(&name, kid, element(port), at(0), at(ends));
        ledger.put(grant.clone());
        grant.id
    }

    #[test]
    fn a_second_knock_extends_and_never_shortens() {
        let mut ledger = Ledger::default();
        let first = give(&mut ledger, "alice", 22, 30);
        assert_eq!(give(&mut ledger, "alice", 22, 60), first);
        assert_eq!(give(&mut ledger, "alice", 22, 40), first);
        assert_eq!(ledger.iter().count(), 1);
        assert_eq!(ledger.remaining(&element(22), at(10)), Duration::from_secs(50));
    }

    #[test]
    fn two_behind_one_address_do_not_end_each_other() {
        let mut ledger = Ledger::default();
        give(&mut ledger, "alice", 22, 60);
        give(&mut ledger, "bob", 22, 30);
        give(&mut ledger, "alice", 80, 60);
        assert_eq!(ledger.remaining(&element(22), at(0)), Duration::from_secs(60));
        let (ended, changes) = ledger.end(at(0), |grant| grant.client.as_str() == "alice");
        assert_eq!(ended.len(), 2);
        let left = Duration::from_secs(30);
        assert_eq!(changes, [Change::Shorten(element(22), left), Change::Withdraw(element(80))]);
    }

    #[test]
    fn a_connection_heard_of_after_the_end_is_cut_as_one_from_before() {
        for (standing, stays, cut_on_expiry) in [
            (Standing::InForce, None, None),
            (Standing::Expired, None, Some("grant expired")),
            (Standing::Revoked, Some("revoked"), Some("revoked")),
        ] {
            assert_eq!(standing.cuts(false), stays, "{standing:?}");
            assert_eq!(standing.cuts(true), cut_on_expiry, "{standing:?}");
        }
    }

    #[test]
    fn how_a_grant_has_ended_is_known_for_a_while() {
        let mut ledger = Ledger::default();
        give(&mut ledger, "alice", 22, 30);
        give(&mut ledger, "alice", 80, 60);
        let standing =
            |ledger: &Ledger, port| ledger.past_holder(&element(port)).map(|(_, how)| how);
        assert_eq!(standing(&ledger, 22), None, "it is in force");
        ledger.expire(at(30));
        assert_eq!(standing(&ledger, 22), Some(Standing::Expired));
        ledger.end(at(31), |_| true);
        assert_eq!(standing(&ledger, 80), Some(Standing::Revoked));
        ledger.expire(at(41));
        give(&mut ledger, "bob", 443, 42);
        ledger.expire(at(42));
        assert_eq!(standing(&ledger, 22), None, "too long ago for news to be late");
    }

    #[test]
    fn numbers_are_not_used_again() {
        let mut ledger = Ledger::default();
        let first = give(&mut ledger, "alice", 22, 30);
        assert_eq!(ledger.next_end(), Some(at(30)));
        assert_eq!(ledger.expire(at(29)), []);
        assert_eq!(ledger.expire(at(30)).len(), 1);
        assert_eq!((ledger.iter().count(), ledger.next_end()), (0, None));
        assert!(give(&mut ledger, "alice", 22, 60) > first);
    }
}
