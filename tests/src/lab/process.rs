//! Programs that run on a host: finished ones and running ones.

use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::{Doing, Result, fail};
use super::namespace::child_of;
use crate::wait;

/// How long a program may take to start or to die.
const GRACE: Duration = Duration::from_secs(10);

/// How long after a program's end its output is waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a finished program left.
#[derive(Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All it printed to standard output.
    pub stdout: String,
    /// All it printed to standard error.
    pub stderr: String,
}

impl Output {
    /// Itself if the program exited with 0, else an error that shows what it printed.
    pub fn ok(self) -> Result<Self> {
        if self.status.success() { Ok(self) } else { fail(self.to_string()) }
    }

    /// Whether the program exited with 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The exit code; `None` after a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output without the white space at its ends.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Both outputs in one text, for assertions on messages.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "`{}` ended with {}", self.command, self.status)?;
        write!(f, "{}{}", self.stdout, self.stderr)
    }
}

/// A program that runs on a host. It is killed when this value goes.
pub struct Running {
    command: String,
    /// The process that entered the namespaces; its only child is the program.
    entered: Child,
    pid: Pid,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
}

impl Running {
    /// Takes over a child made with all three streams piped.
    pub(crate) fn new(command: String, mut entered: Child) -> Result<Self> {
        let stdin = entered.stdin.take();
        let stdout = Collected::from(entered.stdout.take());
        let stderr = Collected::from(entered.stderr.take());
        let pid = program_of(&mut entered).doing(&command)?;
        Ok(Self { command, entered, pid, stdin, stdout, stderr })
    }

    /// Process id as the test sees it (not as the program itself does).
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) -> Result {
        kill(self.pid, signal).doing(format!("{signal} to `{}`", self.command))
    }

    /// Lets go on what SIGSTOP has stopped. The entering process has stopped with it.
    pub fn resume(&self) -> Result {
        let entered = Pid::from_raw(i32::try_from(self.entered.id())?);
        for pid in [entered, self.pid] {
            kill(pid, Signal::SIGCONT).doing(format!("SIGCONT to `{}`", self.command))?;
        }
        Ok(())
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.entered.try_wait()?.is_none())
    }

    /// Waits for its end, and for what it printed last; an error after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = self.end(limit)?;
        self.hear_out();
        Ok(status)
    }

    /// Waits until all that an ended program printed has been read.
    fn hear_out(&self) {
        // Error: a child of the program lives on and may still print.
        let _ = wait::until("its output ends", LAST_WORDS, || {
            Ok(self.stdout.is_complete() && self.stderr.is_complete())
        });
    }

    fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("`{}` ends", self.command);
        wait::until_some(&what, limit, || Ok(self.entered.try_wait()?))
    }

    /// Kills it with SIGKILL and waits.
    pub fn kill(&mut self) -> Result {
        if self.is_running()? {
            self.signal(Signal::SIGKILL)?;
            self.end(GRACE)?;
        }
        Ok(())
    }

    /// What it printed to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it printed to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Writes a line to its standard input.
    pub fn write_line(&mut self, line: &str) -> Result {
        let Some(stdin) = &mut self.stdin else {
            return fail(format!("standard input of `{}` is closed", self.command));
        };
        writeln!(stdin, "{line}").doing(format!("writing to `{}`", self.command))
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits until standard output contains `text`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<Duration> {
        let what = format!("`{}` prints {text:?}", self.command);
        wait::until(&what, limit, || {
            let mut there = self.stdout.text().contains(text);
            if !there && !self.is_running()? {
                self.hear_out();
                there = self.stdout.text().contains(text);
                if !there {
                    return fail(format!("`{}` ended: {}", self.command, self.stderr.text()));
                }
            }
            Ok(there)
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors: it has ended already, and its namespaces end with the lab in any case.
        let _ = self.kill();
    }
}

/// The program below an entering process: waits for the fork that entering a PID namespace takes.
fn program_of(entered: &mut Child) -> Result<Pid> {
    let parent = entered.id();
    wait::until_some("the program starts", GRACE, || {
        let child = child_of(parent)?;
        if child.is_none() && entered.try_wait()?.is_some() {
            // Over already: nothing is left to signal, and the entering process has its status.
            return Ok(Some(Pid::from_raw(i32::try_from(parent)?)));
        }
        Ok(child)
    })
}

/// A stream read to its end by a thread of its own, so that the program never blocks on it.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(stream: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = stream.map(|stream| thread::spawn(move || drain(stream, &sink)));
        Self { bytes, reader }
    }

    fn is_complete(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn drain(mut stream: impl Read, sink: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let mut bytes = sink.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend_from_slice(&buffer[..count]);
    }
}
