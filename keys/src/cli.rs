//! The command line of `spa-keys`.

mod examples;
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

/// Makes, lists and revokes the keys that spad lets in.
#[derive(Parser)]
#[command(name = "spa-keys", version, after_help = examples::SPA_KEYS)]
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
    #[command(after_help = examples::INIT)]
    Init(Init),
    /// Adds a client and prints its token
    #[command(after_help = examples::ADD)]
    Add(Box<Add>),
    /// Adds all clients of a table, or none of them where one is wrong
    #[command(after_help = examples::ADD_MANY)]
    AddMany(AddMany),
    /// Adds clients that may do what the stanzas of an fwknop server allow
    #[command(after_help = examples::FWKNOP)]
    ImportFwknop(ImportFwknop),
    /// Lists clients, those revoked included
    #[command(after_help = examples::LIST)]
    List {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Shows what one client may do
    #[command(after_help = examples::SHOW)]
    Show {
        /// Name of the client
        name: ClientName,
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Replaces keys by new ones; old and new both work for a while
    #[command(after_help = examples::ROTATE)]
    Rotate(Box<rotate::Rotate>),
    /// Changes what a client may do, or all devices of a person
    #[command(after_help = examples::SET)]
    Set(Box<Set>),
    /// Shuts a client out until it is enabled again, or all devices of a person
    #[command(after_help = examples::DISABLE)]
    Disable(Named),
    /// Lets a client in again that was disabled
    #[command(after_help = examples::ENABLE)]
    Enable(Named),
    /// Writes all keys and clients into one file
    #[command(after_help = examples::EXPORT)]
    Export(Export),
    /// Puts back what spa-keys export has written
    #[command(after_help = examples::IMPORT)]
    Import(Import),
    /// Gives a client another name, or a person with all devices; keys and grants stay
    #[command(after_help = examples::RENAME)]
    Rename {
        /// Its name now
        from: ClientName,
        /// Its new name
        to: ClientName,
        /// Also a person with devices and without a file of limits, which may be away
        #[arg(long)]
        yes: bool,
        /// As a JSON array of what it is called now
        #[arg(long)]
        json: bool,
    },
    /// Lists the tokens that nobody has used yet
    #[command(after_help = examples::PENDING)]
    Pending {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Makes another token in place of one that nobody has used yet
    #[command(after_help = examples::RENEW)]
    Renew {
        /// Name of the client
        name: ClientName,
        #[command(flatten)]
        token: TokenOptions,
    },
    /// Takes a token back that nobody has used yet
    #[command(after_help = examples::WITHDRAW)]
    Withdraw {
        /// Name of the client
        name: ClientName,
        /// As a JSON object of what is left of it
        #[arg(long)]
        json: bool,
    },
    /// Prints what makes a shell complete the words of spa-keys
    #[command(after_help = examples::COMPLETIONS)]
    Completions(Completions),
    /// Shuts a client out, at once and for good, or a person with all devices
    #[command(after_help = examples::REVOKE)]
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

    /// Also a person with devices and without a file of limits, which may be away: what is said
    /// here is all that limits them then
    #[arg(long)]
    pub(crate) yes: bool,

    /// As a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Init {
    /// Name or address by which clients find this server [default: what it calls itself]
    #[arg(long, value_name = "NAME", value_parser = host)]
    pub(crate) host: Option<String>,

    /// UDP port that clients knock at: listen-port in spad.toml, unless something in between
    /// translates it
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

    /// For a key that the client has made with spa request: no one-time secret is in the token then
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
