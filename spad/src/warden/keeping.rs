//! The ruleset that is in force is kept for the next boot: at once where it is put in force, and
//! where that has failed again and again, by a thread that may wait for the disk.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{error, info};

use super::Warden;
use crate::kept;

type Kept = Result<(), String>;

/// How far what is kept is what is in force.
pub(super) struct Keeping {
    /// Why it is not.
    fault: Option<String>,
    /// How often it was seen to at once: what was begun before that does nothing any more.
    times: Arc<Mutex<u64>>,
    under_way: Option<Receiver<Kept>>,
}

impl Keeping {
    /// After the first try.
    pub(super) fn after(kept: Kept) -> Self {
        let fault = kept.err();
        fault.iter().for_each(|why| tell(why));
        Self { fault, times: Arc::default(), under_way: None }
    }

    /// Why what is in force is not kept.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Sees to it at once, in place of whatever is under way.
    fn at_once<R>(&mut self, act: impl FnOnce() -> R) -> R {
        self.under_way = None;
        let mut times = lock(&self.times);
        *times += 1;
        act()
    }

    /// What has become of the last try, if there was one and it has ended.
    fn look(&mut self) {
        match self.under_way.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => return,
            Some(Ok(kept)) => self.fault = kept.err(),
            Some(Err(TryRecvError::Disconnected)) => {}
        }
        self.under_way = None;
        if self.fault.is_none() {
            info!("the ruleset is kept for the next boot");
        }
    }
}

/// Nobody panics while holding it. Whoever waits for it waits for a disk that they have to
/// write to themselves.
fn lock(times: &Mutex<u64>) -> MutexGuard<'_, u64> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(why: &str) {
    error!(
        why,
        "the ruleset is NOT KEPT: the next boot goes by what was kept before, if anything was"
    );
}

impl Warden {
    /// Keeps for the next boot what is in force for good, and nothing else.
    pub(super) fn keep_what_is_in_force(&mut self) {
        match self.enforcement.is_kept(&self.config) {
            true => self.keep().err().iter().for_each(|why| tell(why)),
            false => self.keeping.fault = None,
        }
    }

    /// Keeps what is in force.
    ///
    /// # Errors
    /// Why it is not kept.
    pub(super) fn keep(&mut self) -> Kept {
        let (directories, options) = (self.config.own_directories(), self.config.options());
        let kept = self.keeping.at_once(|| kept::keep(&directories, &self.ruleset, options));
        self.keeping.fault = kept.as_ref().err().cloned();
        kept
    }

    /// Keeps nothing any more.
    ///
    /// # Errors
    /// What is kept all the same.
    pub(super) fn keep_nothing(&mut self) -> Kept {
        self.keeping.fault = None;
        let forgotten = self.keeping.at_once(|| kept::forget(&self.config.state_dir));
        forgotten.map_err(|error| error.to_string())
    }

    /// Tries again what has failed; every now and then.
    pub(super) fn keep_again(&mut self) {
        self.keeping.look();
        if self.keeping.fault.is_none() || self.keeping.under_way.is_some() {
            return;
        }
        let (directories, options) = (self.config.own_directories(), self.config.options());
        let (times, ruleset) = (Arc::clone(&self.keeping.times), self.ruleset.clone());
        let number = *lock(&times);
        let (tell, told) = channel();
        self.ban_writer.give(move || {
            let times = lock(&times);
            if *times == number {
                // Whoever does not hear it has ended, or has seen to it at once.
                let _ = tell.send(kept::keep(&directories, &ruleset, options));
            }
        });
        self.keeping.under_way = Some(told);
    }
}
