//! An address block: what `trusted` lists.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address block in canonical form: no host bits are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// IPv6 link-local addresses, fe80::/10.
    pub const LINK_LOCAL: Self =
        Self { address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), prefix: 10 };

    /// The block of `prefix` bits that `address` lies in, or `None` if the
    /// family has fewer bits than that.
    #[must_use]
    pub fn containing(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(a) if prefix <= 32 => {
                Ipv4Addr::from_bits(a.to_bits() & mask4(prefix)).into()
            }
            IpAddr::V6(a) if prefix <= 128 => {
                Ipv6Addr::from_bits(a.to_bits() & mask6(prefix)).into()
            }
            _ => return None,
        };
        Some(Self { address, prefix })
    }

    /// The first address of the block.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The mask in network byte order, 4 or 16 bytes.
    pub(crate) fn mask(&self) -> Vec<u8> {
        match self.address {
            IpAddr::V4(_) => mask4(self.prefix).to_be_bytes().to_vec(),
            IpAddr::V6(_) => mask6(self.prefix).to_be_bytes().to_vec(),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}
