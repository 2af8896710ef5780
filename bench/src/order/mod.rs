//! The order in which the linker puts spad's functions: those that a knock runs come first, next
//! to each other. A knock finds its code forgotten by the caches; code that lies on few pages is
//! found again sooner.
//!
//! `write` steps through a knock, in the gatekeeper and in the warden, and writes the names of the
//! functions as a script for the linker ([`script`]); `spad/build.rs` hands it over.

mod script;
mod symbols;

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;
use spa_tests::Result;
use spa_tests::lab::{Doing, fail, program};
use spa_tests::wait;

use crate::inside::probe::Try;
use crate::measure::{fresh, probe, quiet_probe};
use crate::ours::{Choice, Ours};
use crate::process::wake_ups;
use crate::site::{Family, Site};
use crate::step;
use script::Script;
use symbols::Symbols;

/// Clients that knock; each has done so before somebody looks.
const CLIENTS: usize = 4;
/// How long is stepped at most: a knock takes a stepped process many seconds. It is begun after one
/// of the warden's ticks, and is over before a gatekeeper that the next one asks owes its answer.
const LASTS: Duration = Duration::from_secs(25);
/// Longer than what is between two ticks.
const TICK: Duration = Duration::from_secs(30);

/// Parts of the names of the last things that each process does for a knock.
const TO_THE_WARDEN: &str = "spad3ipc7channel7Channel4send";
const TO_THE_KERNEL: &str = "spad8firewall7netlink7Channel6commit";

/// Writes the script anew.
pub(crate) fn write(path: &Path) -> Result {
    let symbols = Symbols::of_program(&program("spad")?)?;
    let site = Site::new(&["spa"])?;
    let mut ours = Ours::start(&site.servers[0], &Choice::default())?;
    let before = tries(&site, &mut ours)?;
    if probe(&site, &quiet_probe(&site, 0, before)?)?.opened().count() != CLIENTS {
        return fail("not every knock was honoured");
    }
    let family = ours.processes()?;
    let [warden, gatekeeper] = family.members() else { return fail("not two processes") };
    let mut names = Vec::new();
    for (process, pid, last) in
        [("gatekeeper", *gatekeeper, TO_THE_WARDEN), ("warden", *warden, TO_THE_KERNEL)]
    {
        let before = wake_ups(*gatekeeper)?;
        wait::until("a tick", TICK, || Ok(wake_ups(*gatekeeper)? > before))?;
        names.extend(functions(&site, &mut ours, &symbols, pid, last).doing(process)?);
    }
    fs::write(path, Script::of(&names).to_string()).doing(path.display())?;
    check(path)
}

/// Says how much of the script is true of the program, and fails where that is too little.
pub(crate) fn check(path: &Path) -> Result {
    let text = fs::read_to_string(path).doing(path.display())?;
    let script = Script::parse(&text);
    let (found, all) = script.found(Symbols::of_program(&program("spad")?)?.names());
    println!("{}: {found} of {all} functions are in the program", path.display());
    if found * 4 < all * 3 || all == 0 {
        return fail("too few: run `make order`, and build again");
    }
    Ok(())
}

/// The function of each instruction that a process runs for knocks, until it has done the last of
/// them, in the order of their first turn.
fn functions(
    site: &Site,
    ours: &mut Ours<'_>,
    symbols: &Symbols,
    pid: Pid,
    last: &str,
) -> Result<Vec<String>> {
    let job = quiet_probe(site, 0, tries(site, ours)?)?;
    let base = symbols::begin(pid)?;
    let name = |at: u64| symbols.at(at.checked_sub(base)?);
    let is_last = |at| name(at).is_some_and(|name| name.contains(last));
    let ran = std::thread::scope(|scope| {
        // The asker gives up long before a stepped process is through.
        let asker = scope.spawn(|| probe(site, &job).map(drop).map_err(|error| error.to_string()));
        let ran = step::through(pid, LASTS, is_last);
        match asker.join() {
            Ok(Ok(())) => ran,
            Ok(Err(error)) => fail(error),
            Err(_) => fail("the asker has panicked"),
        }
    })?;
    match ran.iter().any(|at| is_last(*at)) {
        true => Ok(ran.iter().filter_map(|at| name(*at)).map(str::to_owned).collect()),
        false => fail(format!("no knock came to its end, {last}: try again")),
    }
}

fn tries(site: &Site, ours: &mut Ours<'_>) -> Result<Vec<Try>> {
    ours.tries(&fresh(site, Family::V4, CLIENTS), 0..u32::try_from(CLIENTS)?)
}
