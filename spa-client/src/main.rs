//! `spa`: knocks at a server that shows nothing, so that it opens for this
//! machine.
//!
//! ```text
//! cli → knock → door (config → unlock → resolve → send (address) → wait (bound))   spa knock
//! cli → proxy → door … → relay                                                     spa proxy
//! cli → ssh (ssh_target) → door …; cli → ssh_config (ssh_block)                    spa ssh, ssh-config
//! cli → doctor → door …                                                            spa doctor
//! cli → knock → door → save; cli → save → resolve → send                           spa send
//! cli → unlock (lock, kept (os/keyring, os/desktop))                                         spa passphrase …
//! cli → config → enroll (trust), request, hosts                                       everything else
//! ```
//!
//! What depends on the operating system is in `os`, and in `spa_keys`, which
//! reads and writes private files.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod address;
mod again;
mod alias;
mod answer;
mod bound;
mod cli;
mod config;
mod doctor;
mod door;
mod enroll;
mod erase;
mod exit;
mod field;
mod host_file;
mod hosts;
mod kept;
mod knock;
mod lock;
mod os;
mod outside;
mod parallel;
mod ports;
#[cfg(test)]
#[path = "../../spa-proto/src/printable.rs"]
mod printable;
mod proxy;
mod relay;
mod report;
mod reporter;
mod request;
mod resolve;
mod save;
mod send;
mod settings;
mod ssh;
mod ssh_block;
mod ssh_config;
mod ssh_target;
mod story;
mod trust;
mod unlock;
mod update;
mod wait;
mod within_ssh;

use std::process::ExitCode;

use clap::CommandFactory;

use cli::{Cli, Command, Words};
use config::ConfigDir;
use exit::{Exit, Failure};

/// Libraries leave copies of what they read and write; freed, these are wiped.
#[global_allocator]
static WIPING: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    spa_keys::wipe::keep_to_itself();
    let (cli, words) = Cli::of_this_process();
    let ended = run(cli, &words).unwrap_or_else(|failure| {
        report::complain(&failure);
        failure.exit()
    });
    ended.into()
}

fn run(cli: Cli, words: &Words) -> Result<Exit, Failure> {
    let config = ConfigDir::new(cli.config_dir)?;
    match cli.command {
        Command::Enroll(options) => enroll::run(&config, &options),
        Command::Request => request::run(&config),
        Command::Knock(options) => knock::run(&config, *options, words),
        Command::Doctor(options) => doctor::run(&config, &options),
        Command::Ssh(options) => ssh::run(&config, &options),
        Command::SshConfig(options) => ssh_config::run(&config, &options),
        Command::Send(options) => save::send(&options),
        Command::Proxy(options) => proxy::run(&config, &options),
        Command::Passphrase(options) => unlock::passphrase(&config, &options),
        Command::Unlock(options) => unlock::unlock(&config, &options),
        Command::Lock(options) => unlock::lock(&config, &options),
        Command::Hosts { json } => hosts::list(&config, json),
        Command::Forget { host } => hosts::forget(&config, &host),
        Command::Completions(completions) => {
            report::print(completions.script("spa", &Cli::command()).trim_end())?;
            Ok(Exit::Done)
        }
    }
}
