//! The body of a knock: what is asked for, in one canonical encoding of 160
//! bytes (protocol §5.3).
//!
//! ```text
//! 0    version       1   1
//! 1    kind          1   0 knock, 1 enrol
//! 2    mode          1   0 the service's default, 1 window, 2 once, 3 bound
//! 3    address kind  1   0 seen, 1 explicit
//! 4    family        1   4, 6, or 0 for seen without a prefix
//! 5    prefix length 1   of the prefix that the seen address must lie in
//! 6    source port   2   in mode bound, else 0
//! 8    duration      4   seconds, 0 for the service's default
//! 12   address      16   IPv4 in the first four bytes
//! 28   services     64   four slots of 16 bytes
//! 92   verifying key 32  in kind enrol, else 0
//! 124  secret       32   in kind enrol, else 0
//! 156  width         1   prefix length of the grant, 0 for the one address
//! 157  zero          3
//! ```
//! Numbers are big-endian.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zeroize::Zeroizing;

use crate::key::VerifyingKey;
use crate::packet::field;
use crate::secret::EnrolSecret;
use crate::service::Services;

/// Length of the body, in bytes.
pub const BODY_LEN: usize = 160;
/// A body that somebody else made: that of an enrolment holds the one-time secret, so it is
/// wiped when dropped, and in a box, which leaves no copy where it was.
pub(crate) type Body = Box<Zeroizing<[u8; BODY_LEN]>>;

const VERSION: u8 = 1;
const ENROLMENT: std::ops::Range<usize> = 92..156;

/// What a client asks for.
#[derive(Clone)]
pub struct Request {
    /// Ordinary, or the first one.
    pub kind: Kind,
    /// How often and how bound the grant is to be usable.
    pub mode: Mode,
    /// For whom to open.
    pub address: Address,
    /// Prefix length of the grant, 1 to 31 or 127; `None` for the one address.
    pub width: Option<u8>,
    /// For how many seconds; `None` for the service's default.
    pub seconds: Option<std::num::NonZeroU32>,
    /// What to open.
    pub services: Services,
}

/// Ordinary knock, or the one that enrols.
#[derive(Clone)]
pub enum Kind {
    /// Of an enrolled client.
    Knock,
    /// Of a client with a token: binds its key, and asks for access as any other.
    Enrol(Box<Enrolment>),
}

/// What the first knock carries beyond any other (protocol §8).
#[derive(Clone)]
pub struct Enrolment {
    /// The key that the client has made for this server.
    pub verifying_key: VerifyingKey,
    /// The token's one-time secret.
    pub secret: EnrolSecret,
}

/// How a grant can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the service says.
    Default,
    /// Any number of new connections while it lasts.
    Window,
    /// One new connection.
    Once,
    /// One source port only.
    Bound {
        /// The port, not 0.
        source_port: u16,
    },
}

/// For whom to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// The source of the packet, as the server sees it.
    Seen,
    /// The same, provided that it lies in a prefix.
    SeenWithin(Prefix),
    /// This one.
    Explicit(IpAddr),
}

/// An IP prefix without host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

