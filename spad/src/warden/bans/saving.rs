//! Brings the bans to the disk, by the thread that writes there, while no knock waits. Who
//! has asked for a change is answered when it is written.

use std::time::Duration;

use tokio::sync::oneshot::{self, Receiver};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::bans::{BanFile, Bans};
use crate::control::Answer;
use crate::warden::Warden;
use crate::warden::operators::Asker;
use crate::warden::worker::Worker;

/// How long who has asked waits for the disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// And the end of the daemon.
const AT_THE_END: Duration = Duration::from_millis(500);

const HANGS: &str = "the disk does not answer";

/// Whether the list got to the disk, or why not.
pub(in crate::warden) type Outcome = Result<(), String>;

/// Writes the whole list, once at a time: what is newer waits, and is written next.
pub(super) struct Saving {
    pub(super) file: BanFile,
    /// Whether no write that was begun says what the list does.
    unsaved: bool,
    under_way: Option<Receiver<Outcome>>,
    /// For what is under way.
    waiting: Vec<Waiting>,
    /// For what comes after it.
    next: Vec<Waiting>,
    /// Why it could not be written, as last said.
    told: Option<String>,
}

/// What is said to who has asked for a change.
pub(super) struct Promise {
    /// If it gets to the disk.
    pub(super) answer: Answer,
    /// What is the matter if it does not.
    pub(super) otherwise: String,
}

struct Waiting {
    promise: Promise,
    asker: Asker,
    until: Instant,
}

impl Saving {
    pub(super) fn to(file: BanFile) -> Self {
        let (waiting, next) = (Vec::new(), Vec::new());
        Self { file, unsaved: false, under_way: None, waiting, next, told: None }
    }

    /// The list has changed.
    pub(super) fn owe(&mut self) {
        self.unsaved = true;
    }

    fn promise(&mut self, promise: Promise, asker: Asker) {
        let until = Instant::now() + PATIENCE;
        self.next.push(Waiting { promise, asker, until });
    }

    /// Begins to write what is new, unless the disk still has the last to do.
    pub(super) fn begin(&mut self, list: impl FnOnce() -> Bans, writer: &mut Worker) {
        if self.under_way.is_some() || !std::mem::take(&mut self.unsaved) {
            return;
        }
        self.waiting.append(&mut self.next);
        let (file, list) = (self.file.clone(), list());
        let (tell, told) = oneshot::channel();
        // Where there is no thread, it goes with what it was to tell, as where one has ended.
        writer.give(move || {
            let _ = tell.send(file.write(&list).map_err(|error| error.to_string()));
        });
        self.under_way = Some(told);
    }

    /// Sleeps until what is under way is done: then [`Warden::bans_written`] must be called.
    pub(super) async fn done(&mut self) -> Outcome {
        let Some(told) = &mut self.under_way else { return std::future::pending().await };
        let outcome = told.await;
        self.under_way = None;
        outcome.unwrap_or_else(|_| Err(self.fault("there is no thread to write it")))
    }

    /// Who is to be answered now.
    fn ended(&mut self, outcome: &Outcome) -> Vec<Waiting> {
        self.unsaved |= outcome.is_err();
        let told = outcome.as_ref().err();
        if let Some(error) = told.filter(|error| self.told.as_ref() != Some(*error)) {
            warn!(error, "bans are not kept across a restart: tried again every 20 s");
        }
        self.told = told.cloned();
        std::mem::take(&mut self.waiting)
    }

    /// When it has taken too long for somebody: then [`Warden::bans_are_late`] must be called.
    pub(super) fn late_at(&self) -> Option<Instant> {
        self.everyone().map(|waiting| waiting.until).min()
    }

    fn late(&mut self, now: Instant) -> Vec<Waiting> {
        let is_late = |waiting: &mut Waiting| waiting.until <= now;
        let late = self.waiting.extract_if(.., is_late).collect::<Vec<_>>();
        late.into_iter().chain(self.next.extract_if(.., is_late)).collect()
    }

    fn everyone(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().chain(&self.next)
    }

    /// Why the last write has failed, if it has.
    pub(super) fn fault_of_last(&self) -> Option<&str> {
        self.told.as_deref()
    }

    fn fault(&self, what: &str) -> String {
        self.file.fault(what).to_string()
    }
}

impl Warden {
    /// Has the bans written, and answers then.
    pub(super) fn save_bans(&mut self, promise: Promise, asker: Asker) {
        self.bans.saving.owe();
        self.bans.saving.promise(promise, asker);
        self.bans.save(&mut self.ban_writer);
    }

