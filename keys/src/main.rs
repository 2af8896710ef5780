//! `spa-keys`: makes, changes, lists and revokes the keys of a server.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bulk;
mod cli;
mod commands;
mod fwknop;
mod qr;
mod table;
mod view;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};
use crate::commands::Failure;

fn main() -> ExitCode {
    spa_keys::wipe::keep_to_itself();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            spa_keys::note!("spa-keys: {failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let store = spa_keys::Store::open(&cli.dir);
    match cli.command {
        Command::Init(init) => commands::init::run(&store, init),
        Command::Add(add) => commands::add::run(&store, *add),
        Command::AddMany(options) => commands::add_many::run(&store, options),
        Command::ImportFwknop(options) => commands::import_fwknop::run(&store, options),
        Command::List { json } => commands::list::run(&store, json),
        Command::Show { name, json } => commands::show::run(&store, &name, json),
        Command::Rotate(rotate) => commands::rotate::run(&store, *rotate),
        Command::Set(set) => commands::set::run(&store, *set),
        Command::Disable(named) => commands::disable::run(&store, &named, true),
        Command::Enable(named) => commands::disable::run(&store, &named, false),
        Command::Export(options) => commands::backup::export(&store, &options),
        Command::Import(options) => commands::backup::import(&store, &options),
        Command::Rename { from, to, yes, json } => {
            commands::rename::run(&store, &from, &to, yes, json)
        }
        Command::Pending { json } => commands::pending::run(&store, json),
        Command::Renew { name, token } => commands::renew::run(&store, &name, token),
        Command::Withdraw { name, json } => commands::withdraw::run(&store, &name, json),
        Command::Completions(completions) => {
            commands::print(&completions.script("spa-keys", &Cli::command()))
        }
        Command::Revoke(named) => commands::revoke::run(&store, &named),
    }
}
