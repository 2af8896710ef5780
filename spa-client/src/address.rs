//! Which address or prefix to ask the server to open for. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use spa_proto::{Address, Mode, Prefix};

use crate::resolve::Family;
use crate::send::Asked;

/// What `--source` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nothing: the local address where it is global, else what the server sees.
    #[default]
    Auto,
    /// `seen`: what the server sees, always.
    Seen,
    /// This address, which must be of the family that the datagram goes by.
    This(IpAddr),
}

impl Source {
    /// What to ask for in a datagram that leaves from `local`; `outside` is what others see in its
    /// place, where that is known.
    ///
    /// # Errors
    /// Where the address given is of the other family: a grant holds the
    /// address that was knocked at as well, and nothing connects across.
    pub(crate) fn request(self, local: IpAddr, outside: Option<IpAddr>) -> Result<Address, String> {
        match self {
            Self::This(address) if address.is_ipv4() != local.is_ipv4() => Err(format!(
                "--source {address} is {}, and from here this address is reached by {}",
                family(address),
                family(local)
            )),
            Self::This(address) => Ok(Address::Explicit(address)),
            Self::Auto if is_global(local) => Ok(Address::Explicit(local)),
            Self::Auto => Ok(outside.map_or(Address::Seen, Address::Explicit)),
            Self::Seen => Ok(Address::Seen),
        }
    }
}

impl Source {
    /// Of which family it can only be.
    pub(crate) fn family(self) -> Option<Family> {
        match self {
            Self::This(address) => Some(Family::of(address)),
            Self::Auto | Self::Seen => None,
        }
    }

    /// What to ask for where it is not known from where the datagram will leave, only by which
    /// family.
    pub(crate) fn for_somebody(
        self,
        width: Option<Width>,
        family: Option<Family>,
        mode: Mode,
    ) -> Asked {
        let address = match self {
            Self::This(address) => Address::Explicit(address),
            Self::Auto | Self::Seen => Address::Seen,
        };
        let width = width.filter(|width| Some(width.family()) == family).map(|width| width.0);
        Asked { address: cut(address, width), width, mode }
    }
}

/// Prefix length of a grant for more than one address. Which lengths a server
/// can grant tells the families apart: 8 to 31 are of IPv4, 32 to 127 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Width(u8);

impl Width {
    /// The one that it is for.
    pub(crate) const fn family(self) -> Family {
        if self.0 < 32 { Family::V4 } else { Family::V6 }
    }

    /// In the family of `local`, if it is for that one.
    pub(crate) fn within(self, local: IpAddr) -> Option<u8> {
        (self.family() == Family::of(local)).then_some(self.0)
    }
}

impl FromStr for Width {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let len = text.parse().ok().filter(|len| (8..=127).contains(len));
        len.map(Self).ok_or("expected a prefix length: 8 to 31 for IPv4, 32 to 127 for IPv6")
    }
}

/// `address` without the bits beyond the width, which must not be set (protocol §5.3).
pub(crate) fn cut(address: Address, width: Option<u8>) -> Address {
    match (address, width) {
        (Address::Explicit(address), Some(width)) => {
            Address::Explicit(Prefix::of(address, width).address())
        }
        (address, _) => address,
    }
}

const fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "seen" {
            return Ok(Self::Seen);
        }
        if text.contains('%') {
            return Err("an address with an interface is link-local: no server grants it".into());
        }
        let address = text.parse().map_err(|_| "expected an IP address, or the word seen")?;
        refusal(address).map_or(Ok(Self::This(address)), |why| Err(why.to_owned()))
    }
}

