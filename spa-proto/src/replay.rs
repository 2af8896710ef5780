//! A knock works at most once: the exact memory behind P5 (protocol §7).
//!
//! Nothing here is forgotten because of the time. What is kept on which disk is
//! the caller's; the rules are here, on virtual clocks, where tests reach them.

use std::collections::HashMap;
use std::time::Duration;

use crate::key::{Kid, Nonce};
use crate::reason::Reason;
use crate::time::{Monotonic, Timestamp, Tolerance};

/// How many knocks of one client are remembered exactly (rule R1).
pub const RING_LEN: usize = 16;

/// What one client has used (rule R1): up to 16 knocks exactly, and a floor at
/// or under which everything counts as used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    floor: Timestamp,
    used: Vec<(Timestamp, Nonce)>,
    complete: bool,
}

impl History {
    /// Of a client that has never knocked before: all it ever uses will be here.
    #[must_use]
    pub fn complete() -> Self {
        Self { complete: true, ..Self::default() }
    }

    /// As read back from a journal.
    #[must_use]
    pub fn restored(floor: Timestamp, complete: bool) -> Self {
        Self { floor, used: Vec::new(), complete }
    }

    /// Everything at or under this time counts as used.
    #[must_use]
    pub fn floor(&self) -> Timestamp {
        self.floor
    }

    /// What is remembered exactly.
    #[must_use]
    pub fn used(&self) -> &[(Timestamp, Nonce)] {
        &self.used
    }

    /// Whether all that the client ever used is here, from its enrolment on.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Marks a knock as used; the oldest beyond 16 goes, and the floor rises to it.
    /// What a journal says twice is used once.
    pub fn record(&mut self, time: Timestamp, nonce: Nonce) {
        if self.used.contains(&(time, nonce)) {
            return;
        }
        self.used.push((time, nonce));
        while self.used.len() > RING_LEN {
            let oldest = self.used.iter().enumerate().min_by_key(|(_, (time, _))| *time);
            let Some((at, (time, _))) = oldest else { return };
            self.floor = self.floor.max(*time);
            self.used.swap_remove(at);
        }
    }

    fn has(&self, time: Timestamp, nonce: Nonce) -> bool {
        time <= self.floor || self.used.iter().any(|(_, used)| *used == nonce)
    }
}

/// `G` of rule R4: what was used before a start that found no journal is
/// unknown, and everything at or under this counts as used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// From the lease: no knock above it was ever granted. Stays.
    pub hard: Timestamp,
    /// From the clock, in case the lease was lost or rolled back. Lapses.
    pub soft: Option<(Timestamp, Monotonic)>,
    /// When the newest record was made that was known as the memory was rolled back
    /// (rule R5), which may have taken the mark of a first knock with it; `None` if
    /// it never was.
    pub known: Option<Timestamp>,
}

impl Floor {
    /// For a start without a journal. A knock granted earlier was at most
    /// `tolerance` ahead of a right clock, and is stale twice that later.
    #[must_use]
    pub fn at_start(
        lease: Timestamp,
        now: Timestamp,
        clock: Monotonic,
        tolerance: Tolerance,
    ) -> Self {
        let tolerance = tolerance.as_duration();
        let lapses = clock.plus(tolerance.saturating_mul(2));
        Self { hard: lease, soft: Some((now.plus(tolerance), lapses)), known: None }
    }

    /// Whether it is for nothing of a client whose record was made then, and has
    /// never been knocked with.
    #[must_use]
    pub fn exempts(&self, created: Timestamp) -> bool {
        self.known.is_none_or(|known| created > known)
    }

    fn blocks(&self, time: Timestamp, clock: Monotonic) -> bool {
        let soft = self.soft.is_some_and(|(floor, lapses)| clock < lapses && time <= floor);
        soft || time <= self.hard
    }
}

/// All clients' histories, and the floor of this start.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    histories: HashMap<Kid, History>,
    floor: Floor,
}

