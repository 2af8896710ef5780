//! The command line of `spa-keys`.

mod token;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use spa_cli::Completions;
use spa_keys::{
    AddressRule, ClientName, Modes, PublicKeyLine, Widest, check_host, cidr, date, duration,
};
use spa_proto::{GrantMode, Prefix, ServiceName, Timestamp};
pub(crate) use token::TokenOptions;

const EXAMPLES: &str = "\
Examples:
  spa-keys init --host fw.example.com
  spa-keys add alice --service ssh | ssh laptop spa enroll -
  spa-keys add bob --service ssh,web --ttl 1m --expires 2026-12-31 --from 192.0.2.0/24
  spa-keys list
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
  spa-keys add erin --service ssh --qr
  spa-keys add erin --service ssh --passphrase --png erin.png
  spa-keys add carol --service ssh --pubkey \"spa1-key.…\"      (what spa request printed)";

const INIT_EXAMPLES: &str = "\
Examples:
  spa-keys init --host fw.example.com
  spa-keys init --host 192.0.2.1 --port 53";

const LIST_EXAMPLES: &str = "\
Examples:
  spa-keys list
  spa-keys list --json | jq -r '.[] | select(.state == \"enrolled\").name'";

const SHOW_EXAMPLES: &str = "\
Example:
  spa-keys show alice";

const REVOKE_EXAMPLES: &str = "\
The running daemon ends the client's grants and connections within a second. The record is kept in
DIR/revoked, without its secrets; the name can be given again.

Example:
  spa-keys revoke alice";

const COMPLETIONS_EXAMPLES: &str = "\
Example:
  spa-keys completions bash > /etc/bash_completion.d/spa-keys";

const PENDING_EXAMPLES: &str = "\
Examples:
  spa-keys pending
  spa-keys pending --json | jq -r '.[] | select(.expired).name'";

const RENEW_EXAMPLES: &str = "\
Whatever was told or sent of the token before is worth nothing any more: keys and secret are new.
What the client may do stays, and a new token with a secret is good for a day again.

Examples:
  spa-keys renew alice
  spa-keys renew alice --qr";

const WITHDRAW_EXAMPLES: &str = "\
As spa-keys revoke; but a client that has knocked already is left as it is.

Example:
  spa-keys withdraw alice";

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
    #[command(after_help = INIT_EXAMPLES)]
    Init(Init),
    /// Adds a client and prints its token
    #[command(after_help = ADD_EXAMPLES)]
    Add(Box<Add>),
    /// Lists clients, those revoked included
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Shows what one client may do
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Name of the client
        name: ClientName,
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Lists the tokens that nobody has used yet
    #[command(after_help = PENDING_EXAMPLES)]
    Pending {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Makes another token in place of one that nobody has used yet
    #[command(after_help = RENEW_EXAMPLES)]
    Renew {
        /// Name of the client
        name: ClientName,
        #[command(flatten)]
        token: TokenOptions,
    },
    /// Takes a token back that nobody has used yet
    #[command(after_help = WITHDRAW_EXAMPLES)]
    Withdraw {
        /// Name of the client
        name: ClientName,
    },
    /// Prints what makes a shell complete the words of spa-keys
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(Completions),
    /// Shuts a client out, at once and for good
    #[command(after_help = REVOKE_EXAMPLES)]
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

    #[command(flatten)]
    pub(crate) token: TokenOptions,
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
    fn every_command_has_an_example_that_can_be_typed() {
        assert_eq!(spa_man::check_examples(&super::Cli::command()), Ok(()));
    }

    #[test]
    fn man_page_is_current() {
        assert_eq!(spa_man::check(super::Cli::command()), Ok(()));
    }

    #[test]
    fn is_consistent() {
        super::Cli::command().debug_assert();
    }
}
