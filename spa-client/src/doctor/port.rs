//! What a TCP port shows from outside.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use crate::send::describe;
use crate::wait::Watch;

/// How long to wait for any answer: longer than the way to most places and back.
const LOOK: Duration = Duration::from_secs(1);

/// What a port answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PortState {
    Open,
    Refused,
    Silent,
    Failed(String),
}

impl PortState {
    /// Looks once.
    pub(super) fn look(mut to: SocketAddr, port: NonZeroU16) -> Self {
        to.set_port(port.get());
        Self::of(TcpStream::connect_timeout(&to, LOOK).map(drop))
    }

    fn of(result: io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Open,
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused => Self::Refused,
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Silent,
                _ => Self::Failed(describe(&error)),
            },
        }
    }
}

/// How long it took until the port was open, if it was within `limit`.
pub(super) fn wait(to: SocketAddr, port: NonZeroU16, limit: Duration) -> Option<Duration> {
    let start = Instant::now();
    Watch::new(port).until(start + limit, &[to])?;
    Some(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn tells_open_from_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let port = NonZeroU16::new(to.port()).unwrap();
        assert_eq!(PortState::look(to, port), PortState::Open);
        assert!(wait(to, port, Duration::from_secs(5)).is_some());
        drop(listener);
        assert_eq!(PortState::look(to, port), PortState::Refused);
        assert_eq!(PortState::of(Err(ErrorKind::TimedOut.into())), PortState::Silent);
    }
}
