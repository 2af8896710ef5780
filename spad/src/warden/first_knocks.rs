//! The first knock of each client, which is written to its record before anything is
//! granted (protocol §8, and §7, rule R4): it waits for the disk, and nobody else does.

use std::collections::HashMap;
use std::time::Duration;

use spa_keys::{ClientName, Store, StoreError};
use spa_proto::{Kid, Reason, SignedRequest, VerifyingKey};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Warden;
use super::gatehouse::BATCH;
use super::knock::Accepted;
use super::worker::Worker;
use crate::clock::Reading;
use crate::control::report;
use crate::fields::millis;
use crate::wipe;

/// How many wait at most: beyond, the disk does not answer.
const MOST: usize = 1024;
/// How long one waits before that is said.
const SLOW: Duration = Duration::from_secs(5);

/// Whose record now says that it has knocked, or why it does not.
pub(super) type Noted = (First, Result<(), StoreError>);

/// What is to be written, and to whose record.
pub(super) struct First {
    pub(super) name: ClientName,
    pub(super) kid: Kid,
    pub(super) binds: Option<VerifyingKey>,
}

/// A record that is written, or cannot be, and what waited for it.
struct Written {
    first: First,
    waited: Vec<SignedRequest>,
    refused: Option<Reason>,
}

/// Knocks that wait for their record.
pub(super) struct FirstKnocks {
    /// Of each client in the order in which they came; its record waits for the first.
    waiting: HashMap<Kid, Waiting>,
    count: usize,
    /// Since when the oldest waits.
    oldest: Option<Instant>,
    /// Whether it was said that they wait for long.
    told: bool,
    tell: UnboundedSender<Noted>,
    noted: UnboundedReceiver<Noted>,
}

/// Those of one client.
struct Waiting {
    since: Instant,
    requests: Vec<SignedRequest>,
}

impl FirstKnocks {
    pub(super) fn none() -> Self {
        let (tell, noted) = unbounded_channel();
        Self { waiting: HashMap::new(), count: 0, oldest: None, told: false, tell, noted }
    }

    /// When it is to be said that they wait for long: then [`Self::say_slow`] must be called.
    pub(super) fn slow_at(&self) -> Option<Instant> {
        self.oldest.filter(|_| !self.told).map(|since| since + SLOW)
    }

    pub(super) fn say_slow(&mut self) {
        self.told = true;
        warn!(
            waiting = self.count,
            "first knocks wait for the disk of the keys, or for somebody who holds the lock there"
        );
    }

    pub(super) fn report(&self) -> report::FirstKnocks {
        let oldest_ms = self.oldest.map_or(0, |since| millis(since.elapsed()));
        report::FirstKnocks { waiting: self.count, oldest_ms }
    }

    /// Sleeps until a record is written, or cannot be: then
    /// [`Warden::first_knocks_noted`] must be called.
    pub(super) async fn noted(&mut self) -> Noted {
        match self.noted.recv().await {
            Some(noted) => noted,
            // Never: this end has a sender too.
            None => std::future::pending().await,
        }
    }

    /// Whether a client's record is still being written.
    pub(super) fn waits(&self, kid: &Kid) -> bool {
        self.waiting.contains_key(kid)
    }

    /// Lets a knock wait for its record, and has that written.
    fn hold(
        &mut self,
        request: SignedRequest,
        first: First,
        store: &Store,
        writer: &mut Worker,
    ) -> Result<(), Reason> {
        let kid = first.kid;
        if self.count >= MOST || !(self.waits(&kid) || self.begin(first, store, writer)) {
            return Err(Reason::NotDurable);
        }
        let now = Instant::now();
        let new = || Waiting { since: now, requests: Vec::new() };
        self.waiting.entry(kid).or_insert_with(new).requests.push(request);
        self.count += 1;
        self.oldest.get_or_insert(now);
        Ok(())
    }

    fn begin(&self, first: First, store: &Store, writer: &mut Worker) -> bool {
        let (store, tell) = (store.clone(), self.tell.clone());
        writer.give(move || {
            let First { name, kid, binds } = &first;
            let written = wipe::stack_after(|| store.note_first_knock(name, kid, *binds).map(drop));
            // Whoever does not hear it any more has ended.
            let _ = tell.send((first, written));
        })
    }

