//! Where the audit goes: standard error, the journal, a file, whoever watches. None
//! of them can hold up a knock, but standard error, which is told at once.

use std::collections::VecDeque;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use tokio::sync::broadcast;
use tracing::{info, warn};

use super::event::{Event, Kind};
use super::file::AuditFile;
use super::journal::Journal;
use crate::control::report;

/// How many events may wait for the journal or a disk.
const WAITING: usize = 2048;
/// How many may wait for a watcher that is slow.
const UNSEEN: usize = 256;
/// How many of the last knocks are remembered.
const REMEMBERED: usize = 10;
/// How many are written at once.
const BATCH: usize = 64;
/// How long the end waits for what is on its way.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where the audit is written, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The file, if there is to be one.
    pub file: Option<PathBuf>,
    /// The group that may read it.
    pub group: Option<u32>,
}

/// Takes events, and sees that they get somewhere.
pub struct Recorder {
    target: Target,
    to_journal: bool,
    writer: Option<Writer>,
    seen: broadcast::Sender<Arc<Event>>,
    last: VecDeque<Arc<Event>>,
    state: Arc<State>,
}

/// What the thread and the warden both know.
#[derive(Default)]
struct State {
    lost: AtomicU64,
    fault: Mutex<Option<String>>,
}

/// The thread that writes.
struct Writer {
    queue: Option<SyncSender<Box<Event>>>,
    done: Receiver<()>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        let _ = self.done.recv_timeout(LAST_WORDS);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new(Target::default(), false)
    }
}

impl Recorder {
    /// One that writes there; and to the journal instead of standard error, where
    /// that is what standard error leads to.
    #[must_use]
    pub fn new(target: Target, to_journal: bool) -> Self {
        let state = Arc::new(State::default());
        let mut recorder = Self {
            target,
            to_journal,
            writer: None,
            seen: broadcast::Sender::new(UNSEEN),
            last: VecDeque::new(),
            state,
        };
        recorder.begin();
        recorder
    }

    fn begin(&mut self) {
        if self.target.file.is_none() && !self.to_journal {
            return;
        }
        match Writer::new(&self.target, self.to_journal, Arc::clone(&self.state)) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => {
                warn!(%error, "no thread for the audit: it goes to standard error alone");
                self.to_journal = false;
            }
        }
    }

    /// Writes somewhere else from now on.
    pub fn redirect(&mut self, target: Target) {
        if target != self.target {
            self.writer = None;
            self.target = target;
            self.state.set_fault(None);
            self.begin();
        }
    }

    /// Takes one event.
    pub fn put(&mut self, event: Event) {
        if !self.to_journal {
            event.tell();
        }
        if let Some(queue) = self.writer.as_ref().and_then(|writer| writer.queue.as_ref())
            && queue.try_send(Box::new(event.clone())).is_err()
        {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
        let event = Arc::new(event);
        if matches!(event.event, Kind::KnockAccepted | Kind::KnockRefused) {
            self.last.truncate(REMEMBERED - 1);
            self.last.push_front(Arc::clone(&event));
        }
        // Nobody may be watching.
        let _ = self.seen.send(event);
    }

    /// Whoever wants to see events as they come.
    #[must_use]
    pub fn watchers(&self) -> broadcast::Sender<Arc<Event>> {
        self.seen.clone()
    }

    /// The last knocks that a line was made of, the newest first.
    pub fn last(&self) -> impl Iterator<Item = &Event> {
        self.last.iter().map(AsRef::as_ref)
    }

    /// How it is.
    #[must_use]
    pub fn report(&self) -> report::Audit {
        report::Audit { to: self.places(), lost: self.lost(), fault: self.fault() }
    }

    /// Where the audit goes: `stderr`, `journal`, a path.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        let first = if self.to_journal { "journal" } else { "stderr" };
        let file = self.target.file.as_deref().map(|path| path.display().to_string());
        std::iter::once(first.to_owned()).chain(file).collect()
    }

    /// How many events are missing in the journal, or in the file.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }

    /// Why the file cannot be written, if so.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.state.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl State {
    /// The fault that was there before.
    fn set_fault(&self, fault: Option<String>) -> Option<String> {
        let mut held = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, fault)
    }
}

