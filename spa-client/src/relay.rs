//! Between standard input and output, and a connection: all bytes, both ways,
//! each way ended on its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};

use socket2::SockRef;

use crate::os;

/// As much as pipes hold.
const PIECE: usize = 64 * 1024;

/// Why not all of one way's bytes were passed on.
enum Fault {
    /// They could not be had.
    Reading(io::Error),
    /// They were not taken.
    Writing(io::Error),
}

/// Passes bytes until both sides have said that there are no more.
///
/// # Errors
/// What failed before that: the connection, or standard input or output.
pub(crate) fn run(stream: &TcpStream) -> Result<(), String> {
    let upload = start_upload(stream).map_err(|error| broken(&error))?;
    download(stream)?;
    os::close_stdout().map_err(|error| format!("cannot close standard output: {error}"))?;
    upload.join().unwrap_or_else(|_| Err("passing standard input on ended early".into()))
}

/// In a thread: reading standard input cannot be interrupted, and ends with the
/// program if need be.
fn start_upload(stream: &TcpStream) -> io::Result<JoinHandle<Result<(), String>>> {
    // Pieces are sent as they come, and it is noticed if the server is gone, as
    // without a proxy in between.
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_keepalive(true)?;
    let stream = stream.try_clone()?;
    thread::Builder::new().spawn(move || upload(&stream))
}

/// Standard input to the server. That the server takes no more is for the other
/// way to tell from an end in order: it ends, or fails, as well.
fn upload(stream: &TcpStream) -> Result<(), String> {
    let passed = pass(io::stdin().lock(), stream);
    // Not connected any more is as good.
    let _ = stream.shutdown(Shutdown::Write);
    match passed {
        Err(Fault::Reading(error)) => Err(format!("cannot read standard input: {error}")),
        Ok(()) | Err(Fault::Writing(_)) => Ok(()),
    }
}

/// From the server to standard output. Where nobody reads on, the rest is
/// taken in all the same: the server must not be held up.
fn download(mut stream: &TcpStream) -> Result<(), String> {
    match pass(stream, io::stdout().lock()) {
        Ok(()) => Ok(()),
        Err(Fault::Reading(error)) => Err(broken(&error)),
        Err(Fault::Writing(error)) if error.kind() == ErrorKind::BrokenPipe => {
            io::copy(&mut stream, &mut io::sink()).map(drop).map_err(|error| broken(&error))
        }
        Err(Fault::Writing(error)) => Err(format!("cannot write to standard output: {error}")),
    }
}

fn broken(error: &io::Error) -> String {
    format!("the connection broke: {error}")
}

/// Piece by piece, up to the end of `from`; nothing is kept back.
fn pass(mut from: impl Read, mut to: impl Write) -> Result<(), Fault> {
    let mut buffer = vec![0; PIECE];
    loop {
        let len = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.map_err(Fault::Reading)?,
        };
        to.write_all(&buffer[..len]).and_then(|()| to.flush()).map_err(Fault::Writing)?;
    }
}
