//! Programs run to their end, one after the other, again and again.

use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use spa_tests::Result;
use spa_tests::lab::{Doing, fail};

use super::{Job, micros};

/// Which programs, and how often.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Timing {
    /// Command lines.
    pub(crate) commands: Vec<Vec<String>>,
    /// How often each of them is run, in turn.
    pub(crate) rounds: usize,
}

impl Job for Timing {
    const NAME: &'static str = "timing";
    /// Microseconds, for each command.
    type Outcome = Vec<Vec<f64>>;

    fn work(self) -> Result<Self::Outcome> {
        let mut times = vec![Vec::with_capacity(self.rounds); self.commands.len()];
        for _ in 0..self.rounds {
            for (command, times) in self.commands.iter().zip(&mut times) {
                times.push(time(command)?);
            }
        }
        Ok(times)
    }
}

fn time(words: &[String]) -> Result<f64> {
    let Some((program, arguments)) = words.split_first() else { return fail("no program") };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let status = command.status().doing(program)?;
    let took = micros(begun.elapsed());
    if status.success() {
        Ok(took)
    } else {
        fail(format!("{} ended with {status}", words.join(" ")))
    }
}
