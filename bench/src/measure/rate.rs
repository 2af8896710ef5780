//! Distinct valid knocks of many clients, each for an address of its own: sustained, and at once.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use spa_proto::Credentials;
use spa_tests::lab::{Doing, LabError, fail};
use spa_tests::{Result, wait};

use crate::Options;
use crate::crowd;
use crate::inside::send::Send;
use crate::inside::{SENDER, run_on};
use crate::ours::{Choice, Ours};
use crate::results::Row;
use crate::site::{Family, Site};

/// So many that none knocks more often than its budget allows.
const CLIENTS: u32 = 2_500;
/// What is sent: how many a second, and how many.
const RUNS: [(&str, Option<u32>, u32); 4] = [
    ("burst of 10 000", None, 10_000),
    ("1 000 a second", Some(1_000), 10_000),
    ("5 000 a second", Some(5_000), 50_000),
    ("8 000 a second", Some(8_000), 80_000),
];
/// How long knocks may take to be judged, after the last was sent.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let runs = RUNS.iter().filter(|(name, ..)| name.contains(&options.only));
    runs.map(|(name, rate, count)| one(name, *rate, *count)).collect()
}

/// A daemon of its own for each, on both processors as it would be.
fn one(name: &str, rate: Option<u32>, count: u32) -> Result<Row> {
    let site = Site::new(&["spa"])?;
    let choice = Choice { ttl: "5s", clients: CLIENTS, pinned: false };
    let mut ours = Ours::start(&site.servers[0], &choice)?;
    let clients: Vec<_> = (0..CLIENTS).map(|number| ours.crowd.credentials(number)).collect();
    let file = ours.scratch("knocks");
    let knocks = Knocks { clients: &clients, rate, first: 0, count };
    knocks.write(&file)?;
    let to = site.knock(0, Family::V4)?;
    let outcome = send(&site, &mut ours, Send { to, file, rate })?;
    Ok(outcome.row(name))
}

/// Knocks to be sealed.
pub(crate) struct Knocks<'a> {
    /// Whose, in turn.
    pub(crate) clients: &'a [Credentials],
    /// How many a second they are going to be sent.
    pub(crate) rate: Option<u32>,
    /// The number of the first: each number has its own address.
    pub(crate) first: u32,
    /// How many.
    pub(crate) count: u32,
}

/// How long after they are sealed the first of them is sent, about.
const SEALING: Duration = Duration::from_secs(5);

impl Knocks<'_> {
    /// Seals them, on both processors, into a file.
    pub(crate) fn write(&self, file: &Path) -> Result {
        let half = self.count / 2;
        let bytes = thread::scope(|scope| {
            let other = scope.spawn(|| self.seal(half..self.count));
            let mut bytes = self.seal(0..half)?;
            let rest = other.join().map_err(|_| LabError::new("sealing panicked"))??;
            bytes.extend(rest);
            Ok::<_, LabError>(bytes)
        })?;
        fs::write(file, bytes).doing(file.display())
    }

    fn seal(&self, numbers: std::ops::Range<u32>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for number in numbers {
            let client = &self.clients[number as usize % self.clients.len()];
            let at = self.rate.map_or(0.0, |rate| f64::from(number) / f64::from(rate));
            let later = SEALING + Duration::from_secs_f64(at);
            let number = self.first + number;
            bytes.extend(crowd::knock(client, address(number), later, number)?);
        }
        Ok(bytes)
    }
}

/// In 11.0.0.0/8, which nobody has here.
fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0b00_0001 + number % 0x00ff_ff00).into()
}

/// What became of knocks.
pub(crate) struct Outcome {
    sent: u64,
    sending: Duration,
    /// Granted.
    pub(crate) granted: u64,
    /// Any other verdict.
    refused: u64,
    /// From the first that was sent to the last verdict.
    judging: Duration,
    cpu: [f64; 2],
}

/// Sends what is in the file and waits for the verdicts.
pub(crate) fn send(site: &Site, ours: &mut Ours<'_>, job: Send) -> Result<Outcome> {
    let before = verdicts(ours)?;
    let family = ours.processes()?;
    let cpu = || -> Result<Vec<u64>> {
        family.members().iter().map(|pid| crate::process::cpu_ns(*pid)).collect()
    };
    let (cpu_before, begun) = (cpu()?, Instant::now());
    let sent = run_on(&site.client, SENDER, &job, Duration::from_secs(120))?;
    let sending = Duration::from_secs_f64(sent.seconds);
    let (mut last, mut judging) = (before, sending);
    // Verdicts that do not come any more were lost.
    let _ = wait::until("all are judged", PATIENCE, || {
        let now = verdicts(ours)?;
        if now != last {
            (last, judging) = (now, begun.elapsed());
        }
        let all = now.0 + now.1 - before.0 - before.1 >= sent.count;
        Ok(all || begun.elapsed() > judging + Duration::from_secs(2))
    })?;
    let spent = cpu()?
        .iter()
        .zip(&cpu_before)
        .map(|(after, before)| (after - before) as f64 / 1e3)
        .collect::<Vec<_>>();
    Ok(Outcome {
        sent: sent.count,
        sending,
        granted: last.0 - before.0,
        refused: last.1 - before.1,
        judging,
        cpu: [spent.first().copied().unwrap_or(0.0), spent.get(1).copied().unwrap_or(0.0)],
    })
}

/// Granted, and all others.
fn verdicts(ours: &Ours<'_>) -> Result<(u64, u64)> {
    let status = ours.server.status()?;
    let counters = status["counters"].as_object().into_iter().flatten();
    let sum = counters.filter_map(|(_, count)| count.as_u64()).sum::<u64>();
    let granted = status["counters"]["granted"].as_u64().unwrap_or(0);
    Ok((granted, sum - granted))
}

impl Outcome {
    /// Microseconds of both processes for each of `count` knocks, all of which must have been
    /// granted.
    pub(crate) fn cost_of_all(&self, count: u32) -> Result<f64> {
        if self.granted != u64::from(count) {
            return fail(format!("{} of {count} knocks were granted", self.granted));
        }
        Ok(self.cpu.iter().sum::<f64>() / f64::from(count))
    }

    /// As figures.
    pub(crate) fn row(&self, name: &str) -> Row {
        let seconds = self.judging.max(self.sending).as_secs_f64();
        let lost = self.sent.saturating_sub(self.granted + self.refused);
        let granted = self.granted.max(1) as f64;
        Row::new(name)
            .number("sent", self.sent as f64)
            .number("sent per second", self.sent as f64 / self.sending.as_secs_f64())
            .number("granted", self.granted as f64)
            .number("refused", self.refused as f64)
            .number("lost", lost as f64)
            .number("granted per second", self.granted as f64 / seconds)
            .number("warden µs each", self.cpu[0] / granted)
            .number("gatekeeper µs each", self.cpu[1] / granted)
    }
}