/// Why no server would open for `address`.
fn refusal(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address stands for no machine")
    } else if address.is_loopback() {
        Some("a loopback address never leaves its own machine")
    } else if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("nothing connects from a multicast or broadcast address")
    } else if is_link_local(address) {
        Some("no server grants a link-local address: it may be several machines")
    } else if is_mapped(address) {
        Some("an IPv4-mapped address never travels: write it as IPv4")
    } else {
        None
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// Whether a server elsewhere sees this very address, as far as the address
/// itself can tell. Documentation ranges count as global: they are what labs
/// and examples use where a global address is meant.
pub(crate) fn is_global(address: IpAddr) -> bool {
    refusal(address).is_none()
        && match address {
            IpAddr::V4(v4) => !is_local_v4(v4),
            IpAddr::V6(v6) => !is_local_v6(v6),
        }
}

/// Not forwarded as they are across the Internet (IANA special-purpose registry).
fn is_local_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let this_network = a == 0;
    let shared = a == 100 && b & 0xc0 == 64; // RFC 6598, carrier-grade NAT
    let protocol_assignments = [a, b, c] == [192, 0, 0]; // RFC 7335, 464XLAT on phones
    let benchmarking = a == 198 && b & 0xfe == 18; // RFC 2544; also local tunnels
    let reserved = a >= 240;
    address.is_private()
        || this_network
        || shared
        || protocol_assignments
        || benchmarking
        || reserved
}

fn is_local_v6(address: Ipv6Addr) -> bool {
    let site_local = address.segments()[0] & 0xffc0 == 0xfec0; // RFC 3879, deprecated
    address.is_unique_local() || site_local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn global_addresses() {
        for text in [
            "9.9.9.9",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.2.7",
            "198.51.100.7",
            "203.0.113.7",
            "2001:db8::7",
            "2620:fe::fe",
        ] {
            assert!(is_global(ip(text)), "{text}");
        }
    }

    #[test]
    fn addresses_of_no_use_elsewhere() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.2",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:9.9.9.9",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_global(ip(text)), "{text}");
        }
    }

    #[test]
    fn asks_for_the_local_address_only_where_it_is_global() {
        let global = ip("2001:db8::7");
        let (private, outside) = (ip("192.168.1.2"), Some(ip("203.0.113.9")));
        assert_eq!(Source::Auto.request(global, outside), Ok(Address::Explicit(global)));
        assert_eq!(Source::Auto.request(private, None), Ok(Address::Seen));
        let told = Ok(Address::Explicit(ip("203.0.113.9")));
        assert_eq!(Source::Auto.request(private, outside), told, "where it is known");
        assert_eq!(Source::Seen.request(global, outside), Ok(Address::Seen));
        let other = Source::This(ip("2001:db8::9"));
        assert_eq!(other.request(global, outside), Ok(Address::Explicit(ip("2001:db8::9"))));
    }

    #[test]
    fn a_given_address_is_of_the_family_that_the_knock_goes_by() {
        let [v4, v6] = ["192.0.2.7", "2001:db8::7"].map(ip);
        for (given, local) in [(v4, v6), (v6, v4)] {
            let why = Source::This(given).request(local, None).unwrap_err();
            assert!(
                why.contains("IPv4") && why.contains("IPv6") && why.contains("--source"),
                "{why}"
            );
            assert_eq!(Source::This(given).request(given, None), Ok(Address::Explicit(given)));
        }
    }

    #[test]
    fn widths_tell_their_family() {
        let [v4, v6] = ["192.0.2.7", "2001:db8::7"].map(ip);
        for (text, for_v4, for_v6) in [
            ("8", Some(8), None),
            ("31", Some(31), None),
            ("32", None, Some(32)),
            ("64", None, Some(64)),
            ("127", None, Some(127)),
        ] {
            let width: Width = text.parse().unwrap();
            assert_eq!((width.within(v4), width.within(v6)), (for_v4, for_v6), "{text}");
        }
        for text in ["0", "7", "128", "/24", "-1", ""] {
            assert!(text.parse::<Width>().is_err(), "{text:?}");
        }
        assert_eq!(cut(Address::Explicit(v4), Some(24)), Address::Explicit(ip("192.0.2.0")));
        assert_eq!(cut(Address::Explicit(v6), None), Address::Explicit(v6));
        assert_eq!(cut(Address::Seen, Some(24)), Address::Seen);
    }

    #[test]
    fn reads_the_option() {
        assert_eq!("seen".parse(), Ok(Source::Seen));
        assert_eq!("10.0.0.9".parse(), Ok(Source::This(ip("10.0.0.9"))));
        for text in [
            "",
            "me",
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "169.254.0.1",
            "fe80::1",
            "fe80::1%eth0",
            "::ffff:192.0.2.1",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text:?}");
        }
    }
}
