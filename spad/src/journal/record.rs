//! Entries of the journal: 128 bytes each, with a checksum.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sha2::{Digest, Sha256};
use spa_proto::{Kid, Monotonic, Nonce, Prefix, Protocol, ServiceName, Timestamp};

use crate::fields::{Reader, millis};
use crate::firewall::{Element, Terms};
use crate::sessions::Ends;

/// Length of an entry, in bytes.
pub(super) const RECORD_LEN: usize = 128;
const CHECKED: usize = RECORD_LEN - 8;

/// How many knocks of a client's past fit in an entry.
pub(super) const PAST: usize = 4;

/// An entry as it is on the file system.
pub(super) type Raw = [u8; RECORD_LEN];

/// One thing to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A client used this knock.
    Used {
        /// The client's key-id.
        kid: Kid,
        /// The knock's time.
        time: Timestamp,
        /// The knock's nonce.
        nonce: Nonce,
    },
    /// A client used these, when a journal was begun.
    Past {
        /// The client's key-id.
        kid: Kid,
        /// At most 4 knocks' times and nonces.
        used: Vec<(Timestamp, Nonce)>,
    },
    /// A client's history begins here.
    History {
        /// The client's key-id.
        kid: Kid,
        /// Everything at or under this time is used.
        floor: Timestamp,
        /// Whether the client's first knock is the first entry that follows.
        complete: bool,
    },
    /// A grant is in force, or has a new end.
    Grant {
        /// Its number.
        id: u64,
        /// The client's key-id.
        kid: Kid,
        /// The element in the kernel.
        element: Element,
        /// When it was last asked for.
        since: Monotonic,
        /// When it ends.
        ends: Monotonic,
        /// Whether a hook is to be told of its end; older journals say no.
        told: bool,
    },
    /// A connection was made through a grant.
    Session {
        /// The grant's number.
        grant: u64,
        /// The client's key-id.
        kid: Kid,
        /// Name of the service.
        service: ServiceName,
        /// From where to where.
        ends: Ends,
        /// When it was first seen.
        began: Timestamp,
    },
    /// It has ended.
    Closed {
        /// From where to where.
        ends: Ends,
    },
    /// A grant was ended before its time.
    Ended {
        /// Its number.
        id: u64,
    },
}

impl Record {
    pub(super) fn encode(&self) -> Raw {
        let mut out = Fields::default();
        match self {
            Self::Used { kid, time, nonce } => {
                out.put(&[1]).put(kid.as_bytes()).number(time.as_millis()).put(nonce.as_bytes())
            }
            Self::History { kid, floor, complete } => out
                .put(&[2])
                .put(kid.as_bytes())
                .number(floor.as_millis())
                .put(&[u8::from(*complete)]),
            Self::Grant { id, kid, element, since, ends, told } => out
                .put(&[3])
                .number(*id)
                .put(kid.as_bytes())
                .number(millis(since.as_duration()))
                .number(millis(ends.as_duration()))
                .element(element)
                .put(&[u8::from(*told)]),
            Self::Ended { id } => out.put(&[4]).number(*id),
            Self::Session { grant, kid, service, ends, began } => out
                .put(&[5])
                .number(*grant)
                .put(kid.as_bytes())
                .service(*service)
                .ends(ends)
                .number(began.as_millis()),
            Self::Closed { ends } => out.put(&[6]).ends(ends),
            Self::Past { kid, used } => {
                let used = &used[..used.len().min(PAST)];
                let count = u8::try_from(used.len()).unwrap_or(u8::MAX);
                let head = out.put(&[7]).put(kid.as_bytes()).put(&[count]);
                used.iter().fold(head, |out, (time, nonce)| {
                    out.number(time.as_millis()).put(nonce.as_bytes())
                })
            }
        };
        seal(out.bytes)
    }

