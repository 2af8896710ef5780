//! The process that a hook runs in, `spad hook`: it becomes the hook's user, runs the
//! program, and ends it with all that it has started when its time is over. The warden
//! could not: it may not send signals to another user's processes.

use std::ffi::OsString;
use std::io::{self, PipeReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, kill_process_group, pidfd_open,
    set_child_subreaper,
};

use crate::privileges::{self, Identity};
use crate::show::plain;

/// Its time was over; as timeout(1) says it.
pub(super) const TIMED_OUT: u8 = 124;
/// It was not run: privileges stayed, or the system refused.
pub(super) const NOT_RUN: u8 = 125;
/// The program cannot be run.
pub(super) const NOT_EXECUTABLE: u8 = 126;
/// There is no such program.
pub(super) const MISSING: u8 = 127;
/// To this the number of the signal that has ended it is added.
pub(super) const SIGNALLED: u8 = 128;

/// How much of what it says is told, in bytes.
const SAID: usize = 400;
/// For how long what it leaves behind is ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long what it has said is waited for, when it is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs a program as `identity` for `limit` at most; its status as exit code. What it
/// says is told on standard error, in one line.
#[must_use]
pub fn run(identity: Identity, limit: Duration, command: &[OsString]) -> u8 {
    if let Err(error) = privileges::hook::drop_all(identity) {
        spa_keys::note!("spad: hook not run: privileges stay: {error}");
        return NOT_RUN;
    }
    let Some((program, arguments)) = command.split_first() else { return MISSING };
    let shown = program.to_string_lossy();
    match supervise(Command::new(program).args(arguments), limit) {
        Ok((code, said)) => {
            if !said.is_empty() {
                spa_keys::note!("spad: hook {shown} says: {said}");
            }
            code
        }
        Err(error) => {
            spa_keys::note!("spad: hook {shown} not run: {error}");
            match error.kind() {
                io::ErrorKind::NotFound => MISSING,
                io::ErrorKind::PermissionDenied => NOT_EXECUTABLE,
                _ => NOT_RUN,
            }
        }
    }
}

fn supervise(command: &mut Command, limit: Duration) -> io::Result<(u8, String)> {
    // Whoever loses its parent becomes our child, whatever its group and session.
    set_child_subreaper(Some(getpid()))?;
    let (mut child, listener) = start(command)?;
    let in_time = wait(&child, limit);
    let status = end_all(&mut child);
    // Should somebody have got away who keeps the other end: nobody waits for that.
    let said = listener.recv_timeout(LAST_WORDS).unwrap_or_default();
    let code = if in_time? { status.map_or(NOT_RUN, code) } else { TIMED_OUT };
    Ok((code, said))
}

/// Both of its outputs are heard. The command keeps an end of the pipe, so that it is
/// taken over and dropped here.
fn start(command: &mut Command) -> io::Result<(Child, Receiver<String>)> {
    use std::os::unix::process::CommandExt;
    let (heard, said) = io::pipe()?;
    command.current_dir("/").process_group(0).stdin(Stdio::null());
    command.stdout(said.try_clone()?).stderr(said);
    let child = command.spawn();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (teller, listener) = mpsc::channel();
    spawn(move || teller.send(listen(heard)));
    Ok((child?, listener))
}

/// Whether it ends in time. It stays a zombie, so that its number is nobody else's.
fn wait(child: &Child, limit: Duration) -> io::Result<bool> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends it and whatever it has started, waits until nothing is left, and says how it
/// has ended.
fn end_all(child: &mut Child) -> Option<ExitStatus> {
    let (group, begun) = (Pid::from_child(child), Instant::now());
    let mut status = None;
    while begun.elapsed() < PATIENCE {
        if status.is_none() {
            // All of its group at once, however fast it multiplies.
            let _ = kill_process_group(group, Signal::KILL);
            status = child.try_wait().ok().flatten();
        }
        for pid in children() {
            let _ = kill_process(pid, Signal::KILL);
        }
        if status.is_some() && nobody_is_left() {
            break;
        }
        sleep(Duration::from_millis(2));
    }
    status
}

/// Processes that are children of ours, those that were left to us included.
fn children() -> Vec<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids = |list: String| {
        list.split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect::<Vec<_>>()
    };
    lists.flat_map(pids).collect()
}

/// Lets go of all that have ended; whether there is no other.
fn nobody_is_left() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return true,
            Ok(WaitStatus::StillAlive) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let of = |number: i32| u8::try_from(number).unwrap_or(NOT_RUN);
    match (status.code(), status.signal()) {
        (Some(code), _) => of(code),
        (None, Some(signal)) => SIGNALLED.saturating_add(of(signal)),
        (None, None) => NOT_RUN,
    }
}

/// Hears all it says and keeps the beginning.
fn listen(mut heard: PipeReader) -> String {
    let (mut kept, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(len @ 1..) = heard.read(&mut piece) {
        let room = SAID.saturating_sub(kept.len());
        kept.extend(piece.iter().take(len.min(room)));
    }
    let said = String::from_utf8_lossy(&kept);
    // On one line.
    plain(&said.trim().replace(char::is_whitespace, " "))
}
