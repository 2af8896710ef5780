//! What it takes to wake somebody: a frame of the channel between the two processes, there and
//! back. The other parts of a knock's way are micro-benchmarks of the crates they are in.

use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use spa_tests::Result;
use spa_tests::lab::LabError;
use spad::ipc::{Channel, ToGate};

use crate::Options;
use crate::inside::{SENDER, SERVER, micros};
use crate::results::Row;

const ROUNDS: usize = 2_000;
/// Between two rounds both sides have gone to sleep.
const PAUSE: Duration = Duration::from_micros(200);

pub(crate) fn run(_options: &Options) -> Result<Vec<Row>> {
    let near = ("a frame to a process on the same processor, and back", SERVER);
    let far = ("a frame to a process on the other processor, and back", SENDER);
    [near, far]
        .into_iter()
        .map(|(name, cpu)| Ok(Row::new(name).samples("µs", round_trips(SERVER, cpu)?)))
        .collect()
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
