//! Time, always as an argument: wall time for what is sent, monotonic time for
//! what is counted.

use std::time::Duration;

/// Wall-clock time in milliseconds since 1970-01-01 00:00 UTC, leap seconds
/// ignored, as carried by a knock (protocol §1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// How long a pseudonym lives, in milliseconds: 6 hours (protocol §5.1).
const EPOCH_MS: u64 = 6 * 60 * 60 * 1000;

impl Timestamp {
    /// 1970.
    pub const ZERO: Self = Self(0);

    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time `by` later; the end of time where that overflows.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// The time `by` earlier; 1970 where that underflows.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }

    /// How long after `earlier` this is; zero where it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Number of the pseudonym epoch this lies in (protocol §5.1).
    pub(crate) const fn epoch(self) -> u64 {
        self.0 / EPOCH_MS
    }

    /// Whether all of an epoch is more than half an epoch away.
    pub(crate) const fn is_far_from(self, epoch: u64) -> bool {
        let begin = epoch.saturating_mul(EPOCH_MS);
        let end = begin.saturating_add(EPOCH_MS - 1);
        self.0.saturating_add(EPOCH_MS / 2) < begin || self.0.saturating_sub(EPOCH_MS / 2) > end
    }
}

/// A time in milliseconds; the longest that there is for what is longer.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How far a knock's time may be from the server's clock, either way,
/// both ends included (protocol §6, step 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance(Duration);

impl Tolerance {
    /// 30 seconds.
    pub const DEFAULT: Self = Self(Duration::from_secs(30));

    /// Any duration.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// The duration itself.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// Whether `sent` is near enough to `now`.
    #[must_use]
    pub fn admits(self, sent: Timestamp, now: Timestamp) -> bool {
        sent.0.abs_diff(now.0) <= millis(self.0)
    }
}

/// Time since some fixed moment, never set back, suspended time included
/// (`CLOCK_BOOTTIME` on Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// From the clock's reading.
    #[must_use]
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The clock's reading.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// The moment `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// How long after `earlier` this is; zero where it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_includes_both_ends() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let edge = Duration::from_secs(30);
        let beyond = Duration::from_millis(30_001);
        for (sent, admitted) in [
            (now, true),
            (now.plus(edge), true),
            (now.minus(edge), true),
            (now.plus(beyond), false),
            (now.minus(beyond), false),
            (Timestamp::ZERO, false),
            (Timestamp::from_millis(u64::MAX), false),
        ] {
            assert_eq!(Tolerance::DEFAULT.admits(sent, now), admitted, "{sent:?}");
        }
    }
}
