//! The gatekeeper, from the warden's side: started, fed, listened to, and
//! started again when it dies.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::unistd::User;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tracing::warn;

use crate::gatekeeper::privileges::Identity;
use crate::ipc::{Channel, Frame, ToGate, ToWarden};
use crate::sys::ready;

/// Where ids are looked for that nobody uses.
const UNUSED: std::ops::Range<u32> = 61_184..65_520;

/// The warden's end of the channel, and when it can be used.
struct End {
    ready: AsyncFd<OwnedFd>,
    channel: Channel,
}

impl End {
    fn new(channel: Channel) -> io::Result<Self> {
        channel.set_nonblocking()?;
        let fd = channel.as_fd().try_clone_to_owned()?;
        Ok(Self { ready: ready::register(fd, Interest::READABLE | Interest::WRITABLE)?, channel })
    }
}

/// A running gatekeeper. Dropped, it ends.
pub(super) struct Keeper {
    child: Child,
    end: Arc<End>,
    outgoing: mpsc::UnboundedSender<(Frame, Vec<OwnedFd>)>,
}

impl Keeper {
    /// Starts one: this same program, with the channel as its standard input.
    pub(super) fn start(identity: Option<Identity>) -> io::Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("gatekeeper").stdin(theirs.into_fd()).stdout(Stdio::null());
        if let Some(Identity { uid, gid }) = identity {
            command.args(["--uid", &uid.to_string(), "--gid", &gid.to_string()]);
        }
        let child = command.spawn()?;
        let ours = Arc::new(End::new(ours)?);
        let (outgoing, messages) = mpsc::unbounded_channel();
        tokio::spawn(send(Arc::clone(&ours), messages));
        Ok(Self { child, end: ours, outgoing })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says something, in order, without waiting. What a dead gatekeeper does
    /// not hear, its successor is told anyway.
    pub(super) fn tell(&self, message: &ToGate, sockets: Vec<OwnedFd>) {
        let _ = self.outgoing.send((message.encode(), sockets));
    }

    /// Waits for its next message.
    ///
    /// # Errors
    /// Where it has ended, or says what no gatekeeper says.
    pub(super) async fn next(&self) -> io::Result<ToWarden> {
        let End { ready, channel } = &*self.end;
        let received = ready.async_io(Interest::READABLE, |_| channel.receive()).await?;
        let (frame, sockets) = received.ok_or(io::ErrorKind::UnexpectedEof)?;
        let message = ToWarden::decode(&frame).filter(|_| sockets.is_empty());
        message.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It may be dead already; then there is only its status to collect.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn send(end: Arc<End>, mut messages: mpsc::UnboundedReceiver<(Frame, Vec<OwnedFd>)>) {
    let End { ready, channel } = &*end;
    while let Some((frame, sockets)) = messages.recv().await {
        let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let sent = ready.async_io(Interest::WRITABLE, |_| channel.send(&frame, &fds)).await;
        if sent.is_err() {
            // Told in part, it must not live on: whoever listens to it sees the end.
            let _ = rustix::net::shutdown(channel, rustix::net::Shutdown::Both);
            return;
        }
    }
}

/// As whom the gatekeeper is to run: the configured user; where there is none,
/// an id that nobody has; where this process could not become anybody else,
/// itself.
pub(super) fn identity(user: &str) -> Option<Identity> {
    let wanted = match User::from_name(user) {
        Ok(Some(user)) => Identity { uid: user.uid.as_raw(), gid: user.gid.as_raw() },
        _ => {
            let id = unused();
            warn!(
                user,
                id,
                "no such user: the gatekeeper runs under an unused id; make one with: \
                useradd --system --no-create-home --shell /usr/sbin/nologin {user}"
            );
            Identity { uid: id, gid: id }
        }
    };
    let possible = is_mapped("uid", wanted.uid) && is_mapped("gid", wanted.gid);
    if !possible {
        warn!(
            "this user namespace has one id only: the gatekeeper runs under it, without capabilities"
        );
    }
    possible.then_some(wanted)
}

fn unused() -> u32 {
    let free = |id: &u32| matches!(User::from_uid((*id).into()), Ok(None));
    UNUSED.rev().find(free).unwrap_or(UNUSED.end)
}

/// Whether an id exists in this user namespace. Where that cannot be read, it
/// is tried, and fails then.
fn is_mapped(kind: &str, id: u32) -> bool {
    let Ok(map) = fs::read_to_string(format!("/proc/self/{kind}_map")) else { return true };
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        first
            .zip(count)
            .is_some_and(|(first, count)| (first..first + count).contains(&u64::from(id)))
    })
}
