//! What a server is called on this machine. It is also the name of its file.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// At most 200 of `a-z 0-9 . _ -`, the first a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alias(String);

impl Alias {
    const MAX_LEN: usize = 200;

    /// The default: the host's name. What an alias cannot hold, such as the
    /// colons of an IPv6 address, becomes a hyphen.
    pub(crate) fn of_host(host: &str) -> Option<Self> {
        let plain = |c: char| if fits(c) { c } else { '-' };
        let name: String = fold(host).chars().map(plain).collect();
        name.trim_matches(['-', '.', '_']).parse().ok()
    }
}

fn fits(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
}

/// Letters and the root's dot make no difference in names of hosts.
fn fold(host: &str) -> String {
    let lower = host.to_ascii_lowercase();
    lower.strip_suffix('.').map_or(lower.clone(), str::to_owned)
}

/// Whether two texts name the same host, without asking anybody.
pub(crate) fn same_host(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => fold(one) == fold(other),
    }
}

impl FromStr for Alias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = fold(text);
        let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if first && name.len() <= Self::MAX_LEN && name.chars().all(fits) {
            return Ok(Self(name));
        }
        Err("expected letters, digits and any of . _ -, the first a letter or a digit".into())
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_leaves_its_directory() {
        for text in ["", ".", "..", "../x", "a/b", "a\\b", "-a", ".a", "a b", "a\n", "ä", "c:x"] {
            assert!(text.parse::<Alias>().is_err(), "{text:?}");
        }
        assert!("a".repeat(201).parse::<Alias>().is_err());
    }

    #[test]
    fn hosts_have_one() {
        for (host, alias) in [
            ("FW.example.com.", "fw.example.com"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001-db8--1"),
            ("::1", "1"),
            ("fe80::1%eth0", "fe80--1-eth0"),
        ] {
            assert_eq!(Alias::of_host(host).unwrap().to_string(), alias);
        }
        assert_eq!(Alias::of_host("::"), None);
    }

    #[test]
    fn compares_hosts() {
        assert!(same_host("FW.example.com", "fw.Example.com."));
        assert!(same_host("2001:DB8:0::1", "2001:db8::1"));
        assert!(!same_host("fw.example.com", "fw.example.org"));
        assert!(!same_host("192.0.2.1", "192.0.2.10"));
    }
}
