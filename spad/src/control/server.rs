//! The warden's end of the control socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::{Answer, Request};

/// A request, and where its answer goes.
pub type Call = (Request, oneshot::Sender<Reply>);

/// What the warden says to a request.
pub enum Reply {
    /// The answer.
    Ready(Answer),
    /// What is left to do for a long one: it is put together where nobody waits
    /// but the caller.
    Rest(Box<dyn FnOnce() -> Answer + Send>),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Ready(answer)
    }
}

impl Reply {
    /// As a line.
    async fn text(self) -> io::Result<String> {
        match self {
            Self::Ready(answer) => line(&answer),
            Self::Rest(work) => aside(work).await,
        }
    }
}

/// No request is longer.
const LONGEST: u64 = 4096;
/// How long a caller may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// Binds the socket, readable by its owner only. Whatever a dead process has
/// left there is replaced: the caller holds the lock of the run directory.
///
/// # Errors
/// Where the directory does not take it.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Accepts callers for ever and passes their requests on.
pub async fn serve(listener: UnixListener, calls: mpsc::Sender<Call>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let calls = calls.clone();
                // A caller that fails has nobody else to tell.
                tokio::spawn(async move { converse(stream, calls).await.ok() });
            }
            // Out of descriptors: wait until some are closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(mut stream: UnixStream, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let caller = stream.peer_cred()?.uid();
    let mut line = String::new();
    let mut reader = BufReader::new((&mut stream).take(LONGEST));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => ask(request.asked_by(caller), &calls).await,
        Err(error) => failed(format!("not understood: {error}")),
    };
    stream.write_all(answer.text().await?.as_bytes()).await
}

/// Does the work on a thread that ends with it; here where there is none to be had.
async fn aside(work: Box<dyn FnOnce() -> Answer + Send>) -> io::Result<String> {
    let (done, text) = oneshot::channel();
    let (give, take) = std::sync::mpsc::channel::<Box<dyn FnOnce() -> Answer + Send>>();
    let wait = move || take.recv().map(|work| done.send(line(&work())));
    if std::thread::Builder::new().name("list".into()).spawn(wait).is_err() {
        return line(&work());
    }
    let _ = give.send(work);
    text.await.map_err(io::Error::other)?
}

fn line(answer: &Answer) -> io::Result<String> {
    Ok(serde_json::to_string(answer)? + "\n")
}

fn failed(why: String) -> Reply {
    Answer::Failed(why).into()
}

async fn ask(request: Request, calls: &mpsc::Sender<Call>) -> Reply {
    let ending = || failed("spad is ending".into());
    let (sender, receiver) = oneshot::channel();
    if calls.send((request, sender)).await.is_err() {
        return ending();
    }
    receiver.await.unwrap_or_else(|_| ending())
}