    fn take(&mut self, kid: &Kid) -> Vec<SignedRequest> {
        let taken = self.waiting.remove(kid).map(|waiting| waiting.requests).unwrap_or_default();
        self.count = self.count.saturating_sub(taken.len());
        self.oldest = self.waiting.values().map(|waiting| waiting.since).min();
        if self.oldest.is_none() && std::mem::take(&mut self.told) {
            info!("no first knock waits any more");
        }
        taken
    }
}

impl Warden {
    /// A knock that has been used up, of a client that has not knocked before.
    pub(super) fn hold_first(
        &mut self,
        request: &SignedRequest,
        first: First,
    ) -> Result<(), Reason> {
        let store = self.clients.store();
        self.first_knocks.hold(request.clone(), first, store, &mut self.writer)?;
        // Nothing that is granted writes it down with itself.
        self.memory.write_down(&self.ledger);
        Ok(())
    }

    /// Opens what waited for these records, and some others that are written by now.
    pub(super) fn first_knocks_noted(&mut self, first: Noted) {
        let mut noted = vec![first];
        while noted.len() < BATCH
            && let Ok(next) = self.first_knocks.noted.try_recv()
        {
            noted.push(next);
        }
        // All records before the first decision: what ends with one that was disabled, or is
        // gone, are grants, and what is about to be opened is none yet.
        let written: Vec<_> =
            noted.into_iter().map(|(first, written)| self.look_again(first, written)).collect();
        let accepted: Vec<_> = written.iter().flat_map(|one| self.decide_all(one)).collect();
        accepted.chunks(BATCH).for_each(|some| self.open(some));
        drop(written);
        wipe::stack();
    }

    /// Takes what waited for a record, and looks at that as it is on the disk.
    fn look_again(&mut self, first: First, written: Result<(), StoreError>) -> Written {
        let First { name, kid, binds } = &first;
        let waited = self.first_knocks.take(kid);
        let refused = match written {
            Ok(()) => {
                if binds.is_some() {
                    self.audit.enrolled(name, *kid, waited.first().map(SignedRequest::arrival));
                }
                let differences = self.clients.look_at(name);
                self.follow(differences);
                None
            }
            Err(error) => {
                warn!(client = %name, %error, "first knock not granted: it could not be written down");
                Some(why(&error))
            }
        };
        Written { first, waited, refused }
    }

    /// Of one client. By now it may have been revoked, or have other rights, so each of
    /// its knocks is decided on as if it came now, with the record as it is on the disk;
    /// but that it was used stays as it was. What may have been granted before the machine
    /// was rolled back is not granted again.
    fn decide_all(&mut self, Written { first, waited, refused }: &Written) -> Vec<Accepted> {
        let (mut accepted, at) = (Vec::new(), Reading::now());
        for (number, request) in waited.iter().enumerate() {
            let enrolled = number == 0 && first.binds.is_some();
            match refused.map_or_else(|| self.decide_again(request, enrolled, at), Err) {
                Ok(one) => accepted.push(one),
                Err(reason) => self.turn_down(first.kid, request.arrival(), reason, at),
            }
        }
        accepted
    }

    fn decide_again(
        &mut self,
        request: &SignedRequest,
        enrolled: bool,
        at: Reading,
    ) -> Result<Accepted, Reason> {
        let (knock, record) = self.verified(request, at)?;
        if !record.knocked {
            return Err(Reason::NoRecord);
        }
        let judgement = self.judged(&knock, &record, at)?;
        self.memory.judge_again(&knock, at)?;
        Ok(Accepted::of(request, record.name, judgement, enrolled, at))
    }
}

fn why(error: &StoreError) -> Reason {
    match error {
        // Another knock, or the administrator, was quicker.
        StoreError::Unknown(_) | StoreError::Revoked(_) | StoreError::Changed(_) => {
            Reason::NoRecord
        }
        _ => Reason::NotDurable,
    }
}
