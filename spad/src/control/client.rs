//! The command line's end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use super::{Answer, Request};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a daemon that has said that it ends may take to do so.
const END: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Bytes read at once: a list of many grants has millions.
const PIECE: usize = 1 << 20;

/// Asks the spad that runs with this run directory.
///
/// # Errors
/// Says the socket, and whether anybody listens there.
pub fn ask(run_dir: &Path, request: &Request) -> Result<Answer, String> {
    let path = super::socket_path(run_dir);
    let stream = UnixStream::connect(&path).map_err(|error| explain(&path, &error))?;
    exchange(stream, request).map_err(|error| format!("{}: {error}", path.display()))
}

/// Why no events are shown.
#[derive(Debug)]
pub enum Unheard {
    /// The daemon runs, and does not tell them.
    Refused(String),
    /// Nobody is there to tell them, or no more.
    Over(String),
}

impl From<String> for Unheard {
    fn from(what: String) -> Self {
        Self::Over(what)
    }
}

/// Asks for events as they come: a line of JSON each, until the daemon ends.
///
/// # Errors
/// As [`ask`], also where events are not for who asks.
pub fn watch(run_dir: &Path) -> Result<UnixStream, Unheard> {
    let path = super::socket_path(run_dir);
    let mut stream = UnixStream::connect(&path).map_err(|error| explain(&path, &error))?;
    let mut begin = || -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        // Whoever is turned away is told so before asking.
        let _ = stream.write_all((serde_json::to_string(&Request::Watch)? + "\n").as_bytes());
        // An empty line says that it has begun.
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            stream.read_exact(&mut byte)?;
            answer.extend(byte);
        }
        stream.set_read_timeout(None)?;
        Ok(answer)
    };
    let answer = begin().map_err(|error| format!("{}: {error}", path.display()))?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Failed(why)) => Err(Unheard::Refused(why)),
        _ => Ok(stream),
    }
}

/// Asks it to end, and waits until it has: whatever it held is free then.
///
/// # Errors
/// As [`ask`], and where it does not end.
pub fn stop(run_dir: &Path, open: bool) -> Result<Answer, String> {
    let path = super::socket_path(run_dir);
    let stream = UnixStream::connect(&path).map_err(|error| explain(&path, &error))?;
    let ended = move || -> io::Result<Answer> {
        let process = peer(&stream)?;
        let answer = exchange(stream, &Request::Stop { open })?;
        if matches!(answer, Answer::Stopped(_)) {
            wait_for_end(&process)?;
        }
        Ok(answer)
    };
    ended().map_err(|error| format!("{}: {error}", path.display()))
}

/// Whether a spad runs with this run directory.
#[must_use]
pub fn is_running(run_dir: &Path) -> bool {
    UnixStream::connect(super::socket_path(run_dir)).is_ok()
}

/// The process at the other end.
fn peer(stream: &UnixStream) -> io::Result<OwnedFd> {
    let pid = rustix::net::sockopt::socket_peercred(stream)?.pid;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn wait_for_end(process: &OwnedFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&END))? {
        0 => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "spad has said that it ends, and goes on"))
        }
        _ => Ok(()),
    }
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    // Whoever is turned away is told so before asking.
    let asked = stream.write_all(text.as_bytes());
    let mut line = String::new();
    let read = BufReader::with_capacity(PIECE, stream).read_line(&mut line);
    if line.is_empty() {
        asked.and(read)?;
    }
    Ok(serde_json::from_str(&line)?)
}

fn explain(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!(
                "spad is not running: nobody listens at {path}; start it with: spad run --config FILE"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("{path}: permission denied; ask as root, or as a member of the control-group")
        }
        _ => format!("{path}: {error}"),
    }
}
