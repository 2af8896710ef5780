//! One client, and a hundred thousand.

use std::thread;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{LabError, fail};

use super::rate::{Knocks, send};
use super::{probe, quiet_probe};
use crate::Options;
use crate::inside::flood::{Flood, Kind};
use crate::inside::probe::{Probe, Try};
use crate::inside::send::Send;
use crate::inside::{self, SERVER, run_on};
use crate::ours::{Choice, Ours};
use crate::process;
use crate::results::Row;
use crate::site::{Family, Site};
use crate::stats::percentile;

const SIZES: [u32; 4] = [1, 1_000, 10_000, 100_000];
/// How often it is started.
const STARTS: usize = 31;
/// How often the cost of junk is measured, and how much of it comes then.
const REFUSED: (usize, u64) = (31, 20_000);
/// How often the cost of knocks is measured, and how many of them come then, at this rate: no more
/// than one client alone may send.
const ACCEPTED: (u32, u32) = (5, 12);
const ACCEPTED_RATE: u32 = 6;
/// Clients that are added to a running daemon.
const ADDED: usize = 7;

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let sizes = SIZES.iter().filter(|size| size.to_string().contains(&options.only));
    let named: Vec<_> = sizes.map(|size| (*size, format!("crowd-{size}"))).collect();
    let names: Vec<_> = named.iter().map(|(_, name)| name.as_str()).collect();
    let site = Site::new(&names)?;
    let mut crowds = Vec::new();
    for (at, (size, _)) in named.iter().enumerate() {
        crowds.push(Measured::alone(&site, at, *size)?);
    }
    for crowd in &mut crowds {
        crowd.ours.launch(&crowd.choice)?;
    }
    // In turns: the machine's own pace changes by half from one minute to the next.
    for _ in 0..REFUSED.0 {
        for crowd in &mut crowds {
            crowd.refuse(&site)?;
        }
    }
    for round in 0..ACCEPTED.0 {
        for crowd in &mut crowds {
            crowd.accept(&site, round)?;
        }
    }
    crowds.into_iter().map(|crowd| crowd.row(&site)).collect()
}

/// A daemon of so many clients, and what was measured of it.
struct Measured<'site> {
    at: usize,
    choice: Choice,
    ours: Ours<'site>,
    row: Row,
    refused_ns: Vec<f64>,
    accepted_us: Vec<f64>,
}

impl<'site> Measured<'site> {
    /// What it takes to start, and what it takes of memory while there is no other.
    fn alone(site: &'site Site, at: usize, clients: u32) -> Result<Self> {
        let choice = Choice { clients, ..Choice::default() };
        let mut ours = Ours::prepare(&site.servers[at], &choice)?;
        let starts = (0..STARTS).map(|_| Ok(ours.time_to_start()?.as_secs_f64()));
        let start = percentile(&starts.collect::<Result<Vec<_>>>()?, 0.5).unwrap_or(f64::NAN);
        ours.launch(&choice)?;
        // A reload looks at all records while it serves already: that is over by then.
        thread::sleep(Duration::from_secs(5));
        let family = ours.processes()?;
        let (warden, all) = (family.members()[0], family.sum(process::private_memory)?);
        let private = [process::private_memory(warden)?, all].map(|bytes| bytes as f64);
        let row = Row::new(format!("{clients} clients"))
            .number("clients", f64::from(clients))
            .number("start s", start)
            .number("record bytes", ours.crowd.record_len() as f64)
            .number("memory of both MB", family.sum(process::proportional_set)? as f64 / 1e6)
            .number("private bytes", private[1])
            .number("private bytes, warden", private[0]);
        ours.server.stop()?;
        Ok(Self { at, choice, ours, row, refused_ns: Vec::new(), accepted_us: Vec::new() })
    }

    /// Nanoseconds of the gatekeeper for each packet of junk that it took, from its own
    /// processor: see `cpu`.
    fn refuse(&mut self, site: &Site) -> Result {
        let family = self.ours.processes()?;
        let Some(gatekeeper) = family.members().get(1) else { return fail("no gatekeeper") };
        let look = |ours: &Ours<'_>| {
            let count = ours.server.counter("unknown-client")?;
            Ok::<_, LabError>((count, process::cpu_ns(*gatekeeper)?))
        };
        let before = look(&self.ours)?;
        let to = site.knock(self.at, Family::V4)?;
        let flood = Flood { kind: Kind::Junk, to, rate: None, count: REFUSED.1 };
        run_on(&site.client, SERVER, &flood, Duration::from_secs(60))?;
        let after = look(&self.ours)?;
        self.refused_ns.push((after.1 - before.1) as f64 / (after.0 - before.0).max(1) as f64);
        Ok(())
    }

    /// All of it, with what else is measured of one after the other.
    fn row(mut self, site: &Site) -> Result<Row> {
        let median = |of: &[f64]| percentile(of, 0.5).unwrap_or(f64::NAN);
        let row = std::mem::take(&mut self.row)
            .number("refused ns", median(&self.refused_ns))
            .number("accepted µs", median(&self.accepted_us));
        Ok(row.samples("ms", self.added(site)?))
    }

    /// Microseconds of both processes for each knock, with those it takes to wake up.
    fn accept(&mut self, site: &Site, round: u32) -> Result {
        let (size, count) = (self.choice.clients, ACCEPTED.1);
        let knocking = count.min(size);
        let credentials = |number| self.ours.crowd.credentials(number * (size / knocking));
        let clients: Vec<_> = (0..knocking).map(credentials).collect();
        let file = self.ours.scratch("knocks");
        let rate = Some(ACCEPTED_RATE);
        Knocks { clients: &clients, rate, first: round * count, count }.write(&file)?;
        let to = site.knock(self.at, Family::V4)?;
        let sent = send(site, &mut self.ours, Send { to, file, rate })?;
        self.accepted_us.push(sent.cost_of_all(count)?);
        Ok(())
    }

    /// Milliseconds from the moment a record is there until its client is let in; it knocks all
    /// the time, twice a millisecond.
    fn added(&mut self, site: &Site) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for _ in 0..ADDED {
            let (number, hidden, there) = self.ours.crowd.prepare_next()?;
            let from = site.fresh(Family::V4);
            let client = self.ours.crowd.credentials(number);
            let payload = inside::hex(&self.ours.knock(&client, from, Duration::ZERO)?);
            let job = Probe {
                repeat_us: Some(500),
                rename: Some((hidden, there)),
                ..quiet_probe(site, self.at, vec![Try { from, payload }])?
            };
            times.extend(probe(site, &job)?.opened().map(|opened| opened.seen_us / 1e3));
        }
        Ok(times)
    }
}
