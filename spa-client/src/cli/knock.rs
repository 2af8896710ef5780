//! What knocking commands can be told.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches};
use spa_proto::{GrantMode, Protocol, Service, Timestamp};

use super::{Cli, SshOptions};
use crate::address::{Source, Width};
use crate::resolve::Family;

/// How long `--wait` waits unless told, in seconds.
const PATIENCE: &str = "10";

#[derive(Args, Debug, Default, PartialEq)]
pub(crate) struct KnockOptions {
    /// Aliases of servers, or their host names; of several, 16 at once
    #[arg(required_unless_present = "again")]
    pub(crate) host: Vec<String>,

    /// What to open, at most four [default: the first that the token names]
    #[arg(long, value_name = "NAME|tcp/N", value_delimiter = ',')]
    pub(crate) service: Vec<Service>,

    /// Open all that the token names, four in each knock
    #[arg(long, conflicts_with = "service")]
    pub(crate) all_services: bool,

    #[command(flatten)]
    pub(crate) request: RequestOptions,

    /// Wait until the service accepts connections, knocking again; 10 s, or SECONDS, at most
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = PATIENCE,
        value_parser = wait_range(),
    )]
    wait: Option<u32>,

    /// TCP port at which to wait, where the service's own is not known
    #[arg(long, value_name = "N", requires = "wait")]
    pub(crate) wait_port: Option<NonZeroU16>,

    /// Say what was done as one JSON object for each host
    #[arg(long)]
    pub(crate) json: bool,

    /// Send nothing, and say what would be sent; names are resolved
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,

    /// Write the knock to FILE, or - for standard output, for `spa send` to send: from anywhere,
    /// but only once, and only while it is fresh (30 s unless the server says otherwise)
    #[arg(
        long,
        value_name = "FILE",
        requires = "source",
        conflicts_with_all = ["wait", "dry_run", "all_services", "json"],
    )]
    pub(crate) save: Option<PathBuf>,

    /// When the knock that is saved is going to be sent, such as 2026-12-31T18:00:00Z
    /// [default: now]
    #[arg(long, value_name = "TIME", requires = "save", value_parser = spa_keys::date::parse)]
    pub(crate) at: Option<Timestamp>,

    /// Knock as last time at a terminal; goes with --dry-run, --json and --verbose only
    #[arg(long)]
    pub(crate) again: bool,
}

#[derive(Args)]
pub(crate) struct DoctorOptions {
    /// Alias of the server, or its host name
    pub(crate) host: String,

    /// What to open, at most four [default: the first that the token names]
    #[arg(long, value_name = "NAME|tcp/N", value_delimiter = ',')]
    pub(crate) service: Vec<Service>,

    #[command(flatten)]
    pub(crate) request: RequestOptions,

    /// How long to wait until the service is open
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 5,
        value_parser = wait_range(),
    )]
    pub(crate) wait: u32,

    /// TCP port of the service, where it is not known
    #[arg(long, value_name = "N")]
    pub(crate) wait_port: Option<NonZeroU16>,

    /// As one JSON object, at the end
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct SendOptions {
    /// What `spa knock --save` wrote, or - for standard input
    #[arg(value_name = "- | FILE")]
    pub(crate) file: PathBuf,

    /// Name or address to send it to, instead of the one in the file
    #[arg(long, value_name = "HOST")]
    pub(crate) to: Option<String>,

    /// UDP port to send it to, instead of the one in the file
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<NonZeroU16>,

    /// Say where it went, on standard error
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Args)]
pub(crate) struct ProxyOptions {
    /// Alias of the server, or its host name
    pub(crate) host: String,

    /// Where to connect to: a TCP port, or a service with a well-known one
    #[arg(value_name = "PORT|SERVICE", value_parser = destination)]
    pub(crate) to: Service,

    /// What to open, at most four [default: what is connected to]
    #[arg(long, value_name = "NAME|tcp/N", value_delimiter = ',')]
    pub(crate) service: Vec<Service>,

    #[command(flatten)]
    pub(crate) request: RequestOptions,

    #[command(flatten)]
    pub(crate) patience: Patience,

    /// In mode bound, do not try mode once where no connection comes up
    #[arg(long)]
    pub(crate) no_fallback: bool,
}

/// How long to wait for a connection that is put to use.
#[derive(Args)]
pub(crate) struct Patience {
    /// How long to wait until the port is open, knocking again
    #[arg(long, value_name = "SECONDS", default_value = PATIENCE, value_parser = wait_range())]
    wait: u32,
}

