//! One client, and a hundred thousand.

use std::thread;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::fail;

use super::rate::{Knocks, send};
use super::{probe, quiet_probe};
use crate::Options;
use crate::inside::flood::{Flood, Kind};
use crate::inside::probe::{Probe, Try};
use crate::inside::{self, SERVER, run_on};
use crate::ours::{Choice, Ours};
use crate::process;
use crate::results::Row;
use crate::site::{Family, Site};

const SIZES: [u32; 4] = [1, 1_000, 10_000, 100_000];
/// Junk whose cost is measured.
const REFUSED: u64 = 500_000;
/// Knocks whose cost is measured: no more than one client alone may send.
const ACCEPTED: u32 = 48;
const ACCEPTED_RATE: u32 = 6;
/// Clients that are added to a running daemon.
const ADDED: usize = 7;

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let sizes = SIZES.iter().filter(|size| size.to_string().contains(&options.only));
    sizes.map(|size| one(*size)).collect()
}

fn one(size: u32) -> Result<Row> {
    let site = Site::new(&["spa"])?;
    let choice = Choice { clients: size, ..Choice::default() };
    let mut ours = Ours::prepare(&site.servers[0], &choice)?;
    // A start takes both processors; all that follows has one, from its start on.
    let start = ours.launch(&Choice { pinned: false, ..choice })?;
    ours.server.stop()?;
    ours.launch(&choice)?;
    // A reload looks at all records while it serves already: that is over by then.
    thread::sleep(Duration::from_secs(5));
    let family = ours.processes()?;
    let (warden, all) = (family.members()[0], family.sum(process::private_memory)?);
    let private = [process::private_memory(warden)?, all].map(|bytes| bytes as f64);
    let row = Row::new(format!("{size} clients"))
        .number("clients", f64::from(size))
        .number("start s", start.as_secs_f64())
        .number("record bytes", ours.crowd.record_len() as f64)
        .number("memory of both MB", family.sum(process::proportional_set)? as f64 / 1e6)
        .number("private bytes", private[1])
        .number("private bytes, warden", private[0])
        .number("refused ns", refused(&site, &mut ours)?)
        .number("accepted µs", accepted(&site, &mut ours, size)?);
    Ok(row.samples("ms", added(&site, &mut ours)?))
}

/// Nanoseconds of the gatekeeper for each packet of junk that it took, from its own processor:
/// see `cpu`.
fn refused(site: &Site, ours: &mut Ours<'_>) -> Result<f64> {
    let family = ours.processes()?;
    let Some(gatekeeper) = family.members().get(1) else { return fail("no gatekeeper") };
    let before = (ours.server.counter("unknown-client")?, process::cpu_ns(*gatekeeper)?);
    let to = site.knock(0, Family::V4)?;
    let flood = Flood { kind: Kind::Junk, to, rate: None, count: REFUSED };
    run_on(&site.client, SERVER, &flood, Duration::from_secs(60))?;
    let spent = process::cpu_ns(*gatekeeper)? - before.1;
    let count = ours.server.counter("unknown-client")? - before.0;
    Ok(spent as f64 / count.max(1) as f64)
}

/// Microseconds of both processes for each knock, with those it takes to wake up.
fn accepted(site: &Site, ours: &mut Ours<'_>, size: u32) -> Result<f64> {
    let knocking = ACCEPTED.min(size);
    let clients: Vec<_> =
        (0..knocking).map(|number| ours.crowd.credentials(number * (size / knocking))).collect();
    let file = ours.scratch("knocks");
    let knocks = Knocks { clients: &clients, rate: Some(ACCEPTED_RATE), first: 0, count: ACCEPTED };
    knocks.write(&file)?;
    let outcome = send(site, ours, file, Some(ACCEPTED_RATE))?;
    outcome.cost_of_all(ACCEPTED)
}

/// Milliseconds from the moment a record is there until its client is let in; it knocks all the
/// time, twice a millisecond.
fn added(site: &Site, ours: &mut Ours<'_>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..ADDED {
        let (number, hidden, there) = ours.crowd.prepare_next()?;
        let from = site.fresh(Family::V4);
        let client = ours.crowd.credentials(number);
        let payload = inside::hex(&ours.knock(&client, from, Duration::ZERO)?);
        let job = Probe {
            repeat_us: Some(500),
            rename: Some((hidden, there)),
            ..quiet_probe(site, 0, vec![Try { from, payload }])?
        };
        times.extend(probe(site, &job)?.opened_us.into_iter().flatten().map(|us| us / 1e3));
    }
    Ok(times)
}