impl Prefix {
    /// `None` where `len` is too long for the family, or host bits are set.
    #[must_use]
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let fits = len <= bits(address) && mask(address, len) == address;
        fits.then_some(Self { address, len })
    }

    /// The prefix of this length that `address` lies in; a length beyond the
    /// family's counts as the whole address.
    #[must_use]
    pub fn of(address: IpAddr, len: u8) -> Self {
        let len = len.min(bits(address));
        Self { address: mask(address, len), len }
    }

    /// Whether `address` lies in it; families never mix.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && mask(address, self.len) == self.address
    }

    /// The first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The length, in bits.
    #[must_use]
    pub const fn prefix_len(&self) -> u8 {
        self.len
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// Not the one encoding of any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCanonical;

impl Request {
    /// Writes the body.
    ///
    /// # Errors
    /// [`NotCanonical`] where the width does not fit the address, or a bound
    /// source port is 0.
    pub fn encode(&self) -> Result<[u8; BODY_LEN], NotCanonical> {
        let body = self.write();
        Self::read(&body).map(|_| body).ok_or(NotCanonical)
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`NotCanonical`] where the bytes are not exactly what [`Self::encode`]
    /// writes for some request.
    pub fn decode(body: &[u8; BODY_LEN]) -> Result<Self, NotCanonical> {
        Self::read(body).filter(|request| request.write() == *body).ok_or(NotCanonical)
    }

    /// Whether this is the body of an enrolment, if it is one at all.
    pub(crate) const fn enrols(body: &[u8; BODY_LEN]) -> bool {
        body[1] != 0
    }

    fn write(&self) -> [u8; BODY_LEN] {
        let (mode, source_port) = self.mode.encode();
        let (kind, family, prefix_len, address) = self.address.encode();
        let mut body = [0; BODY_LEN];
        body[0] = VERSION;
        body[1] = u8::from(matches!(self.kind, Kind::Enrol(_)));
        body[2] = mode;
        body[3] = kind;
        body[4] = family;
        body[5] = prefix_len;
        body[6..8].copy_from_slice(&source_port.to_be_bytes());
        body[8..12].copy_from_slice(&self.seconds.map_or(0, u32::from).to_be_bytes());
        body[12..28].copy_from_slice(&address);
        body[28..92].copy_from_slice(&self.services.encode());
        if let Kind::Enrol(enrolment) = &self.kind {
            body[92..124].copy_from_slice(&enrolment.verifying_key.to_bytes());
            body[124..156].copy_from_slice(enrolment.secret.expose());
        }
        body[156] = self.width.unwrap_or(0);
        body
    }

    /// Reads field by field; what it does not look at, `decode` compares.
    fn read(body: &[u8; BODY_LEN]) -> Option<Self> {
        if body[0] != VERSION {
            return None;
        }
        let address = Address::decode(body[3], body[4], body[5], field(body, 12..28))?;
        Some(Self {
            kind: Kind::decode(body[1], &field(body, ENROLMENT))?,
            mode: Mode::decode(body[2], u16::from_be_bytes(field(body, 6..8)))?,
            address,
            width: read_width(body[156], address)?,
            seconds: std::num::NonZeroU32::new(u32::from_be_bytes(field(body, 8..12))),
            services: Services::decode(&field(body, 28..92))?,
        })
    }
}

impl Kind {
    fn decode(kind: u8, enrolment: &[u8; 64]) -> Option<Self> {
        match kind {
            0 => Some(Self::Knock),
            1 => Some(Self::Enrol(Box::new(Enrolment {
                verifying_key: VerifyingKey::from_bytes(&field(enrolment, 0..32)).ok()?,
                secret: EnrolSecret::from_bytes(field(enrolment, 32..64)),
            }))),
            _ => None,
        }
    }
}

impl Mode {
    fn encode(self) -> (u8, u16) {
        match self {
            Self::Default => (0, 0),
            Self::Window => (1, 0),
            Self::Once => (2, 0),
            Self::Bound { source_port } => (3, source_port),
        }
    }

    fn decode(mode: u8, source_port: u16) -> Option<Self> {
        match (mode, source_port) {
            (0, 0) => Some(Self::Default),
            (1, 0) => Some(Self::Window),
            (2, 0) => Some(Self::Once),
            (3, 1..) => Some(Self::Bound { source_port }),
            _ => None,
        }
    }
}

impl Address {
    /// Kind, family, prefix length, address.
    fn encode(self) -> (u8, u8, u8, [u8; 16]) {
        match self {
            Self::Seen => (0, 0, 0, [0; 16]),
            Self::SeenWithin(prefix) => {
                (0, family(prefix.address), prefix.len, octets(prefix.address))
            }
            Self::Explicit(address) => (1, family(address), 0, octets(address)),
        }
    }

    fn decode(kind: u8, family: u8, prefix_len: u8, octets: [u8; 16]) -> Option<Self> {
        let address = match family {
            0 => return (kind == 0).then_some(Self::Seen),
            4 => IpAddr::from(field::<4>(&octets, 0..4)),
            6 => IpAddr::from(octets),
            _ => return None,
        };
        match kind {
            0 => Prefix::new(address, prefix_len).map(Self::SeenWithin),
            1 => Some(Self::Explicit(address)),
            _ => None,
        }
    }
}

/// A width narrower than the family's own, of an address without bits beyond it.
#[expect(clippy::option_option, reason = "outer: readable; inner: given")]
fn read_width(width: u8, address: Address) -> Option<Option<u8>> {
    let fits = match address {
        _ if width == 0 => return Some(None),
        Address::Seen => width < 128,
        Address::SeenWithin(prefix) => width < bits(prefix.address),
        Address::Explicit(address) => width < bits(address) && mask(address, width) == address,
    };
    fits.then_some(Some(width))
}

const fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut out = [0; 16];
            out[..4].copy_from_slice(&v4.octets());
            out
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn mask(address: IpAddr, len: u8) -> IpAddr {
    let host = u32::from(bits(address).saturating_sub(len));
    match address {
        IpAddr::V4(v4) => {
            Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(host).unwrap_or(0)).into()
        }
        IpAddr::V6(v6) => {
            Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(host).unwrap_or(0)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(address: Address) -> Request {
        Request {
            kind: Kind::Knock,
            mode: Mode::Default,
            address,
            width: None,
            seconds: None,
            services: Services::new(["ssh".parse().unwrap()]).unwrap(),
        }
    }

    #[test]
    fn every_byte_of_a_body_counts() {
        let body = request(Address::Explicit("192.0.2.7".parse().unwrap())).encode().unwrap();
        for at in 0..BODY_LEN {
            for bit in 0..8 {
                let mut other = body;
                other[at] ^= 1 << bit;
                let read = Request::decode(&other).map(|request| request.write());
                assert!(
                    read.is_err() || read == Ok(other),
                    "byte {at} bit {bit} is not carried over"
                );
            }
        }
    }

    #[test]
    fn zero_padding_is_checked() {
        let body = request(Address::Seen).encode().unwrap();
        for at in (5..8).chain(12..28).chain(32..156).chain(157..160) {
            let mut other = body;
            other[at] = 1;
            let other_port = at == 33 || at == 32; // not possible in "ssh", whose slot ends at 31
            assert!(Request::decode(&other).is_err() || other_port, "byte {at}");
        }
    }

    #[test]
    fn widths_fit_their_address() {
        let mut request = request(Address::Explicit("192.0.2.0".parse().unwrap()));
        for (width, fits) in [(24, true), (31, true), (32, false), (8, false)] {
            request.width = Some(width);
            assert_eq!(request.encode().is_ok(), fits, "{width}");
        }
    }

    #[test]
    fn prefixes() {
        let prefix = |text: &str, len| Prefix::new(text.parse().unwrap(), len);
        assert!(prefix("192.0.2.1", 24).is_none(), "host bits");
        assert!(prefix("192.0.2.0", 33).is_none(), "too long");
        assert!(prefix("0.0.0.0", 0).unwrap().contains("203.0.113.9".parse().unwrap()));
        assert!(!prefix("0.0.0.0", 0).unwrap().contains("::1".parse().unwrap()));
        let within = prefix("2001:db8::", 32).unwrap();
        assert!(within.contains("2001:db8:ffff::1".parse().unwrap()));
        assert!(!within.contains("2001:db9::1".parse().unwrap()));
    }
}