    /// Takes note of what became of a write. What has changed meanwhile is written next; what
    /// has failed waits for the tick, unless somebody waits for it.
    pub(in crate::warden) fn bans_written(&mut self, outcome: &Outcome) {
        let waiting = self.bans.saving.ended(outcome);
        self.keep_promises(waiting, outcome);
        if outcome.is_ok() || !self.bans.saving.next.is_empty() {
            self.bans.save(&mut self.ban_writer);
        }
    }

    /// Answers those who have waited for long enough. What they want is written all the same.
    pub(in crate::warden) fn bans_are_late(&mut self, now: Instant) {
        let late = self.bans.saving.late(now);
        self.keep_promises(late, &Err(self.bans.saving.fault(HANGS)));
    }

    fn keep_promises(&mut self, waiting: Vec<Waiting>, outcome: &Outcome) {
        for Waiting { promise: Promise { answer, otherwise }, asker, .. } in waiting {
            let failed = |error| Answer::Failed(format!("{otherwise}: {error}"));
            self.conclude(asker, outcome.as_ref().err().map_or(answer, failed));
        }
    }

    /// Writes what is new, does not wait long for it, and answers whoever waits.
    pub(in crate::warden) async fn save_bans_at_the_end(&mut self) {
        self.bans.save(&mut self.ban_writer);
        while self.bans.saving.under_way.is_some() {
            let Ok(outcome) = timeout(AT_THE_END, self.bans.saving.done()).await else { break };
            self.bans_written(&outcome);
        }
        self.bans_are_late(Instant::now() + PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bans::Ban;
    use spa_proto::Timestamp;
    use std::sync::mpsc::channel;

    fn bans(networks: &[&str]) -> Bans {
        let mut bans = Bans::default();
        for network in networks {
            let network = spa_keys::cidr::parse(network).unwrap();
            let since = Timestamp::from_millis(1_800_000_000_000);
            bans.put(Ban { network, since, lasts: None, why: String::new(), by: None });
        }
        bans
    }

    fn made() -> (tempfile::TempDir, Saving, Worker) {
        let dir = tempfile::tempdir().unwrap();
        let saving = Saving::to(BanFile::new(dir.path()));
        (dir, saving, Worker::new("test"))
    }

    async fn done(saving: &mut Saving) -> Outcome {
        let outcome = saving.done().await;
        saving.ended(&outcome);
        outcome
    }

    #[tokio::test]
    async fn what_is_newest_is_written_last_and_once() {
        let (_dir, mut saving, mut writer) = made();
        let (hold, held) = channel::<()>();
        writer.give(move || {
            let _ = held.recv();
        });
        saving.begin(|| bans(&["192.0.2.1"]), &mut writer);
        assert!(saving.under_way.is_none(), "nothing is new");
        for network in ["192.0.2.2", "192.0.2.3", "192.0.2.4"] {
            saving.owe();
            saving.begin(|| bans(&[network]), &mut writer);
        }
        assert!(saving.unsaved && saving.file.read().unwrap().is_empty(), "the disk hangs");
        drop(hold);
        done(&mut saving).await.unwrap();
        assert_eq!(saving.file.read().unwrap(), bans(&["192.0.2.2"]));
        saving.begin(|| bans(&["192.0.2.4"]), &mut writer);
        done(&mut saving).await.unwrap();
        assert_eq!(saving.file.read().unwrap(), bans(&["192.0.2.4"]));
        assert!(!saving.unsaved);
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_tried_again() {
        let (dir, mut saving, mut writer) = made();
        let path = dir.path().join("bans.json");
        std::fs::create_dir(&path).unwrap();
        saving.owe();
        for _ in 0..2 {
            saving.begin(|| bans(&["192.0.2.1"]), &mut writer);
            let error = done(&mut saving).await.unwrap_err();
            assert!(error.contains("bans.json") && saving.told == Some(error));
        }
        std::fs::remove_dir(&path).unwrap();
        saving.begin(|| bans(&["192.0.2.1"]), &mut writer);
        done(&mut saving).await.unwrap();
        assert!(saving.told.is_none() && !saving.unsaved);
        assert_eq!(saving.file.read().unwrap(), bans(&["192.0.2.1"]));
    }

    #[tokio::test]
    async fn a_thread_that_has_ended_is_told_and_another_writes() {
        let (_dir, mut saving, mut writer) = made();
        saving.owe();
        // Whatever is given to it before it is known to have ended is lost.
        writer.give(|| panic!("as a thread that ends"));
        saving.begin(|| bans(&["192.0.2.1"]), &mut writer);
        while let Err(error) = done(&mut saving).await {
            assert!(error.contains("bans.json") && error.contains("no thread"), "{error}");
            saving.begin(|| bans(&["192.0.2.1"]), &mut writer);
        }
        assert_eq!(saving.file.read().unwrap(), bans(&["192.0.2.1"]));
    }
}
