//! The command line's end of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, Request};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
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

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    BufReader::with_capacity(PIECE, stream).read_line(&mut line)?;
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
            format!("{path}: permission denied; ask as the user that spad runs as, as a rule root")
        }
        _ => format!("{path}: {error}"),
    }
}
