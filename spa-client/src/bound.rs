//! TCP sockets whose source port is taken before they connect: the knock names
//! the port, and the grant is for it alone (mode bound).

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::answer::Answer;
use crate::send::{describe, local_towards};

/// Pause after an answer that a firewall, or a router before it, gives while it is still shut.
const PAUSE: Duration = Duration::from_millis(100);

/// No time at all is an error of its own.
const SHORTEST: Duration = Duration::from_millis(1);

/// A socket that holds its source port, for one address of the server.
pub(crate) struct BoundSocket {
    socket: Socket,
    local: SocketAddr,
    to: SocketAddr,
}

impl BoundSocket {
    /// Takes `port`, or one of the system's choice for 0, on the address that
    /// connections to `to` leave from.
    pub(crate) fn towards(to: SocketAddr, port: u16) -> Result<Self, String> {
        let mut local = local_towards(to)?;
        local.set_port(port);
        let socket = bind(local).map_err(|error| explain(port, &error))?;
        let local = own_address(&socket).map_err(|error| describe(&error))?;
        Ok(Self { socket, local, to })
    }

    /// The address of the server that it is for.
    pub(crate) fn to(&self) -> SocketAddr {
        self.to
    }

    /// The source port that it holds.
    pub(crate) fn port(&self) -> u16 {
        self.local.port()
    }

    /// Connects to `port`. Lost packets are the kernel's to repeat: another
    /// socket could not use this port meanwhile.
    pub(crate) fn connect(self, port: NonZeroU16, limit: Duration) -> io::Result<TcpStream> {
        let deadline = Instant::now() + limit;
        let Self { mut socket, local, mut to } = self;
        to.set_port(port.get());
        loop {
            let left = || deadline.saturating_duration_since(Instant::now());
            match socket.connect_timeout(&to.into(), left().max(SHORTEST)) {
                Err(error) if is_still_shut(&error) && left() > PAUSE => thread::sleep(PAUSE),
                end => return end.map(|()| socket.into()),
            }
            drop(socket);
            socket = bind(local)?;
        }
    }
}

/// Has it close as connections do, so that nothing of what was sent is lost.
pub(crate) fn keep(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(None)
}

fn bind(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, None)?;
    // A port of one's choice may have been used a moment ago. Elsewhere the
    // option would take ports away from others.
    socket.set_reuse_address(cfg!(unix) && local.port() != 0)?;
    socket.bind(&local.into())?;
    // Closed, it frees its port at once, also for the same destination: no end of the connection
    // is left waiting. Of several that connect one is kept; where this cannot be had, the port is
    // free a minute later.
    let _ = socket.set_linger(Some(Duration::ZERO));
    Ok(socket)
}

fn own_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| ErrorKind::Unsupported.into())
}

/// Whether it may open yet: somebody has answered, or the kernel has repeated its packet for as
/// long as it does.
fn is_still_shut(error: &io::Error) -> bool {
    Answer::of(error).is_some() || error.kind() == ErrorKind::TimedOut
}

fn explain(port: u16, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("source port {port} is in use here: choose another"),
        ErrorKind::PermissionDenied => {
            format!("source port {port} is for privileged programs: choose one from 1024 on")
        }
        _ => format!("cannot take source port {port}: {}", describe(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(20);

    fn listener() -> (TcpListener, SocketAddr, NonZeroU16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address, NonZeroU16::new(address.port()).unwrap())
    }

    #[test]
    fn connects_from_the_port_that_it_holds() {
        let (listener, to, port) = listener();
        let socket = BoundSocket::towards(to, 0).unwrap();
        let held = socket.port();
        assert_ne!(held, 0);
        let _stream = socket.connect(port, LIMIT).unwrap();
        assert_eq!(listener.accept().unwrap().1.port(), held);
    }

    #[test]
    fn a_refusal_is_not_the_end_and_loses_no_port() {
        let (listener, to, port) = listener();
        drop(listener);
        let socket = BoundSocket::towards(to, 0).unwrap();
        let held = socket.port();
        let connecting = thread::spawn(move || socket.connect(port, LIMIT));
        thread::sleep(3 * PAUSE);
        let listener = TcpListener::bind(to).unwrap();
        assert_eq!(listener.accept().unwrap().1.port(), held);
        connecting.join().unwrap().unwrap();
    }

    #[test]
    fn a_port_is_free_again_as_soon_as_its_connection_is_closed() {
        let (listener, to, port) = listener();
        let socket = BoundSocket::towards(to, 0).unwrap();
        let chosen = socket.port();
        let stream = socket.connect(port, LIMIT).unwrap();
        let _there = listener.accept().unwrap();
        drop(stream);
        let again = BoundSocket::towards(to, chosen).unwrap();
        let _stream = again.connect(port, LIMIT).unwrap();
        assert_eq!(listener.accept().unwrap().1.port(), chosen);
    }

    #[test]
    fn a_connection_that_is_kept_ends_after_all_that_was_sent() {
        let (listener, to, port) = listener();
        let stream = BoundSocket::towards(to, 0).unwrap().connect(port, LIMIT).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        keep(&stream).unwrap();
        (&stream).write_all(b"all of it").unwrap();
        drop(stream);
        let mut heard = String::new();
        there.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "all of it");
    }

    #[test]
    fn what_a_firewall_says_while_it_is_shut_is_not_the_end() {
        for (kind, goes_on) in [
            (ErrorKind::ConnectionRefused, true),
            (ErrorKind::HostUnreachable, true),
            (ErrorKind::NetworkUnreachable, true),
            (ErrorKind::PermissionDenied, true),
            (ErrorKind::TimedOut, true),
            (ErrorKind::AddrInUse, false),
            (ErrorKind::InvalidInput, false),
        ] {
            assert_eq!(is_still_shut(&kind.into()), goes_on, "{kind}");
        }
    }

    #[test]
    fn a_port_in_use_is_said() {
        let (_listener, to, port) = listener();
        let why = BoundSocket::towards(to, port.get()).err().unwrap();
        assert!(why.contains(&port.to_string()) && why.contains("in use"), "{why}");
    }
}
