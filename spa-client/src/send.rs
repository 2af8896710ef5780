//! Knocking: one fresh datagram for each address.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use spa_keys::{date, random};
use spa_proto::{Address, Credentials, Datagram, Entropy, Request, seal};

use crate::address::Source;
use crate::exit::Failure;

/// All that a knock is made of, but its addresses.
pub(crate) struct Knocker {
    /// Keys for the server.
    pub(crate) credentials: Credentials,
    /// What to ask for; its address is filled in for each datagram.
    pub(crate) request: Request,
    /// Which address that is.
    pub(crate) source: Source,
}

/// What became of one datagram.
pub(crate) struct Sent {
    /// Where to.
    pub(crate) to: SocketAddr,
    /// How it went, or why it did not.
    pub(crate) result: Result<Trace, String>,
}

/// A datagram on its way.
pub(crate) struct Trace {
    /// Address that it left from.
    pub(crate) local: IpAddr,
    /// For whom it asks to open.
    pub(crate) asked: Address,
    /// Its length, in bytes.
    pub(crate) len: usize,
}

impl Knocker {
    /// Sends one datagram to each address. What keeps a single one from
    /// leaving is in its result.
    ///
    /// # Errors
    /// Where no datagram can be made at all.
    pub(crate) fn knock(&self, addresses: &[SocketAddr]) -> Result<Vec<Sent>, Failure> {
        addresses.iter().map(|to| self.knock_at(*to)).collect()
    }

    fn knock_at(&self, to: SocketAddr) -> Result<Sent, Failure> {
        let socket = match connect(to) {
            Ok(socket) => socket,
            Err(why) => return Ok(Sent { to, result: Err(why) }),
        };
        let (socket, local) = socket;
        let asked = self.source.request(local);
        let datagram = self.seal(asked)?;
        let result = socket
            .send(&datagram)
            .map(|len| Trace { local, asked, len })
            .map_err(|error| describe(&error));
        Ok(Sent { to, result })
    }

    fn seal(&self, address: Address) -> Result<Datagram, Failure> {
        let request = Request { address, ..self.request.clone() };
        let entropy = Entropy::from_bytes(*random::bytes().map_err(Failure::keys)?);
        seal(&self.credentials, &request, date::now(), &entropy).map_err(Failure::keys)
    }
}

/// A socket towards `to`, and the address that it sends from.
fn connect(to: SocketAddr) -> Result<(UdpSocket, IpAddr), String> {
    if let SocketAddr::V6(v6) = to
        && v6.ip().is_unicast_link_local()
        && v6.scope_id() == 0
    {
        return Err(format!("a link-local address needs its interface, such as {}%eth0", v6.ip()));
    }
    open(to).map_err(|error| describe(&error))
}

fn open(to: SocketAddr) -> io::Result<(UdpSocket, IpAddr)> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    let local = socket.local_addr()?.ip();
    Ok((socket, local))
}

/// What the operating system says, in words that help.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NetworkUnreachable => "network unreachable: no route to it from here".into(),
        ErrorKind::HostUnreachable => "host unreachable: its network does not answer".into(),
        ErrorKind::PermissionDenied => {
            "not permitted: a firewall on this machine forbids it".into()
        }
        ErrorKind::AddrNotAvailable => "this machine has no address of that family".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_without_interface_is_explained() {
        let why = connect("[fe80::1]:62201".parse().unwrap()).unwrap_err();
        assert!(why.contains("fe80::1%eth0"), "{why}");
    }

    #[test]
    fn sends_from_the_address_that_the_route_says() {
        let (_, local) = connect("127.0.0.1:62201".parse().unwrap()).unwrap();
        assert_eq!(local, IpAddr::from(Ipv4Addr::LOCALHOST));
    }
}
