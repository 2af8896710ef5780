//! The clocks, read here and nowhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use spa_proto::{Monotonic, Timestamp};

/// How far the wall clock may move against the others across a suspend before
/// it counts as a jump.
const SLACK: Duration = Duration::from_secs(2);

/// Wall-clock time; 1970 where the clock stands before it.
#[must_use]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Time since the machine started, suspended time included. It is the same for
/// all processes of one boot, so that deadlines can be written down.
#[must_use]
pub fn monotonic() -> Monotonic {
    Monotonic::new(read(ClockId::CLOCK_BOOTTIME))
}

/// All clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Wall-clock time.
    pub wall: Timestamp,
    /// Time since the start, suspended time included.
    pub clock: Monotonic,
    /// Time since the start while not suspended.
    awake: Duration,
}

impl Reading {
    /// Now.
    pub fn now() -> Self {
        Self { wall: wall(), clock: monotonic(), awake: read(ClockId::CLOCK_MONOTONIC) }
    }

    /// How far the wall clock was set, ahead or back, since `earlier`.
    #[must_use]
    pub fn drift(&self, earlier: &Self) -> Duration {
        let expected = earlier.wall.plus(self.clock.since(earlier.clock));
        self.wall.since(expected).max(expected.since(self.wall))
    }

    /// Whether the machine was suspended since `earlier`, and its wall clock
    /// does not show just the time that has passed.
    #[must_use]
    pub fn jumped_in_suspend(&self, earlier: &Self) -> bool {
        self.slept(earlier) > SLACK && self.drift(earlier) > SLACK
    }

    /// For how long the machine was suspended since `earlier`.
    #[must_use]
    pub fn slept(&self, earlier: &Self) -> Duration {
        let passed = self.clock.since(earlier.clock);
        passed.saturating_sub(self.awake.saturating_sub(earlier.awake))
    }
}

/// How well the wall clock is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discipline {
    /// Whether something keeps it right, says the kernel.
    pub synchronised: bool,
    /// By how much it can be off, says whatever keeps it right.
    pub max_error: Duration,
}

impl Discipline {
    /// Why clients may be refused for their time, who are right.
    #[must_use]
    pub fn fault(&self, tolerance: Duration) -> Option<String> {
        let error = self.max_error;
        match self.synchronised {
            false => Some("nothing keeps this host's clock right".into()),
            true if error > tolerance => Some(format!(
                "this host's clock may be off by {} s, more than the tolerance",
                error.as_secs()
            )),
            true => None,
        }
    }
}

/// By the C library, as the standard library reads the wall clock: what gives the daemon
/// another clock to try it out moves them together.
fn read(id: ClockId) -> Duration {
    // Fails only for clocks that a kernel does not have.
    clock_gettime(id).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall: u64, clock: u64, awake: u64) -> Reading {
        Reading {
            wall: Timestamp::from_millis(wall * 1000),
            clock: Monotonic::new(Duration::from_secs(clock)),
            awake: Duration::from_secs(awake),
        }
    }

    #[test]
    fn drift_is_what_was_set_and_not_what_has_passed() {
        let before = reading(10_000, 100, 100);
        for (now, seconds) in [
            (reading(10_060, 160, 160), 0),
            (reading(10_090, 160, 160), 30),
            (reading(10_050, 160, 160), 10),
            (reading(13_660, 3760, 160), 0),
        ] {
            assert_eq!(now.drift(&before), Duration::from_secs(seconds), "{now:?}");
        }
    }

    #[test]
    fn a_clock_that_nobody_keeps_or_that_is_too_far_off_is_a_fault() {
        let fault = |synchronised, seconds| {
            let max_error = Duration::from_secs(seconds);
            Discipline { synchronised, max_error }.fault(Duration::from_secs(30))
        };
        assert_eq!((fault(true, 0), fault(true, 30)), (None, None));
        assert!(fault(false, 0).is_some_and(|fault| fault.contains("nothing keeps")));
        assert!(fault(true, 31).is_some_and(|fault| fault.contains("31 s")));
    }

    #[test]
    fn a_suspend_is_what_one_clock_has_slept_through() {
        let before = reading(10_000, 100, 100);
        for (now, seconds) in [
            (reading(10_060, 160, 160), 0),
            (reading(13_660, 160, 160), 0),
            (reading(13_601, 3701, 101), 3600),
            (reading(10_000, 3701, 101), 3600),
            (reading(10_000, 100, 101), 0),
        ] {
            assert_eq!(now.slept(&before), Duration::from_secs(seconds), "{now:?}");
        }
    }

    #[test]
    fn only_a_jump_across_a_suspend_counts() {
        let before = reading(10_000, 100, 100);
        assert!(!reading(10_060, 160, 160).jumped_in_suspend(&before), "time goes by");
        assert!(!reading(13_660, 160, 160).jumped_in_suspend(&before), "the clock is set");
        assert!(!reading(13_700, 3800, 110).jumped_in_suspend(&before), "suspended for an hour");
        assert!(reading(99_999, 3800, 110).jumped_in_suspend(&before), "and set forward in it");
        assert!(reading(10_060, 3800, 110).jumped_in_suspend(&before), "and back");
    }
}
