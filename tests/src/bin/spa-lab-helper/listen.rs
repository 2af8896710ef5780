//! Servers that give back what they get.

use std::io;
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use spa_tests::Result;
use spa_tests::lab::Doing;

/// Echoes every connection, of both families.
pub(crate) fn tcp(port: u16) -> Result {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).doing("listening")?;
    println!("ready");
    for connection in listener.incoming() {
        let connection = connection?;
        thread::spawn(move || echo(&connection));
    }
    Ok(())
}

fn echo(connection: &TcpStream) -> io::Result<u64> {
    let (mut from, mut to) = (connection, connection);
    io::copy(&mut from, &mut to)
}

/// Echoes every datagram, of both families.
pub(crate) fn udp(port: u16) -> Result {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).doing("listening")?;
    let mut buffer = [0; 65536];
    println!("ready");
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        // The other side may be gone: the next may not.
        let _ = socket.send_to(&buffer[..length], from);
    }
}
