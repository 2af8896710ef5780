//! Which hook is run next: few at once, in order for each grant. Pure.

use std::collections::VecDeque;

/// How many hooks run at once.
pub(super) const AT_ONCE: usize = 4;
/// How many that may be left out wait at most.
pub(super) const MOST: usize = 64;

/// Hooks that are to be run, each about a grant.
#[derive(Debug)]
pub(super) struct Queue<J> {
    waiting: VecDeque<(u64, J)>,
    /// The grants that those are about that run.
    busy: Vec<u64>,
    left_out: u64,
}

impl<J> Queue<J> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), busy: Vec::new(), left_out: 0 }
    }

    /// Takes one that may be left out; whether there was room.
    pub(super) fn offer(&mut self, grant: u64, job: J) -> bool {
        let room = self.waiting.len() < MOST;
        if room {
            self.insist(grant, job);
        } else {
            self.left_out += 1;
        }
        room
    }

    /// Takes one that must not be.
    pub(super) fn insist(&mut self, grant: u64, job: J) {
        self.waiting.push_back((grant, job));
    }

    /// The next, if another may run: what is about one grant runs one after the other.
    pub(super) fn next(&mut self) -> Option<(u64, J)> {
        if self.busy.len() >= AT_ONCE {
            return None;
        }
        let at = self.waiting.iter().position(|(grant, _)| !self.busy.contains(grant))?;
        let next = self.waiting.remove(at)?;
        self.busy.push(next.0);
        Some(next)
    }

    /// One is over.
    pub(super) fn done(&mut self, grant: u64) {
        if let Some(at) = self.busy.iter().position(|busy| *busy == grant) {
            self.busy.swap_remove(at);
        }
    }

    /// How many were left out until now: once there is room again, and once while
    /// there is none.
    pub(super) fn left_out(&mut self) -> Option<u64> {
        let over = self.waiting.len() < MOST / 2 && self.left_out > 0;
        over.then(|| std::mem::take(&mut self.left_out))
    }

    /// Whether one was left out just now, for the first time since it was told.
    pub(super) fn overflows(&self) -> bool {
        self.left_out == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_grant_is_told_of_in_order() {
        let mut queue = Queue::new();
        for (grant, job) in [(1, "made"), (1, "extended"), (2, "made")] {
            assert!(queue.offer(grant, job));
        }
        queue.insist(1, "over");
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
        let taken = (0..100).filter(|grant| queue.offer(*grant, ())).count();
        assert_eq!((taken, queue.left_out), (MOST, 36));
        queue.insist(0, ());
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
}
