//! Who holds which grant. The kernel keeps the time; this keeps the names, so
//! that two clients behind one address can share an element without either
//! ending the other's. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use spa_keys::ClientName;
use spa_proto::{Kid, Monotonic, ServiceName};

use crate::firewall::Element;

/// One client's grant for one service from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Number of the grant; no other in force has it.
    pub id: u64,
    /// Name of the client when it was made.
    pub client: ClientName,
    /// Key-id of the client.
    pub kid: Kid,
    /// Name of the service.
    pub service: ServiceName,
    /// The element in the kernel.
    pub element: Element,
    /// When it ends, unless extended.
    pub ends: Monotonic,
}

/// All grants in force.
#[derive(Debug, Default)]
pub struct Ledger {
    grants: BTreeMap<u64, Grant>,
    last: u64,
}

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
        &self,
        client: &ClientName,
        kid: Kid,
        service: ServiceName,
        element: Element,
        ends: Monotonic,
    ) -> Grant {
        let same =
            |grant: &&Grant| (grant.kid, grant.service, grant.element) == (kid, service, element);
        match self.grants.values().find(same) {
            Some(grant) => Grant { ends: grant.ends.max(ends), ..grant.clone() },
            None => {
                Grant { id: self.last + 1, client: client.clone(), kid, service, element, ends }
            }
        }
    }

    /// Puts a grant in force: prepared, or read from a journal.
    pub fn put(&mut self, grant: Grant) {
        self.last = self.last.max(grant.id);
        self.grants.insert(grant.id, grant);
    }

    /// How long the kernel must keep `element`: as long as whoever holds it
    /// longest.
    #[must_use]
    pub fn remaining(&self, element: &Element, now: Monotonic) -> Duration {
        let holders = self.grants.values().filter(|grant| grant.element == *element);
        holders.map(|grant| grant.ends.since(now)).max().unwrap_or_default()
    }

    /// The grants in force, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }

    /// Lets go of what has ended by itself.
    pub fn expire(&mut self, now: Monotonic) {
        self.grants.retain(|_, grant| grant.ends > now);
    }

    /// Ends the grants that `which` picks. Returns them, and what the kernel
    /// has to be told.
    pub fn end(
        &mut self,
        now: Monotonic,
        which: impl Fn(&Grant) -> bool,
    ) -> (Vec<Grant>, Vec<Change>) {
        let (ended, kept) =
            std::mem::take(&mut self.grants).into_values().partition::<Vec<_>, _>(which);
        self.grants = kept.into_iter().map(|grant| (grant.id, grant)).collect();
        let mut elements: Vec<_> = ended.iter().map(|grant| grant.element).collect();
        elements.sort_unstable();
        elements.dedup();
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
    use spa_proto::Protocol;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::new(Duration::from_secs(seconds))
    }

    fn element(port: u16) -> Element {
        Element { source: "192.0.2.1".parse().unwrap(), protocol: Protocol::Tcp, port }
    }

    fn give(ledger: &mut Ledger, client: &str, port: u16, ends: u64) -> u64 {
        let kid = Kid::from_bytes([client.as_bytes()[0]; 16]);
        let name = client.parse().unwrap();
        let grant = ledger.prepare(&name, kid, "ssh".parse().unwrap(), element(port), at(ends));
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
    fn numbers_are_not_used_again() {
        let mut ledger = Ledger::default();
        let first = give(&mut ledger, "alice", 22, 30);
        ledger.expire(at(30));
        assert_eq!(ledger.iter().count(), 0);
        assert!(give(&mut ledger, "alice", 22, 60) > first);
    }
}
