//! What ssh would do with its arguments. Pure: the text of `ssh -G` comes in.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU16;

use crate::resolve::{Family, host_and_port};

/// Options of ssh that take a value.
const WITH_VALUE: &[u8] = b"BbcDEeFIiJLlmOoPpQRSWw";
/// Options that make ssh answer or say something, instead of connecting.
const NO_CONNECTION: &[u8] = b"GOQV";

/// The options before the host and right behind it, which ssh reads alike, with what follows each
/// that takes a value. What comes then is the command.
fn options(arguments: &[OsString]) -> Vec<(u8, &OsStr)> {
    let (mut options, mut had_host) = (Vec::new(), false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let flags = match text.strip_prefix('-').filter(|flags| !flags.is_empty()) {
            Some("-") => break,
            Some(flags) => flags,
            None if had_host => break,
            None => {
                had_host = true;
                continue;
            }
        };
        let value = flags.bytes().position(|flag| WITH_VALUE.contains(&flag));
        let plain = value.unwrap_or(flags.len());
        options.extend(flags.bytes().take(plain).map(|flag| (flag, OsStr::new(""))));
        // The value is the rest of the word, or else the next one.
        if let Some((at, flag)) = value.zip(flags.as_bytes().get(plain).copied()) {
            let rest =
                word.to_str().and_then(|word| word.get(at + 2..)).filter(|it| !it.is_empty());
            let next = || words.next().map_or(OsStr::new(""), OsString::as_os_str);
            options.push((flag, rest.map_or_else(next, OsStr::new)));
        }
    }
    options
}

/// Whether ssh would connect with these arguments, as far as its options tell.
pub(crate) fn connects(arguments: &[OsString]) -> bool {
    options(arguments).iter().all(|(flag, _)| !NO_CONNECTION.contains(flag))
}

/// The configuration that ssh is to read in place of its own, which it has its jump hosts by too.
pub(crate) fn configuration(arguments: &[OsString]) -> Option<&OsStr> {
    options(arguments).into_iter().rfind(|(flag, _)| *flag == b'F').map(|(_, file)| file)
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
    Jump(Hop),
    /// A program, in ssh's place.
    Command,
}

/// A jump host, as it is written; ssh looks into its configuration for all else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    user: Option<String>,
    host: String,
    port: Option<NonZeroU16>,
}

impl Hop {
    fn parse(text: &str) -> Self {
        let text = text.strip_prefix("ssh://").unwrap_or(text);
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, text),
        };
        let (host, port) = host_and_port(place);
        Self { user, host: host.to_owned(), port }
    }

    /// What ssh runs itself with to get there, as far as it says where that is.
    pub(crate) fn arguments(&self, configuration: Option<&OsStr>) -> Vec<OsString> {
        let port = self.port.map(|port| port.to_string());
        let options = [
            ("-F", configuration.map(OsStr::to_owned)),
            ("-l", self.user.as_ref().map(OsString::from)),
            ("-p", port.map(OsString::from)),
            ("--", Some(OsString::from(&self.host))),
        ];
        let words = |(option, value): (&str, Option<OsString>)| Some([option.into(), value?]);
        options.into_iter().filter_map(words).flatten().collect()
    }
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
        (None, Some(hops)) => Route::Jump(Hop::parse(hops.split(',').next().unwrap_or_default())),
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
            "-vvp 22 host ls -V",
            "host -- -V",
            "-- host -V",
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
            "host -O exit",
            "-p 22 host -vG",
        ] {
            assert!(!connects(&words(line)), "{line}");
        }
    }

    #[test]
    fn knows_which_configuration_ssh_reads() {
        for (line, file) in [
            ("-F a host", Some("a")),
            ("-vFa -p 22 -F b host", Some("b")),
            ("-p 22 -vF a host ls -F b", Some("a")),
            ("-F a host -F b", Some("b")),
            ("-- host -F b", None),
            ("-o F host", None),
            ("-F", Some("")),
        ] {
            assert_eq!(configuration(&words(line)), file.map(OsStr::new), "{line}");
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
        let asked = |line: &str| match route(line) {
            Route::Jump(hop) => hop.arguments(Some(OsStr::new("/my config"))),
            other => panic!("{other:?}"),
        };
        assert_eq!(route("proxyjump none"), Route::Direct);
        for (line, words) in [
            ("proxyjump bob@fw:2222,other", "-l bob -p 2222 -- fw"),
            ("proxyjump [2001:db8::1]:2222", "-p 2222 -- 2001:db8::1"),
            ("proxyjump [2001:db8::1]", "-- 2001:db8::1"),
            ("proxyjump bob@[192.0.2.1],[2001:db8::1]", "-l bob -- 192.0.2.1"),
            ("proxyjump ssh://bob@x@fw", "-l bob@x -- fw"),
        ] {
            let file = ["-F", "/my config"].map(OsString::from);
            assert_eq!(asked(line), [&file[..], &self::words(words)].concat(), "{line}");
        }
        assert_eq!(route("proxycommand spa proxy %h %p"), Route::Command);
    }
}
