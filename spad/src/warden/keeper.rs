//! The gatekeeper, from the warden's side: started, fed, listened to, held to
//! what it was asked, and ended.

use std::collections::VecDeque;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use spa_proto::Kid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tracing::error;

use super::post::Post;
use crate::ipc::{Channel, Frame, INSERT_LEN, ToGate, ToWarden};
use crate::privileges::{Identity, warden::as_real_user};
use crate::sys::ready;

/// Variables that lead to what a gatekeeper has no business with. The others it
/// inherits: they are no secret, and some are for the dynamic linker.
const NOT_INHERITED: [&str; 3] = ["CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_FDS"];

/// How much of what it says is told, in bytes. The rest stays in the pipe; who fills that stands
/// still, and is replaced.
const SAID: usize = 400;

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
    /// What it says on standard error, which is not the log: who takes it over could write there
    /// whatever he likes, without end.
    heard: PipeReader,
    identity: Option<Identity>,
    end: Arc<End>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    rounds: Arc<Semaphore>,
    /// Clients that it is still to be told of.
    untold: VecDeque<Kid>,
    /// Whether it is to listen when it knows them all.
    pub(super) is_to_listen: bool,
    owed: Owed,
}

/// A message on its way, with sockets, and the room that is free once it is sent.
type Outgoing = (Frame, Vec<OwnedFd>, Option<Room>);

/// The right to introduce so many clients as [`ROUND`] says.
pub(super) type Room = OwnedSemaphorePermit;

/// A crowd is introduced in rounds, of which few wait to be sent: a queue of all
/// would be as large as they are, and everything else would wait for its end.
const ROUND: usize = 32 * INSERT_LEN;
const ROUNDS: usize = 4;

/// Answers that were asked for and have not come.
#[derive(Default)]
struct Owed {
    listening: u32,
    counters: u32,
    by: Option<Instant>,
}

impl Owed {
    /// The first that is owed sets the time; asking again does not move it.
    fn wait(&mut self, patience: Duration) {
        self.by.get_or_insert_with(|| Instant::now() + patience);
    }

    /// Takes an answer; whether one was owed. Whoever answers one thing is
    /// alive, and has its time for the next.
    fn settle(&mut self, message: &ToWarden, patience: Duration) -> bool {
        let owed = match message {
            ToWarden::Request(_) => return true,
            ToWarden::Listening => &mut self.listening,
            ToWarden::Counters(_) => &mut self.counters,
        };
        let Some(left) = owed.checked_sub(1) else { return false };
        *owed = left;
        let all = self.listening + self.counters;
        self.by = (all > 0).then(|| Instant::now() + patience);
        true
    }
}

