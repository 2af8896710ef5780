//! Processor time of a packet that opens nothing; and of receiving one, for each way to do so.
//!
//! The sender has the receiver's own processor: they take turns, whatever their speeds. From the
//! other one it is chance whether the receiver falls asleep after each packet, and what that
//! costs is more than all the rest.

use std::time::Duration;

use nix::unistd::Pid;
use spa_tests::Result;
use spa_tests::lab::fail;

use super::latency::{Servers, hosts};
use super::{fresh, probe, quiet_probe};
use crate::Options;
use crate::inside::flood::{Flood, Kind};
use crate::inside::receive::{METHODS, Receive};
use crate::inside::{SENDER, SERVER, begin, run_on};
use crate::process;
use crate::results::Row;
use crate::site::{Family, KNOCK_PORT, Site};

/// Packets, as fast as one processor can send them: what is not heard costs nobody anything.
const COUNT: u64 = 1_000_000;
/// What fwknop can take without loss.
const PEER_RATE: u32 = 500;
const PEER_COUNT: u64 = 2_500;
/// Packets whose way from sender to receiver is timed.
const TIMED_RATE: u32 = 200;
const TIMED: u64 = 300;
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let mut rows = of_daemons(options)?;
    rows.extend(of_methods(options)?);
    Ok(rows)
}

fn of_daemons(options: &Options) -> Result<Vec<Row>> {
    let site = Site::new(hosts(options))?;
    let mut servers = Servers::start(&site)?;
    let sources = fresh(&site, Family::V4, 1);
    let captured = servers.ours.tries(&sources, 0..1)?;
    let hex = captured[0].payload.clone();
    if probe(&site, &quiet_probe(&site, 0, captured)?)?.opened().count() == 0 {
        return fail("a knock was not honoured");
    }
    let kinds = [
        ("refused: unknown pseudonym", Kind::Junk),
        ("refused: a copy", Kind::Replay(hex.clone())),
        ("refused: wrong tag", Kind::WrongTag(hex)),
        ("refused: another length", Kind::OtherLengths),
    ];
    let family = servers.ours.processes()?;
    let Some(gatekeeper) = family.members().get(1) else { return fail("no gatekeeper") };
    let mut rows = Vec::new();
    for (name, kind) in kinds.into_iter().filter(|(name, _)| name.contains(&options.only)) {
        let before = gate_refusals(&servers)?;
        let cost = Cost::of(&site, 0, *gatekeeper, (kind.clone(), None, COUNT))?;
        let heard = gate_refusals(&servers)? - before;
        // What the kernel's filter keeps away is not heard, and costs the gatekeeper nothing.
        let judged = if kind == Kind::OtherLengths { cost.packets } else { heard };
        rows.push(Cost { packets: judged, ..cost }.row(&format!("spa, {name}")));
    }
    for (at, (name, peer)) in servers.peers.iter().enumerate() {
        let pid = peer.processes()?.members()[0];
        let cost = Cost::of(&site, at + 1, pid, (Kind::Base64, Some(PEER_RATE), PEER_COUNT))?;
        rows.push(cost.row(&format!("{name}, refused")));
    }
    Ok(rows)
}

/// What the gatekeeper has heard and refused.
fn gate_refusals(servers: &Servers<'_>) -> Result<u64> {
    let status = servers.ours.server.status()?;
    let count = |reason: &str| status["counters"][reason].as_u64().unwrap_or(0);
    Ok(count("unknown-client") + count("duplicate") + count("bad-tag"))
}

/// What a counted flood has cost a process.
struct Cost {
    /// Those that it is shared by.
    packets: u64,
    rate: f64,
    ns: u64,
    user_share: f64,
}

impl Cost {
    fn of(site: &Site, server: usize, pid: Pid, flood: (Kind, Option<u32>, u64)) -> Result<Self> {
        let look =
            || Ok::<_, spa_tests::LabError>((process::cpu_ns(pid)?, process::ticks(pid, true)?));
        let before = look()?;
        let (kind, rate, count) = flood;
        let to = site.knock(server, Family::V4)?;
        let sent = run_on(&site.client, SERVER, &Flood { kind, to, rate, count }, LIMIT)?;
        std::thread::sleep(Duration::from_millis(300));
        let after = look()?;
        let user_share = process::user_share(before.1, after.1);
        Ok(Self { packets: sent.count, rate: sent.rate(), ns: after.0 - before.0, user_share })
    }

    fn row(&self, name: &str) -> Row {
        let each = self.ns as f64 / self.packets.max(1) as f64;
        Row::new(name)
            .number("packets", self.packets as f64)
            .number("sent per second", self.rate)
            .number("ns each", each)
            .number("ns each, outside of the kernel", each * self.user_share)
    }
}

/// Says nothing to what comes, as a host with our daemon.
const SILENCE: &str = "table inet quiet { chain in { type filter hook prerouting priority raw;
    udp dport 62201 drop
}
}
";

fn of_methods(options: &Options) -> Result<Vec<Row>> {
    let methods = METHODS.iter().filter(|name| name.contains(&options.only));
    let site = Site::new(&["capture"])?;
    site.servers[0].nft(SILENCE)?.ok()?;
    methods.map(|name| of_method(&site, name)).collect()
}

fn of_method(site: &Site, name: &str) -> Result<Row> {
    let host = &site.servers[0];
    let to = site.knock(0, Family::V4)?;
    let receive = |timed| Receive { method: name.to_owned(), port: KNOCK_PORT, timed };
    let flood = |kind, rate, count| Flood { kind, to, rate, count };

    let receiver = begin(host, SERVER, &receive(false))?;
    std::thread::sleep(Duration::from_millis(500));
    run_on(&site.client, SERVER, &flood(Kind::Junk, None, COUNT), LIMIT)?;
    let heard = receiver.finish(LIMIT)?;

    let receiver = begin(host, SERVER, &receive(true))?;
    std::thread::sleep(Duration::from_millis(500));
    run_on(&site.client, SENDER, &flood(Kind::Stamped, Some(TIMED_RATE), TIMED), LIMIT)?;
    let timed = receiver.finish(LIMIT)?;

    let each = heard.cpu_ns as f64 / heard.packets.max(1) as f64;
    Ok(Row::new(format!("receive: {name}"))
        .number("packets", COUNT as f64)
        .number("heard", heard.packets as f64)
        .number("ns each", each)
        .samples("µs", timed.delays_us))
}