/// What each knock asks for, and where it goes.
#[derive(Args, Debug, Default, PartialEq)]
pub(crate) struct RequestOptions {
    /// How long new connections are let in, such as 30s or 5m [default: as the server says]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(crate) ttl: Option<NonZeroU32>,

    /// What to let in: window, any number of connections in the time; once, one connection;
    /// bound, connections from one source port [default: mode in the server's file, else as the
    /// server says]
    #[arg(long, value_name = "window|once|bound")]
    pub(crate) mode: Option<GrantMode>,

    /// Source port for mode bound; spa proxy takes any, spa knock has to be told the one that
    /// you will connect from
    #[arg(long, value_name = "N")]
    pub(crate) source_port: Option<NonZeroU16>,

    /// For whom to open: an address, or what the server sees [default: this machine's address
    /// where it is global, else the one that address-url in config.toml tells, else what the
    /// server sees]
    #[arg(long, visible_alias = "from", value_name = "ADDR|seen", default_value = None)]
    pub(crate) source: Option<Source>,

    /// For how wide a prefix around that address, in bits: 8 to 31 is of IPv4, 32 to 127 of IPv6
    /// [default: the one address]
    #[arg(long, value_name = "BITS")]
    pub(crate) width: Option<Width>,

    /// UDP port to knock at, instead of the token's
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<NonZeroU16>,

    /// Only to IPv4 addresses
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,

    /// Only to IPv6 addresses
    #[arg(short = '6', long)]
    ipv6: bool,

    /// Say each step, on standard error
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

impl KnockOptions {
    /// Tells of it as `other` says.
    pub(crate) fn in_manner_of(mut self, other: &Self) -> Self {
        self.json = other.json;
        self.dry_run = other.dry_run;
        if self.dry_run {
            // Nothing is opened that could be waited for.
            (self.wait, self.wait_port) = (None, None);
        }
        self.request.verbose = other.request.verbose;
        self
    }

    /// Whether all that is asked for is to get in somewhere, and to wait for that.
    pub(crate) fn is_plain(&self) -> bool {
        let Self { wait, wait_port, request: RequestOptions { verbose, .. }, .. } = *self;
        let request = RequestOptions { verbose, ..RequestOptions::default() };
        let (host, service) = (self.host.clone(), self.service.clone());
        *self == Self { host, service, wait, wait_port, request, ..Self::default() }
    }

    /// How long to wait for the service, if at all.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.wait.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// Of which no memory is kept: how to tell of a knock, and nothing of the knock itself.
const MANNERS: [&str; 4] = ["json", "verbose", "dry_run", "again"];

impl KnockOptions {
    /// The words that ask for the same again, each whole.
    pub(crate) fn words(matches: &ArgMatches) -> Vec<String> {
        let command = Self::augment_args(Command::new("knock"));
        let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let mut words = Vec::new();
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            if MANNERS.contains(&id) || !given(id) {
                continue;
            }
            let raw = matches.get_raw(id).into_iter().flatten().map(|raw| raw.to_string_lossy());
            match arg.get_long() {
                None => words.extend(raw.map(String::from)),
                Some(long) if arg.get_action().takes_values() => {
                    words.extend(raw.map(|raw| format!("--{long}={raw}")));
                }
                Some(long) => words.push(format!("--{long}")),
            }
        }
        words
    }

    /// What [`Self::words`] wrote.
    pub(crate) fn of_words(words: &[String]) -> Result<Self, clap::Error> {
        let words = ["spa", "knock"].into_iter().chain(words.iter().map(String::as_str));
        let matches = Cli::command().try_get_matches_from(words)?;
        let Some((_, matches)) = matches.subcommand() else {
            return Self::from_arg_matches(&matches);
        };
        Self::from_arg_matches(matches)
    }
}

impl Patience {
    /// How long to wait.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.wait.into())
    }
}

/// What `--wait` can be, in seconds.
fn wait_range() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..=86_400)
}

impl RequestOptions {
    /// What goes with a connection that ssh is going to make.
    pub(crate) fn for_ssh(options: &SshOptions, family: Family) -> Self {
        let SshOptions { ttl, mode, .. } = *options;
        let (ipv4, ipv6) = (family == Family::V4, family == Family::V6);
        Self { ttl, mode, ipv4, ipv6, ..Self::default() }
    }