    /// `None` where the checksum does not fit, or nothing encodes to this.
    pub(super) fn decode(raw: &Raw) -> Option<Self> {
        let mut fields = Reader { rest: unseal(raw)? };
        let record = match fields.take::<1>()?[0] {
            1 => Self::Used {
                kid: Kid::from_bytes(fields.take()?),
                time: Timestamp::from_millis(fields.number()?),
                nonce: Nonce::from_bytes(fields.take()?),
            },
            2 => Self::History {
                kid: Kid::from_bytes(fields.take()?),
                floor: Timestamp::from_millis(fields.number()?),
                complete: fields.take::<1>()?[0] == 1,
            },
            3 => Self::Grant {
                id: fields.number()?,
                kid: Kid::from_bytes(fields.take()?),
                since: Monotonic::new(Duration::from_millis(fields.number()?)),
                ends: Monotonic::new(Duration::from_millis(fields.number()?)),
                element: element(&mut fields)?,
                told: fields.take::<1>()?[0] == 1,
            },
            4 => Self::Ended { id: fields.number()? },
            5 => Self::Session {
                grant: fields.number()?,
                kid: Kid::from_bytes(fields.take()?),
                service: service(&mut fields)?,
                ends: ends(&mut fields)?,
                began: Timestamp::from_millis(fields.number()?),
            },
            6 => Self::Closed { ends: ends(&mut fields)? },
            7 => Self::Past { kid: Kid::from_bytes(fields.take()?), used: past(&mut fields)? },
            _ => return None,
        };
        (record.encode() == *raw).then_some(record)
    }
}

/// Puts the checksum behind the fields.
pub(super) fn seal(bytes: [u8; CHECKED]) -> Raw {
    let mut raw = [0; RECORD_LEN];
    raw[..CHECKED].copy_from_slice(&bytes);
    raw[CHECKED..].copy_from_slice(&Sha256::digest(bytes)[..8]);
    raw
}

/// The fields, if the checksum fits.
pub(super) fn unseal(raw: &Raw) -> Option<&[u8]> {
    let (fields, checksum) = raw.split_at(CHECKED);
    (Sha256::digest(fields)[..8] == *checksum).then_some(fields)
}

/// Fields one after the other, the rest zero. The longest entry, of a client's
/// past, has 114 bytes.
pub(super) struct Fields {
    pub(super) bytes: [u8; CHECKED],
    at: usize,
}

impl Default for Fields {
    fn default() -> Self {
        Self { bytes: [0; CHECKED], at: 0 }
    }
}

impl Fields {
    pub(super) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.at + bytes.len();
        self.bytes[self.at..end].copy_from_slice(bytes);
        self.at = end;
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.put(&number.to_be_bytes())
    }

    /// Service, source, destination, terms: 55 bytes.
    fn element(&mut self, element: &Element) -> &mut Self {
        let (kind, port) = match element.terms {
            Terms::Window => (0, 0),
            Terms::Once => (1, 0),
            Terms::Bound(port) => (2, port),
        };
        self.service(element.service)
            .address(Some(element.source.address()))
            .put(&[element.source.prefix_len()])
            .address(element.destination)
            .put(&[kind])
            .put(&port.to_be_bytes())
    }

    /// Its name: 16 bytes.
    fn service(&mut self, service: ServiceName) -> &mut Self {
        let mut name = [0; 16];
        name[..service.as_str().len()].copy_from_slice(service.as_str().as_bytes());
        self.put(&name)
    }

    /// Protocol, and both ends: 39 bytes.
    fn ends(&mut self, ends: &Ends) -> &mut Self {
        self.put(&[ends.protocol.number()]);
        for end in [ends.source, ends.destination] {
            self.address(Some(end.ip())).put(&end.port().to_be_bytes());
        }
        self
    }

    /// Family and address: 17 bytes.
    fn address(&mut self, address: Option<IpAddr>) -> &mut Self {
        let mut octets = [0; 16];
        let family = match address {
            None => 0,
            Some(IpAddr::V4(v4)) => {
                octets[..4].copy_from_slice(&v4.octets());
                4
            }
            Some(IpAddr::V6(v6)) => {
                octets = v6.octets();
                6
            }
        };
        self.put(&[family]).put(&octets)
    }
}

