//! `spa-keys`: makes, lists and revokes the keys of a server.

#![forbid(unsafe_code)]

mod cli;
mod commands;
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
        Command::Rotate(rotate) => commands::rotate::run(&store, *rotate),
        Command::Revoke { name } => commands::revoke::run(&store, &name),
    }
}
