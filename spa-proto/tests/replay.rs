//! A knock works at most once (P5, protocol §7): the rules against a memory
//! that forgets nothing, under every fault that they are made for.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use spa_proto::{Floor, History, Kid, Lease, Nonce, Reason, Replay, Timestamp, Tolerance};
use support::parties::{Clock, NOW, bytes};

const TOLERANCE: Tolerance = Tolerance::DEFAULT;
const CLIENTS: usize = 3;
/// When the clients' records were made.
const CREATED: Timestamp = Timestamp::from_millis(NOW);

/// What a machine has beside its memory.
struct Disk {
    /// Lasting: lease, and whether a record has ever been knocked with.
    horizon: Timestamp,
    knocked: [bool; CLIENTS],
    /// Gone after a power cut.
    journal: Journal,
}

/// What a restart of the process needs, and finds.
#[derive(Default)]
struct Journal {
    floor: Floor,
    histories: Vec<(Kid, History)>,
}

/// A knock somewhere on the wire.
#[derive(Clone, Copy)]
struct Knock {
    client: usize,
    ts: Timestamp,
    nonce: Nonce,
}

/// A server as the daemon puts it together from the rules.
struct Machine {
    clock: Clock,
    disk: Disk,
    replay: Replay,
    lease: Lease,
    captured: Vec<Knock>,
    /// The memory that forgets nothing.
    granted: HashSet<(usize, Nonce)>,
}

fn kid(client: usize) -> Kid {
    Kid::from_bytes(bytes("kid", client.try_into().unwrap()))
}

impl Machine {
    fn new() -> Self {
        let clock = Clock::at(NOW);
        let disk = Disk {
            horizon: Timestamp::ZERO,
            knocked: [false; CLIENTS],
            journal: Journal::default(),
        };
        let mut machine = Self {
            clock,
            replay: Replay::default(),
            lease: Lease::found(Timestamp::ZERO, clock.monotonic()),
            disk,
            captured: Vec::new(),
            granted: HashSet::new(),
        };
        machine.start(false);
        machine
    }

    /// R4.
    fn start(&mut self, journal: bool) {
        let (now, clock) = (self.clock.now(), self.clock.monotonic());
        self.lease = Lease::found(self.disk.horizon, clock);
        if !journal {
            self.replay = Replay::new(Floor::at_start(self.disk.horizon, now, clock, TOLERANCE));
            return self.journal();
        }
        self.replay = Replay::new(self.disk.journal.floor);
        for (kid, history) in &self.disk.journal.histories {
            self.replay.restore(*kid, history.clone());
        }
    }

    fn power_cut(&mut self) {
        self.clock.reboot();
        self.start(false);
    }

    /// R5: the memory is as it was, and the machine notices.
    fn roll_back(&mut self, to: Replay) {
        self.replay = to;
        let (now, clock) = (self.clock.now(), self.clock.monotonic());
        let floor = Floor::at_start(self.disk.horizon, now, clock, TOLERANCE);
        self.replay.set_floor(Floor { known: Some(now.max(CREATED)), ..floor });
        self.journal();
    }

    fn journal(&mut self) {
        let histories = self.replay.histories();
        self.disk.journal = Journal {
            floor: self.replay.floor(),
            histories: histories.map(|(kid, history)| (*kid, history.clone())).collect(),
        };
    }

    /// R3, in the background.
    fn renew(&mut self) {
        let next = self.lease.next(self.clock.now(), self.clock.monotonic(), TOLERANCE);
        self.flush(next);
    }

    fn flush(&mut self, horizon: Timestamp) {
        self.disk.horizon = horizon;
        self.lease.renewed(horizon, self.clock.monotonic());
    }

    /// A client whose clock is this far off knocks.
    fn knock(&mut self, client: usize, off: i64) -> Result<(), Reason> {
        let mut sender = self.clock;
        sender.step(off);
        let number = self.captured.len().try_into().unwrap();
        let knock =
            Knock { client, ts: sender.now(), nonce: Nonce::from_bytes(bytes("nonce", number)) };
        self.captured.push(knock);
        self.receive(knock)
    }

