//! The command line of `spa-keys`.

pub(crate) mod rotate;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use spa_keys::{
    AddressRule, ClientName, Modes, PublicKeyLine, Widest, check_host, cidr, date, duration,
};
use spa_proto::{GrantMode, Prefix, ServiceName, Timestamp};

const EXAMPLES: &str = "\
Examples:
  spa-keys init --host fw.example.com
  spa-keys add alice --service ssh | ssh laptop spa enroll -
  spa-keys add bob --service ssh,web --ttl 1m --expires 2026-12-31 --from 192.0.2.0/24
  spa-keys list
  spa-keys rotate psk alice
  spa-keys revoke alice

Exit status: 0 done, 1 failed, 2 wrong usage.";

const ADD_EXAMPLES: &str = "\
The token is all that goes to standard output. It works once; still, give it to nobody but the
client. The running daemon takes the client up within a second.

Examples:
  spa-keys add alice --service ssh | ssh laptop spa enroll -
  spa-keys add bob --service ssh,web --ttl 1m --max-ttl 1h --expires 2026-12-31
  spa-keys add cron --service backup --from 192.0.2.0/24 --address this
  spa-keys add dave --service ssh --modes once,bound --widest-ipv6 64
  spa-keys add carol --service ssh --pubkey \"spa1-key.…\"      (what spa request printed)";

/// Makes, lists and revokes the keys that spad lets in.
#[derive(Parser)]
#[command(name = "spa-keys", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Where the keys are
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/spad/keys")]
    pub(crate) dir: PathBuf,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes the server's own key; comes before everything else
    Init(Init),
    /// Adds a client and prints its token
    #[command(after_help = ADD_EXAMPLES)]
    Add(Box<Add>),
    /// Lists clients, those revoked included
    List {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Shows what one client may do
    Show {
        /// Name of the client
        name: ClientName,
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Replaces keys by new ones; old and new both work for a while
    #[command(after_help = rotate::EXAMPLES)]
    Rotate(Box<rotate::Rotate>),
    /// Shuts a client out, at once and for good
    Revoke {
        /// Name of the client
        name: ClientName,
    },
}

#[derive(Args)]
pub(crate) struct Init {
    /// Name or address by which clients find this server [default: what it calls itself]
    #[arg(long, value_name = "NAME", value_parser = host)]
    pub(crate) host: Option<String>,

    /// UDP port that clients knock at
    #[arg(long, value_name = "N", default_value_t = 62201, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
}

#[derive(Args)]
pub(crate) struct Add {
    /// Name of the client: a-z 0-9 . _ @ -
    pub(crate) name: ClientName,

    /// What it may knock for; the first is its default
    #[arg(long = "service", required = true, value_name = "SERVICE", value_delimiter = ',', value_parser = service)]
    pub(crate) services: Vec<ServiceName>,

    /// How long it is let in if it does not say [default: as the service says]
    #[arg(long, value_name = "30s", value_parser = lifetime)]
    pub(crate) ttl: Option<Duration>,

    /// How long it is let in at most [default: as the service says]
    #[arg(long, value_name = "5m", value_parser = lifetime)]
    pub(crate) max_ttl: Option<Duration>,

    /// Until when it may knock: a day, up to its end, or a time such as 2026-12-31T18:00:00Z
    #[arg(long, value_name = "DATE", value_parser = future)]
    pub(crate) expires: Option<Timestamp>,

    /// For addresses in this network only; can be repeated
    #[arg(long = "from", value_name = "CIDR", value_delimiter = ',', value_parser = cidr::parse)]
    pub(crate) sources: Vec<Prefix>,

    /// Whose address: this, which the client names; seen, which the server sees; or both
    #[arg(long, value_name = "this|seen|both", default_value_t = AddressRule::Both)]
    pub(crate) address: AddressRule,

    /// Grant modes it may ask for: window, any number of connections in the time; once, one
    /// connection; bound, from one source port [default: all]
    #[arg(long, value_name = "window,once,bound", value_delimiter = ',')]
    modes: Vec<GrantMode>,

    /// Widest IPv4 prefix it may be let in with, 8 to 32 bits, for carriers that change addresses
    #[arg(long, value_name = "BITS", default_value_t = 32, value_parser = clap::value_parser!(u8).range(8..=32))]
    widest_ipv4: u8,

    /// Widest IPv6 prefix it may be let in with, 32 to 128 bits; a network at home is 64 or 56
    #[arg(long, value_name = "BITS", default_value_t = 128, value_parser = clap::value_parser!(u8).range(32..=128))]
    widest_ipv6: u8,

    /// For a key that the client has made with spa request: no secret is in the token then
    #[arg(long, value_name = "LINE", value_parser = PublicKeyLine::decode)]
    pub(crate) pubkey: Option<PublicKeyLine>,
}

impl Add {
    /// Those named, or all.
    pub(crate) fn modes(&self) -> Modes {
        if self.modes.is_empty() { Modes::ALL } else { self.modes.iter().copied().collect() }
    }

    pub(crate) fn widest(&self) -> Widest {
        Widest { v4: self.widest_ipv4, v6: self.widest_ipv6 }
    }
}

fn host(text: &str) -> Result<String, spa_keys::InvalidHost> {
    check_host(text).map(|()| text.to_owned())
}

/// A record names services, never ports, which a knock can name too.
fn service(text: &str) -> Result<ServiceName, &'static str> {
    text.parse().map_err(
        |_| "expected at most 16 lower-case letters, digits and hyphens, the first a letter",
    )
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration::parse(text).map_err(|error| error.to_string())?;
    if lifetime.is_zero() { Err("it cannot be 0".to_owned()) } else { Ok(lifetime) }
}

fn future(text: &str) -> Result<Timestamp, String> {
    let time = date::parse_end(text).map_err(|error| error.to_string())?;
    if time > date::now() { Ok(time) } else { Err("it is over already".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn man_page_is_current() {
        assert_eq!(spa_man::check(super::Cli::command()), Ok(()));
    }

    #[test]
    fn is_consistent() {
        super::Cli::command().debug_assert();
    }
}
