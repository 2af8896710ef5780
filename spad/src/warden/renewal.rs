//! The lease file, and who writes it: as a rule a thread of its own, so that no
//! knock waits for the disk. It is there from the start, and needs no memory then.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

use spa_proto::Timestamp;
use tokio::sync::Notify;

use crate::journal::{JournalError, LeaseFile};

/// A horizon, and whether it got to the disk.
pub(super) type Written = (Timestamp, Result<(), JournalError>);

/// Writes one horizon at a time.
pub(super) struct Renewals {
    /// `None` while the thread has it.
    file: Option<LeaseFile>,
    /// `None` where there was no thread to be had.
    to_write: Option<Sender<(LeaseFile, Timestamp)>>,
    written: Receiver<(LeaseFile, Written)>,
    /// Wakes whoever sleeps until something is written.
    done: Arc<Notify>,
}

impl Renewals {
    pub(super) fn of(file: LeaseFile) -> Self {
        let (to_write, orders) = channel::<(LeaseFile, Timestamp)>();
        let (tell, written) = channel();
        let done = Arc::new(Notify::new());
        let wake = Arc::clone(&done);
        let work = move || {
            for (mut file, horizon) in orders {
                let result = file.write(horizon);
                if tell.send((file, (horizon, result))).is_err() {
                    return;
                }
                wake.notify_one();
            }
        };
        let thread = Builder::new().name("lease".into()).spawn(work);
        Self { file: Some(file), to_write: thread.is_ok().then_some(to_write), written, done }
    }

    /// Begins to write, unless something is under way already; [`Self::written`]
    /// says when it is done. Where there is no thread, it is done now.
    pub(super) fn begin(&mut self, horizon: Timestamp) -> Option<Written> {
        let Some(thread) = &self.to_write else { return self.write(horizon) };
        let file = self.file.take()?;
        if let Err(lost) = thread.send((file, horizon)) {
            self.file = Some(lost.0.0);
            return self.write(horizon);
        }
        None
    }

    /// Writes, and waits for the disk; `None` while something is under way.
    pub(super) fn write(&mut self, horizon: Timestamp) -> Option<Written> {
        Some((horizon, self.file.as_mut()?.write(horizon)))
    }

    /// Sleeps until what is under way is done; where nothing is, for ever.
    pub(super) async fn written(&mut self) -> Written {
        loop {
            self.done.notified().await;
            if let Ok((file, written)) = self.written.try_recv() {
                self.file = Some(file);
                return written;
            }
        }
    }

    /// Waits, awake, for what is under way.
    pub(super) fn wait(&mut self) -> Option<Written> {
        if self.file.is_some() {
            return None;
        }
        let (file, written) = self.written.recv().ok()?;
        self.file = Some(file);
        Some(written)
    }
}