impl Writer {
    fn new(target: &Target, to_journal: bool, state: Arc<State>) -> std::io::Result<Self> {
        let (queue, events) = sync_channel(WAITING);
        let (finish, done) = sync_channel(1);
        let file = target.file.clone().map(|path| AuditFile::new(path, target.group));
        let journal = to_journal.then(Journal::new).transpose()?;
        let mut sinks = Sinks { journal, file, told: state.lost.load(Ordering::Relaxed), state };
        let work = move || {
            sinks.work(&events);
            let _ = finish.send(());
        };
        Builder::new().name("audit".into()).spawn(work)?;
        Ok(Self { queue: Some(queue), done })
    }
}

/// What the thread writes to.
struct Sinks {
    journal: Option<Journal>,
    file: Option<AuditFile>,
    /// Of the events that were lost, so many have been told.
    told: u64,
    state: Arc<State>,
}

impl Sinks {
    /// Until nobody sends any more.
    fn work(&mut self, events: &Receiver<Box<Event>>) {
        while let Ok(first) = events.recv() {
            let batch: Vec<_> =
                std::iter::once(first).chain(events.try_iter().take(BATCH - 1)).collect();
            let lost = self.state.lost.load(Ordering::Relaxed);
            let gap = (lost > self.told).then(|| {
                let count = Some(lost - self.told);
                Box::new(Event { count, ..Event::now(Kind::Lost) })
            });
            let unheard = batch.iter().filter(|event| !self.send(event)).count();
            let written = self.write(gap.iter().chain(&batch));
            // The gap is told another time, and is no event that could be lost.
            let missing = if written { unheard } else { batch.len() };
            self.state.lost.fetch_add(missing.try_into().unwrap_or(0), Ordering::Relaxed);
            let sent = gap.iter().all(|gap| self.send(gap));
            if written && (sent || self.file.is_some()) {
                self.told = lost;
            }
        }
    }

    /// Whether the journal, if it goes there, has it.
    fn send(&self, event: &Event) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.write(event).is_ok())
    }

    /// Whether the file, if there is one, has them.
    fn write<'a>(&mut self, batch: impl Iterator<Item = &'a Box<Event>>) -> bool {
        let Some(file) = &mut self.file else { return true };
        let lines = batch.filter_map(|event| serde_json::to_string(event).ok());
        let lines: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
        let written = file.write(lines.as_bytes());
        match &written {
            Ok(()) => {
                if self.state.set_fault(None).is_some() {
                    info!(path = %file.path().display(), "the audit can be written again");
                }
            }
            Err(error) => {
                let fault = format!("cannot write {}: {error}", file.path().display());
                if self.state.set_fault(Some(fault)).is_none() {
                    warn!(path = %file.path().display(), %error, "the audit cannot be written: events are lost");
                }
            }
        }
        written.is_ok()
    }
}

