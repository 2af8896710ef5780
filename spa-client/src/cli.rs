//! The command line.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use spa_proto::{GrantMode, Protocol, Service};

use crate::address::{Source, Width};
use crate::alias::Alias;
use crate::exit::EXIT_CODES;
use crate::resolve::Family;

/// Knock at a server that shows nothing, so that it opens for this machine.
#[derive(Parser)]
#[command(name = "spa", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Where servers and keys are kept [default: $XDG_CONFIG_HOME/spa, else ~/.config/spa]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) config_dir: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Take in a server's token, and make a signing key for that server
    #[command(after_help = ENROLL_EXAMPLES)]
    Enroll(EnrollOptions),

    /// Make a key and print its public half, for `spa-keys add NAME --pubkey LINE`
    Request,

    /// Ask a server to open a service for this machine
    #[command(after_help = format!("{KNOCK_EXAMPLES}\n{EXIT_CODES}"))]
    Knock(Box<KnockOptions>),

    /// Knock, connect, and pass data between the connection and standard input and output
    #[command(after_help = format!("{PROXY_EXAMPLES}\n{EXIT_CODES}"))]
    Proxy(Box<ProxyOptions>),

    /// List the servers that this machine has keys for
    Hosts {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },

    /// Delete the keys for a server
    Forget {
        /// Its alias, or its host name
        host: String,
    },
}

const ENROLL_EXAMPLES: &str = "\
Examples:
  spa enroll                    asks for the token, without showing it
  spa enroll token.txt
  ssh admin@server spa-keys add laptop --service ssh | spa enroll -";

const KNOCK_EXAMPLES: &str = "\
Examples:
  spa knock fw.example.com && ssh fw.example.com
  spa knock fw.example.com --service ssh,tcp/8443 --ttl 2m --wait
  spa knock fw.example.com --service https --mode once && curl https://fw.example.com/
  spa knock fw.example.com --service https --mode bound --source-port 50000 --wait &&
    curl --local-port 50000 https://fw.example.com/

In ~/.ssh/config, so that ssh knocks by itself:
  Match host fw.example.com exec \"spa knock %h --wait\"
";

const PROXY_EXAMPLES: &str = "\
Examples:
  ssh -o ProxyCommand=\"spa proxy %h %p\" fw.example.com
  spa proxy fw.example.com 2222 --service git-ssh --mode once

In ~/.ssh/config, for ssh, scp, sftp, rsync and git alike; each connection knocks for itself:
  Host fw.example.com
    ProxyCommand spa proxy %h %p --mode bound
";

#[derive(Args)]
pub(crate) struct EnrollOptions {
    /// File with the token, or - for standard input; without it, asks
    #[arg(value_name = "- | FILE")]
    pub(crate) token: Option<PathBuf>,

    /// What to call the server here [default: its host name]
    #[arg(long, value_name = "ALIAS")]
    pub(crate) name: Option<Alias>,
}

#[derive(Args)]
pub(crate) struct KnockOptions {
    /// Alias of the server, or its host name
    pub(crate) host: String,

    /// What to open, at most four [default: the first that the token names]
    #[arg(long, value_name = "NAME|tcp/N", value_delimiter = ',')]
    pub(crate) service: Vec<Service>,

    #[command(flatten)]
    pub(crate) request: RequestOptions,

    /// Wait until the service accepts connections, knocking again; 10 s, or SECONDS, at most
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10",
        value_parser = clap::value_parser!(u32).range(1..=86_400),
    )]
    wait: Option<u32>,

    /// TCP port at which to wait, where the service's own is not known
    #[arg(long, value_name = "N", requires = "wait")]
    pub(crate) wait_port: Option<NonZeroU16>,

    /// Say what was done as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
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

    /// How long to try, knocking again
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=86_400),
    )]
    wait: u32,

    /// In mode bound, do not try mode once where no connection comes up
    #[arg(long)]
    pub(crate) no_fallback: bool,
}

/// What each knock asks for, and where it goes.
#[derive(Args)]
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

    /// For whom to open: an address, or what the server sees [default: this
    /// machine's address where it is global, else what the server sees]
    #[arg(long, value_name = "ADDR|seen", default_value = None)]
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
    /// How long to wait for the service, if at all.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.wait.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

impl ProxyOptions {
    /// How long to try.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.wait.into())
    }
}

impl RequestOptions {
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

fn seconds(text: &str) -> Result<NonZeroU32, String> {
    let duration = spa_keys::duration::parse(text).map_err(|error| error.to_string())?;
    let seconds =
        u32::try_from(duration.as_secs()).map_err(|_| "longer than a server can grant")?;
    NonZeroU32::new(seconds).ok_or_else(|| "no time at all: at least 1s".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn man_page_is_current() {
        assert_eq!(spa_man::check(Cli::command()), Ok(()));
    }

    fn knock(arguments: &[&str]) -> Result<KnockOptions, clap::Error> {
        let words = ["spa", "knock", "fw"].iter().chain(arguments);
        match Cli::try_parse_from(words)?.command {
            Command::Knock(options) => Ok(*options),
            _ => unreachable!(),
        }
    }

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
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

    #[test]
    fn the_directory_may_come_before_or_after_the_command() {
        for words in
            [["spa", "--config-dir", "/x", "hosts"], ["spa", "hosts", "--config-dir", "/x"]]
        {
            assert_eq!(Cli::try_parse_from(words).unwrap().config_dir, Some("/x".into()));
        }
    }
}
