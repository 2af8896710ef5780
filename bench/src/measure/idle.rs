//! Daemons that have nothing to do, all at the same time.

use std::thread;
use std::time::Duration;

use spa_tests::Result;

use super::latency::{Servers, hosts};
use crate::Options;
use crate::process::{self, Family};
use crate::results::Row;
use crate::site::Site;

/// How long they are watched.
const WATCHED: Duration = Duration::from_secs(30);
/// After their start they are let alone for a while.
const SETTLING: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let site = Site::new(hosts(options))?;
    let mut servers = Servers::start(&site)?;
    thread::sleep(SETTLING);
    let mut families = vec![("spa, warden and gatekeeper", servers.ours.processes()?)];
    for (name, peer) in &servers.peers {
        families.push((name, peer.processes()?));
    }
    let before = families.iter().map(|(_, family)| look(family)).collect::<Result<Vec<_>>>()?;
    thread::sleep(WATCHED);
    let both = families.iter().zip(before);
    both.map(|((name, family), before)| row(name, family, &before)).collect()
}

/// Wake-ups and nanoseconds so far.
fn look(family: &Family) -> Result<[u64; 2]> {
    Ok([family.sum(process::wake_ups)?, family.sum(process::cpu_ns)?])
}

fn row(name: &str, family: &Family, before: &[u64; 2]) -> Result<Row> {
    let [wake_ups, ns] = look(family)?;
    let memory = family.sum(process::proportional_set)?;
    Ok(Row::new(name)
        .number("wake-ups in 30 s", (wake_ups - before[0]) as f64)
        .number("CPU ms in 30 s", (ns - before[1]) as f64 / 1e6)
        .number("memory MB", memory as f64 / 1e6))
}
