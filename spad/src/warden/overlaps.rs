//! Former keys whose time is over are taken out of their files by the one who writes there,
//! while no knock waits for the disk. Until they are they stay, expired.

use std::collections::VecDeque;

use spa_keys::{ClientName, ServerIdentity, Store, StoreError};
use spa_proto::{Kid, Timestamp};
use tokio::sync::oneshot::{self, Receiver};
use tracing::warn;

use super::Warden;
use super::worker::Worker;
use crate::wipe;

/// Whose keys have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Client(ClientName, Kid),
    /// The server's, which it was to have up to then.
    Server(Timestamp),
}

/// What has come of it; for a client whether it has knocked with its new keys.
pub(super) type Outcome = Result<bool, StoreError>;

/// What is still to be taken out, one after the other: first knocks come in between.
pub(super) struct Overlaps {
    left: VecDeque<Over>,
    under_way: Option<(Over, Receiver<Outcome>)>,
    /// Why the server's are still there, as last said.
    told: Option<String>,
}

impl Overlaps {
    pub(super) fn none() -> Self {
        Self { left: VecDeque::new(), under_way: None, told: None }
    }

    /// Begins with all that have ended by now, unless it is at them already.
    fn begin(&mut self, over: impl Iterator<Item = Over>, store: &Store, writer: &mut Worker) {
        if self.under_way.is_none() {
            self.left = over.collect();
            self.next(store, writer);
        }
    }

    /// Has the next one done. Without a thread: at the next tick again.
    fn next(&mut self, store: &Store, writer: &mut Worker) {
        let Some(over) = self.left.pop_front() else { return };
        let (tell, told) = oneshot::channel();
        let (job, store) = (over.clone(), store.clone());
        let given = writer.give(move || {
            // Whoever does not hear it any more has ended.
            let _ = tell.send(wipe::stack_after(|| job.end(&store)));
        });
        self.under_way = given.then_some((over, told));
    }

    /// Sleeps until that is done; `None` in place of an outcome where its thread has ended.
    /// Then [`Warden::overlap_ended`] must be called.
    pub(super) async fn done(&mut self) -> (Over, Option<Outcome>) {
        let Some((over, told)) = &mut self.under_way else { return std::future::pending().await };
        let outcome = told.await.ok();
        let over = over.clone();
        self.under_way = None;
        (over, outcome)
    }
}

impl Over {
    fn end(&self, store: &Store) -> Outcome {
        match self {
            Self::Client(name, kid) => store.end_overlap(name, kid).map(|record| record.knocked),
            Self::Server(until) => ServerIdentity::finish(store.dir(), Some(*until)).map(|_| true),
        }
    }
}

impl Warden {
    /// Begins to take out of their files what has ended by now.
    pub(super) fn end_overlaps(&mut self, now: Timestamp) {
        self.end_own_overlap(now);
        let server = self.own.lingering().map(Over::Server);
        let clients = self.clients.overdue(now).map(|(name, kid)| Over::Client(name, kid));
        let over = server.into_iter().chain(clients);
        self.overlaps.begin(over, self.clients.store(), &mut self.writer);
    }

    pub(super) fn overlap_ended(&mut self, (over, outcome): (Over, Option<Outcome>)) {
        // Who holds the lock does so for the others too: at the next tick again.
        if let Some(Err(StoreError::Locked(_))) = outcome {
            self.overlaps.left.clear();
        }
        match (over, outcome) {
            // With its thread went what it was given: at the next tick again.
            (_, None) => self.overlaps.left.clear(),
            (Over::Client(name, _), Some(Ok(knocked))) => {
                if !knocked {
                    warn!(client = %name, "its old keys have ended, and it has not moved to the new ones: it is shut out");
                }
                let differences = self.clients.look_at_one(&name);
                self.follow(differences);
            }
            (Over::Client(name, _), Some(Err(error))) => {
                warn!(client = %name, %error, "its old keys have ended, but stay in its record");
            }
            (Over::Server(until), Some(outcome)) => self.own_overlap_ended(until, outcome),
        }
        self.overlaps.next(self.clients.store(), &mut self.writer);
    }

    fn own_overlap_ended(&mut self, until: Timestamp, outcome: Outcome) {
        let error = match outcome {
            Ok(_) => return self.own.lingers_no_more(until),
            Err(error) => error,
        };
        if matches!(error, StoreError::NoOverlap(_) | StoreError::NotInitialised(_)) {
            // They are in a credential alone, or somebody was quicker.
            self.own.lingers_no_more(until);
        }
        let told = Some(error.to_string());
        if self.overlaps.told != told {
            self.overlaps.told = told;
            warn!(%error, "the server's old keys have ended, but are still in server.toml, or in its credential");
        }
    }
}
