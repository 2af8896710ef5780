//! Whether the wall clock may have something thrown away for good, which one that is right
//! would still have use for.

use std::time::Duration;

use spa_proto::Monotonic;

use crate::clock::Reading;

/// For how long a clock that was set is only believed for the time being: what is over by it
/// lets nobody in, and is kept. A wrong answer about the time, or a slip of `date`, is put
/// right within minutes.
const PROBATION: Duration = Duration::from_secs(10 * 60);
/// By how much it may go apart from the others between two looks, as after a suspend.
const SLACK: Duration = Duration::from_secs(2);

/// How the wall clock has gone since the daemon started.
pub(super) struct Steady {
    last: Reading,
    /// When it was seen to have been set, if that is not long ago.
    set_at: Option<Monotonic>,
}

impl Steady {
    pub(super) fn since(now: Reading) -> Self {
        Self { last: now, set_at: None }
    }

    /// Whether it was not set for a while.
    pub(super) fn is(&mut self, now: Reading) -> bool {
        if now.drift(&self.last) > SLACK {
            self.set_at = Some(now.clock);
        }
        self.last = now;
        self.set_at.take_if(|at| now.clock.since(*at) >= PROBATION);
        self.set_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_believed_when_it_has_gone_on_for_a_while() {
        let mut now = Reading::now();
        let mut steady = Steady::since(now);
        let mut is_steady = |passed, shown| {
            now.clock = now.clock.plus(Duration::from_secs(passed));
            now.wall = now.wall.plus(Duration::from_secs(shown));
            steady.is(now)
        };
        for _ in 0..100 {
            assert!(is_steady(20, 20));
        }
        assert!(is_steady(20, 21), "it was put right by a second");
        for _ in 0..2 {
            assert!(!is_steady(20, 3620), "an hour ahead");
            for _ in 0..29 {
                assert!(!is_steady(20, 20));
            }
        }
        assert!(is_steady(20, 20) && is_steady(20, 20));
        assert!(!is_steady(3600, 0), "an hour back");
        assert!(is_steady(600, 600));
    }
}
