//! Hooks: programs that are told when a grant is made and when it ends. They run as a
//! user of their own, few at once, and whatever they do no knock waits for them.

mod checked;
mod event;
mod queue;
pub mod supervisor;

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tracing::warn;

use crate::clock::{self, Reading};
use crate::grants::Grant;
pub use checked::Checked;
pub use event::Event;
use queue::{AT_ONCE, About, EACH, ENDS, MOST, Queue};

/// For threads that start a process and wait for it.
const STACK: usize = 128 * 1024;

/// What is to be run when. Without hooks it has no threads and does nothing.
#[derive(Debug, Default)]
pub struct Hooks {
    checked: Option<Arc<Checked>>,
    shared: Option<Arc<Shared>>,
}

/// Between those who have something to tell and those who run hooks.
#[derive(Debug)]
struct Shared {
    queue: Mutex<(Queue<Job>, bool)>,
    news: Condvar,
}

/// One run of a hook; small, since many may wait.
#[derive(Debug)]
struct Job {
    checked: Arc<Checked>,
    event: Event,
    grant: Grant,
    ports: String,
    now: Reading,
}

impl Hooks {
    /// From now on these are run; what waits is run as it was.
    ///
    /// # Errors
    /// Where no thread can be started: then there are no hooks.
    pub fn set(&mut self, checked: Option<Checked>) -> io::Result<()> {
        self.checked = None;
        if checked.is_some() && self.shared.is_none() {
            self.shared = Some(Shared::with_threads()?);
        }
        self.checked = checked.map(Arc::new);
        Ok(())
    }

    /// Whether somebody is to be told of ends.
    #[must_use]
    pub fn tells_ends(&self) -> bool {
        self.checked.as_ref().is_some_and(|checked| checked.on_end.is_some())
    }

    /// Has somebody told what has happened to a grant, an end only if the beginning was.
    /// Returns at once: whether nothing stands in the way of telling its end, too.
    pub fn tell(&self, event: Event, grant: &Grant, ports: &[String], now: Reading) -> bool {
        let (Some(checked), Some(shared)) = (&self.checked, &self.shared) else { return true };
        let told = match event {
            Event::Granted { .. } => true,
            Event::Ended(_) => grant.told,
        };
        if !told || checked.command(event).is_none() {
            return true;
        }
        shared.take(Job {
            checked: Arc::clone(checked),
            event,
            grant: grant.clone(),
            ports: ports.join(","),
            now,
        })
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lock().1 = true;
            shared.news.notify_all();
        }
    }
}

impl Shared {
    fn with_threads() -> io::Result<Arc<Self>> {
        let shared =
            Arc::new(Self { queue: Mutex::new((Queue::new(), false)), news: Condvar::new() });
        for _ in 0..AT_ONCE {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("hooks".into())
                .stack_size(STACK)
                .spawn(move || shared.work())?;
        }
        Ok(shared)
    }

    /// Nobody panics while holding it.
    fn lock(&self) -> MutexGuard<'_, (Queue<Job>, bool)> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room.
    fn take(&self, job: Job) -> bool {
        let Grant { id: grant, kid: client, .. } = job.grant;
        let mut locked = self.lock();
        let taken = match job.event {
            Event::Granted { extended: extends, .. } => {
                locked.0.offer(About { grant, client, extends }, job)
            }
            Event::Ended(_) => locked.0.end(grant, job),
        };
        if !taken && locked.0.overflows() {
            warn!(
                "too many hooks wait, {EACH} about one client's grants, {MOST} about all, or \
                 {ENDS} about ends: of more nothing is told"
            );
        }
        drop(locked);
        self.news.notify_one();
        taken
    }

    /// One thread's life.
    fn work(&self) {
        while let Some((grant, job)) = self.next() {
            job.run();
            let mut locked = self.lock();
            locked.0.done(grant);
            if let Some(count) = locked.0.left_out() {
                warn!(count, "hooks were not run, since too many waited");
            }
            drop(locked);
            // What is about this grant may have waited for it.
            self.news.notify_all();
        }
    }

    /// Waits for the next; `None` at the end.
    fn next(&self) -> Option<(u64, Job)> {
        let mut locked = self.lock();
        loop {
            if locked.1 {
                return None;
            }
            if let Some(next) = locked.0.next() {
                return Some(next);
            }
            locked = self.news.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Job {
    /// Runs it and waits for its end, which its supervisor sees to.
    fn run(&self) {
        let failed = match self.start() {
            Ok(status) if status.success() => return,
            Ok(status) => said(status),
            Err(error) => error.to_string(),
        };
        warn!(
            target: "audit",
            event = self.event.name(),
            client = %self.grant.client,
            grant = self.grant.id,
            program = %self.program(),
            why = failed,
            "hook failed"
        );
    }

    fn program(&self) -> std::path::Display<'_> {
        self.checked.command(self.event).map_or(Path::new(""), |command| &command.program).display()
    }

    fn start(&self) -> io::Result<ExitStatus> {
        let Checked { identity, timeout, .. } = &*self.checked;
        let hook = self.checked.command(self.event).ok_or(io::ErrorKind::NotFound)?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["hook", "--uid", &identity.uid.to_string()]);
        command.args(["--gid", &identity.gid.to_string()]);
        command.args(["--seconds", &timeout.as_secs().to_string(), "--"]);
        command.arg(&hook.program).args(&hook.arguments);
        let (told, now) = (self.now, clock::monotonic());
        let all = event::environment(self.event, &self.grant, &self.ports, told, now);
        command.env_clear().envs(all);
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).status()
    }
}

/// The supervisor's exit code, in words.
fn said(status: ExitStatus) -> String {
    let Some(code) = status.code().and_then(|code| u8::try_from(code).ok()) else {
        return status.to_string();
    };
    match code {
        supervisor::TIMED_OUT => "its time was over".to_owned(),
        supervisor::NOT_RUN => "it could not be run".to_owned(),
        supervisor::NOT_EXECUTABLE => "its user may not execute it".to_owned(),
        supervisor::MISSING => "there is no such program".to_owned(),
        code @ supervisor::SIGNALLED.. => {
            format!("signal {} or exit code {code}", code - supervisor::SIGNALLED)
        }
        code => format!("exit code {code}"),
    }
}
