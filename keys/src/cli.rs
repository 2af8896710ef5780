//! The command line of `spa-keys`.

mod rights;
pub(crate) mod rotate;
mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use spa_cli::Completions;
use spa_keys::{ClientName, PublicKeyLine, check_host};

use spa_proto::ServiceName;

use crate::bulk::Destination;
pub(crate) use rights::{Part, Rights};
pub(crate) use token::TokenOptions;

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
  spa-keys add erin --service ssh --qr
  spa-keys add erin --service ssh --passphrase --png erin.png
  spa-keys add carol --service ssh --pubkey \"spa1-key.…\"      (what spa request printed)";

const ADD_MANY_EXAMPLES: &str = "\
The first line names the columns: name, and whatever spa-keys add has as options, such as service,
ttl, expires, from, hours. Several values in a cell are separated by semicolons. All of it is looked
at before anything is added: what is wrong is said with its line. Tokens are written into files that
only you can read, and never over another file.

Examples:
  spa-keys add-many staff.csv --tokens tokens/
  spa-keys add-many staff.csv --dry-run
  printf 'name,service\\nalice/laptop,ssh\\n' | spa-keys add-many - --tokens-csv tokens.csv";

const FWKNOP_EXAMPLES: &str = "\
Keys are never taken over: each client makes a key of its own with its token. What else has no
counterpart is said, line by line. Ports become the services that spad has for them; for those that
are missing, the lines to write into its configuration are printed.

Examples:
  spa-keys import-fwknop /etc/fwknop/access.conf --dry-run
  spa-keys import-fwknop /etc/fwknop/access.conf --tokens tokens/";

const EXPORT_EXAMPLES: &str = "\
Whoever has this file and no passphrase is needed for it can be the server, and read knocks.

Examples:
  spa-keys export --passphrase /var/backups/spa-keys
  spa-keys export - --without-server | ssh backup 'cat > clients.backup'";

const IMPORT_EXAMPLES: &str = "\
Either all of it is put back that can be, or nothing. What is here already and says something else is
in the way, unless --replace: then rights are the backup's, keys stay as they are here, and who is
disabled here stays so. Who was revoked, here or in the backup, is no client then, whatever keys were
replaced. A token that nobody had used is over (spa-keys renew), but one of --pubkey: its client counts
as one who has knocked, as does whoever comes back, for nobody knows what was used since.

Where spa-keys init has made another key meanwhile, with which nobody has enrolled, move DIR/server.toml
away before. With --without-server that key stays; the clients that come back need new tokens for it.

Examples:
  spa-keys import /var/backups/spa-keys --dry-run
  spa-keys import /var/backups/spa-keys";

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

Examples:
  spa-keys revoke alice/phone
  spa-keys revoke alice                  (all her devices)";

const COMPLETIONS_EXAMPLES: &str = "\
Example:
  spa-keys completions bash > /etc/bash_completion.d/spa-keys";

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
A client that came back with its key by spa-keys import counts as one that has used its token.

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
    /// Adds all clients of a table, or none of them
    #[command(after_help = ADD_MANY_EXAMPLES)]
    AddMany(AddMany),
    /// Adds clients that may do what the stanzas of an fwknop server allow
    #[command(after_help = FWKNOP_EXAMPLES)]
    ImportFwknop(ImportFwknop),
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
    /// Replaces keys by new ones; old and new both work for a while
    #[command(after_help = rotate::EXAMPLES)]
    Rotate(Box<rotate::Rotate>),
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
    /// Writes all keys and clients into one file
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
    /// Puts back what spa-keys export has written
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(Import),
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
        /// As a JSON object of what is left of it
        #[arg(long)]
        json: bool,
    },
    /// Prints what makes a shell complete the words of spa-keys
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(Completions),
    /// Shuts a client out, at once and for good, or a person with all devices
    #[command(after_help = REVOKE_EXAMPLES)]
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
pub(crate) struct AddMany {
    /// The table, as CSV with a heading; - for standard input
    pub(crate) file: String,

    #[command(flatten)]
    pub(crate) to: Destination,

    /// Look at everything, and add nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// As a JSON array of names, key-ids and files
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ImportFwknop {
    /// fwknop's access.conf
    pub(crate) file: String,

    #[command(flatten)]
    pub(crate) to: Destination,

    /// Where spad's services are
    #[arg(long, value_name = "FILE", default_value = "/etc/spad/spad.toml")]
    pub(crate) config: PathBuf,

    /// What stanzas without OPEN_PORTS may knock for, which fwknop lets open any port
    #[arg(long = "service", value_name = "SERVICE", value_delimiter = ',', value_parser = rights::service)]
    pub(crate) services: Vec<ServiceName>,

    /// Say what would be taken over, and add nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// As a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Export {
    /// The new file, which only you can read; - for standard output
    pub(crate) file: PathBuf,

    /// Put it under a passphrase, which is asked for
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(crate) passphrase: bool,

    /// The same, with the first line of a file, or of a pipe such as /dev/stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Leave out the server's own key
    #[arg(long)]
    pub(crate) without_server: bool,

    /// Say what was written as a JSON object, on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Import {
    /// What spa-keys export has written
    pub(crate) file: PathBuf,

    /// Where its passphrase is, if it takes one, in place of being asked for it
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Leave the server's own key as it is here
    #[arg(long)]
    pub(crate) without_server: bool,

    /// Let it say what clients may do that are here as well
    #[arg(long)]
    pub(crate) replace: bool,

    /// Say what would become of each file, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// As a JSON array
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

    /// As a JSON object
    #[arg(long)]
    pub(crate) json: bool,
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
