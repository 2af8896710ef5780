//! Former keys whose time is over are taken out of their files by the one who writes there,
//! while no knock waits for the disk. Until they are they stay, expired.

use std::collections::{HashMap, HashSet, VecDeque};

use spa_keys::{ClientName, ServerIdentity, Store, StoreError};
use spa_proto::{Kid, Timestamp};
use tokio::sync::oneshot::{self, Receiver};
use tracing::warn;

use super::Warden;
use super::worker::Worker;
use crate::clock::Reading;
use crate::wipe;

/// Whose keys have ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// Why they are still there, as last said of each.
    told: HashMap<Over, String>,
}

impl Overlaps {
    pub(super) fn none() -> Self {
        Self { left: VecDeque::new(), under_way: None, told: HashMap::new() }
    }

    /// Begins with all that have ended by now, unless it is at them already.
    fn begin(&mut self, over: impl Iterator<Item = Over>, store: &Store, writer: &mut Worker) {
        if self.under_way.is_none() {
            self.left = over.collect();
            let left: HashSet<_> = self.left.iter().collect();
            self.told.retain(|over, _| left.contains(over));
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

    /// Where the others would fare no better, they are left for the next tick: with its thread
    /// went what it was given, and who holds the lock does so for all.
    fn ended(&mut self, outcome: Option<&Outcome>) {
        if matches!(outcome, None | Some(Err(StoreError::Locked(_)))) {
            self.left.clear();
        }
    }

    /// Whether it is to be said: once for each, and again if it is for another reason.
    fn is_news(&mut self, over: &Over, error: &StoreError) -> bool {
        let why = error.to_string();
        self.told.insert(over.clone(), why.clone()) != Some(why)
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
    /// Begins to take out of their files what has ended by now; by a clock that was just set
    /// it is expired, and stays.
    pub(super) fn end_overlaps(&mut self, now: Reading) {
        self.end_own_overlap(now.wall);
        if !self.steady.is(now) {
            return;
        }
        let server = self.own.lingering().map(Over::Server);
        let clients = self.clients.overdue(now.wall).map(|(name, kid)| Over::Client(name, kid));
        let over = server.into_iter().chain(clients);
        self.overlaps.begin(over, self.clients.store(), &mut self.writer);
    }

    pub(super) fn overlap_ended(&mut self, (over, outcome): (Over, Option<Outcome>)) {
        self.overlaps.ended(outcome.as_ref());
        match (&over, outcome) {
            (_, None) => {}
            (Over::Client(name, _), Some(Ok(knocked))) => {
                if !knocked {
                    warn!(client = %name, "its old keys have ended, and it has not moved to the new ones: it is shut out");
                }
                let differences = self.clients.look_at(name);
                self.follow(differences);
            }
            (Over::Client(name, _), Some(Err(error))) => {
                if self.overlaps.is_news(&over, &error) {
                    warn!(client = %name, %error, "its old keys have ended, but stay in its record: tried again every 20 s");
                }
            }
            (Over::Server(until), Some(Ok(_))) => self.own.lingers_no_more(*until),
            (Over::Server(until), Some(Err(error))) => {
                self.own_overlap_stays(*until, &over, &error)
            }
        }
        self.overlaps.next(self.clients.store(), &mut self.writer);
    }

    fn own_overlap_stays(&mut self, until: Timestamp, over: &Over, error: &StoreError) {
        if matches!(error, StoreError::NoOverlap(_) | StoreError::NotInitialised(_)) {
            // They are in a credential alone, or somebody was quicker.
            self.own.lingers_no_more(until);
        }
        if self.overlaps.is_news(over, error) {
            warn!(%error, "the server's old keys have ended, but are still in server.toml, or in its credential");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spa_keys::{NewClient, Policy, Replaced};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    struct Keys {
        _dir: tempfile::TempDir,
        store: Store,
        writer: Worker,
        overlaps: Overlaps,
        /// Whose keys are being replaced.
        over: Vec<Over>,
    }

    impl Keys {
        fn of(names: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            ServerIdentity::init(dir.path(), "fw.example", 62201).unwrap();
            let store = Store::open(dir.path());
            let replaced = |name: &&str| {
                let name: ClientName = name.parse().unwrap();
                let services = vec!["ssh".parse().unwrap()];
                let policy = Policy { services, ..Policy::default() };
                let key = Some(spa_proto::SigningKey::from_seed(&[1; 32]).verifying_key());
                let client = NewClient { name: name.clone(), expires: None, policy, key };
                store.add(client, NOW).unwrap();
                let kid = store.client(&name).unwrap().kid;
                store.rotate(&name, Replaced::Psk, Duration::from_secs(3600), NOW).unwrap();
                Over::Client(name, kid)
            };
            let over = names.iter().map(replaced).collect();
            let (writer, overlaps) = (Worker::new("test"), Overlaps::none());
            Self { _dir: dir, store, writer, overlaps, over }
        }

        fn begin(&mut self) {
            let over = self.over.clone().into_iter();
            self.overlaps.begin(over, &self.store, &mut self.writer);
        }

        /// Waits for one, and lets the next begin.
        async fn one(&mut self) -> (Over, Option<Outcome>) {
            let (over, outcome) = self.overlaps.done().await;
            self.overlaps.ended(outcome.as_ref());
            self.overlaps.next(&self.store, &mut self.writer);
            (over, outcome)
        }
    }

    #[tokio::test]
    async fn one_is_under_way_at_a_time_and_in_order() {
        let mut keys = Keys::of(&["carol", "alice", "bob"]);
        let (hold, held) = channel::<()>();
        keys.writer.give(move || {
            let _ = held.recv();
        });
        keys.begin();
        assert_eq!(keys.overlaps.left, &keys.over[1..]);
        let all = std::mem::replace(&mut keys.over, vec![Over::Server(NOW)]);
        keys.begin();
        assert_eq!(keys.overlaps.left, &all[1..], "it is at them already");
        drop(hold);
        for (number, wanted) in all.iter().enumerate() {
            let (over, outcome) = keys.one().await;
            assert!(over == *wanted && matches!(outcome, Some(Ok(_))), "{over:?} {outcome:?}");
            assert_eq!(keys.overlaps.left.len(), all.len().saturating_sub(number + 2));
        }
        assert!(keys.overlaps.under_way.is_none());
        let Over::Client(name, _) = &all[0] else { panic!() };
        assert!(keys.store.client(name).unwrap().former.is_none());
    }

    #[tokio::test]
    async fn whoever_holds_the_lock_is_waited_for_until_the_next_tick() {
        let mut keys = Keys::of(&["alice", "bob"]);
        let lock = std::fs::File::open(keys.store.dir().join("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        keys.begin();
        let (_, outcome) = keys.one().await;
        assert!(matches!(outcome, Some(Err(StoreError::Locked(_)))), "{outcome:?}");
        assert!(keys.overlaps.under_way.is_none() && keys.overlaps.left.is_empty());
        drop(lock);
        keys.begin();
        for _ in 0..2 {
            let (_, outcome) = keys.one().await;
            assert!(matches!(outcome, Some(Ok(_))), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn with_a_thread_that_has_ended_they_are_left_for_the_next_tick() {
        let mut keys = Keys::of(&["alice", "bob"]);
        keys.writer.give(|| panic!("as a thread that ends"));
        loop {
            keys.begin();
            // It may have ended before it was given anything.
            if keys.overlaps.under_way.is_none() {
                continue;
            }
            match keys.one().await {
                (_, None) => assert!(keys.overlaps.left.is_empty()),
                (over, outcome) => {
                    assert!(matches!(outcome, Some(Ok(_))), "{outcome:?}");
                    assert_eq!(over, keys.over[0], "by another thread, all of them");
                    assert_eq!(keys.one().await.0, keys.over[1]);
                    return;
                }
            }
        }
    }

    #[tokio::test]
    async fn why_they_stay_is_said_once_of_each() {
        let mut keys = Keys::of(&["alice", "bob"]);
        let [alice, bob] = [0, 1].map(|at| keys.over[at].clone());
        let (full, locked) =
            (StoreError::NoOverlap(String::new()), StoreError::Locked("lock".into()));
        assert!(keys.overlaps.is_news(&alice, &full));
        assert!(!keys.overlaps.is_news(&alice, &full));
        assert!(keys.overlaps.is_news(&bob, &full), "of each");
        assert!(keys.overlaps.is_news(&alice, &locked), "another reason");
        keys.over = vec![bob.clone()];
        keys.begin();
        assert!(keys.overlaps.is_news(&alice, &locked), "it had gone well meanwhile");
        assert!(!keys.overlaps.is_news(&bob, &full));
    }
}
