//! Which hook is run next: few at once, in order for each grant. Pure.

use std::collections::VecDeque;

use spa_proto::Kid;

/// How many hooks run at once.
pub(super) const AT_ONCE: usize = 4;
/// How many that tell of beginnings wait at most, and how many of one client's: nobody
/// keeps the others' from being told.
pub(super) const MOST: usize = 64;
pub(super) const EACH: usize = 16;
/// How many that tell of ends wait at most.
pub(super) const ENDS: usize = 10_000;

/// Hooks that are to be run, each about a grant.
#[derive(Debug)]
pub(super) struct Queue<J> {
    beginnings: VecDeque<(About, J)>,
    ends: VecDeque<(u64, J)>,
    /// Whether a beginning was the last to leave: they take turns.
    began: bool,
    /// The grants that those are about that run.
    busy: Vec<u64>,
    left_out: u64,
}

/// What a beginning is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) grant: u64,
    pub(super) client: Kid,
    /// Whether the grant was there already.
    pub(super) extends: bool,
}

impl<J> Queue<J> {
    pub(super) fn new() -> Self {
        let (beginnings, ends) = (VecDeque::new(), VecDeque::new());
        Self { beginnings, ends, began: false, busy: Vec::new(), left_out: 0 }
    }

    /// Takes one that tells of a beginning; whether there was room. That a grant lasts
    /// longer is told once, however often it was asked for since.
    pub(super) fn offer(&mut self, about: About, job: J) -> bool {
        let same = |(other, _): &&mut (About, J)| {
            about.extends && other.extends && other.grant == about.grant
        };
        if let Some((_, waiting)) = self.beginnings.iter_mut().find(same) {
            *waiting = job;
            return true;
        }
        let own = self.beginnings.iter().filter(|(other, _)| other.client == about.client).count();
        let room = self.beginnings.len() < MOST && own < EACH;
        if room {
            self.beginnings.push_back((about, job));
        } else {
            self.left_out += 1;
        }
        room
    }

    /// Takes one that tells of an end; whether there was room.
    pub(super) fn end(&mut self, grant: u64, job: J) -> bool {
        let room = self.ends.len() < ENDS;
        if room {
            self.ends.push_back((grant, job));
        } else {
            self.left_out += 1;
        }
        room
    }

    /// The next, if another may run: what is about one grant runs one after the other.
    pub(super) fn next(&mut self) -> Option<(u64, J)> {
        if self.busy.len() >= AT_ONCE {
            return None;
        }
        let free = |grant: &u64| !self.busy.contains(grant);
        let waits = |grant: &u64| self.beginnings.iter().any(|(about, _)| about.grant == *grant);
        let beginning = self.beginnings.iter().position(|(about, _)| free(&about.grant));
        let end = self.ends.iter().position(|(grant, _)| free(grant) && !waits(grant));
        self.began = beginning.is_some() && !(self.began && end.is_some());
        let next = match self.began {
            true => self.beginnings.remove(beginning?).map(|(about, job)| (about.grant, job)),
            false => self.ends.remove(end?),
        };
        if self.ends.is_empty() {
            self.ends.shrink_to_fit();
        }
        self.busy.extend(next.as_ref().map(|(grant, _)| *grant));
        next
    }

    /// One is over.
    pub(super) fn done(&mut self, grant: u64) {
        if let Some(at) = self.busy.iter().position(|busy| *busy == grant) {
            self.busy.swap_remove(at);
        }
    }

    /// How many were left out until now: once there is room again, for whomever, and once
    /// while there is none.
    pub(super) fn left_out(&mut self) -> Option<u64> {
        let room = self.beginnings.len() < EACH / 2 && self.ends.len() < ENDS / 2;
        (room && self.left_out > 0).then(|| std::mem::take(&mut self.left_out))
    }

    /// Whether one was left out just now, for the first time since it was told.
    pub(super) fn overflows(&self) -> bool {
        self.left_out == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(grant: u64, client: u8) -> About {
        About { grant, client: Kid::from_bytes([client; 16]), extends: false }
    }

    fn extends(grant: u64) -> About {
        About { extends: true, ..about(grant, 1) }
    }

    #[test]
    fn one_grant_is_told_of_in_order() {
        let mut queue = Queue::new();
        for (about, job) in [(about(1, 1), "made"), (extends(1), "extended"), (about(2, 1), "made")]
        {
            assert!(queue.offer(about, job));
        }
        assert!(queue.end(1, "over"));
        assert_eq!(queue.next(), Some((1, "made")));
        assert_eq!(queue.next(), Some((2, "made")), "another does not wait for it");
        assert_eq!(queue.next(), None);
        queue.done(1);
        assert_eq!((queue.next(), queue.next()), (Some((1, "extended")), None));
        queue.done(1);
        assert_eq!(queue.next(), Some((1, "over")));
    }

    #[test]
    fn few_run_and_few_wait() {
        let mut queue = Queue::new();
        let taken =
            (0..100_u8).filter(|number| queue.offer(about((*number).into(), *number), ())).count();
        assert_eq!((taken, queue.left_out), (MOST, 36));
        assert!(queue.end(0, ()));
        let mut running: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!((running.len(), queue.left_out()), (AT_ONCE, None));
        let mut run = 0;
        while let Some((grant, ())) = running.pop() {
            run += 1;
            queue.done(grant);
            running.extend(queue.next());
        }
        assert_eq!((run, queue.left_out(), queue.left_out()), (MOST + 1, Some(36), None));
    }

    #[test]
    fn one_client_leaves_room_for_the_others() {
        let mut queue = Queue::new();
        assert_eq!((0..100).filter(|grant| queue.offer(about(*grant, 1), 0)).count(), EACH);
        assert!(queue.offer(about(100, 2), 0));
        // The newest stands for all.
        let mut queue = Queue::new();
        assert!((0..1000).all(|number| queue.offer(extends(7), number)));
        assert_eq!((queue.next(), queue.beginnings.len()), (Some((7, 999)), 0));
    }

    #[test]
    fn ends_are_bounded_and_take_turns_with_beginnings() {
        let mut queue = Queue::new();
        let ends = 1000..1000 + ENDS as u64 + 5;
        assert_eq!(ends.filter(|grant| queue.end(*grant, "over")).count(), ENDS);
        assert_eq!(queue.left_out, 5);
        assert!((0..2).all(|grant| queue.offer(about(grant, 1), "made")));
        let order: Vec<_> = std::iter::from_fn(|| queue.next()).map(|(_, job)| job).collect();
        assert_eq!(order, ["made", "over", "made", "over"]);
    }
}
