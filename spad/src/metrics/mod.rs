//! Metrics for Prometheus, over a Unix socket or a loopback port. What is told names no
//! client: whoever is on this host may ask.

pub mod http;
pub mod text;

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config::operations::Endpoint;
use crate::control::access::{Caller, Rights};
use crate::control::server::{Call, Reply};
use crate::control::{Answer, Request};
use crate::privileges::warden::as_group;
use http::Asked;

/// How many are served at once; the others are sent away.
const AT_ONCE: usize = 4;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where somebody may come.
pub enum Listener {
    /// A Unix socket.
    Unix(UnixListener),
    /// A loopback port.
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Listener {
    /// Listens there. A socket is for its owner, and for the group if there is one.
    ///
    /// # Errors
    /// Where that is not possible; also where something that is no socket is there.
    pub fn bind(endpoint: &Endpoint, group: Option<u32>) -> io::Result<Self> {
        match endpoint {
            Endpoint::Unix(path) => unix(path, group).map(Self::Unix),
            Endpoint::Loopback(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

fn unix(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("there is something that is no socket")),
        Err(_) => {}
    }
    let (listener, mode) = match group {
        Some(group) => (as_group(group, || UnixListener::bind(path))??, 0o660),
        None => (UnixListener::bind(path)?, 0o600),
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Serves for ever.
pub async fn serve(listener: Listener, own: u32, calls: mpsc::Sender<Call>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(stream) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let calls = calls.clone();
        tokio::spawn(async move {
            // Whoever fails has nobody to tell.
            let _ = tokio::time::timeout(PATIENCE, converse(stream, own, &calls)).await;
            drop(place);
        });
    }
}

async fn converse(
    mut stream: Box<dyn Stream>,
    own: u32,
    calls: &mpsc::Sender<Call>,
) -> io::Result<()> {
    let mut head = Vec::new();
    let asked = loop {
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await?;
        head.extend_from_slice(&some[..count]);
        match http::asked(&head) {
            Asked::Unfinished if count == 0 => return Ok(()),
            Asked::Unfinished => {}
            asked => break asked,
        }
    };
    let body = match asked {
        Asked::Metrics => body(own, calls).await,
        _ => None,
    };
    stream.write_all(http::response(asked, body.as_deref()).as_bytes()).await?;
    stream.shutdown().await
}

async fn body(own: u32, calls: &mpsc::Sender<Call>) -> Option<String> {
    let caller = Caller { uid: own, login: None, rights: Rights::Read, refused: None };
    let (sender, answer) = oneshot::channel();
    calls.send((Request::Metrics, caller, sender)).await.ok()?;
    match answer.await.ok()? {
        Reply::Ready(Answer::Metrics(metrics)) => text::text(*metrics),
        _ => None,
    }
}
