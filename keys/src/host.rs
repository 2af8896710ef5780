//! The name under which clients find a server.

use std::fmt;

use crate::os;

const MAX_LEN: usize = 253;

/// Text that cannot name a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidHost(String);

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a host name or an IP address", self.0)
    }
}

impl std::error::Error for InvalidHost {}

/// Refuses what is neither a host name nor an IP address, with a zone or
/// without. What passes is at most 253 letters, digits, and `.:%_-`, and starts
/// with neither dot nor hyphen: fit for a terminal, an argument, a file name.
///
/// # Errors
/// [`InvalidHost`].
pub fn check_host(host: &str) -> Result<(), InvalidHost> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".:%_-".contains(&byte);
    let fits = (1..=MAX_LEN).contains(&host.len())
        && host.bytes().all(allowed)
        && !host.starts_with(['.', '-']);
    if fits { Ok(()) } else { Err(InvalidHost(host.to_owned())) }
}

/// What this host calls itself, with its domain where `/etc/hosts` tells it.
#[must_use]
pub fn own_host_name() -> Option<String> {
    let name = os::host_name()?;
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let name = qualified(&name, &hosts).unwrap_or(name);
    check_host(&name).is_ok().then_some(name)
}

/// The first name with a domain on the line that has `name`.
fn qualified(name: &str, hosts: &str) -> Option<String> {
    let names = hosts.lines().map(names_of);
    let ours = names.filter(|names| names.clone().any(|other| other == name));
    ours.flatten().find(|other| other.contains('.')).map(str::to_owned)
}

/// The names on a line of `/etc/hosts`: what comes behind the address and
/// before a comment.
fn names_of(line: &str) -> impl Iterator<Item = &str> + Clone {
    line.split('#').next().unwrap_or_default().split_whitespace().skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_and_addresses() {
        for host in ["fw.example.com", "FW", "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "a_b"] {
            assert_eq!(check_host(host), Ok(()), "{host}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        let long = "a".repeat(254);
        for host in ["", ".", "..", "-v", ".hidden", "a b", "a/b", "a\\b", "ä.de", "a\n", &long] {
            assert!(check_host(host).is_err(), "{host:?}");
        }
    }

    #[test]
    fn finds_the_domain() {
        let hosts = "127.0.0.1 localhost.example\n# 10.0.0.1 fw.old fw\n\
                     127.0.1.1\tfw.example.com fw # fw.no\n";
        assert_eq!(qualified("fw", hosts).as_deref(), Some("fw.example.com"));
        assert_eq!(qualified("other", hosts), None);
    }
}