    /// Somebody sends a captured knock again.
    fn send_again(&mut self, number: usize) {
        if let Some(knock) = self.captured.get(number % self.captured.len().max(1)).copied() {
            let _ = self.receive(knock);
        }
    }

    /// Steps 4, 11 and 12; asserts what all this is for.
    fn receive(&mut self, knock: Knock) -> Result<(), Reason> {
        let Knock { client, ts, nonce } = knock;
        if !TOLERANCE.admits(ts, self.clock.now()) {
            return Err(Reason::Stale);
        }
        let exempt = self.replay.floor().exempts(CREATED);
        let (kid, first) = (kid(client), exempt && !self.disk.knocked[client]);
        self.replay.judge(&kid, ts, nonce, first, self.clock.monotonic())?;
        if first {
            self.replay.restore(kid, History::complete());
        }
        self.disk.knocked[client] = true;
        if !self.lease.covers(ts) {
            self.flush(self.lease.stretched(ts, TOLERANCE));
        }
        assert!(self.lease.covers(ts), "a stretched lease covers what it was stretched for");
        self.replay.record(kid, ts, nonce);
        self.journal();
        assert!(self.granted.insert((client, nonce)), "granted twice");
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Event {
    Knock {
        client: usize,
        off: i64,
    },
    SendAgain(usize),
    Pass(u64),
    Step(i64),
    Renew,
    Restart,
    PowerCut,
    RollBack,
    /// The clients' records too.
    RollBackAll,
    Remember,
    LoseLease,
}

/// What goes on without any fault.
fn usual() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => (0..CLIENTS, -30_000..=30_000i64)
            .prop_map(|(client, off)| Event::Knock { client, off }),
        10 => any::<usize>().prop_map(Event::SendAgain),
        4 => (0..5_000u64).prop_map(Event::Pass),
        1 => (5_000..70_000u64).prop_map(Event::Pass),
        2 => Just(Event::Renew),
        1 => Just(Event::Restart),
    ]
}

/// With a clock that goes anywhere; the lasting disk is honest.
fn clock_faults() -> impl Strategy<Value = Event> {
    let steps = prop_oneof![
        Just(-3_600_000),
        Just(3_600_000),
        -70_000..70_000i64,
        Just(i64::MIN / 2), // 1970
    ];
    prop_oneof![
        20 => usual(),
        1 => steps.prop_map(Event::Step),
        1 => Just(Event::PowerCut),
        1 => Just(Event::RollBack),
        1 => Just(Event::Remember),
    ]
}

/// With records that are rolled back together with the memory, and a clock that goes
/// anywhere, but no power cut on top of that.
fn rolled_back() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => usual(),
        1 => prop_oneof![Just(-3_600_000), Just(3_600_000)].prop_map(Event::Step),
        1 => Just(Event::RollBackAll),
        1 => Just(Event::Remember),
    ]
}

/// With a lease that may be lost or rolled back; the clock is right.
fn disk_faults() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => usual(),
        1 => Just(Event::PowerCut),
        1 => Just(Event::LoseLease),
        1 => Just(Event::RollBack),
        1 => Just(Event::Remember),
    ]
}

