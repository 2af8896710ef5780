//! The lease file, and who writes it: as a rule a thread of its own, so that no
//! knock waits for the disk. The thread ends with the write: nothing of it wakes
//! the machine later.

use std::thread::{Builder, JoinHandle};

use spa_proto::Timestamp;
use tokio::sync::oneshot;

use crate::journal::{JournalError, LeaseFile};

/// A horizon, and whether it got to the disk.
pub(super) type Written = (Timestamp, Result<(), JournalError>);

/// Writes one horizon at a time.
pub(super) struct Renewals {
    file: LeaseFile,
    underway: Option<Underway>,
}

struct Underway {
    thread: JoinHandle<(LeaseFile, Written)>,
    /// Wakes whoever sleeps until it is done.
    done: oneshot::Receiver<()>,
}

impl Renewals {
    pub(super) fn of(file: LeaseFile) -> Self {
        Self { file, underway: None }
    }

    /// Begins to write, unless something is under way already; [`Self::written`]
    /// says when it is done. Where there is no thread to be had, it is done now.
    pub(super) fn begin(&mut self, horizon: Timestamp) -> Option<Written> {
        if self.underway.is_some() {
            return None;
        }
        let (wake, done) = oneshot::channel();
        let mut file = self.file.clone();
        let write = move || {
            let written = file.write(horizon);
            let _ = wake.send(());
            (file, (horizon, written))
        };
        match Builder::new().name("lease".into()).spawn(write) {
            Ok(thread) => self.underway = Some(Underway { thread, done }),
            Err(_) => return Some(self.write(horizon)),
        }
        None
    }

    /// Writes, and waits for the disk.
    pub(super) fn write(&mut self, horizon: Timestamp) -> Written {
        (horizon, self.file.write(horizon))
    }

    /// Sleeps until what is under way is done; where nothing is, for ever.
    pub(super) async fn written(&mut self) -> Option<Written> {
        let Some(underway) = &mut self.underway else { return std::future::pending().await };
        // An error says that the thread has ended without a word: that is an end too.
        let _ = (&mut underway.done).await;
        self.wait()
    }

    /// Waits, awake, for what is under way.
    pub(super) fn wait(&mut self) -> Option<Written> {
        let (file, written) = self.underway.take()?.thread.join().ok()?;
        self.file = file;
        Some(written)
    }
}