impl Replay {
    /// Nothing used yet above `floor`.
    #[must_use]
    pub fn new(floor: Floor) -> Self {
        Self { histories: HashMap::new(), floor }
    }

    /// The window becomes wider by so much: what was stale and is not any more stays below the
    /// soft floor for so much longer.
    pub fn widen(&mut self, by: Duration) {
        if let Some((_, lapses)) = &mut self.floor.soft {
            *lapses = lapses.plus(by);
        }
    }

    /// The floor of this start.
    #[must_use]
    pub fn floor(&self) -> Floor {
        self.floor
    }

    /// Raises the floor while running (rule R5).
    pub fn set_floor(&mut self, floor: Floor) {
        let soft = match (self.floor.soft, floor.soft) {
            (Some((one, lapses)), Some((other, later))) => {
                Some((one.max(other), lapses.max(later)))
            }
            (one, other) => one.or(other),
        };
        let (hard, known) = (self.floor.hard.max(floor.hard), self.floor.known.max(floor.known));
        self.floor = Floor { hard, soft, known };
        // A history that was complete may have been rolled back with the machine.
        self.histories.values_mut().for_each(|history| history.complete = false);
    }

    /// Every client's history, in no order.
    pub fn histories(&self) -> impl Iterator<Item = (&Kid, &History)> {
        self.histories.iter()
    }

    /// How many clients have a history.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.histories.len()
    }

    /// The history of one client, if it has any.
    #[must_use]
    pub fn history(&self, kid: &Kid) -> Option<&History> {
        self.histories.get(kid)
    }

    /// Puts a history in place: one read from a journal, or
    /// [`History::complete`] for a client about to knock for the first time.
    pub fn restore(&mut self, kid: Kid, history: History) {
        self.histories.insert(kid, history);
    }

    /// Whether a knock may still be used (rules R1 and R4). `first` says that
    /// the client's record has never been knocked with, and [`Floor::exempts`] it:
    /// nothing of it can be a replay, whatever was lost.
    ///
    /// # Errors
    /// [`Reason::Replayed`] or [`Reason::BeforeStart`].
    pub fn judge(
        &self,
        kid: &Kid,
        time: Timestamp,
        nonce: Nonce,
        first: bool,
        clock: Monotonic,
    ) -> Result<(), Reason> {
        let history = self.histories.get(kid);
        if history.is_some_and(|history| history.has(time, nonce)) {
            return Err(Reason::Replayed);
        }
        self.above_floor(history, time, first, clock)
    }

    /// Whether a knock that was marked as used, and then had to wait, may still be granted:
    /// the floor may have been raised meanwhile (rule R5).
    ///
    /// # Errors
    /// [`Reason::BeforeStart`].
    pub fn judge_again(&self, kid: &Kid, time: Timestamp, clock: Monotonic) -> Result<(), Reason> {
        self.above_floor(self.histories.get(kid), time, false, clock)
    }

    fn above_floor(
        &self,
        history: Option<&History>,
        time: Timestamp,
        first: bool,
        clock: Monotonic,
    ) -> Result<(), Reason> {
        let complete = first || history.is_some_and(|history| history.complete);
        if !complete && self.floor.blocks(time, clock) {
            return Err(Reason::BeforeStart);
        }
        Ok(())
    }

    /// Marks a knock as used. The journal must have it before anything is granted.
    pub fn record(&mut self, kid: Kid, time: Timestamp, nonce: Nonce) {
        self.histories.entry(kid).or_default().record(time, nonce);
    }
}

/// `H` of rule R3: a time that is on the disk already, above which nothing is
/// granted. After a crash that loses the journal, it bounds what was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    horizon: Timestamp,
    /// When that was begun.
    renewed: Monotonic,
}

/// How far beyond the newest possible knock a lease reaches.
const REACH: Duration = Duration::from_secs(60);

impl Lease {
    /// As found on the disk, or [`Timestamp::ZERO`].
    #[must_use]
    pub fn found(horizon: Timestamp, clock: Monotonic) -> Self {
        Self { horizon, renewed: clock }
    }

