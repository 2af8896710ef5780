//! What the gate has to say, from protocol §6 alone: no keys, no bytes.

use std::collections::{HashMap, HashSet};

use spa_proto::{Kid, Reason, Timestamp};

const EPOCH_MS: u64 = 6 * 3_600_000;
const TOLERANCE_MS: u64 = 30_000;

/// The gate's clients, and what each has tried.
#[derive(Default)]
pub(super) struct Model {
    clients: HashMap<Kid, Client>,
}

#[derive(Default)]
struct Client {
    floor: Timestamp,
    attempted: HashSet<usize>,
}

impl Model {
    /// Comes in, or gets other keys: what it has tried stays, as its budget does.
    pub(super) fn insert(&mut self, kid: Kid) {
        self.clients.entry(kid).or_default();
    }

    pub(super) fn remove(&mut self, kid: &Kid) {
        self.clients.remove(kid);
    }

    pub(super) fn recall(&mut self, kid: &Kid, floor: Timestamp) {
        if let Some(client) = self.clients.get_mut(kid) {
            client.floor = client.floor.max(floor);
        }
    }

    pub(super) fn attempt(&mut self, kid: &Kid, number: usize) {
        if let Some(client) = self.clients.get_mut(kid) {
            assert!(client.attempted.insert(number), "let through twice");
        }
    }

    /// How many datagrams of a client have cost public-key work.
    pub(super) fn attempts(&self, kid: &Kid) -> usize {
        self.clients.get(kid).map_or(0, |client| client.attempted.len())
    }

    /// Budgets apart. `number` is the datagram's, `time` the time in it.
    pub(super) fn expected(
        &self,
        kid: &Kid,
        number: usize,
        time: Timestamp,
        now: Timestamp,
    ) -> Result<(), Reason> {
        let (sent, now) = (time.as_millis(), now.as_millis());
        let near = (sent / EPOCH_MS).abs_diff(now / EPOCH_MS) <= 1;
        let Some(client) = self.clients.get(kid).filter(|_| near) else {
            return Err(Reason::UnknownClient);
        };
        if sent.abs_diff(now) > TOLERANCE_MS {
            return Err(Reason::Stale);
        }
        if client.attempted.contains(&number) || time <= client.floor {
            return Err(Reason::Duplicate);
        }
        Ok(())
    }
}
