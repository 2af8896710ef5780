//! What the commands around ssh can be told.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use spa_proto::{GrantMode, Service};

use super::knock::{Patience, seconds};

#[derive(Args)]
pub(crate) struct SshOptions {
    /// What to open [default: the service ssh of the token, else the one that goes with the
    /// port, else its first]
    #[arg(long, value_name = "NAME|tcp/N", value_delimiter = ',')]
    pub(crate) service: Vec<Service>,

    /// How long new connections are let in, such as 30s or 5m [default: as the server says]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(crate) ttl: Option<NonZeroU32>,

    /// What to let in: window or once; as for spa knock
    #[arg(long, value_name = "window|once")]
    pub(crate) mode: Option<GrantMode>,

    #[command(flatten)]
    pub(crate) patience: Patience,

    /// Options of ssh, the host, and what to run there: all as ssh has it
    #[arg(
        value_name = "SSH ARGUMENTS",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct SshConfigOptions {
    /// Aliases of servers, or their host names [default: all]
    pub(crate) host: Vec<String>,

    /// Let spa make the connections (spa proxy); it does so in any case for servers whose file
    /// names mode once or bound
    #[arg(long)]
    pub(crate) proxy: bool,

    /// Put the lines in place, or write them anew
    #[arg(long, conflicts_with = "remove")]
    pub(crate) write: bool,

    /// Take the lines away
    #[arg(long, conflicts_with_all = ["host", "proxy"])]
    pub(crate) remove: bool,

    /// ssh's configuration [default: ~/.ssh/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    fn arguments(line: &str) -> Vec<String> {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Ssh(options) => {
                options.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect()
            }
            _ => unreachable!(),
        }
    }

    #[test]
    fn the_words_of_ssh_are_its_own() {
        for line in [
            "fw",
            "-p 22 bob@fw ls -la --config-dir x",
            "-4v -o Port=22 fw",
            "-G fw",
            "fw -h",
            "-V",
            "fw -- --ttl 5",
        ] {
            assert_eq!(arguments(&format!("spa ssh {line}")).join(" "), line);
            let with_ours = format!("spa --config-dir /x ssh --ttl 2m --service=ssh {line}");
            assert_eq!(arguments(&with_ours).join(" "), line);
        }
    }
}
