//! Who was last let in when, for `spa-keys list`: noted in memory, and written
//! down by the tick, beside everything else. Nothing is decided by it.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use spa_keys::files::FileError;
use spa_keys::{LastKnocks, Store};
use spa_proto::{Kid, Timestamp};
use tracing::warn;

use super::worker::Worker;

/// How long the end waits for the disk.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is noted, and what becomes of it.
pub(super) struct Knocks {
    noted: LastKnocks,
    path: PathBuf,
    /// Whether there is something that is not written yet.
    new: bool,
    /// It is being written.
    under_way: Option<Receiver<Result<(), FileError>>>,
    /// Whether the last that was written was said to have failed.
    failed: bool,
}

impl Knocks {
    /// What was written down before.
    pub(super) fn of(store: &Store) -> Self {
        let (noted, path) = (store.last_knocks(), store.last_knocks_path());
        Self { noted, path, new: false, under_way: None, failed: false }
    }

    pub(super) fn note(&mut self, kid: Kid, at: Timestamp) {
        self.noted.note(kid, at);
        self.new = true;
    }

    /// Begins to write what is new, unless the disk still has the last to do.
    pub(super) fn write(&mut self, writer: &mut Worker, is_known: impl Fn(&Kid) -> bool) {
        if self.is_busy() || !std::mem::take(&mut self.new) {
            return;
        }
        self.noted.retain(is_known);
        let (knocks, path) = (self.noted.clone(), self.path.clone());
        let (tell, done) = channel();
        let begun = writer.give(move || {
            let _ = tell.send(knocks.write(&path));
        });
        self.under_way = begun.then_some(done);
        self.new = self.under_way.is_none();
    }

    /// Writes what is new, and does not wait long for it.
    pub(super) fn write_last(&mut self, writer: &mut Worker, is_known: impl Fn(&Kid) -> bool) {
        self.write(writer, is_known);
        if let Some(done) = &self.under_way {
            let _ = done.recv_timeout(PATIENCE);
        }
    }

    fn is_busy(&mut self) -> bool {
        let Some(done) = &self.under_way else { return false };
        match done.try_recv() {
            Err(TryRecvError::Empty) => return true,
            Ok(Err(error)) => {
                if !std::mem::replace(&mut self.failed, true) {
                    warn!(%error, "who last knocked when is not written down: spa-keys list will not know");
                }
                self.new = true;
            }
            Ok(Ok(())) => self.failed = false,
            Err(TryRecvError::Disconnected) => {}
        }
        self.under_way = None;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        (dir, store)
    }

    #[test]
    fn what_is_noted_is_there_after_a_restart_and_who_is_gone_is_not() {
        let (_dir, store) = store();
        let (alice, bob) = (Kid::from_bytes([1; 16]), Kid::from_bytes([2; 16]));
        let (mut knocks, mut writer) = (Knocks::of(&store), Worker::new("test"));
        knocks.write_last(&mut writer, |_| true);
        assert!(!store.last_knocks_path().exists(), "nothing new, nothing written");
        let at = Timestamp::from_millis(1_800_000_000_000);
        knocks.note(alice, at);
        knocks.note(bob, at);
        knocks.write_last(&mut writer, |kid| *kid == alice);
        let again = Knocks::of(&store);
        assert_eq!((again.noted.of(&alice), again.noted.of(&bob)), (Some(at), None));
    }

    #[test]
    fn what_could_not_be_written_is_tried_again() {
        let (_dir, store) = store();
        let (mut knocks, mut writer) = (Knocks::of(&store), Worker::new("test"));
        std::fs::create_dir(store.last_knocks_path()).unwrap();
        let alice = Kid::from_bytes([1; 16]);
        knocks.note(alice, Timestamp::from_millis(1_800_000_000_000));
        let wait = |knocks: &mut Knocks| while knocks.is_busy() {};
        knocks.write(&mut writer, |_| true);
        wait(&mut knocks);
        assert!(knocks.failed && knocks.new);
        std::fs::remove_dir(store.last_knocks_path()).unwrap();
        knocks.write(&mut writer, |_| true);
        wait(&mut knocks);
        assert!(!knocks.failed && !knocks.new && store.last_knocks().of(&alice).is_some());
    }
}
