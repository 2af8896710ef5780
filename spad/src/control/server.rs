//! The warden's end of the control socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::access::{Access, Caller, Rights};
use super::members::Members;
use super::{Answer, Request};
use crate::audit::{Event, Kind};
use crate::clock;
use crate::privileges::warden::as_group;
use crate::sys::peer;

/// A request, who asks, and where the answer goes.
pub type Call = (Request, Caller, oneshot::Sender<Reply>);

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
/// And to read the answer.
const PATIENCE_TO_READ: Duration = Duration::from_secs(30);

/// Said to who wants a change and may not have one.
pub const READ_ONLY: &str = "you may ask, and change nothing: that is for root, unless the \
                             configuration says control-group-may = \"change\"";

/// Binds the socket, for its owner only, or for a group too, which can reach it then
/// and nothing else in its directory. Whatever a dead process has left there is
/// replaced: the caller holds the lock of the run directory.
///
/// # Errors
/// Where the directory does not take it, or the group cannot be given it.
pub fn bind(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    let dir = path.parent().unwrap_or(Path::new("/"));
    let Some(group) = group else {
        // A former group has no business here any more.
        mode(dir, 0o700)?;
        let listener = UnixListener::bind(path)?;
        mode(path, 0o600)?;
        return Ok(listener);
    };
    let listener = as_group(group, || {
        std::os::unix::fs::chown(dir, None, Some(group))?;
        mode(dir, 0o710)?;
        UnixListener::bind(path)
    })??;
    mode(path, 0o660)?;
    Ok(listener)
}

/// Accepts callers for ever and passes their requests on.
pub async fn serve(
    listener: UnixListener,
    access: Access,
    events: broadcast::Sender<Arc<Event>>,
    calls: mpsc::Sender<Call>,
) {
    let members = Arc::new(Mutex::new(Members::default()));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(caller) = identify(&stream, &access) else { continue };
                let place =
                    (!access.is_owner(caller.uid)).then(|| Place::take(&members, caller.uid));
                let Ok(place) = place.transpose() else {
                    turn_away(&stream);
                    continue;
                };
                let (calls, events) = (calls.clone(), events.clone());
                tokio::spawn(async move {
                    // A caller that fails has nobody else to tell.
                    let _ = converse(stream, caller, place.as_ref(), calls, &events).await;
                });
            }
            // Out of descriptors: wait until some are closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A place of one that is not root, until it goes.
struct Place {
    members: Arc<Mutex<Members>>,
    uid: u32,
}

/// There is no place.
struct Full;

impl Place {
    fn take(members: &Arc<Mutex<Members>>, uid: u32) -> Result<Self, Full> {
        let entered = lock(members).enter(uid);
        entered.then(|| Self { members: Arc::clone(members), uid }).ok_or(Full)
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }
}

fn lock(members: &Mutex<Members>) -> MutexGuard<'_, Members> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Place {
    fn drop(&mut self) {
        self.members().leave(self.uid);
    }
}

/// Says so, without waiting for the question: nothing stands in the way of so little.
fn turn_away(stream: &UnixStream) {
    let why = "too many callers: you, or the others of the control-group, ask too much at once";
    if let Ok(line) = line(&Answer::Failed(why.into())) {
        let _ = stream.try_write(line.as_bytes());
    }
}

/// Who it is, and what it may do.
fn identify(stream: &UnixStream, access: &Access) -> io::Result<Caller> {
    let peer = stream.peer_cred()?;
    // Without them the primary group counts alone.
    let groups = peer::groups(stream).unwrap_or_default();
    let rights = access.rights(peer.uid(), peer.gid(), &groups);
    Ok(Caller { uid: peer.uid(), login: None, rights, refused: None })
}

async fn converse(
    mut stream: UnixStream,
    mut caller: Caller,
    place: Option<&Place>,
    calls: mpsc::Sender<Call>,
    events: &broadcast::Sender<Arc<Event>>,
) -> io::Result<()> {
    let mut line = String::new();
    let mut reader = BufReader::new((&mut stream).take(LONGEST));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(_) if caller.rights == Rights::None => {
            failed("you may not ask: that is for root, and for the control-group".into())
        }
        Ok(Request::Watch) => {
            // The end waits for those who have asked something.
            drop(calls);
            return watch(stream, events.subscribe()).await;
        }
        Ok(request) => {
            if request.takes() > caller.rights {
                let now = clock::monotonic();
                let count = place.and_then(|place| place.members().refusals.tell(caller.uid, now));
                if count.is_none() {
                    return tell(stream, failed(READ_ONLY.into())).await;
                }
                caller.refused = count;
            }
            if request.holds_up() && !wait_for_turn(place).await {
                return tell(stream, failed("asked too often: try again in a while".into())).await;
            }
            if request.takes() == Rights::Change {
                caller.login = login(caller.uid).await;
            }
            ask(request.asked_by(caller.uid), caller, &calls).await
        }
        Err(error) => failed(format!("not understood: {error}")),
    };
    tell(stream, answer).await
}

async fn tell(mut stream: UnixStream, answer: Reply) -> io::Result<()> {
    let text = answer.text().await?;
    tokio::time::timeout(PATIENCE_TO_READ, stream.write_all(text.as_bytes())).await?
}

/// Until the kernel's tables may be read for who asks; false where that takes too long.
async fn wait_for_turn(place: Option<&Place>) -> bool {
    let Some(place) = place else { return true };
    let wait = place.members().queue(clock::monotonic());
    if let Some(wait) = wait {
        tokio::time::sleep(wait).await;
    }
    wait.is_some()
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

/// Tells events until the other end goes. One that is too slow misses some, and is told
/// how many: nobody waits for it.
async fn watch(
    mut stream: UnixStream,
    mut events: broadcast::Receiver<Arc<Event>>,
) -> io::Result<()> {
    // It is heard now: what it asks for on another connection, it asks after that.
    stream.write_all(b"\n").await?;
    loop {
        let mut nothing = [0];
        let event = tokio::select! {
            event = events.recv() => event,
            _ = stream.read(&mut nothing) => return Ok(()),
        };
        let event = match event {
            Ok(event) => event,
            Err(RecvError::Lagged(count)) => {
                Arc::new(Event { count: Some(count), ..Event::now(Kind::Lost) })
            }
            Err(RecvError::Closed) => return Ok(()),
        };
        stream.write_all((serde_json::to_string(&*event)? + "\n").as_bytes()).await?;
    }
}

/// The name that belongs to a user id. Whoever knows it may be far away: asked for on a
/// thread that ends with it.
async fn login(uid: u32) -> Option<String> {
    let (done, name) = oneshot::channel();
    let look = move || {
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        // Whoever has asked has waited long enough.
        let _ = done.send(user.map(|user| user.name));
    };
    std::thread::Builder::new().name("login".into()).spawn(look).ok()?;
    tokio::time::timeout(PATIENCE, name).await.ok()?.ok()?
}

async fn ask(request: Request, caller: Caller, calls: &mpsc::Sender<Call>) -> Reply {
    let ending = || failed("spad is ending".into());
    let (sender, receiver) = oneshot::channel();
    if calls.send((request, caller, sender)).await.is_err() {
        return ending();
    }
    receiver.await.unwrap_or_else(|_| ending())
}