    /// The time itself.
    #[must_use]
    pub fn horizon(&self) -> Timestamp {
        self.horizon
    }

    /// Whether a knock of this time may be granted without waiting for a disk.
    #[must_use]
    pub fn covers(&self, time: Timestamp) -> bool {
        time <= self.horizon
    }

    /// The horizon that a renewal should write: no further ahead than
    /// monotonic time has gone since the last one began, so that a clock that jumps
    /// forward does not take the lease with it.
    #[must_use]
    pub fn next(&self, now: Timestamp, clock: Monotonic, tolerance: Tolerance) -> Timestamp {
        let earned = self.horizon.plus(clock.since(self.renewed));
        reach(now, tolerance).min(earned).max(self.horizon)
    }

    /// The horizon to write for a fully verified knock beyond it: its sender's
    /// clock vouches for the jump.
    #[must_use]
    pub fn stretched(&self, time: Timestamp, tolerance: Tolerance) -> Timestamp {
        reach(time, tolerance).max(self.horizon)
    }

    /// To be called once `horizon` is on the disk; it never goes down. `begun` is the moment
    /// for which it was reckoned, before it was written: from then on the next is earned. So
    /// all horizons together go as fast as monotonic time, however slow the disk.
    pub fn renewed(&mut self, horizon: Timestamp, begun: Monotonic) {
        self.horizon = self.horizon.max(horizon);
        self.renewed = begun;
    }
}

