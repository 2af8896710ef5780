//! The lease file, and who writes it: as a rule a thread of its own, so that no
//! knock waits for the disk. It is there from the start, and needs no memory then.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::Builder;
use std::time::Duration;

use spa_proto::{Monotonic, Timestamp};
use tokio::sync::Notify;
use tracing::warn;

use crate::journal::{JournalError, LeaseFile};

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    pub(super) time: Timestamp,
    /// When that was the time to write, however long the disk takes.
    pub(super) begun: Monotonic,
}

/// The horizon that got to the disk, or why none did.
pub(super) type Written = Result<Horizon, JournalError>;

/// For how long a knock waits for the disk, and all else with it; once for each
/// time that the disk hangs.
const PATIENCE: Duration = Duration::from_millis(500);

const HANGS: &str = "the disk does not answer";

/// Writes one horizon at a time.
pub(super) struct Renewals {
    path: PathBuf,
    /// [`PATIENCE`], which is not for tests to depend on.
    pub(super) patience: Duration,
    /// `None` while the thread has it.
    file: Option<LeaseFile>,
    /// Whether what is under way was waited for in vain.
    late: bool,
    /// `None` where there was no thread to be had.
    to_write: Option<Sender<(LeaseFile, Horizon)>>,
    written: Receiver<(LeaseFile, Written)>,
    /// Wakes whoever sleeps until something is written.
    done: Arc<Notify>,
}

impl Renewals {
    pub(super) fn of(file: LeaseFile) -> Self {
        let path = file.path().to_owned();
        let (to_write, orders) = channel::<(LeaseFile, Horizon)>();
        let (tell, written) = channel();
        let done = Arc::new(Notify::new());
        let wake = Arc::clone(&done);
        let work = move || {
            for (mut file, horizon) in orders {
                let written = write(&mut file, horizon);
                if tell.send((file, written)).is_err() {
                    return;
                }
                wake.notify_one();
            }
        };
        let thread = Builder::new().name("lease".into()).spawn(work);
        let to_write = thread.is_ok().then_some(to_write);
        Self { path, patience: PATIENCE, file: Some(file), late: false, to_write, written, done }
    }

    /// Begins to write, unless something is under way already; [`Self::written`]
    /// says when it is done. Where there is no thread, it is done now.
    pub(super) fn begin(&mut self, horizon: Horizon) -> Option<Written> {
        let Some(file) = self.file.take() else { return self.look().or_else(|| self.hangs()) };
        let sent = match &self.to_write {
            Some(thread) => thread.send((file, horizon)).map_err(|lost| lost.0.0),
            None => Err(file),
        };
        self.file = sent.err();
        self.write(horizon)
    }

    /// Writes, and waits for the disk; `None` while something is under way.
    pub(super) fn write(&mut self, horizon: Horizon) -> Option<Written> {
        Some(write(self.file.as_mut()?, horizon))
    }

    /// Sleeps until what is under way is done; where nothing is, for ever.
    pub(super) async fn written(&mut self) -> Written {
        loop {
            self.done.notified().await;
            if let Ok(back) = self.written.try_recv() {
                return self.taken(back);
            }
        }
    }

    /// Waits, awake, for what is under way: not for long, and not once more for a
    /// disk that hangs. What comes too late, [`Self::written`] has.
    pub(super) fn wait(&mut self) -> Option<Written> {
        if self.file.is_some() || self.late {
            return self.look();
        }
        match self.written.recv_timeout(self.patience) {
            Ok(back) => Some(self.taken(back)),
            Err(RecvTimeoutError::Timeout) => self.hangs(),
            Err(RecvTimeoutError::Disconnected) => Some(self.lost()),
        }
    }

    /// What to say where the disk has not done for a while what is under way.
    pub(super) fn fault(&self) -> Option<String> {
        self.late.then(|| format!("cannot write {}: {HANGS}", self.path.display()))
    }

    /// What is done by now of what is under way.
    fn look(&mut self) -> Option<Written> {
        if self.file.is_some() {
            return None;
        }
        match self.written.try_recv() {
            Ok(back) => Some(self.taken(back)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(self.lost()),
        }
    }

    fn hangs(&mut self) -> Option<Written> {
        if !std::mem::replace(&mut self.late, true) {
            warn!(path = %self.path.display(), "{HANGS}: no knock beyond the lease is granted until it does");
        }
        None
    }

    fn taken(&mut self, (file, written): (LeaseFile, Written)) -> Written {
        self.file = Some(file);
        self.late = false;
        written
    }

    /// The thread has ended, and what it had to write with it.
    fn lost(&self) -> Written {
        let ended = io::Error::other("the thread that writes it has ended: restart spad");
        Err(JournalError::new("write", &self.path, ended))
    }
}

fn write(file: &mut LeaseFile, horizon: Horizon) -> Written {
    file.write(horizon.time).map(|()| horizon)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spa_proto::ServerPublic;

    #[test]
    fn a_thread_that_has_ended_is_told_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = LeaseFile::open(dir.path(), ServerPublic::from_bytes([1; 32])).unwrap().0;
        let mut renewals = Renewals::of(file);
        // As if it had ended in the middle of a write.
        (renewals.file, renewals.written) = (None, channel().1);
        let horizon =
            Horizon { time: Timestamp::from_millis(1), begun: Monotonic::new(Duration::ZERO) };
        for told in [renewals.wait(), renewals.begin(horizon), renewals.wait()] {
            let error = told.unwrap().unwrap_err().to_string();
            assert!(error.contains("lease-") && error.contains("has ended"), "{error}");
        }
    }
}
