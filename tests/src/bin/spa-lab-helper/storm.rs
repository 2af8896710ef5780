//! Connections begun without pause, many at a time: thousands a second.

use std::io::{Read, Write, stdin};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use spa_tests::Result;

/// How many are begun before the first of them is looked at.
const WIDTH: usize = 32;
/// How long they may take. In a lab an answer comes within a fraction of a millisecond.
const PATIENCE: Duration = Duration::from_millis(4);
/// More than these are not kept: then the port is simply open.
const KEPT: usize = 500;
/// How long an echo may take.
const ECHO: Duration = Duration::from_secs(1);

/// Begins connections until standard input ends. Prints how many were begun, how many came
/// through, the milliseconds between the first and the last of those, and how many of them still
/// give an echo at the end.
pub(crate) fn storm(to: SocketAddr) -> Result {
    let ended = end_of_input();
    println!("ready");
    let (mut tries, mut open) = (0, Vec::new());
    while ended.try_recv() == Err(TryRecvError::Empty) {
        let begun: Vec<_> = (0..WIDTH).filter_map(|_| begin(to)).collect();
        tries += begun.len();
        thread::sleep(PATIENCE);
        let came = begun.into_iter().filter(|connection| connection.peer_addr().is_ok());
        open.extend(came.map(|connection| (connection, Instant::now())));
        open.truncate(KEPT);
    }
    let gap = open.first().zip(open.last()).map(|((_, first), (_, last))| *last - *first);
    let gap = gap.unwrap_or_default().as_millis();
    let count = open.len();
    println!("tries {tries} open {count} gap {gap} alive {}", alive(open));
    Ok(())
}

fn end_of_input() -> Receiver<()> {
    let (done, ended) = channel();
    thread::spawn(move || {
        let _ = stdin().lines().count();
        done.send(())
    });
    ended
}

/// A connection that is not there yet; `None` where there is no port or route for it.
fn begin(to: SocketAddr) -> Option<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None).ok()?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Some(socket.into()),
        Err(_) => None,
    }
}

/// How many of them give back what they get.
fn alive(mut connections: Vec<(TcpStream, Instant)>) -> usize {
    for (connection, _) in &mut connections {
        // One that was reset is not alive.
        let _ = connection.write_all(b"echo?\n");
    }
    if !connections.is_empty() {
        thread::sleep(ECHO);
    }
    let mut heard = [0; 16];
    connections.iter_mut().filter_map(|(c, _)| c.read(&mut heard).ok()).filter(|n| *n > 0).count()
}
