//! A thread that stays, for what waits for a disk: one thing after the other, while no
//! knock waits.

use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;

type Job = Box<dyn FnOnce() + Send>;

/// Does what it is given, in order.
pub(super) struct Worker {
    name: &'static str,
    /// `None` where there was no thread to be had, or it has ended.
    jobs: Option<Sender<Job>>,
}

impl Worker {
    /// One that is there from the start, and needs no memory then.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, jobs: begin(name) }
    }

    /// Whether it is going to be done; where there is no thread, one is tried for.
    pub(super) fn give(&mut self, job: impl FnOnce() + Send + 'static) -> bool {
        if self.jobs.is_none() {
            self.jobs = begin(self.name);
        }
        let given = self.jobs.as_ref().is_some_and(|jobs| jobs.send(Box::new(job)).is_ok());
        if !given {
            self.jobs = None;
        }
        given
    }
}

fn begin(name: &'static str) -> Option<Sender<Job>> {
    let (jobs, given) = channel::<Job>();
    let work = move || given.into_iter().for_each(|job| job());
    Builder::new().name(name.into()).spawn(work).is_ok().then_some(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{ThreadId, current};

    fn done_by(worker: &mut Worker) -> Option<ThreadId> {
        let (tell, told) = channel();
        assert!(worker.give(move || tell.send(current().id()).unwrap()));
        told.recv().ok()
    }

    #[test]
    fn one_thread_does_all_and_another_takes_its_place() {
        let mut worker = Worker::new("test");
        let first = done_by(&mut worker).unwrap();
        assert_eq!(done_by(&mut worker), Some(first));
        assert_ne!(first, current().id());
        assert!(worker.give(|| panic!("as a thread that ends")));
        // It may have taken one more before it ended: that is lost, and the next is not.
        let another = std::iter::repeat_with(|| {
            let (tell, told) = channel();
            let _ = worker.give(move || tell.send(current().id()).unwrap());
            told.recv().ok()
        });
        assert_ne!(another.flatten().next(), Some(first));
    }
}
