//! Entries of the journal: 128 bytes each, with a checksum.

use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use spa_proto::{Kid, Monotonic, Nonce, Protocol, ServiceName, Timestamp};

use crate::fields::{Reader, millis};
use crate::firewall::Element;

/// Length of an entry, in bytes.
pub(super) const RECORD_LEN: usize = 128;
const CHECKED: usize = RECORD_LEN - 8;

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
        /// Name of the service.
        service: ServiceName,
        /// The element in the kernel.
        element: Element,
        /// When it ends.
        ends: Monotonic,
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
            Self::Grant { id, kid, service, element, ends } => out
                .put(&[3])
                .number(*id)
                .put(kid.as_bytes())
                .number(millis(ends.as_duration()))
                .put(&encode_element(element))
                .put(service.as_str().as_bytes()),
            Self::Ended { id } => out.put(&[4]).number(*id),
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
                ends: Monotonic::new(Duration::from_millis(fields.number()?)),
                element: decode_element(fields.take()?)?,
                service: std::str::from_utf8(&fields.take::<16>()?)
                    .ok()?
                    .trim_end_matches('\0')
                    .parse()
                    .ok()?,
            },
            4 => Self::Ended { id: fields.number()? },
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

/// Fields one after the other, the rest zero. The longest entry, a grant, has
/// 69 bytes.
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
}

/// Family, address, protocol, port.
fn encode_element(element: &Element) -> [u8; 20] {
    let mut out = [0; 20];
    match element.source {
        IpAddr::V4(v4) => {
            out[0] = 4;
            out[1..5].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out[0] = 6;
            out[1..17].copy_from_slice(&v6.octets());
        }
    }
    out[17] = element.protocol.number();
    out[18..].copy_from_slice(&element.port.to_be_bytes());
    out
}

fn decode_element(bytes: [u8; 20]) -> Option<Element> {
    let octets: [u8; 16] = bytes.get(1..17)?.try_into().ok()?;
    let source = match bytes[0] {
        4 => IpAddr::from(*octets.first_chunk::<4>()?),
        6 => IpAddr::from(octets),
        _ => return None,
    };
    let protocols = [Protocol::Tcp, Protocol::Udp];
    let protocol = protocols.into_iter().find(|protocol| protocol.number() == bytes[17])?;
    Some(Element { source, protocol, port: u16::from_be_bytes([bytes[18], bytes[19]]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let kid = Kid::from_bytes([1; 16]);
        let time = Timestamp::from_millis(1_800_000_000_000);
        let element = |source: &str| Element {
            source: source.parse().unwrap(),
            protocol: Protocol::Udp,
            port: 65535,
        };
        let grant = |source| Record::Grant {
            id: 7,
            kid,
            service: "abcdefghijklmnop".parse().unwrap(),
            element: element(source),
            ends: Monotonic::new(Duration::from_millis(123_456)),
        };
        vec![
            Record::Used { kid, time, nonce: Nonce::from_bytes([2; 16]) },
            Record::History { kid, floor: time, complete: true },
            grant("192.0.2.1"),
            grant("2001:db8::1"),
            Record::Ended { id: u64::MAX },
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
