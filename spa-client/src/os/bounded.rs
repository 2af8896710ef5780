//! Programs that must not keep us waiting.

use std::io::{self, ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// Far more than any answer, in bytes.
const MAX_ANSWER: usize = 4096;
/// How often to look whether a program that has said all has ended.
const LOOK: Duration = Duration::from_millis(2);

/// What a program says on standard output, if all goes well; `input`, at most 4 KiB, is on its
/// standard input. Both may be secret. What it says on standard error is nobody's.
///
/// # Errors
/// Also where it fails, and where it has not ended within `limit`: then it is ended.
pub(crate) fn output(
    command: &mut Command,
    input: &[u8],
    limit: Duration,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let deadline = Instant::now() + limit;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let answer = converse(&mut child, input, deadline).and_then(|answer| {
        let ended = end(&mut child, deadline)?;
        if ended { Ok(answer) } else { Err(io::Error::other("it failed")) }
    });
    if answer.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
    answer
}

fn converse(child: &mut Child, input: &[u8], deadline: Instant) -> io::Result<Zeroizing<Vec<u8>>> {
    if let Some(mut stdin) = child.stdin.take() {
        // A pipe holds it all. Whoever did not want it tells by its end how that went.
        stdin.write_all(input).or_else(|error| match error.kind() {
            ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error),
        })?;
    }
    let Some(stdout) = child.stdout.take() else { return Ok(Zeroizing::default()) };
    let (sender, answer) = channel();
    let read = move || {
        // All at once: growing would leave copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
        let limit = u64::try_from(MAX_ANSWER).unwrap_or_default();
        let result = stdout.take(limit).read_to_end(&mut text).map(|_| text);
        // Nobody waits any more once time is up.
        let _ = sender.send(result);
    };
    thread::Builder::new().spawn(read)?;
    let left = deadline.saturating_duration_since(Instant::now());
    answer.recv_timeout(left).map_err(|_| io::Error::from(ErrorKind::TimedOut))?
}

/// Whether it ended well.
fn end(child: &mut Child, deadline: Instant) -> io::Result<bool> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        thread::sleep(LOOK);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, input: &[u8], limit: Duration) -> io::Result<Vec<u8>> {
        output(Command::new("sh").args(["-c", script]), input, limit).map(|said| said.to_vec())
    }

    #[test]
    fn what_goes_in_and_comes_out() {
        let minute = Duration::from_secs(60);
        assert_eq!(shell("tr a-z A-Z", b"hush", minute).unwrap(), b"HUSH");
        assert_eq!(shell("exec <&-; exit 0", &[0; 4096], minute).unwrap(), b"", "not read");
        assert!(shell("echo some; exit 1", b"", minute).is_err());
        assert!(output(&mut Command::new("/no/such"), b"", minute).is_err());
    }

    /// With its output open, and without.
    #[test]
    fn ends_what_does_not_end() {
        for script in ["exec sleep 1000", "exec >&-; exec sleep 1000"] {
            let end = shell(script, b"", Duration::from_millis(200)).map_err(|error| error.kind());
            assert_eq!(end, Err(ErrorKind::TimedOut), "{script}");
        }
    }
}
