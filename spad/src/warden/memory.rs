//! What must not be forgotten, put together: the replay rules, the journal
//! behind them and the lease behind that (protocol §7).

use spa_keys::ClientRecord;
use spa_proto::{
    Floor, History, Kid, Lease, Monotonic, Nonce, Reason, Replay, ServerPublic, Timestamp,
    Tolerance, VerifiedKnock,
};
use tracing::{info, warn};

use super::copying::{Copying, FEW, MARGIN};
use super::renewal::{Renewals, Written};
use crate::clock::Reading;
use crate::config::Config;
use crate::control::report;
use crate::grants::{Grant, Ledger};
use crate::journal::{self, BootId, Found, Journal, JournalError, LeaseFile, Record, Snapshot};
use crate::sessions::Session;

/// The memory of a running daemon.
pub(super) struct Memory {
    replay: Replay,
    journal: Journal,
    lease: Lease,
    renewals: Renewals,
    /// Why the lease could not be written last time.
    fault: Option<String>,
    tolerance: Tolerance,
    /// When the newest of all records was made that this process has heard of.
    newest: Timestamp,
    last: Reading,
    /// Whether the journal does not know all: a raised floor, or an entry that
    /// could not be written.
    outdated: bool,
    /// What was used, and is going to be written with the grants that it is for.
    unwritten: Vec<Record>,
    /// What is to be copied to the journal's successor, if there is one.
    copying: Option<Copying>,
    /// A copy that was given up is not tried again before the journal is full.
    uncopied: bool,
}

impl Memory {
    /// Opens journal and lease. Also returns the grants and sessions that the journal knows.
    pub(super) fn open(
        config: &Config,
        server: ServerPublic,
        now: Reading,
    ) -> Result<(Self, Vec<Record>), JournalError> {
        let (journal, found) = Journal::open(&config.run_dir, server, BootId::current()?)?;
        let (file, horizon) = LeaseFile::open(&config.state_dir, server)?;
        let (replay, grants) = match found {
            Some(Found { replay, grants, sessions }) => {
                (replay, grants.into_values().chain(sessions.into_values()).collect())
            }
            None => (Replay::new(another_start(horizon, config.tolerance, now)), Vec::new()),
        };
        if !journal.is_on_tmpfs() {
            warn!(run_dir = %config.run_dir.display(), "the run directory is not on a tmpfs: if its file \
                system is rolled back while the machine runs, knocks from before could be used again");
        }
        let lease = Lease::found(horizon, now.clock);
        let tolerance = config.tolerance;
        let memory = Self {
            replay,
            journal,
            lease,
            renewals: Renewals::of(file),
            fault: None,
            tolerance,
            newest: Timestamp::ZERO,
            last: now,
            outdated: false,
            unwritten: Vec::new(),
            copying: None,
            uncopied: false,
        };
        Ok((memory, grants))
    }

    /// Writes a new journal of what is known, and tries the lease: a disk that
    /// does not take it is told now, not at the first knock.
    pub(super) fn begin(&mut self, ledger: &Ledger, now: Reading) -> Result<(), JournalError> {
        self.rewrite(ledger)?;
        if let Some(written) = self.renewals.write(self.lease.horizon()) {
            self.lease_written(written, now.clock);
        }
        Ok(())
    }

    pub(super) fn set_tolerance(&mut self, tolerance: Tolerance) {
        self.tolerance = tolerance;
    }

    /// There are clients whose records were made at or before this time.
    pub(super) fn knows(&mut self, newest: Timestamp) {
        self.newest = self.newest.max(newest);
    }

    /// The histories, for a gatekeeper that has just started.
    pub(super) fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Step 11: test and set. Whether the knock may be used, and from now on
    /// it is used, whatever becomes of it. It is in the journal when the next
    /// entry is: [`Self::note_grants`], or [`Self::write_down`].
    pub(super) fn use_up(
        &mut self,
        knock: &VerifiedKnock,
        record: &ClientRecord,
        ledger: &Ledger,
        now: Reading,
    ) -> Result<(), Reason> {
        let used = Used { kid: knock.kid(), time: knock.time(), nonce: knock.nonce() };
        self.test_and_set(used, (!record.knocked).then_some(record.created), ledger, now)
    }

