//! What runs on a host of the lab: this program, called again in there. A job comes as JSON on
//! standard input, what came of it leaves the same way.

pub(crate) mod flood;
pub(crate) mod probe;
pub(crate) mod receive;
pub(crate) mod send;
pub(crate) mod syn;
pub(crate) mod timing;
pub(crate) mod wire;

use std::io::stdin;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use spa_tests::Result;
use spa_tests::lab::{Doing, Host, Running, fail};

/// A job that can be done on a host.
pub(crate) trait Job: Serialize + DeserializeOwned {
    /// Its name on the command line.
    const NAME: &'static str;
    /// What comes of it.
    type Outcome: Serialize + DeserializeOwned;

    /// Does it, on the host.
    fn work(self) -> Result<Self::Outcome>;
}

/// The processor of whoever sends or asks.
pub(crate) const SENDER: usize = 1;
/// The processor of the server.
pub(crate) const SERVER: usize = 0;

/// Does the job of this name on the host where this program runs.
pub(crate) fn run(name: &str) -> Result {
    match name {
        probe::Probe::NAME => answer::<probe::Probe>(),
        flood::Flood::NAME => answer::<flood::Flood>(),
        send::Send::NAME => answer::<send::Send>(),
        receive::Receive::NAME => answer::<receive::Receive>(),
        timing::Timing::NAME => answer::<timing::Timing>(),
        _ => fail(format!("no job named {name}")),
    }
}

fn answer<J: Job>() -> Result {
    let job: J = serde_json::from_reader(stdin().lock())?;
    println!("{}", serde_json::to_string(&job.work()?)?);
    Ok(())
}

/// A job that was begun on a host.
pub(crate) struct Begun<J> {
    running: Running,
    job: std::marker::PhantomData<J>,
}

/// Begins a job on a host, on this processor.
pub(crate) fn begin<J: Job>(host: &Host, cpu: usize, job: &J) -> Result<Begun<J>> {
    let program = std::env::current_exe()?;
    let program = program.to_string_lossy();
    let words = ["taskset", "-c", &cpu.to_string(), &*program, "inside", J::NAME];
    let mut running = host.spawn(words)?;
    running.write_line(&serde_json::to_string(job)?)?;
    running.close_input();
    Ok(Begun { running, job: std::marker::PhantomData })
}

impl<J: Job> Begun<J> {
    /// Waits for its end.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<J::Outcome> {
        let status = self.running.wait(limit)?;
        if !status.success() {
            return fail(format!("{}: {}", J::NAME, self.running.stderr()));
        }
        let text = self.running.stdout();
        serde_json::from_str(&text).doing(format!("outcome of {}: {text:?}", J::NAME))
    }
}

/// Does a job on a host, on this processor, within this time.
pub(crate) fn run_on<J: Job>(
    host: &Host,
    cpu: usize,
    job: &J,
    limit: Duration,
) -> Result<J::Outcome> {
    begin(host, cpu, job)?.finish(limit)
}

/// Bytes as they stand in a job.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Microseconds.
pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
