//! The measurements, one module for each row of the page.

pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod cpu;
pub(crate) mod flood;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod life;
pub(crate) mod rate;
pub(crate) mod way;

use std::net::IpAddr;
use std::time::Duration;

use spa_tests::Result;

use crate::inside::probe::{Probe, Probed, Try};
use crate::inside::{SENDER, run_on};
use crate::site::{Family, Site};

/// Tries at one server without anything else going on.
pub(crate) fn quiet_probe(site: &Site, server: usize, tries: Vec<Try>) -> Result<Probe> {
    Ok(Probe {
        knock: site.knock(server, Family::V4)?,
        service: site.service(server, Family::V4)?,
        tries,
        // Longer than any daemon's own period, and never in step with it.
        pause_ms: (50, 250),
        patience_ms: 2_000,
        flood: None,
        lead_ms: 100,
        repeat_us: None,
        rename: None,
    })
}

pub(crate) fn probe(site: &Site, job: &Probe) -> Result<Probed> {
    let each = Duration::from_millis(job.patience_ms + job.pause_ms.1 + 10);
    let limit = each * u32::try_from(job.tries.len())? + Duration::from_secs(20);
    run_on(&site.client, SENDER, job, limit)
}

pub(crate) fn fresh(site: &Site, family: Family, count: usize) -> Vec<IpAddr> {
    (0..count).map(|_| site.fresh(family)).collect()
}