    /// `fresh` says when the record was made of a client that has never knocked before.
    fn test_and_set(
        &mut self,
        used: Used,
        fresh: Option<Timestamp>,
        ledger: &Ledger,
        now: Reading,
    ) -> Result<(), Reason> {
        self.look_at_clocks(now);
        let Used { kid, time, nonce } = used;
        let first = fresh.is_some_and(|created| self.replay.floor().exempts(created));
        self.replay.judge(&kid, time, nonce, first, now.clock)?;
        self.cover(time, now)?;
        if first && self.replay.history(&kid).is_none() {
            let record = Record::History { kid, floor: Timestamp::ZERO, complete: true };
            self.append(&[record], ledger)?;
            self.replay.restore(kid, History::complete());
        }
        self.unwritten.push(Record::Used { kid, time, nonce });
        self.replay.record(kid, time, nonce);
        Ok(())
    }

    /// Writes down what was used in vain. Where that fails, nothing is granted
    /// before it is made good.
    pub(super) fn write_down(&mut self, ledger: &Ledger) {
        if !self.unwritten.is_empty() {
            let _ = self.append(&[], ledger);
        }
    }

    /// Writes down that grants are in force until their ends.
    pub(super) fn note_grants(&mut self, grants: &[Grant], ledger: &Ledger) -> Result<(), Reason> {
        self.append(&grants.iter().map(entry).collect::<Vec<_>>(), ledger)
    }

    /// Writes down that it did not come to that: what was in force before still is.
    pub(super) fn note_refused(&mut self, grants: &[Grant], ledger: &Ledger) {
        let now = |&Grant { id, .. }: &Grant| ledger.get(id).map_or(Record::Ended { id }, entry);
        let _ = self.append(&grants.iter().map(now).collect::<Vec<_>>(), ledger);
    }

    /// Writes down that grants were ended early. A failure only means that a
    /// restart looks for elements which are not there any more.
    pub(super) fn note_ended(&mut self, grants: &[Grant], ledger: &Ledger) {
        let ended = |grant: &Grant| Record::Ended { id: grant.id };
        let _ = self.append(&grants.iter().map(ended).collect::<Vec<_>>(), ledger);
    }

    /// Writes down that a connection was made through a grant, or has ended.
    /// Without it a restart does not know whose the connection is.
    pub(super) fn note_session(&mut self, session: &Session, open: bool, ledger: &Ledger) {
        let record = if open { opened(session) } else { Record::Closed { ends: session.ends } };
        let _ = self.append(&[record], ledger);
    }

    /// Adds entries to the journal. One that is full, or does not know all, is
    /// written anew first: where that fails, nothing is granted. Whatever was
    /// added before is in `replay` and `ledger` by now, from which is copied.
    fn append(&mut self, records: &[Record], ledger: &Ledger) -> Result<(), Reason> {
        let mut all = std::mem::take(&mut self.unwritten);
        all.extend_from_slice(records);
        let full = usize::try_from(self.journal.left()).is_ok_and(|left| left < all.len());
        let written = if self.outdated || full {
            // It has what was used, and nothing of what is over, of which there may be more
            // than it has room for.
            let over =
                |record: &&Record| matches!(record, Record::Ended { .. } | Record::Closed { .. });
            let rest: Vec<_> = records.iter().filter(|record| !over(record)).cloned().collect();
            self.rewrite(ledger).and_then(|()| self.journal.append(&rest))
        } else {
            self.copy_some(all.len(), ledger);
            self.journal.append(&all)
        };
        all.clear();
        self.unwritten = all;
        written.map_err(|error| {
            self.outdated = true;
            warn!(%error, "the journal cannot be written: no knock is granted");
            Reason::NotDurable
        })
    }

    fn rewrite(&mut self, ledger: &Ledger) -> Result<(), JournalError> {
        self.copying = None;
        self.unwritten.clear();
        let grants = ledger.iter().map(entry).chain(ledger.sessions.iter().map(opened)).collect();
        self.journal.begin(&Snapshot { replay: &self.replay, grants })?;
        (self.outdated, self.uncopied) = (false, false);
        Ok(())
    }

