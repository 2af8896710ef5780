//! From a server's name to the addresses to knock at.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroU16;

use crate::exit::Failure;

/// Which addresses are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Family {
    /// All of them.
    #[default]
    Any,
    /// `-4`
    V4,
    /// `-6`
    V6,
}

impl Family {
    fn admits(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    /// The family of one address.
    pub(crate) const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The one of this [`Self::name`].
    pub(crate) fn of_name(name: &str) -> Result<Self, &'static str> {
        let families = [Self::V4, Self::V6];
        families.into_iter().find(|family| family.name() == name).ok_or("expected IPv4 or IPv6")
    }

    /// As people call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Any => "IP",
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// All distinct addresses of `host`, in the resolver's order of preference.
/// Literal addresses may carry an interface: `fe80::1%eth0`.
pub(crate) fn resolve(host: &str, port: u16, family: Family) -> Result<Vec<SocketAddr>, Failure> {
    let found = (host, port).to_socket_addrs().map_err(|error| not_found(host, &error))?;
    let addresses = select(found, family);
    if addresses.is_empty() {
        let family = family.name();
        return Err(Failure::resolve(format!("{host} has no {family} address")));
    }
    Ok(addresses)
}

/// `host`, `host:port`, `[address]`, `[address]:port`, or an IPv6 address alone.
pub(crate) fn host_and_port(text: &str) -> (&str, Option<NonZeroU16>) {
    let whole = (text, "");
    let in_brackets = text.strip_prefix('[').and_then(|text| text.split_once(']'));
    let (host, port) = match in_brackets {
        Some((host, port)) => (host, port.trim_start_matches(':')),
        None if text.parse::<IpAddr>().is_ok() => whole,
        None => text.rsplit_once(':').unwrap_or(whole),
    };
    (host, port.parse().ok())
}

fn not_found(host: &str, error: &std::io::Error) -> Failure {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    Failure::resolve(format!(
        "cannot resolve {host}: {reason}; check the name and this machine's network"
    ))
}

fn select(found: impl Iterator<Item = SocketAddr>, family: Family) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for address in found.map(unmap).filter(|address| family.admits(address)) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// IPv4-mapped IPv6 addresses are refused on the wire; they mean IPv4.
fn unmap(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, address.port())),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn keeps_the_order_and_drops_repetitions() {
        let found = addresses(&["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::1]:1"]);
        let all = select(found.clone().into_iter(), Family::Any);
        assert_eq!(all, addresses(&["[2001:db8::1]:1", "192.0.2.1:1"]));
        assert_eq!(select(found.into_iter(), Family::V4), addresses(&["192.0.2.1:1"]));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let found = addresses(&["[::ffff:192.0.2.1]:1", "192.0.2.1:1"]);
        assert_eq!(select(found.into_iter(), Family::Any), addresses(&["192.0.2.1:1"]));
    }

    #[test]
    fn literal_addresses_need_no_resolver() {
        let found = resolve("2001:db8::1", 7, Family::Any).unwrap();
        assert_eq!(found, addresses(&["[2001:db8::1]:7"]));
    }

    #[test]
    fn says_which_family_is_missing() {
        let failure = resolve("192.0.2.1", 7, Family::V6).unwrap_err();
        assert_eq!(failure.exit(), Exit::Resolve);
        assert!(failure.to_string().contains("no IPv6 address"), "{failure}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn link_local_addresses_keep_their_interface() {
        let found = resolve("fe80::1%lo", 7, Family::Any).unwrap();
        assert!(matches!(found.as_slice(), [SocketAddr::V6(v6)] if v6.scope_id() == 1));
    }
}
