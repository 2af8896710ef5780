//! The command line of `spad`.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

use crate::config::Config;
use crate::control::{Answer, Request, client};
use crate::gatekeeper::privileges::{self, Identity};
use crate::gatekeeper::sandbox;
use crate::ipc::Channel;
use crate::{check, gatekeeper, show, warden};

/// Hears authenticated knocks on a closed port and opens the firewall for their sender
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done; 1 failed, or for status: capture or ruleset not in force; 2 usage; \
    3 no running spad to ask.\n\nExample:\n  spad check --config /etc/spad/spad.toml && spad run --config /etc/spad/spad.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The configuration
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/spad/spad.toml")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground until told to end
    Run,
    /// Check configuration, keys and file modes; print the ruleset that would be applied
    Check,
    /// Say how the running daemon is; exit with 0 only if capture and ruleset are in force
    Status {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// List the grants in force
    Grants {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// End a client's grants now; its record stays (spa-keys revoke takes that)
    Revoke {
        /// Name of the client
        client: String,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration again; grants stay
    Reload {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// The unprivileged half; started by run, with the channel as standard input
    #[command(hide = true)]
    Gatekeeper {
        #[arg(long, requires = "gid")]
        uid: Option<u32>,
        #[arg(long, requires = "uid")]
        gid: Option<u32>,
    },
}

/// Failed, or not in force.
const FAILED: u8 = 1;
/// There is no daemon to ask.
const NOT_RUNNING: u8 = 3;

/// Runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { command, config } = Cli::parse();
    let done = match command {
        Command::Run => run(config),
        Command::Check => check(&config),
        Command::Status { json } => ask(&config, &Request::Status, json),
        Command::Grants { json } => ask(&config, &Request::Grants, json),
        Command::Revoke { client, json } => ask(&config, &Request::Revoke { client }, json),
        Command::Reload { json } => ask(&config, &Request::Reload, json),
        Command::Gatekeeper { uid, gid } => keep_gate(uid.zip(gid)),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("spad: {}", failure.what);
        ExitCode::from(failure.code)
    })
}

struct Failure {
    code: u8,
    what: String,
}

fn failed(what: impl ToString) -> Failure {
    Failure { code: FAILED, what: what.to_string() }
}

fn run(config: PathBuf) -> Result<ExitCode, Failure> {
    log();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(warden::run(config)).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn check(path: &Path) -> Result<ExitCode, Failure> {
    let config = Config::load(path).map_err(failed)?;
    // The ruleset is printed in any case; what is wrong stands beside it.
    print(&config.ruleset().to_string())?;
    let check::Findings { faults, notices } = check::findings(&config, path);
    notices.iter().chain(&faults).for_each(|line| eprintln!("spad: {line}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { FAILED.into() })
}

fn ask(path: &Path, request: &Request, json: bool) -> Result<ExitCode, Failure> {
    let run_dir = Config::run_dir(path).map_err(failed)?;
    let answer =
        client::ask(&run_dir, request).map_err(|what| Failure { code: NOT_RUNNING, what })?;
    let code = match &answer {
        Answer::Failed(why) => return Err(failed(why)),
        Answer::Status(status) if !status.is_in_force() => FAILED.into(),
        _ => ExitCode::SUCCESS,
    };
    print(&if json { show::json(&answer) } else { show::text(&answer) })?;
    Ok(code)
}

/// The unprivileged half: privileges go before the first message is read.
fn keep_gate(identity: Option<(u32, u32)>) -> Result<ExitCode, Failure> {
    let identity = identity.map(|(uid, gid)| Identity { uid, gid });
    privileges::drop_all(identity).map_err(|error| failed(format!("privileges stay: {error}")))?;
    let channel: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    sandbox::enter().map_err(|error| failed(format!("sandbox: {error}")))?;
    gatekeeper::run(Channel::from_fd(channel))
        .map_err(|error| failed(format!("gatekeeper: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

/// One line an event, to standard error; in colour nowhere.
fn log() {
    tracing_subscriber::fmt()
        .with_writer(|| Log)
        .log_internal_errors(false)
        .with_ansi(false)
        .with_max_level(LevelFilter::INFO)
        .init();
}

/// Standard error. Whoever reads it may go away: the daemon goes on.
struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whoever reads may stop reading: that is no fault.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn man_page_is_current() {
        assert_eq!(spa_man::check(Cli::command()), Ok(()));
    }
}
