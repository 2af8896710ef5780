//! `spa`: knocks at a server that shows nothing, so that it opens for this
//! machine.
//!
//! ```text
//! cli → knock → door (config → resolve → send (address) → wait (bound))     spa knock
//! cli → proxy → door … → relay                                             spa proxy
//! cli → config → enroll, request, hosts                                    everything else
//! ```
//!
//! What depends on the operating system is in `os`, and in `spa_keys`, which
//! reads and writes private files.

#![forbid(unsafe_code)]

mod address;
mod alias;
mod bound;
mod cli;
mod config;
mod door;
mod enroll;
mod exit;
mod field;
mod host_file;
mod hosts;
mod knock;
mod os;
mod ports;
mod proxy;
mod relay;
mod report;
mod request;
mod resolve;
mod send;
mod story;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use config::ConfigDir;
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let ended = run(Cli::parse()).unwrap_or_else(|failure| {
        report::complain(&failure);
        failure.exit()
    });
    ended.into()
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let config = ConfigDir::new(cli.config_dir)?;
    match cli.command {
        Command::Enroll(options) => enroll::run(&config, &options),
        Command::Request => request::run(&config),
        Command::Knock(options) => knock::run(&config, &options),
        Command::Proxy(options) => proxy::run(&config, &options),
        Command::Hosts { json } => hosts::list(&config, json),
        Command::Forget { host } => hosts::forget(&config, &host),
    }
}
