//! How the gatekeeper waits: for each packet while few come, and for some to
//! gather while many do (pure; the gatekeeper polls).
//!
//! To be woken for a packet costs three times as much as to receive and refuse it,
//! measured in docs/code-structure.md. So in a crowd nobody asks to be woken, but
//! looks again after a moment.

use std::time::Duration;

use spa_proto::Monotonic;

/// How long packets gather: what a knock in a flood may lose.
pub(super) const MOMENT: Duration = Duration::from_micros(100);

/// So many packets within such a time are a crowd. Knocks that pass the gate are
/// none, at some 0.1 ms each.
const MANY: usize = 32;
const SOON: Duration = Duration::from_millis(1);

/// How packets have come lately.
pub(super) struct Pace {
    crowd: bool,
    /// Whether some were left for the next time.
    more: bool,
    /// Heard since then, up to [`MANY`].
    heard: usize,
    since: Monotonic,
}

impl Pace {
    /// Nothing has come yet.
    pub(super) fn new(now: Monotonic) -> Self {
        Self { crowd: false, more: false, heard: 0, since: now }
    }

    /// Takes note of how many packets there were this time, and whether these
    /// were all.
    pub(super) fn note(&mut self, heard: usize, more: bool, now: Monotonic) {
        self.more = more;
        self.heard += heard;
        if heard == 0 {
            self.crowd = false;
        } else if self.heard >= MANY {
            *self = Self { crowd: now.since(self.since) < SOON, more, heard: 0, since: now };
        }
    }

    /// Whether to let packets gather before the next are taken.
    pub(super) fn gather(&self) -> bool {
        self.crowd && !self.more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After packets that came in such numbers, one number every 100 µs.
    fn after(numbers: &[usize]) -> Pace {
        let at = |step: usize| {
            Monotonic::new(Duration::from_secs(9) + MOMENT * u32::try_from(step).unwrap())
        };
        let mut pace = Pace::new(at(0));
        numbers.iter().enumerate().for_each(|(step, heard)| pace.note(*heard, false, at(step + 1)));
        pace
    }

    #[test]
    fn many_at_once_are_a_crowd_until_none_comes() {
        assert!(!after(&[]).gather());
        assert!(after(&[MANY]).gather(), "all in one moment");
        assert!(after(&[8, 8, 8, 8]).gather(), "in several");
        assert!(!after(&[8, 8, 8]).gather(), "not yet");
        assert!(after(&[MANY, 1, 1, 1]).gather(), "it goes on");
        assert!(!after(&[MANY, 1, 1, 0]).gather(), "it is over");
    }

    #[test]
    fn what_is_there_already_is_not_waited_for() {
        let (mut pace, now) = (after(&[MANY]), Monotonic::new(Duration::from_secs(10)));
        pace.note(1, true, now);
        assert!(!pace.gather());
        pace.note(1, false, now);
        assert!(pace.gather(), "still a crowd");
    }

    #[test]
    fn as_many_in_a_longer_time_are_none() {
        assert!(!after(&[1; 1000]).gather(), "10 000 a second");
        assert!(!after(&[2; 1000]).gather(), "20 000 a second");
        assert!(after(&[5; 1000]).gather(), "50 000 a second");
        let ebbing = [&[MANY][..], &[2; 100]].concat();
        assert!(!after(&ebbing).gather(), "fewer than before, though some all the time");
        let idle = [&[1][..], &[0; 100], &[MANY - 1]].concat();
        assert!(!after(&idle).gather(), "the first that come after a quiet time");
    }
}
