//! The same thing again is told once a minute, with a count. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use spa_proto::Monotonic;

/// How often the same is told.
const QUIET: Duration = Duration::from_secs(60);

/// Remembers what was told when, and how often it has been left out since.
#[derive(Debug)]
pub struct Quiet<K>(HashMap<K, Told>);

#[derive(Debug)]
struct Told {
    at: Monotonic,
    left_out: u64,
}

impl<K> Default for Quiet<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Quiet<K> {
    /// How many a line now would stand for; `None` if it is too early for one.
    pub fn tell(&mut self, what: K, now: Monotonic) -> Option<u64> {
        match self.0.get_mut(&what) {
            Some(told) if now.since(told.at) < QUIET => {
                told.left_out += 1;
                None
            }
            known => {
                let count = known.map_or(0, |told| told.left_out) + 1;
                self.0.insert(what, Told { at: now, left_out: 0 });
                Some(count)
            }
        }
    }

    /// Forgets what has been quiet for long.
    pub fn tidy(&mut self, now: Monotonic) {
        self.0.retain(|_, told| now.since(told.at) < QUIET * 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_with_a_count() {
        let mut quiet = Quiet::default();
        let at = |seconds| Monotonic::new(Duration::from_secs(seconds));
        assert_eq!(quiet.tell((1, 'a'), at(0)), Some(1));
        for second in 1..60 {
            assert_eq!(quiet.tell((1, 'a'), at(second)), None);
        }
        assert_eq!(quiet.tell((1, 'b'), at(5)), Some(1), "another reason");
        assert_eq!(quiet.tell((2, 'a'), at(5)), Some(1));
        assert_eq!(quiet.tell((1, 'a'), at(60)), Some(60));
        assert_eq!(quiet.tell((1, 'a'), at(61)), None);
    }
}
