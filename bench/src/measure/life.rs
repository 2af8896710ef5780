//! A long life in fast motion: knock after knock, each granted for a second.

use std::cmp::Ordering;

use spa_proto::RING_LEN;
use spa_tests::Result;
use spa_tests::lab::fail;

use super::rate::{Knocks, send};
use crate::Options;
use crate::inside::send::Send;
use crate::ours::{Choice, Ours};
use crate::process;
use crate::report::table::of_rows;
use crate::results::Row;
use crate::site::{Family, Site};

/// As few as may send so many: what is remembered of a client (325 attempts at the gate, [`RING_LEN`]
/// used knocks, docs/protocol.md §6 and §7) is then at its bound after 130 000 knocks, and half a
/// life of twice that begins when nothing has a reason to grow.
const CLIENTS: u32 = 400;
/// Knocks between two looks.
const STEP: u32 = 5_000;
/// A second: less than the daemon can do, so that none is lost, and less than all clients' budgets.
const RATE: u32 = 1_500;
/// Bytes of an entry of the journal.
const ENTRY: u64 = 128;
/// Used knocks in one entry, where a journal begins with those of the one before.
const PAST: u64 = 4;

/// By how much memory may grow in the second half of a life.
const GROWTH: f64 = 1.05;

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let row = live(options.knocks)?;
    let wrong = shortcomings(&row);
    if options.assert && !wrong.is_empty() {
        let figures = of_rows("life", &[row]);
        return fail(format!("{}\n{figures}", wrong.join("; ")));
    }
    Ok(vec![row])
}

fn live(knocks: u32) -> Result<Row> {
    let site = Site::new(&["spa"])?;
    let choice = Choice { ttl: "1s", clients: CLIENTS, pinned: false };
    let mut ours = Ours::start(&site.servers[0], &choice)?;
    let clients: Vec<_> = (0..CLIENTS).map(|number| ours.crowd.credentials(number)).collect();
    let (to, file) = (site.knock(0, Family::V4)?, ours.scratch("knocks"));
    let (mut memory, mut journal, mut granted) = (Vec::new(), Vec::new(), 0.0);
    for first in (0..knocks).step_by(STEP as usize) {
        let count = STEP.min(knocks - first);
        Knocks { clients: &clients, rate: Some(RATE), first, count }.write(&file)?;
        let job = Send { to, file: file.clone(), rate: Some(RATE) };
        granted += send(&site, &mut ours, job)?.granted as f64;
        memory.push(ours.processes()?.sum(process::private_memory)? as f64 / 1024.0);
        journal.push(ours.journal_len()? as f64 / 1024.0);
    }
    let largest = journal.iter().copied().fold(0.0, f64::max);
    let at = |place: usize| memory.get(place).copied().unwrap_or(f64::NAN);
    let row = Row::new("spa")
        .number("granted", granted)
        .number("knocks", f64::from(knocks))
        .number(JOURNAL, largest)
        .number(JOURNAL_BOUND, journal_bound() as f64 / 1024.0)
        .number("memory KiB, a tenth of the way", at(memory.len() / 10))
        .number(HALF, at(memory.len() / 2))
        .number(END, at(memory.len().saturating_sub(1)));
    Ok(row.samples("KiB", memory))
}

/// Names of numbers.
pub(crate) const HALF: &str = "memory KiB, half way";
pub(crate) const END: &str = "memory KiB, at the end";
pub(crate) const JOURNAL: &str = "journal KiB, at most";
pub(crate) const JOURNAL_BOUND: &str = "journal KiB, its bound";

/// What a journal and its successor may take, in bytes: each has twice the room of what it begins
/// with, which is every client's history, every grant (no more than came since the last look, since
/// all before them have ended), and what comes while it is copied, four things for each entry.
fn journal_bound() -> u64 {
    let (clients, grants) = (u64::from(CLIENTS), u64::from(STEP));
    let of_client = 1 + (RING_LEN as u64).div_ceil(PAST);
    let copying = (clients + grants) / 4 + 64;
    2 * ENTRY * (2 * (clients * of_client + grants + copying) + 2)
}

/// In what a life was not as it should be; what was not measured is nothing to rely on.
pub(crate) fn shortcomings(life: &Row) -> Vec<String> {
    let number = |name| life.get(name).unwrap_or(f64::NAN);
    let bounds = [
        ("knocks, of those granted", number("knocks"), number("granted")),
        (END, number(END), number(HALF) * GROWTH),
        (JOURNAL, number(JOURNAL), number(JOURNAL_BOUND)),
    ];
    // What is no number is within no bound.
    let above = |value: f64, bound| value.partial_cmp(&bound).is_none_or(Ordering::is_gt);
    let beyond = bounds.into_iter().filter(|(_, value, bound)| above(*value, *bound));
    beyond
        .map(|(what, value, bound)| format!("{what}: {value:.0}, not within {bound:.0}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life() -> Row {
        Row::new("spa")
            .number("granted", 100.0)
            .number("knocks", 100.0)
            .number(HALF, 1000.0)
            .number(END, 1050.0)
            .number(JOURNAL, 10.0)
            .number(JOURNAL_BOUND, 10.0)
    }

    #[test]
    fn a_life_falls_short_by_each_of_its_bounds_alone() {
        assert_eq!(shortcomings(&life()), [""; 0]);
        for (name, value) in [("granted", 99.0), (END, 1051.0), (JOURNAL, 10.1)] {
            for value in [value, f64::NAN] {
                let wrong = shortcomings(&life().number(name, value));
                assert_eq!(wrong.len(), 1, "{name} {value}: {wrong:?}");
            }
        }
        assert_eq!(shortcomings(&Row::new("spa")).len(), 3);
    }
}