    /// Before the journal is full, a successor is filled beside it, a little with
    /// each entry. Where that fails, this one is written anew when it is full.
    fn copy_some(&mut self, added: usize, ledger: &Ledger) {
        let Some(mut copying) = self.copying.take() else { return self.begin_copying(ledger) };
        let records = copying.next(added, &self.replay, ledger);
        let copied = self.journal.copy(&records, added);
        let copied = match copying.is_done() {
            true => copied.and_then(|()| self.journal.succeed()),
            false => copied.map(|()| self.copying = Some(copying)),
        };
        self.give_up_on(copied);
    }

    fn give_up_on(&mut self, copied: Result<(), JournalError>) {
        if let Err(error) = copied {
            warn!(%error, "the journal's successor cannot be written");
            self.uncopied = true;
        }
    }

    fn begin_copying(&mut self, ledger: &Ledger) {
        let others = ledger.len() + ledger.sessions.len();
        let things = self.replay.clients() + others;
        let added = Copying::takes(things);
        if things < FEW || self.uncopied || self.journal.left() > added.saturating_add(MARGIN) {
            return;
        }
        let of_clients = self.replay.histories().map(|(_, history)| journal::past_len(history));
        let entries = u64::try_from(of_clients.sum::<usize>() + others).unwrap_or(u64::MAX);
        let entries = entries.saturating_add(MARGIN);
        let begun = self.journal.begin_successor(entries, added, self.replay.floor());
        self.copying = begun.is_ok().then(|| Copying::all(&self.replay, ledger));
        self.give_up_on(begun);
    }

    /// Sees to it that the lease on disk reaches to `time`. Beyond it, the
    /// knock waits for the disk: for the renewal that is on its way, and where
    /// that is not enough for another; but all others wait with it, so not for a
    /// disk that hangs.
    fn cover(&mut self, time: Timestamp, now: Reading) -> Result<(), Reason> {
        self.wait_for_lease(time, now.clock);
        if !self.covers(time) {
            self.begin_lease(self.lease.stretched(time, self.tolerance), now.clock);
            self.wait_for_lease(time, now.clock);
        }
        if self.covers(time) { Ok(()) } else { Err(Reason::NotDurable) }
    }

    fn wait_for_lease(&mut self, time: Timestamp, clock: Monotonic) {
        if !self.covers(time)
            && let Some(written) = self.renewals.wait()
        {
            self.lease_written(written, clock);
        }
    }

    fn covers(&self, time: Timestamp) -> bool {
        self.fault.is_none() && self.lease.covers(time)
    }

    fn begin_lease(&mut self, horizon: Timestamp, clock: Monotonic) {
        if let Some(written) = self.renewals.begin(horizon) {
            self.lease_written(written, clock);
        }
    }

    /// Begins to renew the lease, off the path of knocks: [`Self::renewed`] says
    /// what becomes of it.
    pub(super) fn renew(&mut self, now: Reading) {
        self.begin_lease(self.lease.next(now.wall, now.clock, self.tolerance), now.clock);
    }

    /// Sleeps until a renewal that was begun has ended: then
    /// [`Self::lease_written`] must be called.
    pub(super) async fn renewed(&mut self) -> Written {
        self.renewals.written().await
    }

    /// Takes note of what became of a write.
    pub(super) fn lease_written(&mut self, (horizon, written): Written, clock: Monotonic) {
        match written {
            Ok(()) => {
                self.lease.renewed(horizon, clock);
                if self.fault.take().is_some() {
                    info!("the lease can be written again: knocks are granted");
                }
            }
            Err(error) => {
                if self.fault.replace(error.to_string()).is_none() {
                    warn!(%error, "no knock is granted until the lease can be written: make room, or make it writable");
                }
            }
        }
    }

    /// Rule R5: a wall clock that moved against monotonic time while the
    /// machine was suspended may mean that the machine was rolled back.
    pub(super) fn look_at_clocks(&mut self, now: Reading) {
        let moved = now.jumped_in_suspend(&self.last);
        self.last = now;
        if moved {
            self.start_over("the clock jumped while the machine was suspended", now);
        }
    }

    /// What was used since some earlier moment may be forgotten: from now on
    /// only what cannot be a replay is granted.
    pub(super) fn start_over(&mut self, why: &str, now: Reading) {
        warn!(why, "treated as a start without journal: knocks are refused for a minute");
        let floor = another_start(self.lease.horizon(), self.tolerance, now);
        // The clock may have been ahead when a record was made.
        let known = Some(self.newest.max(now.wall));
        self.replay.set_floor(Floor { known, ..floor });
        // The journal must know before anything more is granted: the next
        // entry sees to it.
        self.outdated = true;
    }

