//! Seeing the service open: TCP connections, close behind each other, until one
//! is accepted.
//!
//! A closed port says nothing, so each attempt would hang until its own
//! retransmission. Therefore the next one starts while those before it are
//! still waiting; they are not given up, lest a slow network never answer in
//! time. From a source port that the grant is bound to there can be one only.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::bound::BoundSocket;

/// Pause before the first attempt: enough for a server nearby to have opened.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Pauses double up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long to look before knocking whether the port is silent.
const LOOK: Duration = Duration::from_millis(500);

/// The end of one attempt.
type Ended = (SocketAddr, io::Result<TcpStream>);

/// The service accepts connections.
pub(crate) struct Opened {
    /// At this address, with the port that was knocked at.
    pub(crate) at: SocketAddr,
    /// The connection that shows it.
    pub(crate) stream: TcpStream,
}

/// Watches one TCP port at several addresses.
pub(crate) struct Watch {
    port: NonZeroU16,
    origin: Origin,
    ends: Receiver<Ended>,
    sender: Sender<Ended>,
    answer: Answer,
}

/// Where attempts come from.
enum Origin {
    /// Any port; attempts start one after the other, the second this long after
    /// the first.
    Anywhere { second_pause: Duration },
    /// Sockets that have not been used yet, and how long each may take.
    Bound { sockets: Vec<BoundSocket>, limit: Duration },
}

impl Watch {
    /// Looks as often as is of use.
    pub(crate) fn new(port: NonZeroU16) -> Self {
        Self::with(port, Origin::Anywhere { second_pause: FIRST_PAUSE * 2 })
    }

    /// For a connection that is put to use: attempts that come through too
    /// late are connections for the server to log, so there are few.
    pub(crate) fn to_use(port: NonZeroU16) -> Self {
        Self::with(port, Origin::Anywhere { second_pause: LONGEST_PAUSE })
    }

    /// From sockets that hold their source ports; each connects once, within `limit`.
    pub(crate) fn bound(port: NonZeroU16, sockets: Vec<BoundSocket>, limit: Duration) -> Self {
        Self::with(port, Origin::Bound { sockets, limit })
    }

    fn with(port: NonZeroU16, origin: Origin) -> Self {
        let (sender, ends) = channel();
        Self { port, origin, ends, sender, answer: Answer::None }
    }

    /// The port.
    pub(crate) fn port(&self) -> NonZeroU16 {
        self.port
    }

    /// What some address, or a router before it, said last of what was tried.
    pub(crate) fn answer(&self) -> Answer {
        self.answer
    }

    /// Tries until `deadline` and gives the first address that accepts.
    pub(crate) fn until(&mut self, deadline: Instant, addresses: &[SocketAddr]) -> Option<Opened> {
        for pause in self.pauses() {
            let next = deadline.min(Instant::now() + pause);
            if let Some(opened) = self.listen_until(next) {
                return Some(opened);
            }
            if next == deadline {
                return None;
            }
            self.attempt(addresses);
        }
        None
    }

    fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        let second = match self.origin {
            Origin::Anywhere { second_pause } => second_pause,
            Origin::Bound { .. } => LONGEST_PAUSE,
        };
        let longer = move |pause: &Duration| Some((*pause * 2).clamp(second, LONGEST_PAUSE));
        std::iter::successors(Some(FIRST_PAUSE), longer)
    }

    /// Takes in ends of attempts until `moment`, or until one was accepted.
    fn listen_until(&mut self, moment: Instant) -> Option<Opened> {
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            let (at, result) = self.ends.recv_timeout(left).ok()?;
            match result {
                Ok(stream) => return Some(Opened { at, stream }),
                Err(error) => self.answer = Answer::of(&error).unwrap_or(self.answer),
            }
        }
    }

    /// Starts one attempt at each address.
    fn attempt(&mut self, addresses: &[SocketAddr]) {
        match &mut self.origin {
            Origin::Anywhere { .. } => self.attempt_from_anywhere(addresses, ATTEMPT),
            Origin::Bound { sockets, limit } => {
                let (sockets, limit) = (std::mem::take(sockets), *limit);
                let knocked = sockets.into_iter().filter(|one| addresses.contains(&one.to()));
                knocked.for_each(|socket| self.attempt_from(socket, limit));
            }
        }
    }

    fn attempt_from_anywhere(&self, addresses: &[SocketAddr], limit: Duration) {
        for &address in addresses {
            let mut target = address;
            target.set_port(self.port.get());
            self.start(address, move || TcpStream::connect_timeout(&target, limit));
        }
    }

    fn attempt_from(&self, socket: BoundSocket, limit: Duration) {
        let port = self.port;
        self.start(socket.to(), move || socket.connect(port, limit));
    }

    fn start(
        &self,
        address: SocketAddr,
        connect: impl FnOnce() -> io::Result<TcpStream> + Send + 'static,
    ) {
        let sender = self.sender.clone();
        // Nobody listens any more once another attempt was accepted.
        let end = move || drop(sender.send((address, connect())));
        // Out of threads: those that run already will do.
        let _ = thread::Builder::new().spawn(end);
    }

    /// At which addresses the port does not answer at all, neither accepting
    /// nor refusing. Only there does a port that opens later prove anything.
    pub(crate) fn silent(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        self.attempt_from_anywhere(addresses, LOOK);
        let mut silent = Vec::new();
        for _ in addresses {
            let Ok((address, result)) = self.ends.recv_timeout(2 * LOOK) else { break };
            if result.is_err_and(|error| error.kind() == ErrorKind::TimedOut) {
                silent.push(address);
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn listener() -> (TcpListener, SocketAddr, NonZeroU16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address, NonZeroU16::new(address.port()).unwrap())
    }

    #[test]
    fn sees_an_open_port_at_once() {
        let (_listener, address, port) = listener();
        let start = Instant::now();
        let open = Watch::new(port).until(start + Duration::from_secs(5), &[address]);
        assert_eq!(open.map(|opened| opened.at), Some(address));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }

    #[test]
    fn ends_on_time_and_tells_refusal() {
        let (listener, address, port) = listener();
        drop(listener);
        let mut watch = Watch::new(port);
        let start = Instant::now();
        assert!(watch.until(start + Duration::from_millis(200), &[address]).is_none());
        assert!(start.elapsed() >= Duration::from_millis(200));
        assert_eq!(watch.answer(), Answer::Refused);
    }

    #[test]
    fn what_answers_is_not_silent() {
        let (listener, address, port) = listener();
        assert!(Watch::new(port).silent(&[address]).is_empty(), "accepts");
        drop(listener);
        assert!(Watch::new(port).silent(&[address]).is_empty(), "refuses");
    }

    #[test]
    fn a_bound_attempt_is_made_once_and_may_take_long() {
        let (listener, address, port) = listener();
        let socket = BoundSocket::towards(address, 0).unwrap();
        let held = socket.port();
        let mut watch = Watch::bound(port, vec![socket], Duration::from_secs(20));
        let opened = watch.until(Instant::now() + Duration::from_secs(20), &[address]).unwrap();
        assert_eq!(opened.stream.local_addr().unwrap().port(), held);
        assert!(watch.until(Instant::now() + Duration::from_millis(300), &[address]).is_none());
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok());
        assert!(listener.accept().is_err(), "one connection in all");
    }

    #[test]
    fn no_attempt_where_no_knock_went() {
        let (listener, address, port) = listener();
        let socket = BoundSocket::towards(address, 0).unwrap();
        let mut watch = Watch::bound(port, vec![socket], Duration::from_secs(20));
        assert!(watch.until(Instant::now() + Duration::from_millis(300), &[]).is_none());
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
    }

    #[test]
    fn pauses_stay_short() {
        let port = NonZeroU16::MIN;
        let looking: Vec<_> = Watch::new(port).pauses().take(20).collect();
        assert!(looking.is_sorted());
        assert!(looking[1] <= Duration::from_millis(10));
        let connecting: Vec<_> = Watch::to_use(port).pauses().take(20).collect();
        assert!(connecting[1] >= Duration::from_millis(100), "few connections too many");
        for pauses in [looking, connecting] {
            assert!(pauses[0] <= Duration::from_millis(10));
            assert!(pauses[19] <= Duration::from_millis(300), "an opening is noticed at once");
        }
    }
}
