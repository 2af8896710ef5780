//! The command line.

mod examples;
mod knock;
mod plain;
mod ssh;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use spa_cli::Completions;

use crate::alias::Alias;
use crate::exit::EXIT_CODES;
use crate::field::KeepUnlocked;
use crate::kept::Keyring;
use examples::{
    COMPLETIONS_EXAMPLES, DOCTOR_EXAMPLES, ENROLL_EXAMPLES, FILES, FORGET_EXAMPLES, HOSTS_EXAMPLES,
    JSON_FIELDS, KNOCK_EXAMPLES, LOCK_EXAMPLES, PASSPHRASE_EXAMPLES, PROXY_EXAMPLES,
    REQUEST_EXAMPLES, SEND_EXAMPLES, SPA_EXAMPLES, SSH_CONFIG_EXAMPLES, SSH_EXAMPLES,
    UNLOCK_EXAMPLES,
};
pub(crate) use knock::{DoctorOptions, KnockOptions, ProxyOptions, RequestOptions, SendOptions};
pub(crate) use ssh::{SshConfigOptions, SshOptions};

/// Knock at a server that shows nothing, so that it opens for this machine.
#[derive(Parser)]
#[command(name = "spa", version, after_help = format!("{SPA_EXAMPLES}\n\n{EXIT_CODES}"),
    after_long_help = format!("{SPA_EXAMPLES}\n\n{FILES}\n\n{EXIT_CODES}"))]
pub(crate) struct Cli {
    /// Where servers and keys are kept [default: $XDG_CONFIG_HOME/spa, else ~/.config/spa]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) config_dir: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// As the arguments of this process say; where they say nothing that can be
    /// done, or ask for help, the process ends with that.
    pub(crate) fn of_this_process() -> (Self, Words) {
        let plain = || plain::knock(std::env::args_os().skip(1));
        plain().map_or_else(Self::parsed, |cli| (cli, Words::Hosts))
    }

    fn parsed() -> (Self, Words) {
        let matches = Self::command().get_matches();
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        (cli, Words::Of(matches))
    }
}

/// The words that a knock was asked for with.
pub(crate) enum Words {
    /// The names of the hosts and nothing else.
    Hosts,
    /// As parsed.
    Of(ArgMatches),
}

impl Words {
    /// Those that ask for the same knock again, each whole.
    pub(crate) fn again(&self, hosts: &[String]) -> Vec<String> {
        match self {
            Self::Hosts => hosts.to_vec(),
            Self::Of(matches) => {
                matches.subcommand().map(|(_, of)| KnockOptions::words(of)).unwrap_or_default()
            }
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Take in servers' tokens, and make a signing key for each
    #[command(after_help = ENROLL_EXAMPLES)]
    Enroll(EnrollOptions),

    /// Make a key and print its public half, for `spa-keys add NAME --pubkey LINE`
    #[command(after_help = REQUEST_EXAMPLES)]
    Request,

    /// Ask servers to open a service for this machine
    #[command(after_help = format!("{KNOCK_EXAMPLES}\n{JSON_FIELDS}\n{EXIT_CODES}"))]
    Knock(Box<KnockOptions>),

    /// Knock where ssh is going to connect to, and then run ssh, with all of its options
    #[command(after_help = format!("{SSH_EXAMPLES}\n\n{EXIT_CODES}"))]
    Ssh(SshOptions),

    /// Print the lines with which ssh knocks by itself, or put them into ~/.ssh/config
    #[command(after_help = SSH_CONFIG_EXAMPLES)]
    SshConfig(SshConfigOptions),

    /// Look at everything between here and an open door: what is in order, and what to do
    #[command(after_help = format!("{DOCTOR_EXAMPLES}\n\n{EXIT_CODES}"))]
    Doctor(Box<DoctorOptions>),

    /// Send a knock that `spa knock --save` wrote; takes no keys
    #[command(after_help = format!("{SEND_EXAMPLES}\n\n{EXIT_CODES}"))]
    Send(SendOptions),

    /// Knock, connect, and pass data between the connection and standard input and output
    #[command(after_help = format!("{PROXY_EXAMPLES}\n{EXIT_CODES}"))]
    Proxy(Box<ProxyOptions>),

    /// Put the keys for a server under a passphrase, change it, or take it away
    #[command(after_help = PASSPHRASE_EXAMPLES)]
    Passphrase(PassphraseOptions),

    /// Ask for passphrases now, and keep the keys unlocked for a while
    #[command(after_help = UNLOCK_EXAMPLES)]
    Unlock(UnlockOptions),

    /// Forget what is kept unlocked
    #[command(after_help = LOCK_EXAMPLES)]
    Lock(LockOptions),

    /// List the servers that this machine has keys for
    #[command(after_help = HOSTS_EXAMPLES)]
    Hosts {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },

    /// Delete the keys for a server
    #[command(after_help = FORGET_EXAMPLES)]
    Forget {
        /// Its alias, or its host name
        host: String,
    },

    /// Print what makes a shell complete the words of spa
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(Completions),
}

#[derive(Args)]
pub(crate) struct EnrollOptions {
    /// File with the token, or several, a line each; - for standard input; without it, asks
    #[arg(value_name = "- | FILE")]
    pub(crate) token: Option<PathBuf>,

    /// What to call the server here [default: its host name]
    #[arg(long, value_name = "ALIAS")]
    pub(crate) name: Option<Alias>,

    /// In place of the keys that are here under this name; what was there is kept until the new
    /// keys have been seen to work
    #[arg(long)]
    pub(crate) replace: bool,
    /// Do not ask whether the server is to be trusted; where nobody is at a terminal, nobody is
    /// asked, and a token that gives a server here another key or host takes this or --replace
    #[arg(long, short)]
    pub(crate) yes: bool,

    /// Where a token's passphrase is: the first line of a file, or of a pipe such as /dev/fd/3;
    /// without it, asks
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct PassphraseOptions {
    /// Alias of the server, or its host name
    pub(crate) host: String,

    /// Take it away: the keys stand in clear again
    #[arg(long)]
    pub(crate) remove: bool,
}

#[derive(Args)]
pub(crate) struct UnlockOptions {
    /// Aliases of servers, or their host names
    #[arg(required = true)]
    pub(crate) host: Vec<String>,

    /// For how long, such as 8h [default: keep-unlocked in config.toml, else 15m]
    #[arg(long = "for", value_name = "TIME", value_parser = some_time)]
    pub(crate) time: Option<Duration>,

    /// Where: the kernel's keyring; the desktop's, as long as that is unlocked too; or auto, the
    /// desktop's where there is one [default: keyring in config.toml, else auto]
    #[arg(long, value_name = "auto|kernel|desktop")]
    pub(crate) keyring: Option<Keyring>,
}

#[derive(Args)]
pub(crate) struct LockOptions {
    /// Aliases of servers, or their host names [default: all]
    pub(crate) host: Vec<String>,
}

fn some_time(text: &str) -> Result<Duration, String> {
    let KeepUnlocked(time) = text.parse()?;
    if time.is_zero() { Err("no time at all: at least 1s".into()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_an_example_that_can_be_typed() {
        assert_eq!(spa_man::check_examples(&Cli::command()), Ok(()));
    }

    #[test]
    fn man_page_is_current() {
        assert_eq!(spa_man::check(Cli::command()), Ok(()));
    }

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
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
