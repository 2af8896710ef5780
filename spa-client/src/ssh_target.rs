//! What ssh would do with its arguments. Pure: the text of `ssh -G` comes in.

use std::ffi::OsString;
use std::num::NonZeroU16;

use crate::resolve::{Family, host_and_port};

/// Options of ssh that take a value.
const WITH_VALUE: &[u8] = b"BbcDEeFIiJLlmOoPpQRSWw";
/// Options that make ssh answer or say something, instead of connecting.
const NO_CONNECTION: &[u8] = b"GOQV";
/// ssh's own port.
const SSH: NonZeroU16 = NonZeroU16::MIN.saturating_add(21);

/// Whether ssh would connect with these arguments, as far as options before the host tell.
pub(crate) fn connects(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let word = word.as_encoded_bytes();
        let Some(flags) = word.strip_prefix(b"-").filter(|flags| !flags.is_empty()) else { break };
        let value = flags.iter().position(|flag| WITH_VALUE.contains(flag));
        let flags_end = value.map_or(flags.len(), |at| at + 1);
        if flags[..flags_end].iter().any(|flag| NO_CONNECTION.contains(flag)) {
            return false;
        }
        // The value is the rest of the word, or else the next one.
        if value.is_some_and(|at| at + 1 == flags.len()) {
            words.next();
        }
    }
    true
}

/// Where ssh is about to connect to, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Name or address, after ssh's own aliases.
    pub(crate) host: String,
    pub(crate) port: NonZeroU16,
    pub(crate) family: Family,
    pub(crate) route: Route,
    /// ssh says each of its steps.
    pub(crate) verbose: bool,
    /// ssh says nothing.
    pub(crate) quiet: bool,
}

/// Who connects to whom.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// ssh to the host.
    Direct,
    /// ssh to this host first.
    Jump { host: String, port: NonZeroU16 },
    /// A program, in ssh's place.
    Command,
}

impl Target {
    /// Reads what `ssh -G` prints: a setting on each line.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let mut settings = text.lines().filter_map(|line| line.split_once(' '));
            settings.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
        };
        let level = value("loglevel").unwrap_or_default();
        Some(Self {
            host: value("hostname")?.to_owned(),
            port: value("port")?.parse().ok()?,
            family: match value("addressfamily") {
                Some("inet") => Family::V4,
                Some("inet6") => Family::V6,
                _ => Family::Any,
            },
            route: route(value("proxycommand"), value("proxyjump")),
            verbose: level.starts_with("DEBUG"),
            quiet: level == "QUIET",
        })
    }
}

fn route(command: Option<&str>, jump: Option<&str>) -> Route {
    let set = |value: &&str| *value != "none";
    match (command.filter(set), jump.filter(set)) {
        (Some(_), _) => Route::Command,
        (None, None) => Route::Direct,
        (None, Some(hops)) => {
            let first = hops.split(',').next().unwrap_or_default();
            let first = first.strip_prefix("ssh://").unwrap_or(first);
            let (_, place) = first.rsplit_once('@').unwrap_or(("", first));
            let (host, port) = host_and_port(place, SSH);
            Route::Jump { host: host.to_owned(), port }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn knows_when_ssh_does_not_connect() {
        for line in [
            "host",
            "-v host",
            "-p 22 host",
            "-oPort=22 host ls -G",
            "-vvp 22 host -V",
            "-o G host",
        ] {
            assert!(connects(&words(line)), "{line}");
        }
        for line in [
            "-V",
            "-Q cipher",
            "-G host",
            "-vG host",
            "-p 22 -G host",
            "-O check host",
            "-p22 -Ocheck host",
        ] {
            assert!(!connects(&words(line)), "{line}");
        }
    }

    #[test]
    fn reads_what_ssh_tells() {
        let told = "host work\nuser bob\nhostname fw.example.com\nport 2222\naddressfamily inet6\n\
                    loglevel DEBUG\n";
        let target = Target::parse(told).unwrap();
        assert_eq!((target.host.as_str(), target.port.get()), ("fw.example.com", 2222));
        assert_eq!((target.family, target.route), (Family::V6, Route::Direct));
        assert!(target.verbose && !target.quiet);
        assert_eq!(Target::parse("OpenSSH_9.2\n"), None);
    }

    #[test]
    fn the_first_hop_is_what_has_to_open() {
        let route = |line: &str| {
            let told = format!("hostname inner\nport 22\nloglevel INFO\n{line}\n");
            Target::parse(&told).unwrap().route
        };
        let jump = |host: &str, port| Route::Jump {
            host: host.into(),
            port: NonZeroU16::new(port).unwrap(),
        };
        assert_eq!(route("proxyjump none"), Route::Direct);
        assert_eq!(route("proxyjump bob@fw:2222,other"), jump("fw", 2222));
        assert_eq!(route("proxyjump [2001:db8::1]:2222"), jump("2001:db8::1", 2222));
        assert_eq!(route("proxyjump 2001:db8::1"), jump("2001:db8::1", 22));
        assert_eq!(route("proxyjump ssh://bob@fw"), jump("fw", 22));
        assert_eq!(route("proxycommand spa proxy %h %p"), Route::Command);
    }
}
