//! What the members of the control-group get, so that none of them keeps others out,
//! holds up knocks or fills the audit. Pure.

use std::collections::HashMap;
use std::time::Duration;

use spa_proto::Monotonic;

use crate::audit::Quiet;

/// How many of their connections are heard at once.
const PLACES: usize = 64;
/// And of one user.
const PLACES_OF_ONE: usize = 4;
/// How often the kernel's tables are read for them.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one waits for that at most.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What they have been given.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Connections, by user id.
    places: HashMap<u32, usize>,
    /// When the tables may be read the next time.
    next: Option<Monotonic>,
    /// Changes that they may not make.
    pub(super) refusals: Quiet<u32>,
}

impl Members {
    /// Takes a place, if there is one.
    pub(super) fn enter(&mut self, uid: u32) -> bool {
        if self.places.values().sum::<usize>() >= PLACES {
            return false;
        }
        let held = self.places.entry(uid).or_default();
        let free = *held < PLACES_OF_ONE;
        *held += usize::from(free);
        free
    }

    /// Gives it back.
    pub(super) fn leave(&mut self, uid: u32) {
        if let Some(held) = self.places.get_mut(&uid) {
            *held -= 1;
            if *held == 0 {
                self.places.remove(&uid);
            }
        }
    }

    /// How long to wait before the tables are read for one of them; `None` where too
    /// many wait already.
    pub(super) fn queue(&mut self, now: Monotonic) -> Option<Duration> {
        let turn = self.next.map_or(now, |next| next.max(now));
        let wait = turn.since(now);
        if wait > LONGEST_WAIT {
            return None;
        }
        self.next = Some(turn.plus(PAUSE));
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_takes_no_more_than_its_places() {
        let mut members = Members::default();
        let taken = (0..100).filter(|_| members.enter(1000)).count();
        assert_eq!(taken, PLACES_OF_ONE);
        assert!(members.enter(1001), "another one");
        members.leave(1000);
        assert!(members.enter(1000) && !members.enter(1000));
        let others = (2000..3000).filter(|uid| members.enter(*uid)).count();
        assert_eq!(others, PLACES - PLACES_OF_ONE - 1);
        (0..PLACES_OF_ONE).for_each(|_| members.leave(1000));
        assert!(!members.places.contains_key(&1000));
    }

    #[test]
    fn the_tables_are_read_once_a_second() {
        let mut members = Members::default();
        let at = |millis| Monotonic::new(Duration::from_millis(millis));
        let waits: Vec<_> = (0..12).map(|_| members.queue(at(500))).collect();
        let expected = (0..=10).map(|second| Some(Duration::from_secs(second)));
        assert_eq!(waits, expected.chain([None]).collect::<Vec<_>>());
        assert_eq!(members.queue(at(60_000)), Some(Duration::ZERO));
        assert_eq!(members.queue(at(60_400)), Some(Duration::from_millis(600)));
    }
}
