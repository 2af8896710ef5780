//! Between standard input and output, and a connection: all bytes, both ways,
//! each way ended on its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};

use socket2::SockRef;

use crate::os;

/// As much as pipes hold.
const PIECE: usize = 64 * 1024;

/// Passes bytes until both sides have said that there are no more.
///
/// # Errors
/// Where the connection, or standard input or output, fails before that.
pub(crate) fn run(stream: &TcpStream) -> io::Result<()> {
    // Pieces are passed on as they come; and who is gone is found out, as
    // without a proxy in between.
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_keepalive(true)?;
    let upload = upload(stream.try_clone()?)?;
    download(stream)?;
    os::close_stdout()?;
    upload.join().unwrap_or(Ok(()))
}

/// Standard input to the server, in a thread: reading cannot be interrupted,
/// and ends with the program if need be.
fn upload(stream: TcpStream) -> io::Result<JoinHandle<io::Result<()>>> {
    thread::Builder::new().spawn(move || {
        let passed = pass(io::stdin().lock(), &stream);
        // Not connected any more is as good.
        let _ = stream.shutdown(Shutdown::Write);
        passed.or_else(only_unheard)
    })
}

/// From the server to standard output. Where nobody reads on, the rest is
/// taken in all the same: the server must not be held up.
fn download(stream: &TcpStream) -> io::Result<()> {
    let passed = pass(stream, io::stdout().lock());
    match passed {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => pass(stream, io::sink()),
        end => end,
    }
}

/// That the server hears no more is for the server to say: its own half is
/// still read, and fails if the connection did.
fn only_unheard(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Ok(()),
        _ => Err(error),
    }
}

/// Piece by piece, up to the end of `from`; nothing is kept back.
fn pass(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let len = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            end => end?,
        };
        to.write_all(&buffer[..len])?;
        to.flush()?;
    }
}