    /// Writes the journal anew where the ledger says otherwise than it does.
    pub(super) fn write_anew(&mut self, ledger: &Ledger) {
        self.outdated = true;
        self.catch_up(ledger);
    }

    /// Writes a raised floor to the journal, if it does not have it yet.
    pub(super) fn catch_up(&mut self, ledger: &Ledger) {
        if self.outdated
            && let Err(error) = self.rewrite(ledger)
        {
            warn!(%error, "the journal cannot be written: nothing is granted");
        }
    }

    pub(super) fn report(&self, now: Reading) -> report::Journal {
        let fault = self.fault.clone().or_else(|| self.renewals.fault());
        let ahead = |time: Timestamp| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        report::Journal {
            durable: fault.is_none(),
            on_tmpfs: self.journal.is_on_tmpfs(),
            lease_ms: ahead(self.lease.horizon()).saturating_sub(ahead(now.wall)),
            fault,
        }
    }
}

/// The identity of a knock.
#[derive(Clone, Copy)]
struct Used {
    kid: Kid,
    time: Timestamp,
    nonce: Nonce,
}

fn another_start(lease: Timestamp, tolerance: Tolerance, now: Reading) -> Floor {
    Floor::at_start(lease, now.wall, now.clock, tolerance)
}

pub(super) fn entry(grant: &Grant) -> Record {
    let &Grant { id, kid, element, since, ends, told, .. } = grant;
    Record::Grant { id, kid, element, since, ends, told }
}

