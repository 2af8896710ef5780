//! A long life in fast motion: knock after knock, each granted for a second.

use spa_tests::Result;

use super::rate::{Knocks, send};
use crate::Options;
use crate::ours::{Choice, Ours};
use crate::process;
use crate::results::Row;
use crate::site::Site;

const CLIENTS: u32 = 2_500;
/// Knocks between two looks.
const STEP: u32 = 5_000;
/// A second: less than the daemon can do, so that none is lost.
const RATE: u32 = 1_500;

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let site = Site::new(&["spa"])?;
    let choice = Choice { ttl: "1s", clients: CLIENTS, pinned: false };
    let mut ours = Ours::start(&site.servers[0], &choice)?;
    let clients: Vec<_> = (0..CLIENTS).map(|number| ours.crowd.credentials(number)).collect();
    let file = ours.scratch("knocks");
    let (mut memory, mut journal, mut granted) = (Vec::new(), Vec::new(), 0.0);
    for first in (0..options.knocks).step_by(STEP as usize) {
        let count = STEP.min(options.knocks - first);
        Knocks { clients: &clients, rate: Some(RATE), first, count }.write(&file)?;
        granted += send(&site, &mut ours, file.clone(), Some(RATE))?.granted as f64;
        memory.push(ours.processes()?.sum(process::private_memory)? as f64 / 1024.0);
        journal.push(ours.journal_len()? as f64 / 1024.0);
    }
    let largest = journal.iter().copied().fold(0.0, f64::max);
    let at = |place: usize| memory.get(place).copied().unwrap_or(f64::NAN);
    let row = Row::new("spa")
        .number("granted", granted)
        .number("knocks", f64::from(options.knocks))
        .number("journal KiB, at most", largest)
        .number("memory KiB, a tenth of the way", at(memory.len() / 10))
        .number("memory KiB, half way", at(memory.len() / 2))
        .number("memory KiB, at the end", at(memory.len().saturating_sub(1)));
    Ok(vec![row.samples("KiB", memory)])
}