impl Keeper {
    /// Starts one: this same program, with the channel as its standard input.
    pub(super) fn start(post: &Post) -> io::Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        let (heard, said) = io::pipe()?;
        rustix::io::ioctl_fionbio(&heard, true)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("gatekeeper").current_dir(post.dir());
        command.stdin(theirs.into_fd()).stdout(Stdio::null()).stderr(said);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        if let Some(Identity { uid, gid }) = post.identity {
            command.args(["--uid", &uid.to_string(), "--gid", &gid.to_string()]);
        }
        let child = command.spawn()?;
        let ours = Arc::new(End::new(ours)?);
        let (outgoing, messages) = mpsc::unbounded_channel();
        tokio::spawn(send(Arc::clone(&ours), messages));
        Ok(Self {
            child,
            heard,
            identity: post.identity,
            end: ours,
            outgoing,
            rounds: Arc::new(Semaphore::new(ROUNDS)),
            untold: VecDeque::new(),
            is_to_listen: false,
            owed: Owed::default(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says something, in order, without waiting. What a dead gatekeeper does
    /// not hear, its successor is told anyway.
    pub(super) fn tell(&self, message: &ToGate) {
        self.put(message, Vec::new(), None);
    }

    /// Begins anew: it is to be told of these when there is room.
    pub(super) fn is_to_know_all(&mut self, kids: impl Iterator<Item = Kid>) {
        self.untold = kids.collect();
    }

    /// And of one more.
    pub(super) fn is_to_know(&mut self, kid: Kid) {
        self.untold.push_back(kid);
    }

    /// Whether it has been told of all clients.
    pub(super) fn knows_all(&self) -> bool {
        self.untold.is_empty()
    }

    /// Room for a round, if there is any now.
    pub(super) fn room(&self) -> Option<Room> {
        Arc::clone(&self.rounds).try_acquire_owned().ok()
    }

    /// Waits until there is somebody to introduce, and room.
    pub(super) async fn has_room(&self) -> Room {
        if self.knows_all() {
            return std::future::pending().await;
        }
        let room = Arc::clone(&self.rounds).acquire_owned().await;
        // A semaphore that nobody closes.
        if let Ok(room) = room { room } else { std::future::pending().await }
    }

    /// The next that it is to be told of.
    pub(super) fn round(&mut self) -> Vec<Kid> {
        let round = self.untold.drain(..self.untold.len().min(ROUND)).collect();
        if self.untold.is_empty() {
            self.untold.shrink_to_fit();
        }
        round
    }

    /// Tells what a round has to say; then its room is free again.
    pub(super) fn tell_round(&self, messages: &[ToGate], room: Room) {
        let mut room = Some(room);
        for (left, message) in (0..messages.len()).rev().zip(messages) {
            self.put(message, Vec::new(), room.take_if(|_| left == 0));
        }
    }

    /// Gives it sockets, and keeps none.
    pub(super) fn listen(&mut self, port: u16, sockets: Vec<OwnedFd>, patience: Duration) {
        self.put(&ToGate::Listen { port }, sockets, None);
        self.owed.listening += 1;
        self.owed.wait(patience);
    }

    /// Asks for its counters.
    pub(super) fn report(&mut self, patience: Duration) {
        self.put(&ToGate::Report, Vec::new(), None);
        self.owed.counters += 1;
        self.owed.wait(patience);
    }

    /// When it will have been silent for too long.
    pub(super) fn owes_by(&self) -> Option<Instant> {
        self.owed.by
    }

    fn put(&self, message: &ToGate, sockets: Vec<OwnedFd>, room: Option<Room>) {
        let _ = self.outgoing.send((message.encode(), sockets, room));
    }

    /// Waits for its next message.
    ///
    /// # Errors
    /// Where it has ended, or what came is no message.
    pub(super) async fn next(&self) -> io::Result<ToWarden> {
        let End { ready, channel } = &*self.end;
        message(ready.async_io(Interest::READABLE, |_| channel.receive()).await)
    }

    /// Its next message, if it has said it already.
    pub(super) fn at_once(&self) -> Option<io::Result<ToWarden>> {
        match self.end.channel.receive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            received => Some(message(received)),
        }
    }

    /// Takes note of a message that came; an answer must have been asked for.
    ///
    /// # Errors
    /// Where nobody asked.
    pub(super) fn expect(&mut self, message: &ToWarden, patience: Duration) -> io::Result<()> {
        let expected = self.owed.settle(message, patience);
        if expected { Ok(()) } else { Err(io::Error::other("an answer that nobody asked for")) }
    }

    /// Ends it; with what status it ended, unless it cannot be ended.
    pub(super) fn end(&mut self) -> Option<ExitStatus> {
        // One that listens ends by this alone.
        let _ = rustix::net::shutdown(&self.end.channel, rustix::net::Shutdown::Both);
        match self.kill() {
            Ok(()) => self.child.wait().ok(),
            Err(error) => {
                error!(pid = self.pid(), %error, "the gatekeeper cannot be ended: kill it");
                None
            }
        }
    }

    /// The first of what it has said that nobody heard yet.
    pub(super) fn last_words(&mut self) -> String {
        let mut said = [0; SAID];
        let count = self.heard.read(&mut said).unwrap_or(0);
        String::from_utf8_lossy(said.get(..count).unwrap_or_default()).trim_end().to_owned()
    }

    /// One that has stopped, or does not listen, ends as well.
    fn kill(&mut self) -> io::Result<()> {
        let child = &mut self.child;
        match self.identity {
            Some(Identity { uid, .. }) => as_real_user(uid, || child.kill())?,
            None => child.kill(),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

fn message(received: io::Result<Option<Frame>>) -> io::Result<ToWarden> {
    let frame = received?.ok_or(io::ErrorKind::UnexpectedEof)?;
    ToWarden::decode(&frame).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

async fn send(end: Arc<End>, mut messages: mpsc::UnboundedReceiver<Outgoing>) {
    let End { ready, channel } = &*end;
    while let Some((frame, sockets, _room)) = messages.recv().await {
        let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let sent = ready.async_io(Interest::WRITABLE, |_| channel.send(&frame, &fds)).await;
        if sent.is_err() {
            // Told in part, it must not live on: whoever listens to it sees the end.
            let _ = rustix::net::shutdown(channel, rustix::net::Shutdown::Both);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spa_proto::Reason;

    const PATIENCE: Duration = Duration::from_secs(10);
    const COUNTERS: ToWarden = ToWarden::Counters([0; Reason::COUNT]);

    #[test]
    fn an_answer_is_taken_once_for_each_question() {
        let mut owed = Owed::default();
        assert!(!owed.settle(&COUNTERS, PATIENCE), "not asked for");
        owed.counters = 2;
        owed.wait(PATIENCE);
        assert!(!owed.settle(&ToWarden::Listening, PATIENCE), "another was");
        assert!(owed.settle(&COUNTERS, PATIENCE) && owed.by.is_some(), "one is left");
        assert!(owed.settle(&COUNTERS, PATIENCE) && owed.by.is_none());
        assert!(!owed.settle(&COUNTERS, PATIENCE));
    }

    #[test]
    fn asking_again_gives_no_more_time() {
        let mut owed = Owed::default();
        owed.wait(PATIENCE);
        let by = owed.by;
        owed.wait(2 * PATIENCE);
        assert_eq!(owed.by, by);
    }
}
