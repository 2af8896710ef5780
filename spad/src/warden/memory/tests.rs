use super::*;
use crate::firewall::{Element, Terms};
use crate::sessions::Ends;
use crate::warden::copying::FEW;
use crate::warden::gatehouse::BATCH;
use spa_proto::{Monotonic, Prefix, Protocol, Services};
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

impl Memory {
    /// Step 11, of a knock that nobody has to make first.
    fn test_and_set(
        &mut self,
        used: Used,
        fresh: Option<Timestamp>,
        ledger: &Ledger,
        now: Reading,
    ) -> Result<(), Reason> {
        let unused = self.test(used, fresh, now)?;
        self.use_up(unused, ledger, now)
    }
}

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
fn a_slow_disk_takes_nothing_of_the_leases_reach() {
    let dir = tempfile::tempdir().unwrap();
    let (mut memory, _) = opened_in(dir.path());
    let (ledger, mut now) = (Ledger::default(), Reading::now());
    memory.begin(&ledger, now).unwrap();
    memory.test_and_set(used(1, 0, now), NEW, &ledger, now).unwrap();
    let reach = memory.lease.horizon().since(now.wall);
    let mut pass = |seconds| {
        let time = Duration::from_secs(seconds);
        (now.wall, now.clock) = (now.wall.plus(time), now.clock.plus(time));
        now
    };
    for renewal in 1..=200 {
        memory.renew(pass(20 - 1));
        let written = memory.renewals.wait().unwrap();
        let after = pass(1);
        memory.lease_written(written);
        let left = memory.lease.horizon().since(after.wall);
        assert_eq!(left, reach - Duration::from_secs(1), "after {renewal} renewals of a second");
    }
}

#[test]
fn a_journal_that_cannot_be_written_is_reported_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (mut memory, _) = opened_in(dir.path());
    let (ledger, now) = (Ledger::default(), Reading::now());
    memory.begin(&ledger, now).unwrap();
    let away = dir.path().with_extension("away");
    std::fs::rename(dir.path(), &away).unwrap();
    memory.write_anew(&ledger);
    let report = memory.report(now);
    assert!(!report.durable && report.fault.is_some_and(|why| why.contains("journal")));
    std::fs::rename(&away, dir.path()).unwrap();
    memory.catch_up(&ledger);
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
