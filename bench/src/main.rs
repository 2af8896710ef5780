//! Measures spa and its peers side by side, in one run, between hosts that are network
//! namespaces.
//!
//! [`measure`] has one module for each row of `docs/performance.md`; what they find goes as JSON
//! into a folder ([`results`]), from which [`report`] makes the page. [`inside`] is what runs on
//! the hosts: senders, probers, receivers. The server has CPU 0, whoever sends has CPU 1. [`order`]
//! measures nothing: it looks at what a knock runs, for the linker.

#![forbid(unsafe_code)]

mod crowd;
mod inside;
mod measure;
mod order;
mod ours;
mod peer;
mod process;
mod quiet;
mod report;
mod results;
mod site;
mod stats;
mod step;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use spa_tests::Result;

use results::Folder;

#[derive(Parser)]
#[command(name = "spa-bench", version, about = "Measures spa and its peers side by side")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// From a knock on the wire to a connection that is let in
    Latency(Options),
    /// The client's whole process
    Client(Options),
    /// Valid knocks while junk comes as fast as it can be sent
    Flood(Options),
    /// Processor time of a refused packet, and of receiving, for each way to capture
    Cpu(Options),
    /// 1 to 100 000 clients
    Clients(Options),
    /// Distinct valid knocks of many clients: sustained, and in one burst
    Rate(Options),
    /// Wake-ups and memory of daemons that have nothing to do
    Idle(Options),
    /// A long life in fast motion
    Life(Options),
    /// Where the time of one knock goes, step by step, as the kernel traces it
    Way(Options),
    /// All of these, one after the other
    All(Options),
    /// Makes the page out of what was measured
    Report(ReportOptions),
    /// Writes the order in which the linker puts spad's functions, by stepping through a knock
    Order(OrderOptions),
    /// What runs on a host of the lab; not for people
    #[command(hide = true)]
    Inside {
        /// Which of them
        job: String,
    },
}

#[derive(Args, Clone)]
struct Options {
    /// Tries of each kind, where there is a choice
    #[arg(long)]
    tries: Option<usize>,
    /// Leave out the peers: only our own figures
    #[arg(long)]
    ours_only: bool,
    /// Of several kinds (of flood, of sizes) only those whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Accepted knocks of a life
    #[arg(long, default_value_t = 300_000)]
    knocks: u32,
    /// Fail where a life loses a knock, or where memory or the journal grows
    #[arg(long)]
    assert: bool,
    /// Where the figures go
    #[arg(long, default_value = "target/bench")]
    results: PathBuf,
}

#[derive(Args)]
struct ReportOptions {
    /// Where the figures are
    #[arg(long, default_value = "target/bench")]
    results: PathBuf,
    /// The page, of which what stands between markers is replaced
    #[arg(long, default_value = "docs/performance.md")]
    page: PathBuf,
}

#[derive(Args)]
struct OrderOptions {
    /// Writes nothing: fails where the program has too few of these functions
    #[arg(long)]
    check: bool,
    /// The script for the linker
    #[arg(long, default_value = "spad/knock.ld")]
    script: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Inside { job } => inside::run(&job),
        Command::Report(options) => report::write(&options.results, &options.page),
        Command::Order(options) if options.check => order::check(&options.script),
        Command::Order(options) => order::write(&options.script),
        command => measure_and_keep(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spa-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

type Measurement = fn(&Options) -> Result<Vec<results::Row>>;

/// In the order in which `all` runs them.
const MEASUREMENTS: [(&str, Measurement); 9] = [
    ("latency", measure::latency::run),
    ("client", measure::client::run),
    ("flood", measure::flood::run),
    ("cpu", measure::cpu::run),
    ("clients", measure::clients::run),
    ("rate", measure::rate::run),
    ("idle", measure::idle::run),
    ("life", measure::life::run),
    ("way", measure::way::run),
];

fn measure_and_keep(command: Command) -> Result {
    let (name, options) = match command {
        Command::Latency(options) => ("latency", options),
        Command::Client(options) => ("client", options),
        Command::Flood(options) => ("flood", options),
        Command::Cpu(options) => ("cpu", options),
        Command::Clients(options) => ("clients", options),
        Command::Rate(options) => ("rate", options),
        Command::Idle(options) => ("idle", options),
        Command::Life(options) => ("life", options),
        Command::Way(options) => ("way", options),
        Command::All(options) => ("", options),
        Command::Report(_) | Command::Order(_) | Command::Inside { .. } => return Ok(()),
    };
    let _first = quiet::First::new();
    let chosen = MEASUREMENTS.iter().filter(|(one, _)| name.is_empty() || *one == name);
    for (name, measurement) in chosen {
        keep(&options.results, name, &measurement(&options)?)?;
    }
    Ok(())
}

fn keep(folder: &Path, name: &str, rows: &[results::Row]) -> Result {
    print!("{}", report::table::of_rows(name, rows));
    Folder::new(folder).write(name, rows)
}