fn play(events: Vec<Event>) -> Machine {
    let mut machine = Machine::new();
    let mut remembered = (machine.replay.clone(), machine.disk.knocked);
    for event in events {
        match event {
            Event::Knock { client, off } => drop(machine.knock(client, off)),
            Event::SendAgain(number) => machine.send_again(number),
            Event::Pass(millis) => machine.clock.pass(millis),
            Event::Step(millis) => machine.clock.step(millis),
            Event::Renew => machine.renew(),
            Event::Restart => machine.start(true),
            Event::PowerCut => machine.power_cut(),
            Event::RollBack => machine.roll_back(remembered.0.clone()),
            Event::RollBackAll => {
                machine.disk.knocked = remembered.1;
                machine.roll_back(remembered.0.clone());
            }
            Event::Remember => remembered = (machine.replay.clone(), machine.disk.knocked),
            // The disk of the past: then the machine starts again from it.
            Event::LoseLease => {
                machine.disk.horizon = Timestamp::ZERO;
                machine.power_cut();
            }
        }
    }
    machine
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn never_twice_whatever_the_clock_does(
        events in prop::collection::vec(clock_faults(), 1..300),
    ) {
        play(events);
    }

    #[test]
    fn never_twice_without_the_lease(events in prop::collection::vec(disk_faults(), 1..300)) {
        play(events);
    }

    #[test]
    fn never_twice_though_the_records_are_rolled_back(
        events in prop::collection::vec(rolled_back(), 1..300),
    ) {
        play(events);
    }

    /// Without faults, whoever's clock goes forward is served.
    #[test]
    fn always_once(waits in prop::collection::vec((0..CLIENTS, 1..60_000u64), 1..100)) {
        let mut machine = Machine::new();
        for (client, wait) in waits {
            machine.clock.pass(wait);
            machine.renew();
            prop_assert_eq!(machine.knock(client, 0), Ok(()));
            machine.start(true);
        }
    }

    /// After a start without a journal, everybody is served again by the time stated.
    #[test]
    fn served_again_in_time(renewed_before in 0..100_000u64, off in -30_000..=30_000i64) {
        let mut machine = Machine::new();
        prop_assert_eq!(machine.knock(0, off), Ok(()));
        machine.renew();
        machine.clock.pass(renewed_before);
        machine.power_cut();
        let (new, old) = (machine.knock(1, off), machine.knock(0, -30_000));
        prop_assert_eq!(new, Ok(()), "a new client at once");
        prop_assert_eq!(old, Err(Reason::BeforeStart));
        machine.clock.pass(60_000);
        let beyond = machine.disk.horizon.since(machine.clock.now());
        prop_assert!(beyond <= Duration::from_secs(60));
        machine.clock.pass(u64::try_from(beyond.as_millis()).unwrap() + 1 + off.unsigned_abs());
        prop_assert_eq!(machine.knock(0, off), Ok(()));
    }
}

/// More knocks than the ring holds, in an order that is not that of their times.
#[test]
fn a_full_ring_forgets_nothing() {
    let mut machine = Machine::new();
    let off = |number: i64| (number * 7_919) % 30_000;
    let granted = (0..200).filter(|number| machine.knock(0, off(*number)).is_ok()).count();
    assert!((16..200).contains(&granted), "{granted}");
    for number in 0..200 {
        machine.send_again(number);
    }
    assert_eq!(machine.granted.len(), granted);
}

/// The faults above are no empty talk: each blocks what it should, and lets others in.
#[test]
fn a_rolled_back_machine_is_shut_to_those_it_knows() {
    let mut machine = Machine::new();
    assert_eq!(machine.knock(0, 0), Ok(()));
    let past = machine.replay.clone();
    machine.clock.pass(1000);
    assert_eq!(machine.knock(0, 0), Ok(()));
    machine.roll_back(past);
    machine.send_again(1);
    assert_eq!(machine.knock(0, 0), Err(Reason::BeforeStart));
    assert_eq!(machine.knock(1, 0), Err(Reason::BeforeStart), "it may have knocked since");
    machine.clock.pass(100_000);
    assert_eq!(machine.knock(1, 0), Ok(()));
    assert!(!machine.replay.history(&kid(1)).unwrap().is_complete(), "nor is it exempt then");
}

/// Late ones of a burst are served as long as the ring reaches back to them.
#[test]
fn a_full_ring_refuses_only_what_is_older() {
    let mut machine = Machine::new();
    for second in 0..25 {
        assert_eq!(machine.knock(0, second * 1000), Ok(()), "{second}");
    }
    assert_eq!(machine.knock(0, 8_000), Err(Reason::Replayed), "the ring is from 9 to 24");
    assert_eq!(machine.knock(0, 8_001), Ok(()));
}

/// A renewal under a wrong clock takes the lease no further than time has gone.
#[test]
fn a_clock_that_jumped_shuts_nobody_out() {
    let mut machine = Machine::new();
    assert_eq!(machine.knock(0, 0), Ok(()));
    machine.clock.step(3_600_000);
    machine.clock.pass(20_000);
    machine.renew();
    machine.clock.step(-3_600_000);
    machine.power_cut();
    machine.clock.pass(111_000);
    assert_eq!(machine.knock(0, 0), Ok(()));
}
