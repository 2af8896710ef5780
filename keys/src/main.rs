//! `spa-keys`: makes, changes, lists and revokes the keys of a server.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod qr;
mod view;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::commands::Failure;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("spa-keys: {failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let store = spa_keys::Store::open(&cli.dir);
    match cli.command {
        Command::Init(init) => commands::init::run(&store, init),
        Command::Add(add) => commands::add::run(&store, *add),
        Command::List { json } => commands::list::run(&store, json),
        Command::Show { name, json } => commands::show::run(&store, &name, json),
        Command::Set(set) => commands::set::run(&store, *set),
        Command::Disable(named) => commands::disable::run(&store, &named, true),
        Command::Enable(named) => commands::disable::run(&store, &named, false),
        Command::Rename { from, to, json } => commands::rename::run(&store, &from, &to, json),
        Command::Pending { json } => commands::pending::run(&store, json),
        Command::Renew { name, token } => commands::renew::run(&store, &name, token),
        Command::Withdraw { name } => commands::withdraw::run(&store, &name),
        Command::Revoke(named) => commands::revoke::run(&store, &named),
    }
}
