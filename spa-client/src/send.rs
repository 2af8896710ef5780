//! Knocking: one fresh datagram for each address.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use spa_keys::{date, random};
use spa_proto::{
    Address, Credentials, Datagram, Entropy, Mode, Request, Services, Timestamp, seal,
};

use crate::address::{Source, Width, cut};
use crate::exit::Failure;
use crate::outside::Outside;

/// How long an error of the network may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// All that a knock is made of, but where it goes.
pub(crate) struct Knocker {
    /// Keys for the server.
    pub(crate) credentials: Credentials,
    /// What to ask for at each address, a datagram each; mode, address and width are filled in.
    pub(crate) requests: Vec<Request>,
    /// For which address.
    pub(crate) source: Source,
    /// What others see in place of an address that is not global.
    pub(crate) outside: Outside,
    /// For how wide a prefix around it.
    pub(crate) width: Option<Width>,
    /// What is done with a datagram.
    pub(crate) sending: Sending,
}

/// What is done with a datagram that is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Nothing.
    Not,
    /// It is sent.
    Sent,
    /// It is sent, and the network is listened to for an error.
    SentAndHeard,
}

/// Where to knock, and how.
#[derive(Clone)]
pub(crate) struct Target {
    /// The knock port at one address of the server.
    pub(crate) to: SocketAddr,
    /// Grant mode to ask for there, or why it is no use to knock.
    pub(crate) mode: Result<Mode, String>,
}

/// What became of one datagram.
pub(crate) struct Sent {
    /// Where to.
    pub(crate) to: SocketAddr,
    /// What it asks to open.
    pub(crate) services: Services,
    /// How it went, or why it did not.
    pub(crate) result: Result<Trace, String>,
}

/// A datagram on its way.
pub(crate) struct Trace {
    /// Address that it left from.
    pub(crate) local: IpAddr,
    /// What it asks for.
    pub(crate) asked: Asked,
    /// Its length, in bytes.
    pub(crate) len: usize,
    /// What the network has answered, if it was listened to and has.
    pub(crate) complaint: Option<String>,
}

/// What differs from one datagram to the next.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// For whom to open.
    pub(crate) address: Address,
    /// For how wide a prefix; `None` for the one address.
    pub(crate) width: Option<u8>,
    /// In which grant mode.
    pub(crate) mode: Mode,
}

impl Knocker {
    /// Sends the datagrams to each target. What keeps a single one from leaving
    /// is in its result.
    ///
    /// # Errors
    /// Where no datagram can be made at all.
    pub(crate) fn knock(&self, targets: &[Target]) -> Result<Vec<Sent>, Failure> {
        let each = |target| self.requests.iter().map(move |request| (target, request));
        let all = targets.iter().flat_map(each);
        all.map(|(target, request)| self.knock_at(target, request)).collect()
    }

    fn knock_at(&self, target: &Target, request: &Request) -> Result<Sent, Failure> {
        let (to, services) = (target.to, request.services.clone());
        let (socket, local, asked) = match self.prepare(target) {
            Ok(prepared) => prepared,
            Err(why) => return Ok(Sent { to, services, result: Err(why) }),
        };
        let datagram = self.seal(request, asked, date::now())?;
        let len = match self.sending {
            Sending::Not => Ok(datagram.len()),
            Sending::Sent | Sending::SentAndHeard => socket.send(&datagram),
        };
        let heard = self.sending == Sending::SentAndHeard;
        let complaint = if heard { complaint(&socket) } else { None };
        let trace = |len| Trace { local, asked, len, complaint };
        let result = len.map(trace).map_err(|error| describe(&error));
        Ok(Sent { to, services, result })
    }

    fn prepare(&self, target: &Target) -> Result<(UdpSocket, IpAddr, Asked), String> {
        let mode = target.mode.clone()?;
        let (socket, local) = connect(target.to)?;
        let local = local.ip();
        let width = self.width.and_then(|width| width.within(local));
        let address = cut(self.source.request(local, self.outside.of(local))?, width);
        Ok((socket, local, Asked { address, width, mode }))
    }

    /// One datagram, by a clock that shows `now`.
    pub(crate) fn seal(
        &self,
        request: &Request,
        asked: Asked,
        now: Timestamp,
    ) -> Result<Datagram, Failure> {
        let Asked { address, width, mode } = asked;
        let request = Request { address, width, mode, ..request.clone() };
        let entropy = Entropy::from_bytes(*random::bytes().map_err(Failure::keys)?);
        seal(&self.credentials, &request, now, &entropy).map_err(Failure::keys)
    }
}

/// What routers and the server's kernel say of a datagram (ICMP); spad itself says nothing.
fn complaint(socket: &UdpSocket) -> Option<String> {
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    let error = socket.recv(&mut [0]).err()?;
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => None,
        ErrorKind::ConnectionRefused => {
            Some("answered with \"port unreachable\": nothing there drops what comes".into())
        }
        _ => Some(format!("answered with an error: {}", describe(&error))),
    }
}

/// Sends a datagram that was made before; gives the address that it left from.
pub(crate) fn send_datagram(to: SocketAddr, datagram: &Datagram) -> Result<SocketAddr, String> {
    let (socket, local) = connect(to)?;
    socket.send(datagram).map(|_| local).map_err(|error| describe(&error))
}

/// The address that datagrams and connections to `to` leave from, with port 0.
pub(crate) fn local_towards(to: SocketAddr) -> Result<SocketAddr, String> {
    connect(to).map(|(_, mut local)| {
        local.set_port(0);
        local
    })
}

/// A socket towards `to`, and the address that it sends from.
fn connect(to: SocketAddr) -> Result<(UdpSocket, SocketAddr), String> {
    if let SocketAddr::V6(v6) = to
        && v6.ip().is_unicast_link_local()
        && v6.scope_id() == 0
    {
        return Err(format!("a link-local address needs its interface, such as {}%eth0", v6.ip()));
    }
    open(to).map_err(|error| describe(&error))
}

fn open(to: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    let local = socket.local_addr()?;
    Ok((socket, local))
}

/// What the operating system says, in words that help.
pub(crate) fn describe(error: &io::Error) -> String {
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
        assert_eq!(local.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    }
}