fn past(fields: &mut Reader<'_>) -> Option<Vec<(Timestamp, Nonce)>> {
    let count = usize::from(fields.take::<1>()?[0]);
    let one = |_| {
        let time = Timestamp::from_millis(fields.number()?);
        Some((time, Nonce::from_bytes(fields.take()?)))
    };
    (count <= PAST).then(|| (0..count).map(one).collect())?
}

fn element(fields: &mut Reader<'_>) -> Option<Element> {
    let service = service(fields)?;
    let source = address(fields)??;
    let source = Prefix::new(source, fields.take::<1>()?[0])?;
    let destination = address(fields)?;
    let kind = fields.take::<1>()?[0];
    let port = u16::from_be_bytes(fields.take()?);
    let terms = match kind {
        0 => Terms::Window,
        1 => Terms::Once,
        2 => Terms::Bound(port),
        _ => return None,
    };
    Some(Element { service, source, destination, terms })
}

fn service(fields: &mut Reader<'_>) -> Option<ServiceName> {
    let name = fields.take::<16>()?;
    std::str::from_utf8(&name).ok()?.trim_end_matches('\0').parse().ok()
}

fn ends(fields: &mut Reader<'_>) -> Option<Ends> {
    let number = fields.take::<1>()?[0];
    let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.number() == number)?;
    let mut end = || {
        let address = address(fields)??;
        Some(SocketAddr::new(address, u16::from_be_bytes(fields.take()?)))
    };
    Some(Ends { protocol, source: end()?, destination: end()? })
}

/// `None` for nonsense, and `None` inside for no address.
fn address(fields: &mut Reader<'_>) -> Option<Option<IpAddr>> {
    let family = fields.take::<1>()?[0];
    let octets = fields.take::<16>()?;
    match family {
        0 => Some(None),
        4 => Some(octets.first_chunk::<4>().map(|v4| IpAddr::from(*v4))),
        6 => Some(Some(IpAddr::from(octets))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Ends {
        let [source, destination] = [source, destination].map(|end| end.parse().unwrap());
        Ends { protocol: Protocol::Tcp, source, destination }
    }

    fn records() -> Vec<Record> {
        let kid = Kid::from_bytes([1; 16]);
        let time = Timestamp::from_millis(1_800_000_000_000);
        let grant = |source: &str, len, destination: Option<&str>, terms| Record::Grant {
            id: 7,
            kid,
            element: Element {
                service: "abcdefghijklmnop".parse().unwrap(),
                source: Prefix::new(source.parse().unwrap(), len).unwrap(),
                destination: destination.map(|text| text.parse().unwrap()),
                terms,
            },
            since: Monotonic::new(Duration::from_millis(100_000)),
            ends: Monotonic::new(Duration::from_millis(123_456)),
            told: destination.is_some(),
        };
        vec![
            Record::Used { kid, time, nonce: Nonce::from_bytes([2; 16]) },
            Record::History { kid, floor: time, complete: true },
            Record::Past { kid, used: vec![(time, Nonce::from_bytes([3; 16])); PAST] },
            grant("192.0.2.1", 32, None, Terms::Window),
            grant("192.0.2.0", 24, Some("198.51.100.1"), Terms::Once),
            grant("2001:db8::1", 128, Some("2001:db8::2"), Terms::Bound(65535)),
            Record::Ended { id: u64::MAX },
            Record::Session {
                grant: 7,
                kid,
                service: "ssh".parse().unwrap(),
                ends: ends("192.0.2.1:40000", "198.51.100.1:22"),
                began: time,
            },
            Record::Closed { ends: ends("[2001:db8::1]:40000", "[2001:db8::2]:22") },
        ]
    }

    #[test]
    fn records_survive() {
        for record in records() {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn any_changed_byte_shows() {
        for record in records() {
            for at in 0..RECORD_LEN {
                let mut raw = record.encode();
                raw[at] ^= 0x10;
                assert_eq!(Record::decode(&raw), None, "{record:?} byte {at}");
            }
        }
        assert_eq!(Record::decode(&[0; RECORD_LEN]), None);
    }
}
