//! Token buckets: how much public-key work a client, and all together, may
//! cause (protocol §6, step 6).

use std::time::Duration;

use crate::time::{Monotonic, millis};

/// What a bucket holds at most, and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Packets that may come at once.
    pub burst: u32,
    /// Packets a second that may go on.
    pub per_second: u32,
}

/// A token bucket. Counts in thousandths of a packet, so that slow rates fill too.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    millitokens: u64,
    filled: Monotonic,
}

impl Budget {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: Rate, now: Monotonic) -> Self {
        Self { millitokens: capacity(rate), filled: now }
    }

    /// What is left of it under another rate.
    #[must_use]
    pub(crate) fn under(self, rate: Rate) -> Self {
        Self { millitokens: self.millitokens.min(capacity(rate)), ..self }
    }

    /// Takes one packet's worth, if it is there.
    #[must_use]
    pub fn take(&mut self, rate: Rate, now: Monotonic) -> bool {
        let held = self.holds(rate, now);
        if held {
            self.charge();
        }
        held
    }

    /// Whether one packet's worth is there.
    #[must_use]
    pub fn holds(&mut self, rate: Rate, now: Monotonic) -> bool {
        self.fill(rate, now);
        self.millitokens >= 1000
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_full(&mut self, rate: Rate, now: Monotonic) -> bool {
        self.fill(rate, now);
        self.millitokens >= capacity(rate)
    }

    /// Takes one packet's worth that is there.
    pub fn charge(&mut self) {
        self.millitokens = self.millitokens.saturating_sub(1000);
    }

    fn fill(&mut self, rate: Rate, now: Monotonic) {
        let gained = gained(rate, now.since(self.filled));
        if gained > 0 {
            self.millitokens = self.millitokens.saturating_add(gained).min(capacity(rate));
            self.filled = now;
        }
    }
}

fn capacity(rate: Rate) -> u64 {
    u64::from(rate.burst) * 1000
}

fn gained(rate: Rate, elapsed: Duration) -> u64 {
    millis(elapsed).saturating_mul(u64::from(rate.per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, per_second: 2 };

    fn at(millis: u64) -> Monotonic {
        Monotonic::new(Duration::from_millis(millis))
    }

    #[test]
    fn gives_the_burst_then_the_rate() {
        let mut budget = Budget::full(RATE, at(0));
        let burst = (0..10).filter(|_| budget.take(RATE, at(0))).count();
        assert_eq!(burst, 3);
        assert!(!budget.take(RATE, at(499)), "half a second fills one packet");
        assert!(budget.take(RATE, at(500)));
        let later = (0..10).filter(|_| budget.take(RATE, at(1_000_000))).count();
        assert_eq!(later, 3, "never more than the burst");
    }

    #[test]
    fn asking_often_does_not_starve_it() {
        let mut budget = Budget::full(RATE, at(0));
        let granted = (0..10_000).filter(|ms| budget.take(RATE, at(*ms))).count();
        assert_eq!(granted, 3 + 2 * 10 - 1);
    }
}
