//! IP prefixes as people write them: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::IpAddr;

use spa_proto::Prefix;

/// Text that is no prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPrefix {
    /// Nothing like one.
    Syntax(String),
    /// Bits are set behind the prefix; this is the one that the address lies in.
    HostBits(String, Prefix),
    /// An IPv4 address in IPv6 clothes; no packet is seen to come from it.
    Mapped(String),
}

impl fmt::Display for InvalidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) => {
                write!(
                    f,
                    "{text:?} is not a network: write 192.0.2.0/24, 2001:db8::/32 or an address"
                )
            }
            Self::HostBits(text, prefix) => {
                write!(f, "{text:?} has bits set behind its prefix: write {prefix}")
            }
            Self::Mapped(text) => write!(f, "{text:?} is an IPv4 address: write it as one"),
        }
    }
}

impl std::error::Error for InvalidPrefix {}

/// Reads a prefix; an address alone stands for itself (/32 or /128).
///
/// # Errors
/// [`InvalidPrefix`], which names the right prefix where only host bits are wrong.
pub fn parse(text: &str) -> Result<Prefix, InvalidPrefix> {
    let (address, len) = split(text).ok_or_else(|| InvalidPrefix::Syntax(text.to_owned()))?;
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(InvalidPrefix::Mapped(text.to_owned()));
    }
    let right = Prefix::of(address, len);
    Prefix::new(address, len).ok_or_else(|| InvalidPrefix::HostBits(text.to_owned(), right))
}

/// An address, and a length that fits its family.
fn split(text: &str) -> Option<(IpAddr, u8)> {
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let Some(len) = len else { return Some((address, bits)) };
    // Writing it again refuses what a parser lets pass: "+8", "08".
    let parsed = len.parse::<u8>().ok().filter(|parsed| parsed.to_string() == len)?;
    (parsed <= bits).then_some((address, parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_prefixes_and_addresses() {
        for (text, read) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), read);
        }
    }

    #[test]
    fn says_the_right_prefix_where_host_bits_are_set() {
        for (text, right) in [("10.1.2.3/8", "10.0.0.0/8"), ("2001:db8::1/64", "2001:db8::/64")] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.ends_with(&format!("write {right}")), "{message}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/8/8",
            "fe80::1%eth0",
            "host.example.com",
            "::ffff:192.0.2.1",
            " 10.0.0.0/8",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