/// Whether standard error leads to the systemd journal, and that takes fields.
#[must_use]
pub fn leads_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(held) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", held.dev(), held.ino())
        && Journal::new().is_ok_and(|it| it.listens())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn refused(number: u64) -> Event {
        Event { unix_ms: number, event: Kind::KnockRefused, ..Event::default() }
    }

    fn lines(path: &Path) -> Vec<Event> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| Event::from_line(line).unwrap()).collect()
    }

    #[test]
    fn all_is_in_the_file_when_it_ends_and_the_last_ten_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        let target = |path: &Path| Target { file: Some(path.to_owned()), group: None };
        let mut recorder = Recorder::new(target(&one), false);
        (0..500).for_each(|number| recorder.put(refused(number)));
        recorder.redirect(target(&two));
        recorder.put(refused(500));
        assert_eq!(recorder.places(), ["stderr", &two.display().to_string()]);
        let last: Vec<_> = recorder.last().map(|event| event.unix_ms).collect();
        assert_eq!(last, (491..=500).rev().collect::<Vec<_>>());
        assert_eq!((recorder.lost(), recorder.fault()), (0, None));
        drop(recorder);
        assert_eq!(lines(&one).len(), 500);
        assert_eq!(lines(&two), [refused(500)]);
    }

    #[test]
    fn a_disk_that_hangs_holds_nobody_up_and_what_is_lost_is_counted() {
        let (queue, events) = sync_channel(WAITING);
        let (_finish, done) = sync_channel(1);
        // Nobody takes anything from the queue yet: the thread hangs.
        let mut recorder = Recorder {
            writer: Some(Writer { queue: Some(queue), done }),
            ..Recorder::new(Target::default(), false)
        };
        let more = 100;
        for number in 0..u64::try_from(WAITING).unwrap() + more {
            recorder.put(refused(number));
        }
        assert_eq!(recorder.lost(), more);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let mut sinks = Sinks {
            journal: None,
            file: Some(AuditFile::new(path.clone(), None)),
            told: 0,
            state: Arc::clone(&recorder.state),
        };
        drop(recorder.writer.take().map(|mut writer| writer.queue.take()));
        sinks.work(&events);
        let written = lines(&path);
        assert_eq!((written[0].event, written[0].count), (Kind::Lost, Some(more)));
        assert_eq!(written.len(), WAITING + 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_a_fault_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/audit");
        let file = Some(AuditFile::new(path.clone(), None));
        let state = Arc::new(State::default());
        let mut sinks = Sinks { journal: None, file, told: 0, state: Arc::clone(&state) };
        let mut put = |number| {
            let (queue, events) = sync_channel(1);
            queue.send(Box::new(refused(number))).unwrap();
            drop(queue);
            sinks.work(&events);
        };
        (0..3).for_each(&mut put);
        let fault = state.fault.lock().unwrap().clone().unwrap();
        assert!(fault.contains("logs/audit"), "{fault}");
        let lost = || state.lost.load(Ordering::Relaxed);
        assert_eq!(lost(), 3, "and not what would have told of them");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        (3..5).for_each(&mut put);
        assert_eq!((lost(), state.fault.lock().unwrap().clone()), (3, None));
        let written = lines(&path);
        assert_eq!((written[0].event, written[0].count), (Kind::Lost, Some(3)));
        assert_eq!(written[1..], [refused(3), refused(4)]);
    }

    #[test]
    fn what_journald_does_not_take_is_counted_and_told_once_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let state = Arc::new(State::default());
        let journal = Some(Journal::at(&path).unwrap());
        let mut sinks = Sinks { journal, file: None, told: 0, state: Arc::clone(&state) };
        let mut put = |count| {
            let (queue, events) = sync_channel(count);
            (0..count).for_each(|_| queue.send(Box::new(refused(1))).unwrap());
            drop(queue);
            sinks.work(&events);
        };
        put(3);
        assert_eq!(state.lost.load(Ordering::Relaxed), 3);
        let journald = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        put(1);
        put(1);
        drop(path);
        assert_eq!(state.lost.load(Ordering::Relaxed), 3);
        journald.set_nonblocking(true).unwrap();
        let mut space = [0; 4096];
        let mut heard = Vec::new();
        while let Ok(len) = journald.recv(&mut space) {
            heard.push(String::from_utf8_lossy(&space[..len]).contains("SPAD_COUNT"));
        }
        assert_eq!(heard, [false, true, false], "an event, how many were lost, another event");
    }

    #[test]
    fn whoever_watches_too_slowly_is_told_how_much_was_missed() {
        let mut recorder = Recorder::default();
        let mut watcher = recorder.watchers().subscribe();
        let unseen = u64::try_from(UNSEEN).unwrap();
        (0..unseen + 5).for_each(|number| recorder.put(refused(number)));
        let missed = broadcast::error::TryRecvError::Lagged(5);
        assert_eq!(watcher.try_recv(), Err(missed));
        assert_eq!(watcher.try_recv().unwrap().unix_ms, 5);
    }
}
