//! What it takes to wake somebody: a frame of the channel between the two processes, there and
//! back; what public-key arithmetic takes in a process that has slept; and what asking takes. The
//! other parts of a knock's way are micro-benchmarks of the crates they are in.

use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use spa_tests::Result;
use spa_tests::lab::LabError;
use spad::ipc::{Channel, ToGate};

use super::{fresh, probe, quiet_probe};
use crate::Options;
use crate::inside::probe::{Probe, Try};
use crate::inside::rare::{Rare, Took};
use crate::inside::{SENDER, SERVER, micros, run_on};
use crate::results::Row;
use crate::site::{Family, Site};

const ROUNDS: usize = 2_000;
/// Between two rounds both sides have gone to sleep.
const PAUSE: Duration = Duration::from_micros(200);

/// What happens as rarely as knocks do in *latency*, is measured so often.
const RARE: u32 = 60;

/// Names of rows.
pub(crate) const FRAME: &str = "a frame to a process on the same processor, and back";
pub(crate) const GATE: &str = "gate, after 150 ms of sleep";
pub(crate) const SIGNATURE: &str = "Ed25519, after 150 ms of sleep";
pub(crate) const ASKING: &str = "asking a port that is open to everybody";

pub(crate) fn run(_options: &Options) -> Result<Vec<Row>> {
    let far = "a frame to a process on the other processor, and back";
    let site = Site::new(&["open"])?;
    let rare = Rare { rounds: RARE, pause_ms: 150 };
    let Took { gate, signature } =
        run_on(&site.servers[0], SERVER, &rare, Duration::from_secs(60))?;
    let rows = [
        (FRAME, round_trips(SERVER, SERVER)?),
        (far, round_trips(SERVER, SENDER)?),
        (GATE, gate),
        (SIGNATURE, signature),
        (ASKING, asking(&site)?),
    ];
    Ok(rows.into_iter().map(|(name, times)| Row::new(name).samples("µs", times)).collect())
}

/// From the first SYN to an answer, where nothing stands in its way.
fn asking(site: &Site) -> Result<Vec<f64>> {
    let sources = fresh(site, Family::V4, usize::try_from(RARE)?);
    let tries = sources.into_iter().map(|from| Try { from, payload: String::new() }).collect();
    let job = Probe { open: true, ..quiet_probe(site, 0, tries)? };
    Ok(probe(site, &job)?.opened().map(|opened| opened.wire_us).collect())
}

fn round_trips(here: usize, there: usize) -> Result<Vec<f64>> {
    let (mine, other) = Channel::pair()?;
    thread::scope(|scope| {
        let echo = scope.spawn(move || echo(&other, there));
        let times = scope.spawn(move || ask(mine, here));
        let times = times.join().map_err(|_| LabError::new("asking panicked"))?;
        echo.join().map_err(|_| LabError::new("answering panicked"))??;
        times
    })
}

fn ask(channel: Channel, cpu: usize) -> Result<Vec<f64>> {
    stay_on(cpu)?;
    let frame = ToGate::Report.encode();
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        thread::sleep(PAUSE);
        let begun = Instant::now();
        channel.send(&frame, &[])?;
        channel.receive()?;
        times.push(micros(begun.elapsed()));
    }
    Ok(times)
}

/// Until the other side is gone.
fn echo(channel: &Channel, cpu: usize) -> Result {
    stay_on(cpu)?;
    while let Some(frame) = channel.receive()? {
        channel.send(&frame, &[])?;
    }
    Ok(())
}

/// Of the calling thread.
fn stay_on(cpu: usize) -> Result {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
