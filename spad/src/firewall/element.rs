//! Grants and connections, as the kernel's sets have them.

use super::grant_set::GrantSet;
use spa_proto::{GrantMode, Prefix, ServiceName};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Who may connect to what: one element of a grant set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The service, all of its ports.
    pub service: ServiceName,
    /// The granted source: as a rule one address.
    pub source: Prefix,
    /// The address of this host that it may connect to; `None` for all of them,
    /// where the ruleset does not look.
    pub destination: Option<IpAddr>,
    /// How often, and from where.
    pub terms: Terms,
}

/// How a grant can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Terms {
    /// For any number of new connections while it lasts.
    Window,
    /// For one new connection. Its first packet uses the grant up; that packet's
    /// repetitions belong to the connection already.
    Once,
    /// For new connections from this source port.
    Bound(u16),
}

impl Terms {
    /// The same without the port.
    #[must_use]
    pub const fn mode(self) -> GrantMode {
        match self {
            Self::Window => GrantMode::Window,
            Self::Once => GrantMode::Once,
            Self::Bound(_) => GrantMode::Bound,
        }
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(port) => write!(f, "bound to port {port}"),
            _ => f.write_str(self.mode().name()),
        }
    }
}

/// One connection, as its first packet has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Connection {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl Element {
    /// The granted address as people write it, or the prefix.
    #[must_use]
    pub fn source_text(&self) -> String {
        if self.set().is_wide() {
            self.source.to_string()
        } else {
            self.source.address().to_string()
        }
    }

    /// The set that it belongs to.
    pub(crate) fn set(&self) -> GrantSet {
        GrantSet {
            service: self.service,
            terms: self.terms,
            v4: self.source.address().is_ipv4(),
            width: self.source.prefix_len(),
            destination: self.destination.is_some(),
        }
        .normal()
    }

    /// The set's key; each field is padded to four bytes.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = address(self.source.address());
        key.extend(self.destination.map(address).unwrap_or_default());
        if let Terms::Bound(source_port) = self.terms {
            key.extend(port(source_port));
        }
        key
    }
}

impl Connection {
    /// Source, source port, destination, destination port.
    pub(crate) fn key(&self) -> Vec<u8> {
        let end = |end: SocketAddr| [address(end.ip()), port(end.port()).to_vec()].concat();
        [end(self.source), end(self.destination)].concat()
    }
}

fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}