fn reach(time: Timestamp, tolerance: Tolerance) -> Timestamp {
    time.plus(tolerance.as_duration()).plus(REACH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KID: Kid = Kid::from_bytes([7; 16]);
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn nonce(n: u8) -> Nonce {
        Nonce::from_bytes([n; 16])
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::new(Duration::from_secs(seconds))
    }

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_nonce_is_used_once() {
        let mut replay = Replay::new(Floor::default());
        assert_eq!(replay.judge(&KID, NOW, nonce(1), false, at(0)), Ok(()));
        replay.record(KID, NOW, nonce(1));
        assert_eq!(replay.judge(&KID, NOW, nonce(1), false, at(0)), Err(Reason::Replayed));
        assert_eq!(
            replay.judge(&KID, NOW, nonce(2), false, at(0)),
            Ok(()),
            "same time, other knock"
        );
        assert_eq!(
            replay.judge(&Kid::from_bytes([8; 16]), NOW, nonce(1), false, at(0)),
            Ok(()),
            "other client"
        );
        let years = at(10 * 365 * 86_400);
        assert_eq!(
            replay.judge(&KID, NOW, nonce(1), false, years),
            Err(Reason::Replayed),
            "time forgets nothing"
        );
    }

    #[test]
    fn what_the_ring_drops_the_floor_keeps() {
        let mut replay = Replay::new(Floor::default());
        // Newest first, so that the smallest is not the first in.
        for n in (0..40).rev() {
            replay.record(KID, later(u64::from(n)), nonce(n));
        }
        for n in 0..40 {
            let again = replay.judge(&KID, later(u64::from(n)), nonce(n), false, at(0));
            assert_eq!(again, Err(Reason::Replayed), "{n}");
        }
        assert_eq!(replay.history(&KID).unwrap().used().len(), RING_LEN);
        assert_eq!(replay.judge(&KID, later(40), nonce(99), false, at(0)), Ok(()));
    }

    #[test]
    fn a_start_without_journal_blocks_what_may_have_been_used() {
        let lease = later(50);
        let replay = Replay::new(Floor::at_start(lease, NOW, at(100), Tolerance::DEFAULT));
        let judge = |time, first, clock| replay.judge(&KID, time, nonce(1), first, clock);
        assert_eq!(judge(later(50), false, at(100)), Err(Reason::BeforeStart), "within the lease");
        assert_eq!(judge(later(50), false, at(99_999)), Err(Reason::BeforeStart), "and for ever");
        assert_eq!(judge(later(51), false, at(100)), Ok(()));
        assert_eq!(judge(later(1), true, at(100)), Ok(()), "a first knock is no replay");
    }

    #[test]
    fn the_clocks_part_of_the_floor_lapses() {
        let replay =
            Replay::new(Floor::at_start(Timestamp::ZERO, NOW, at(100), Tolerance::DEFAULT));
        let judge = |time, clock| replay.judge(&KID, time, nonce(1), false, clock);
        assert_eq!(judge(later(30), at(159)), Err(Reason::BeforeStart));
        assert_eq!(judge(later(31), at(159)), Ok(()));
        assert_eq!(judge(later(30), at(160)), Ok(()));
    }

    /// A knock from before the start is in the wider window for as much longer.
    #[test]
    fn the_clocks_part_of_the_floor_lasts_longer_where_the_window_becomes_wider() {
        let mut replay =
            Replay::new(Floor::at_start(Timestamp::ZERO, NOW, at(100), Tolerance::DEFAULT));
        assert_eq!(replay.judge(&KID, later(30), nonce(1), false, at(160)), Ok(()), "lapsed");
        replay.widen(Duration::from_secs(3570));
        let judge = |time, clock| replay.judge(&KID, time, nonce(1), false, clock);
        assert_eq!(judge(later(30), at(160)), Err(Reason::BeforeStart));
        assert_eq!(judge(later(31), at(160)), Ok(()));
        assert_eq!(judge(later(30), at(3729)), Err(Reason::BeforeStart));
        assert_eq!(judge(later(30), at(3730)), Ok(()));
    }

    #[test]
    fn a_history_from_the_first_knock_on_needs_no_floor() {
        let mut replay =
            Replay::new(Floor::at_start(Timestamp::ZERO, NOW, at(0), Tolerance::DEFAULT));
        replay.restore(KID, History::complete());
        replay.record(KID, NOW, nonce(1));
        assert_eq!(replay.judge(&KID, NOW, nonce(1), false, at(1)), Err(Reason::Replayed));
        assert_eq!(replay.judge(&KID, NOW, nonce(2), false, at(1)), Ok(()));
        replay.set_floor(Floor::at_start(Timestamp::ZERO, NOW, at(1), Tolerance::DEFAULT));
        assert_eq!(
            replay.judge(&KID, NOW, nonce(2), false, at(2)),
            Err(Reason::BeforeStart),
            "R5 takes it back"
        );
    }

    #[test]
    fn a_lease_goes_no_faster_than_monotonic_time() {
        let mut lease = Lease::found(later(90), at(0));
        assert_eq!(lease.next(later(20), at(20), Tolerance::DEFAULT), later(110));
        assert_eq!(
            lease.next(later(3600), at(20), Tolerance::DEFAULT),
            later(110),
            "the clock jumped an hour"
        );
        assert_eq!(
            lease.next(Timestamp::ZERO, at(20), Tolerance::DEFAULT),
            later(90),
            "and back to 1970"
        );
        assert!(!lease.covers(later(3600)));
        lease.renewed(lease.stretched(later(3600), Tolerance::DEFAULT), at(20));
        assert!(lease.covers(later(3690)) && !lease.covers(later(3691)));
        lease.renewed(later(5), at(21));
        assert_eq!(lease.horizon(), later(3690), "never down");
    }

    #[test]
    fn the_time_that_a_write_takes_is_earned_too_and_not_twice() {
        let mut lease = Lease::found(later(90), at(0));
        for renewal in 1..=100 {
            // The last one took 19 of the 20 seconds; the clock is an hour ahead.
            let begun = at(20 * renewal);
            let horizon = lease.next(later(3600 + 20 * renewal), begun, Tolerance::DEFAULT);
            assert_eq!(horizon, later(90 + 20 * renewal));
            assert!(!lease.covers(horizon), "not before it is on the disk");
            lease.renewed(horizon, begun);
        }
    }
}
