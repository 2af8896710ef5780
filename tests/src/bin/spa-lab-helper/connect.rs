//! Connections: tried once, tried without pause, and held.

use std::io::{BufRead, BufReader, ErrorKind, Write, stdin};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use spa_tests::Result;
use spa_tests::lab::Reach;

use crate::send::unspecified;

/// Tries to connect and prints a [`Reach`].
pub(crate) fn once(to: SocketAddr, limit: Duration) -> Result {
    println!("{}", reach(to, limit));
    Ok(())
}

fn reach(to: SocketAddr, limit: Duration) -> Reach {
    match TcpStream::connect_timeout(&to, limit) {
        Ok(_) => Reach::Open,
        Err(error) if error.kind() == ErrorKind::TimedOut => Reach::Filtered,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Reach::Refused,
        Err(error) => Reach::Unreachable(error.to_string()),
    }
}

/// Sends a datagram to an echo service, from this local port, and prints whether an answer came.
pub(crate) fn ask_udp(to: SocketAddr, limit: Duration, port: u16) -> Result {
    let socket = UdpSocket::bind(SocketAddr::new(unspecified(to), port))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"echo?")?;
    let answer = match socket.recv(&mut [0; 64]) {
        Ok(_) => Reach::Open,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Reach::Refused,
        Err(error) if error.kind() == ErrorKind::WouldBlock => Reach::Filtered,
        Err(error) => Reach::Unreachable(error.to_string()),
    };
    println!("{answer}");
    Ok(())
}

/// Tries to connect without pause until standard input ends; prints the tries that came through,
/// at most a hundred a second, and at the end how many were made.
pub(crate) fn hammer(to: SocketAddr) -> Result {
    let (done, ended) = channel();
    thread::spawn(move || {
        let _ = stdin().lines().count();
        done.send(())
    });
    let (start, mut tries) = (Instant::now(), 0);
    println!("ready");
    while ended.try_recv() == Err(TryRecvError::Empty) {
        tries += 1;
        if reach(to, Duration::from_millis(10)) == Reach::Open {
            println!("open after {:?}", start.elapsed());
            thread::sleep(Duration::from_millis(10));
        }
    }
    println!("tries {tries}");
    Ok(())
}

/// Connects to an echo service and keeps the connection: each line of standard input is sent, and
/// each line that comes back is printed.
pub(crate) fn hold(to: SocketAddr) -> Result {
    let mut connection = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    let answers = BufReader::new(connection.try_clone()?);
    println!("connected");
    thread::spawn(move || {
        for line in answers.lines().map_while(std::io::Result::ok) {
            println!("{line}");
        }
    });
    for line in stdin().lines() {
        writeln!(connection, "{}", line?)?;
    }
    Ok(())
}