    /// To which addresses of the server.
    pub(crate) fn family(&self) -> Family {
        match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        }
    }
}

/// A bare number is a TCP port, as ssh gives it.
fn destination(text: &str) -> Result<Service, String> {
    match text.parse::<NonZeroU16>() {
        Ok(port) => Ok(Service::Port(Protocol::Tcp, port.get())),
        Err(_) => text.parse().map_err(|_| {
            "expected a port from 1 to 65535, or the name of a service such as ssh".into()
        }),
    }
}

pub(super) fn seconds(text: &str) -> Result<NonZeroU32, String> {
    let duration = spa_keys::duration::parse(text).map_err(|error| error.to_string())?;
    let seconds =
        u32::try_from(duration.as_secs()).map_err(|_| "longer than a server can grant")?;
    NonZeroU32::new(seconds).ok_or_else(|| "no time at all: at least 1s".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knock(arguments: &[&str]) -> Result<KnockOptions, clap::Error> {
        let words = ["fw"].iter().chain(arguments).map(|word| (*word).to_owned());
        KnockOptions::of_words(&words.collect::<Vec<_>>())
    }

    fn words(line: &[&str]) -> Vec<String> {
        let line = ["spa", "knock"].iter().chain(line);
        let matches = Cli::command().try_get_matches_from(line).unwrap();
        KnockOptions::words(matches.subcommand().unwrap().1)
    }

    #[test]
    fn what_is_asked_for_can_be_said_again() {
        let line = ["-v", "a", "--wait", "b", "--service", "ssh,web", "--json", "-4", "--ttl=2m"];
        let first = words(&line);
        let expected =
            ["a", "b", "--service=ssh", "--service=web", "--ttl=2m", "--ipv4", "--wait=10"];
        assert_eq!(first, expected);
        let again = KnockOptions::of_words(&first).unwrap();
        assert_eq!(again.host, ["a", "b"]);
        assert_eq!((again.service.len(), again.wait), (2, Some(10)));
        assert!(!again.json && !again.request.verbose, "how to tell of it is not remembered");
        assert!(words(&["--again", "--json"]).is_empty());
    }

    #[test]
    fn waits_for_ten_seconds_unless_told() {
        assert_eq!(knock(&[]).unwrap().wait(), None);
        assert_eq!(knock(&["--wait"]).unwrap().wait(), Some(Duration::from_secs(10)));
        assert_eq!(knock(&["--wait=3"]).unwrap().wait(), Some(Duration::from_secs(3)));
        assert!(knock(&["--wait=0"]).is_err());
        assert!(knock(&["--wait-port", "22"]).is_err(), "nothing to wait for");
    }

    #[test]
    fn services_can_be_listed_or_repeated() {
        let listed = knock(&["--service", "ssh,tcp/8443"]).unwrap().service;
        let repeated = knock(&["--service", "ssh", "--service", "tcp/8443"]).unwrap().service;
        assert_eq!(listed, repeated);
        assert_eq!(listed.len(), 2);
        assert!(knock(&["--service", "SSH"]).is_err());
        assert!(knock(&["--service", ""]).is_err());
    }

    #[test]
    fn families_exclude_each_other() {
        let family = |words: &[&str]| knock(words).unwrap().request.family();
        assert_eq!(family(&[]), Family::Any);
        assert_eq!(family(&["-4"]), Family::V4);
        assert_eq!(family(&["-6"]), Family::V6);
        assert!(knock(&["-4", "-6"]).is_err());
    }

    #[test]
    fn ttl_fits_the_protocol() {
        let ttl = |text| knock(&["--ttl", text]).map(|options| options.request.ttl.map(u32::from));
        assert_eq!(ttl("90s").unwrap(), Some(90));
        assert_eq!(ttl("5m").unwrap(), Some(300));
        for text in ["0s", "5", "-1s", "50000d", "s"] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_never_zero() {
        assert!(knock(&["--port", "0"]).is_err());
        assert!(knock(&["--port", "65536"]).is_err());
    }

    #[test]
    fn connects_to_ports_and_services() {
        assert_eq!(destination("22"), Ok(Service::Port(Protocol::Tcp, 22)));
        assert_eq!(destination("ssh").unwrap().to_string(), "ssh");
        assert_eq!(destination("udp/53").unwrap().to_string(), "udp/53");
        for text in ["", "0", "65536", "SSH", "-1"] {
            assert!(destination(text).is_err(), "{text:?}");
        }
    }
}
