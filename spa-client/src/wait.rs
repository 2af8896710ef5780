//! Seeing whether the service is open: TCP connections, close behind each
//! other, until one is accepted.
//!
//! A closed port says nothing, so each attempt would hang until its own
//! retransmission. Therefore the next one starts while those before it are
//! still waiting; they are not given up, lest a slow network never answer in
//! time.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Pause before the first attempt: enough for a server nearby to have opened.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Pauses double up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long to look before knocking whether the port is silent.
const LOOK: Duration = Duration::from_millis(500);

/// The end of one attempt.
type Ended = (SocketAddr, io::Result<()>);

/// Watches one TCP port at several addresses.
pub(crate) struct Watch {
    port: NonZeroU16,
    ends: Receiver<Ended>,
    sender: Sender<Ended>,
    refused: bool,
}

impl Watch {
    pub(crate) fn new(port: NonZeroU16) -> Self {
        let (sender, ends) = channel();
        Self { port, ends, sender, refused: false }
    }

    /// The port.
    pub(crate) fn port(&self) -> NonZeroU16 {
        self.port
    }

    /// Whether some address answered, saying that nothing listens there.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// Tries until `deadline` and gives the first address that accepts.
    pub(crate) fn until(
        &mut self,
        deadline: Instant,
        addresses: &[SocketAddr],
    ) -> Option<SocketAddr> {
        for pause in pauses() {
            let next = deadline.min(Instant::now() + pause);
            if let Some(open) = self.listen_until(next) {
                return Some(open);
            }
            if next == deadline {
                return None;
            }
            self.attempt(addresses, ATTEMPT);
        }
        None
    }

    /// Takes in ends of attempts until `moment`, or until one was accepted.
    fn listen_until(&mut self, moment: Instant) -> Option<SocketAddr> {
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            let (address, result) = self.ends.recv_timeout(left).ok()?;
            match result {
                Ok(()) => return Some(address),
                Err(error) => self.refused |= error.kind() == ErrorKind::ConnectionRefused,
            }
        }
    }

    /// Starts one attempt at each address.
    fn attempt(&self, addresses: &[SocketAddr], limit: Duration) {
        for &address in addresses {
            let mut target = address;
            target.set_port(self.port.get());
            let sender = self.sender.clone();
            let end = move || {
                let result = TcpStream::connect_timeout(&target, limit).map(drop);
                // Nobody listens any more once another attempt was accepted.
                let _ = sender.send((address, result));
            };
            // Out of threads: those that run already will do.
            let _ = thread::Builder::new().spawn(end);
        }
    }

    /// At which addresses the port does not answer at all, neither accepting
    /// nor refusing. Only there does a port that opens later prove anything.
    pub(crate) fn silent(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        self.attempt(addresses, LOOK);
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

fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST_PAUSE), |pause| Some((*pause * 2).min(LONGEST_PAUSE)))
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
        assert_eq!(open, Some(address));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }

    #[test]
    fn ends_on_time_and_tells_refusal() {
        let (listener, address, port) = listener();
        drop(listener);
        let mut watch = Watch::new(port);
        let start = Instant::now();
        assert_eq!(watch.until(start + Duration::from_millis(200), &[address]), None);
        assert!(start.elapsed() >= Duration::from_millis(200));
        assert!(watch.refused());
    }

    #[test]
    fn what_answers_is_not_silent() {
        let (listener, address, port) = listener();
        assert!(Watch::new(port).silent(&[address]).is_empty(), "accepts");
        drop(listener);
        assert!(Watch::new(port).silent(&[address]).is_empty(), "refuses");
    }

    #[test]
    fn pauses_stay_short() {
        let pauses: Vec<_> = pauses().take(20).collect();
        assert!(pauses.is_sorted());
        assert!(pauses[0] <= Duration::from_millis(10));
        assert!(pauses[19] <= Duration::from_millis(300), "an opening is noticed at once");
    }
}
