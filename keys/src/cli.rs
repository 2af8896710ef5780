//! The command line of `spa-keys`.

mod rights;
mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use spa_keys::{ClientName, PublicKeyLine, check_host};

pub(crate) use rights::{Part, Rights};
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

const SET_EXAMPLES: &str = "\
What is not named stays as it is. The running daemon goes by it from the next knock on; grants in
force stay (spad revoke ends them). What is said of a person holds for all devices, each of which
can be limited further by its own name, and never less.

Examples:
  spa-keys set alice --service ssh,web --hours \"mon-fri 08:00-18:00 Europe/Berlin\"
  spa-keys set alice/phone --modes once --max-ttl 1m
  spa-keys set bob --clear expires,from";

const RENAME_EXAMPLES: &str = "\
Examples:
  spa-keys rename alice alice/laptop     (and then: spa-keys add alice/phone)
  spa-keys rename alice/laptop alice/old-laptop
  spa-keys rename alice alicia           (with all her devices)";

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
    /// Changes what a client may do, or all devices of a person
    #[command(after_help = SET_EXAMPLES)]
    Set(Box<Set>),
    /// Shuts a client out until it is enabled again, or all devices of a person
    #[command(
        after_help = "Its grants and connections end. Its record stays.\n\nExample:\n  spa-keys disable alice/laptop"
    )]
    Disable(Named),
    /// Lets a client in again that was disabled
    #[command(
        after_help = "A device stays shut out if its person was disabled, and the other way round.\n\n\
        Example:\n  spa-keys enable alice/laptop"
    )]
    Enable(Named),
    /// Gives a client another name, or a person with all devices; keys and grants stay
    #[command(after_help = RENAME_EXAMPLES)]
    Rename {
        /// Its name now
        from: ClientName,
        /// Its new name
        to: ClientName,
        /// As a JSON array of what it is called now
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
    /// Shuts a client out, at once and for good, or a person with all devices
    #[command(
        after_help = "Example:\n  spa-keys revoke alice/phone\n  spa-keys revoke alice      (all her devices)"
    )]
    Revoke(Named),
}

#[derive(Args)]
pub(crate) struct Named {
    /// Name of the client; a person's stands for all devices
    pub(crate) name: ClientName,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Set {
    /// Name of the client, or of a person with devices
    pub(crate) name: ClientName,

    #[command(flatten)]
    pub(crate) rights: Rights,

    /// What is to be as if it had never been said; can be repeated
    #[arg(long, value_name = "OPTION", value_delimiter = ',', value_enum)]
    pub(crate) clear: Vec<Part>,

    /// As a JSON object
    #[arg(long)]
    pub(crate) json: bool,
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
    /// Name of the client: a-z 0-9 . _ @ -; of a person's device: alice/laptop
    pub(crate) name: ClientName,

    #[command(flatten)]
    pub(crate) rights: Rights,

    /// For a key that the client has made with spa request: no secret is in the token then
    #[arg(long, value_name = "LINE", value_parser = PublicKeyLine::decode)]
    pub(crate) pubkey: Option<PublicKeyLine>,

    #[command(flatten)]
    pub(crate) token: TokenOptions,
}

fn host(text: &str) -> Result<String, spa_keys::InvalidHost> {
    check_host(text).map(|()| text.to_owned())
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
