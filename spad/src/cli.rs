//! The command line of `spad`.

mod asking;
mod examples;
mod processes;

use std::ffi::OsString;
use std::io::Write;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use spa_cli::Completions;
use spa_keys::{ClientName, cidr, date, duration, note};
use spa_proto::{Prefix, Timestamp};

use crate::boot::Closed;
use crate::config::Config;
use crate::control::Request;
use crate::privileges::Identity;
use crate::{boot, check, explain, hooks, log};
use asking::{ask, ask_of, disable, enable, revocation, stop, watch};
use processes::{keep_gate, run, tell};

/// Hears authenticated knocks on a closed port and opens the firewall for their sender
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = examples::SPAD
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
    #[command(after_help = examples::RUN)]
    Run,
    /// Check configuration, keys and file modes; print the ruleset that would be applied
    #[command(after_help = examples::CHECK)]
    Check,
    /// Say how the running daemon is; exit with 0 only if knocks are heard and can be remembered,
    /// and the ruleset is in force
    #[command(after_help = examples::STATUS)]
    Status {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show knocks, grants and connections as they come and go
    #[command(after_help = examples::WATCH)]
    Watch {
        /// Each event as a line of JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show the audit: who knocked, what was opened, cut, banned, and by whom
    #[command(after_help = examples::LOG)]
    Log(#[command(flatten)] log::Options),
    /// List the grants in force
    #[command(after_help = examples::GRANTS)]
    Grants {
        /// Of this client only, or of all devices of this person
        client: Option<ClientName>,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// List the rules in force, with the packets and bytes that they have counted
    #[command(after_help = examples::RULES)]
    Rules {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// List the connections that were made through grants and are open
    #[command(after_help = examples::SESSIONS)]
    Sessions {
        /// Of this client only, or of all devices of this person
        client: Option<ClientName>,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// End a client's grants and connections now; its record stays (spa-keys revoke takes that)
    #[command(after_help = examples::REVOKE)]
    Revoke {
        /// Name of the client, or of a person for all devices
        #[arg(required_unless_present = "grant")]
        client: Option<String>,
        /// End this grant alone, by its number, and the connections made through it
        #[arg(long, value_name = "ID", conflicts_with = "client")]
        grant: Option<u64>,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Let nothing from an address or network in, and nothing out to it; its connections end
    #[command(after_help = examples::BAN)]
    Ban {
        /// An address, or a network such as 192.0.2.0/24
        #[arg(value_name = "ADDRESS", value_parser = cidr::parse)]
        network: Prefix,
        /// For how long, such as 1h; without, until it is lifted
        #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
        lasts: Option<Duration>,
        /// Whatever helps to remember
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Lift the ban of an address or network, and of all that lies in it
    #[command(after_help = examples::UNBAN)]
    Unban {
        /// An address, or a network such as 192.0.2.0/24
        #[arg(value_name = "ADDRESS", value_parser = cidr::parse)]
        network: Prefix,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// List who is banned
    #[command(after_help = examples::BANS)]
    Bans {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// List who has connected to public services with a rate, or let them begin anew
    #[command(after_help = examples::RATES)]
    Rates {
        /// To this service only
        service: Option<String>,
        /// This source only
        #[arg(long, value_name = "ADDRESS")]
        source: Option<IpAddr>,
        /// Forget what is listed: it may connect again at once
        #[arg(long)]
        clear: bool,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration again; grants stay
    #[command(after_help = examples::RELOAD)]
    Reload {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// End the running daemon; what it protects stays shut, grants end in their time
    #[command(after_help = examples::STOP)]
    Stop {
        /// Remove the table too: open to everyone what was shut
        #[arg(long)]
        open: bool,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Put the firewall in force, where the configuration says enforce = "when-enabled"
    #[command(after_help = examples::ENABLE)]
    Enable {
        /// Unless spad confirm is run within this time, 1s to 1h, all is open again: also if spad
        /// dies, or the machine restarts
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        confirm_within: Option<Duration>,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Keep in force what spad enable --confirm-within has put in force
    #[command(after_help = examples::CONFIRM)]
    Confirm {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Take the firewall out of force: open what spad enable has shut, after a reboot too
    #[command(after_help = examples::DISABLE)]
    Disable {
        /// Without asking
        #[arg(short, long)]
        yes: bool,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Shut what was shut when spad last ran, without grants; for the time before the network is up
    #[command(after_help = examples::CLOSE)]
    Close,
    /// Print what makes a shell complete the words of spad
    #[command(after_help = examples::COMPLETIONS)]
    Completions(Completions),
    /// Say of each packet in a file why it was refused, or would be
    #[command(after_help = examples::EXPLAIN)]
    Explain {
        /// Captures and knocks; - for standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Judge as of this time, such as 2026-12-31T18:00:00Z [default: when it was captured, or now]
        #[arg(long, value_name = "TIME", value_parser = date::parse)]
        at: Option<Timestamp>,
        /// The UDP port of knocks [default: the configuration's]
        #[arg(long, value_name = "N")]
        port: Option<NonZeroU16>,
        /// The address that a knock comes from, where the file does not tell
        #[arg(long, value_name = "ADDRESS")]
        source: Option<IpAddr>,
        /// All that is known of each, on several lines
        #[arg(short, long, conflicts_with = "json")]
        verbose: bool,
        /// As JSON, for programs: one object a line
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
    /// Runs a hook as its user and ends it in time; started by run
    #[command(hide = true)]
    Hook {
        #[arg(long)]
        uid: u32,
        #[arg(long)]
        gid: u32,
        #[arg(long)]
        seconds: u64,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Failed, or not in force.
const FAILED: u8 = 1;

/// Runs the command.
#[must_use]
pub fn main() -> ExitCode {
    spa_keys::wipe::keep_to_itself();
    let Cli { command, config } = Cli::parse();
    let done = match command {
        Command::Run => run(config),
        Command::Check => check(&config),
        Command::Status { json } => ask(&config, &Request::Status, json),
        Command::Watch { json } => watch(&config, json),
        Command::Log(options) => {
            log::run(&options, &config).map_err(failed).map(|()| ExitCode::SUCCESS)
        }
        Command::Grants { client, json } => {
            ask_of(&config, &Request::Grants, client.as_ref(), json)
        }
        Command::Rules { json } => ask(&config, &Request::Rules, json),
        Command::Sessions { client, json } => {
            ask_of(&config, &Request::Sessions, client.as_ref(), json)
        }
        Command::Revoke { client, grant, json } => ask(&config, &revocation(client, grant), json),
        Command::Ban { network, lasts, why, json } => {
            let (network, seconds) = (network.to_string(), lasts.map(|lasts| lasts.as_secs()));
            ask(&config, &Request::Ban { network, seconds, why, by: None }, json)
        }
        Command::Unban { network, json } => {
            ask(&config, &Request::Unban { network: network.to_string(), by: None }, json)
        }
        Command::Bans { json } => ask(&config, &Request::Bans, json),
        Command::Rates { service, source, clear, json } => {
            ask(&config, &Request::Rates { service, source, clear }, json)
        }
        Command::Reload { json } => ask(&config, &Request::Reload, json),
        Command::Stop { open, json } => stop(&config, open, json),
        Command::Enable { confirm_within, json } => {
            let seconds = confirm_within.map(|time| time.as_secs());
            enable(&config, &Request::Enable { seconds, by: None }, json)
        }
        Command::Confirm { json } => ask(&config, &Request::Confirm { by: None }, json),
        Command::Disable { yes, json } => disable(&config, yes, json),
        Command::Close => close(&config),
        Command::Completions(completions) => complete(&completions),
        Command::Explain { files, at, port, source, verbose, json } => {
            let port = port.map(NonZeroU16::get);
            let options = explain::Options { files, at, port, source, json, verbose };
            let explained = explain::run(&config, &options, &mut std::io::stdout().lock());
            explained.map(|()| ExitCode::SUCCESS).map_err(failed)
        }
        Command::Gatekeeper { uid, gid } => keep_gate(uid.zip(gid)),
        Command::Hook { uid, gid, seconds, command } => {
            let limit = Duration::from_secs(seconds);
            Ok(hooks::supervisor::run(Identity { uid, gid }, limit, &command).into())
        }
    };
    done.unwrap_or_else(|failure| {
        note!("spad: {}", failure.what);
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

fn check(path: &Path) -> Result<ExitCode, Failure> {
    let config = Config::load(path).map_err(failed)?;
    // The ruleset is printed in any case; what is wrong stands beside it.
    print(&config.ruleset().to_string())?;
    let check::Findings { faults, notices } = check::findings(&config, path);
    notices.iter().chain(&faults).for_each(|line| note!("spad: {line}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { FAILED.into() })
}

fn close(path: &Path) -> Result<ExitCode, Failure> {
    tell();
    let closed = boot::close(path).map_err(failed)?;
    if let Closed::Shut { faults, .. } = &closed {
        faults.iter().for_each(|fault| note!("spad: {fault}"));
    }
    print(&format!("{closed}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn complete(completions: &Completions) -> Result<ExitCode, Failure> {
    print(&completions.script("spad", &Cli::command()))?;
    Ok(ExitCode::SUCCESS)
}

/// Whoever reads may stop reading: that is no fault.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_an_example_that_can_be_typed() {
        assert_eq!(spa_man::check_examples(&Cli::command()), Ok(()));
    }

    #[test]
    fn man_page_is_current() {
        assert_eq!(spa_man::check(Cli::command()), Ok(()));
    }
}
