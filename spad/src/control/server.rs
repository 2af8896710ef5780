//! The warden's end of the control socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::{Answer, Request};

/// A request, and where its answer goes.
pub type Call = (Request, oneshot::Sender<Rest>);

/// What is left to do for an answer. A list can be long: it is put together, and
/// into words, where nobody waits but the caller.
pub type Rest = Box<dyn FnOnce() -> Answer + Send>;

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
    let text = spawn_blocking(move || serde_json::to_string(&answer()).map(|text| text + "\n"));
    stream.write_all(text.await??.as_bytes()).await
}

fn failed(why: String) -> Rest {
    Box::new(|| Answer::Failed(why))
}

async fn ask(request: Request, calls: &mpsc::Sender<Call>) -> Rest {
    let ending = || failed("spad is ending".into());
    let (sender, receiver) = oneshot::channel();
    if calls.send((request, sender)).await.is_err() {
        return ending();
    }
    receiver.await.unwrap_or_else(|_| ending())
}