pub(super) fn opened(session: &Session) -> Record {
    let &Session { grant, kid, service, ends, began, .. } = session;
    Record::Session { grant, kid, service, ends, began }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::{Element, Terms};
    use crate::sessions::Ends;
    use crate::warden::gatehouse::BATCH;
    use spa_proto::{Prefix, Protocol, Services};
    use std::collections::{BTreeMap, HashMap};
    use std::net::Ipv4Addr;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);
    const SERVER: ServerPublic = ServerPublic::from_bytes([1; 32]);
    const CLIENTS: u32 = 300;
    /// Of a client that has never knocked.
    const NEW: Option<Timestamp> = Some(Timestamp::ZERO);

    fn opened_in(dir: &Path) -> (Memory, Vec<Record>) {
        let text = format!(
            "run-dir = \"{0}\"\nstate-dir = \"{0}\"\n[service.ssh]\nport = 22\n",
            dir.display()
        );
        std::fs::write(dir.join("spad.toml"), text).unwrap();
        let config = Config::load(&dir.join("spad.toml")).unwrap();
        let (mut memory, found) = Memory::open(&config, SERVER, Reading::now()).unwrap();
        memory.renewals.patience = Duration::from_secs(60);
        (memory, found)
    }

    fn used(client: u32, number: u32, now: Reading) -> Used {
        let mut kid = [0; 16];
        kid[..4].copy_from_slice(&client.to_be_bytes());
        let mut nonce = [0; 16];
        nonce[..4].copy_from_slice(&number.to_be_bytes());
        let time = now.wall.plus(Duration::from_millis(number.into()));
        Used { kid: Kid::from_bytes(kid), time, nonce: Nonce::from_bytes(nonce) }
    }

    #[test]
    fn a_knock_beyond_the_lease_waits_for_the_renewal_that_is_on_its_way() {
        let dir = tempfile::tempdir().unwrap();
        let (mut memory, _) = opened_in(dir.path());
        let (ledger, now) = (Ledger::default(), Reading::now());
        memory.begin(&ledger, now).unwrap();
        for hours in 1..20 {
            let mut used = used(1, hours, now);
            used.time = now.wall.plus(Duration::from_secs(u64::from(hours) * 3600));
            // The clock was set, and nobody has told the lease yet.
            memory.renew(now);
            assert_eq!(memory.test_and_set(used, NEW, &ledger, now), Ok(()));
            let on_disk = LeaseFile::open(dir.path(), SERVER).unwrap().1;
            assert!(on_disk >= used.time, "{hours}");
        }
    }

    #[test]
    fn a_knock_beyond_the_lease_does_not_wait_for_a_disk_that_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let (mut memory, _) = opened_in(dir.path());
        let (ledger, now) = (Ledger::default(), Reading::now());
        memory.begin(&ledger, now).unwrap();
        memory.test_and_set(used(1, 0, now), NEW, &ledger, now).unwrap();
        memory.renewals.patience = Duration::from_millis(10);
        let lease = dir.path().join(format!("lease-{}", &SERVER.to_string()[..16]));
        let held = lease.with_extension("held");
        std::fs::rename(&lease, &held).unwrap();
        // Whoever opens it to write waits until somebody reads.
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &lease, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let beyond = Used { time: now.wall.plus(Duration::from_secs(3600)), ..used(1, 1, now) };
        let (is_over, over) = std::sync::mpsc::channel::<()>();
        let rescue = std::thread::spawn({
            let lease = lease.clone();
            // A daemon that waits is not to wait for ever here.
            move || {
                let waited = over.recv_timeout(Duration::from_secs(20)).is_err();
                (waited, std::fs::File::open(lease).unwrap())
            }
        });
        memory.renew(now);
        for number in 1..4 {
            let refused = memory.test_and_set(beyond, NEW, &ledger, now);
            assert_eq!(refused, Err(Reason::NotDurable));
            assert!(!memory.report(now).durable);
            let within = used(2, number, now);
            assert_eq!(memory.test_and_set(within, NEW, &ledger, now), Ok(()), "{number}");
        }
        is_over.send(()).unwrap();
        let (waited, _reader) = rescue.join().unwrap();
        assert!(!waited);
        std::fs::rename(&held, &lease).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while memory.test_and_set(beyond, NEW, &ledger, now).is_err() {
            assert!(std::time::Instant::now() < until, "served again once the disk answers");
        }
        assert!(memory.report(now).durable);
    }

    #[test]
    fn a_client_that_had_not_knocked_may_have_when_the_machine_was_rolled_back() {
        let dir = tempfile::tempdir().unwrap();
        let (mut memory, _) = opened_in(dir.path());
        let (ledger, now) = (Ledger::default(), Reading::now());
        // As if it had been made under a clock that was an hour ahead.
        let (known, later) = (now.wall.plus(HOUR), now.wall.plus(HOUR * 2));
        memory.knows(known);
        memory.begin(&ledger, now).unwrap();
        memory.start_over("rolled back", now);
        let ask = |memory: &mut Memory, client, fresh, time| {
            memory.test_and_set(Used { time, ..used(client, client, now) }, fresh, &ledger, now)
        };
        for fresh in [NEW, Some(now.wall), Some(known)] {
            assert_eq!(ask(&mut memory, 1, fresh, now.wall), Err(Reason::BeforeStart));
        }
        assert_eq!(ask(&mut memory, 2, Some(later), now.wall), Ok(()), "made since");
        memory.catch_up(&ledger);
        drop(memory);

        let (mut memory, _) = opened_in(dir.path());
        assert_eq!(ask(&mut memory, 1, Some(known), now.wall), Err(Reason::BeforeStart), "still");
        assert_eq!(ask(&mut memory, 3, Some(later), now.wall), Ok(()), "made since");
        // Above G it is served, and what is not above stays refused.
        let above = memory.replay.floor().hard.max(now.wall.plus(HOUR));
        memory.begin(&ledger, now).unwrap();
        assert_eq!(ask(&mut memory, 1, Some(known), above.plus(HOUR)), Ok(()));
        assert_eq!(ask(&mut memory, 4, Some(known), now.wall), Err(Reason::BeforeStart));
        let again = Used { time: now.wall, ..used(1, 9, now) };
        assert_eq!(memory.test_and_set(again, None, &ledger, now), Err(Reason::BeforeStart));
    }

    #[test]
    fn more_can_end_at_once_than_a_new_journal_has_room_for() {
        let dir = tempfile::tempdir().unwrap();
        let (mut memory, _) = opened_in(dir.path());
        let mut life = Life { ledger: Ledger::default(), number: 1000, now: Reading::now() };
        for source in 0..2000 {
            let grant = life.grant(used(1, 1, life.now).kid, source);
            life.ledger.put(grant);
        }
        memory.begin(&life.ledger, life.now).unwrap();
        // Whether it fits in what is left, or does not.
        for count in [1500, 500] {
            let last = life.ledger.iter().nth(count - 1).unwrap().id;
            let (ended, _) = life.ledger.end(life.now.clock, |grant| grant.id <= last);
            assert_eq!(ended.len(), count);
            let filler = vec![Record::Ended { id: 0 }; left(&memory) % 600];
            memory.journal.append(&filler).unwrap();
            memory.note_ended(&ended, &life.ledger);
            assert!(!memory.outdated);
        }
        let session = Session::through(
            &life.grant(used(1, 1, life.now).kid, 1),
            Ends {
                protocol: Protocol::Tcp,
                source: (Ipv4Addr::LOCALHOST, 1).into(),
                destination: (Ipv4Addr::LOCALHOST, 22).into(),
            },
            life.now.wall,
        );
        let filler = vec![Record::Ended { id: 0 }; left(&memory)];
        memory.journal.append(&filler).unwrap();
        memory.note_session(&session, true, &life.ledger);
        drop(memory);
        assert_eq!(opened_in(dir.path()).1, [opened(&session)]);
    }

    /// As many as come together at most: the successor is there before they do not fit,
    /// unless there is so little that it is all written anew.
    #[test]
    fn the_largest_batches_never_find_the_journal_full() {
        let grants = BATCH * Services::MAX;
        for others in [0, 600, 3000] {
            let dir = tempfile::tempdir().unwrap();
            let (mut memory, _) = opened_in(dir.path());
            let mut life = Life { ledger: Ledger::default(), number: 1000, now: Reading::now() };
            let kid = used(1, 1, life.now).kid;
            for source in 0..u32::try_from(grants).unwrap().max(others) {
                let grant = life.grant(kid, source);
                life.ledger.put(grant);
            }
            memory.begin(&life.ledger, life.now).unwrap();
            let some: Vec<_> = life.ledger.iter().take(grants).cloned().collect();
            let mut copies = 0;
            for number in 0..60 {
                (0..u32::try_from(BATCH).unwrap()).for_each(|client| {
                    let used = used(client, number, life.now);
                    memory.test_and_set(used, NEW, &life.ledger, life.now).unwrap();
                });
                let before = journal_in(dir.path());
                let few = life.ledger.len() + BATCH < FEW;
                let fit = left(&memory) >= BATCH + grants;
                assert!(few || fit, "{others} others, {number} batches");
                memory.note_grants(&some, &life.ledger).unwrap();
                copies += u32::from(journal_in(dir.path()) != before);
            }
            assert!(copies > 1, "{others} {copies}");
        }
    }

    /// Everything that a daemon does to its memory, again and again.
    struct Life {
        ledger: Ledger,
        number: u32,
        now: Reading,
    }

    impl Life {
        fn knock(&mut self, memory: &mut Memory) {
            self.number += 1;
            let client = self.number.wrapping_mul(2_654_435_761) % CLIENTS;
            let used = used(client, self.number, self.now);
            memory.test_and_set(used, NEW, &self.ledger, self.now).unwrap();
            let grants = [client, client + CLIENTS].map(|source| self.grant(used.kid, source));
            memory.note_grants(&grants, &self.ledger).unwrap();
            match self.number % 7 {
                0 => memory.note_refused(&grants, &self.ledger),
                _ => grants.into_iter().for_each(|grant| self.ledger.put(grant)),
            }
            if self.number.is_multiple_of(5) {
                let (ended, _) = self.ledger.end(self.now.clock, |grant| grant.kid == used.kid);
                memory.note_ended(&ended, &self.ledger);
            }
            self.connect(memory, client);
        }

        fn grant(&mut self, kid: Kid, source: u32) -> Grant {
            let element = Element {
                service: "ssh".parse().unwrap(),
                source: Prefix::of(Ipv4Addr::from(source).into(), 32),
                destination: None,
                terms: Terms::Window,
            };
            let ends = self.now.clock.plus(Duration::from_secs(u64::from(self.number)));
            self.ledger.prepare(&"alice".parse().unwrap(), kid, element, self.now.clock, ends)
        }

        fn connect(&mut self, memory: &mut Memory, client: u32) {
            let from = |port| (Ipv4Addr::from(client), port).into();
            let ends = Ends { protocol: Protocol::Tcp, source: from(9), destination: from(22) };
            if let Some(session) = self.ledger.sessions.close(&ends) {
                memory.note_session(&session, false, &self.ledger);
            } else {
                let Some(grant) = self.ledger.iter().next() else { return };
                let session = Session::through(grant, ends, self.now.wall);
                memory.note_session(&session, true, &self.ledger);
                self.ledger.sessions.open(session);
            }
        }

        fn records(&self) -> BTreeMap<String, Record> {
            let grants = self.ledger.iter().map(entry);
            keyed(grants.chain(self.ledger.sessions.iter().map(opened)))
        }
    }

    fn keyed(records: impl Iterator<Item = Record>) -> BTreeMap<String, Record> {
        let key = |record: &Record| match record {
            Record::Session { ends, .. } => format!("{ends:?}"),
            Record::Grant { id, .. } => id.to_string(),
            other => panic!("{other:?}"),
        };
        records.map(|record| (key(&record), record)).collect()
    }

    #[test]
    fn nothing_is_lost_while_the_journal_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (mut memory, _) = opened_in(dir.path());
        let mut now = Reading::now();
        // As exact as it is written down.
        now.clock = Monotonic::new(Duration::from_secs(now.clock.as_duration().as_secs()));
        let mut life = Life { ledger: Ledger::default(), number: 0, now };
        memory.begin(&life.ledger, life.now).unwrap();
        let (mut copies, mut torn) = (0, 0);
        // Ends of the process at all kinds of moments, also in the middle of a copy.
        for knocks in (1..1500).step_by(97).chain([3000]) {
            for _ in 0..knocks {
                let before = journal_in(dir.path());
                life.knock(&mut memory);
                copies += u32::from(journal_in(dir.path()) != before);
            }
            torn += u32::from(memory.copying.is_some());
            let (histories, floor) = (histories(&memory), memory.replay.floor().hard);
            drop(memory);
            let remembered;
            (memory, remembered) = opened_in(dir.path());
            assert!(self::histories(&memory) == histories, "after {knocks} more");
            assert_eq!(memory.replay.floor().hard, floor);
            assert!(keyed(remembered.into_iter()) == life.records(), "after {knocks} more");
            memory.begin(&life.ledger, life.now).unwrap();
        }
        assert!(copies > 10 && torn > 0, "{copies} {torn}");
    }

    #[test]
    fn a_successor_gets_its_room_with_what_is_added_however_much_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut memory, _) = opened_in(dir.path());
        let mut life = Life { ledger: Ledger::default(), number: 1000, now: Reading::now() };
        for source in 0..4000 {
            let grant = life.grant(used(1, 1, life.now).kid, source);
            life.ledger.put(grant);
        }
        memory.begin(&life.ledger, life.now).unwrap();
        let (first, mut left) = (journal_in(dir.path()), None);
        let some: Vec<_> = life.ledger.iter().take(32).cloned().collect();
        while journal_in(dir.path()) == first {
            memory.note_grants(&some, &life.ledger).unwrap();
            let fresh = std::fs::metadata(journal(dir.path()).with_extension("new"));
            left = fresh
                .map(|it| it.len().saturating_sub(it.blocks() * 512) * 10 / it.len())
                .ok()
                .or(left);
        }
        assert_eq!(left, Some(0), "tenths, before it takes over");
    }

    fn left(memory: &Memory) -> usize {
        usize::try_from(memory.journal.left()).unwrap()
    }

    fn histories(memory: &Memory) -> HashMap<Kid, History> {
        // In the order of the time: the order within a ring means nothing.
        let sorted = |(kid, history): (&Kid, &History)| {
            let mut same = History::restored(history.floor(), history.is_complete());
            let mut used = history.used().to_vec();
            used.sort_by_key(|(time, _)| *time);
            used.into_iter().for_each(|(time, nonce)| same.record(time, nonce));
            (*kid, same)
        };
        memory.replay.histories().map(sorted).collect()
    }

    fn journal(dir: &Path) -> PathBuf {
        dir.join(format!("journal-{}", &SERVER.to_string()[..16]))
    }

    fn journal_in(dir: &Path) -> u64 {
        std::fs::metadata(journal(dir)).unwrap().ino()
    }
}
