//! Hooks: programs that are told when a grant is made and when it ends. They run as a
//! user of their own, few at once, and whatever they do no knock waits for them.

mod checked;
mod event;
mod queue;
pub mod supervisor;

use std::collections::HashSet;
use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tracing::warn;

use crate::clock::Reading;
use crate::config::HookCommand;
use crate::grants::Grant;
pub use checked::Checked;
pub use event::Event;
use queue::{AT_ONCE, MOST, Queue};

/// For threads that start a process and wait for it.
const STACK: usize = 128 * 1024;

/// What is to be run when. Without hooks it has no threads and does nothing.
#[derive(Debug, Default)]
pub struct Hooks {
    checked: Option<Arc<Checked>>,
    shared: Option<Arc<Shared>>,
    /// Grants of which an end is to be told: those of which the beginning was.
    told: HashSet<u64>,
}

/// Between those who have something to tell and those who run hooks.
#[derive(Debug)]
struct Shared {
    queue: Mutex<(Queue<Job>, bool)>,
    news: Condvar,
}

/// One run of a hook.
#[derive(Debug)]
struct Job {
    checked: Arc<Checked>,
    command: HookCommand,
    event: &'static str,
    environment: Vec<(&'static str, String)>,
    grant: u64,
    client: String,
}

impl Hooks {
    /// From now on these are run; what waits is run as it was. Of grants that are in
    /// force no end is told unless their beginning was.
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

    /// The end of this grant is to be told: its beginning was, before a restart.
    pub fn adopt(&mut self, grant: &Grant) {
        if self.checked.is_some() {
            self.told.insert(grant.id);
        }
    }

    /// Has somebody told what has happened to a grant. Returns at once.
    pub fn tell(&mut self, event: Event<'_>, grant: &Grant, ports: &[String], now: Reading) {
        let (Some(checked), Some(shared)) = (&self.checked, &self.shared) else { return };
        let job = |command: &HookCommand| Job {
            checked: Arc::clone(checked),
            command: command.clone(),
            event: event.name(),
            environment: event::environment(event, grant, ports, now),
            grant: grant.id,
            client: grant.client.to_string(),
        };
        let taken = match (event, &checked.on_grant, &checked.on_end) {
            (Event::Granted { .. }, Some(command), _) => shared.offer(grant.id, job(command)),
            (Event::Granted { .. }, None, _) => true,
            (Event::Ended(_), _, Some(command)) if self.told.remove(&grant.id) => {
                shared.insist(grant.id, job(command));
                return;
            }
            (Event::Ended(_), ..) => {
                self.told.remove(&grant.id);
                return;
            }
        };
        if taken {
            self.told.insert(grant.id);
        }
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

    fn offer(&self, grant: u64, job: Job) -> bool {
        let mut locked = self.lock();
        let taken = locked.0.offer(grant, job);
        if !taken && locked.0.overflows() {
            warn!("{MOST} hooks wait: of more grants on-grant is not told");
        }
        drop(locked);
        self.news.notify_one();
        taken
    }

    fn insist(&self, grant: u64, job: Job) {
        self.lock().0.insist(grant, job);
        self.news.notify_one();
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
            event = self.event,
            client = self.client,
            grant = self.grant,
            program = %self.command.program.display(),
            why = failed,
            "hook failed"
        );
    }

    fn start(&self) -> io::Result<ExitStatus> {
        let Checked { identity, timeout, .. } = &*self.checked;
        let mut command = Command::new("/proc/self/exe");
        command.args(["hook", "--uid", &identity.uid.to_string()]);
        command.args(["--gid", &identity.gid.to_string()]);
        command.args(["--seconds", &timeout.as_secs().to_string(), "--"]);
        command.arg(&self.command.program).args(&self.command.arguments);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
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
