//! What a knock can ask for: a service by its name, or a protocol and a port
//! (protocol §5.3).

use std::fmt;
use std::str::FromStr;

/// Length of one service slot in the body, in bytes.
pub(crate) const SLOT_LEN: usize = 16;
/// How many services one knock can name.
pub(crate) const SLOTS: usize = 4;
/// Length of the services field of the body.
pub(crate) const SERVICES_LEN: usize = SLOT_LEN * SLOTS;

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Number in the IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = InvalidService;

    fn from_str(text: &str) -> Result<Self, InvalidService> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(InvalidService(text.to_owned())),
        }
    }
}

/// Name of a service: a lower-case letter, then at most 15 lower-case letters,
/// digits and hyphens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName([u8; SLOT_LEN]);

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        slot_text(&self.0)
    }
}

impl FromStr for ServiceName {
    type Err = InvalidService;

    fn from_str(text: &str) -> Result<Self, InvalidService> {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let rest = text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let slot = to_slot(text).filter(|_| first && rest);
        slot.map(Self).ok_or_else(|| InvalidService(text.to_owned()))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// One thing that is knocked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// By its name in the server's configuration.
    Named(ServiceName),
    /// By protocol and port; written `tcp/22`. The port is never 0.
    Port(Protocol, u16),
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Port(protocol, port) => write!(f, "{protocol}/{port}"),
        }
    }
}

impl FromStr for Service {
    type Err = InvalidService;

    fn from_str(text: &str) -> Result<Self, InvalidService> {
        let Some((protocol, port)) = text.split_once('/') else {
            return text.parse().map(Self::Named);
        };
        let invalid = || InvalidService(text.to_owned());
        let service = Self::Port(protocol.parse()?, port.parse().map_err(|_| invalid())?);
        // Writing it again refuses what a parser lets pass: "+22", "022".
        if port != "0" && service.to_string() == text { Ok(service) } else { Err(invalid()) }
    }
}

/// Text that names no service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidService(String);

impl fmt::Display for InvalidService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a service: expected a name of at most 16 lower-case letters, digits and \
             hyphens that starts with a letter, or a protocol and a port such as tcp/22",
            self.0
        )
    }
}

impl std::error::Error for InvalidService {}

/// The services of one knock: one to four, in ascending order of their slots,
/// none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services(Vec<Service>);

impl Services {
    /// How many services one knock can name.
    pub const MAX: usize = SLOTS;

    /// Sorts and takes out what is named twice; `None` where that leaves none
    /// or more than [`Self::MAX`].
    #[must_use]
    pub fn new(services: impl IntoIterator<Item = Service>) -> Option<Self> {
        let mut services: Vec<_> = services.into_iter().collect();
        services.sort_by_key(slot);
        services.dedup();
        (1..=SLOTS).contains(&services.len()).then_some(Self(services))
    }

    /// The services in order.
    pub fn iter(&self) -> impl Iterator<Item = Service> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn encode(&self) -> [u8; SERVICES_LEN] {
        let mut out = [0; SERVICES_LEN];
        for (place, service) in out.chunks_exact_mut(SLOT_LEN).zip(&self.0) {
            place.copy_from_slice(&slot(service));
        }
        out
    }

    /// Reads the field; `None` unless it is what [`Self::encode`] writes.
    pub(crate) fn decode(bytes: &[u8; SERVICES_LEN]) -> Option<Self> {
        let filled = bytes.chunks_exact(SLOT_LEN).take_while(|slot| slot.first() != Some(&0));
        let read = filled.map(|slot| slot_text(slot).parse().ok()).collect::<Option<Vec<_>>>()?;
        Self::new(read).filter(|services| services.encode() == *bytes)
    }
}

fn slot(service: &Service) -> [u8; SLOT_LEN] {
    match service {
        Service::Named(name) => name.0,
        // "udp/65535" is nine bytes: it always fits.
        Service::Port(..) => to_slot(&service.to_string()).unwrap_or_default(),
    }
}

fn to_slot(text: &str) -> Option<[u8; SLOT_LEN]> {
    let mut slot = [0; SLOT_LEN];
    slot.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(slot)
}

fn slot_text(slot: &[u8]) -> &str {
    let text = slot.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["ssh", "web-2", "a", "abcdefghijklmnop", "tcp/22", "udp/65535"] {
            assert_eq!(text.parse::<Service>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_other_text() {
        for text in [
            "",
            "Ssh",
            "2ssh",
            "-a",
            "ssh ",
            "a_b",
            "ä",
            "abcdefghijklmnopq",
            "tcp/0",
            "tcp/022",
            "tcp/+2",
            "tcp/65536",
            "icmp/1",
            "tcp/",
            "/22",
            "tcp/2/2",
        ] {
            assert!(text.parse::<Service>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn slots_are_canonical() {
        let parse = |text: &str| text.parse::<Service>().unwrap();
        let services = Services::new(["web", "ssh", "ssh"].map(parse)).unwrap();
        let bytes = services.encode();
        assert_eq!(Services::decode(&bytes), Some(services));

        let mut swapped = bytes;
        swapped[..16].copy_from_slice(&bytes[16..32]);
        swapped[16..32].copy_from_slice(&bytes[..16]);
        assert_eq!(Services::decode(&swapped), None, "out of order");

        let mut gap = bytes;
        gap[48] = b'x';
        assert_eq!(Services::decode(&gap), None, "a slot after an empty one");

        let mut tail = bytes;
        tail[5] = b'x';
        assert_eq!(Services::decode(&tail), None, "bytes after the end of a name");
        assert_eq!(Services::decode(&[0; SERVICES_LEN]), None, "none");
        assert!(Services::new(["a", "b", "c", "d", "e"].map(parse)).is_none());
    }
}
