//! From a knock on the wire to a connection that is let in: ours and fwknop's, in turn; and ours on
//! a processor that does not fall asleep between two knocks, since something of no priority runs
//! on it. While ours, or one of fwknop's, is asked, fwknop's others stand still: no host has two.

use spa_tests::Result;
use spa_tests::lab::{Host, Running};

use super::{fresh, probe, quiet_probe};
use crate::Options;
use crate::inside::SERVER;
use crate::inside::probe::Opened;
use crate::ours::{Choice, Ours};
use crate::peer::{Fwknop, Mode};
use crate::results::Row;
use crate::site::{Family, Site};
use crate::stats::percentile;

/// Tries of our server, unless told: enough for a p99.
const TRIES: usize = 300;
/// Tries of each peer: it takes a tenth of a second for one, and only its p50 is compared.
const OF_PEERS: usize = 60;
/// They take turns this often, so that a busy moment of the machine meets all of them.
const TURNS: usize = 6;

/// Servers of a run, in the order of their hosts.
pub(crate) struct Servers<'site> {
    pub(crate) ours: Ours<'site>,
    pub(crate) peers: Vec<(&'static str, Fwknop<'site>)>,
}

/// The names of hosts.
pub(crate) const HOSTS: [&str; 3] = ["spa", "fwknop-pcap", "fwknop-udp"];

/// Those that are measured.
pub(crate) fn hosts(options: &Options) -> &'static [&'static str] {
    if options.ours_only { &HOSTS[..1] } else { &HOSTS }
}

impl<'site> Servers<'site> {
    /// All of them, running.
    pub(crate) fn start(site: &'site Site) -> Result<Self> {
        let ours = Ours::start(&site.servers[0], &Choice::default())?;
        let modes = [("fwknop as shipped", Mode::Pcap), ("fwknop, UDP mode", Mode::Udp)];
        let hosts = site.servers.iter().enumerate().skip(1).zip(modes);
        let start = |((at, host), (name, mode)): ((usize, &'site Host), _)| {
            Ok((name, Fwknop::start(host, site.address(at, Family::V4)?, mode)?))
        };
        Ok(Self { ours, peers: hosts.map(start).collect::<Result<_>>()? })
    }
}

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let site = Site::new(hosts(options))?;
    let mut servers = Servers::start(&site)?;
    let of = |server| options.tries.unwrap_or(if server == 0 { TRIES } else { OF_PEERS });
    let names = ["spa"].into_iter().chain(servers.peers.iter().map(|(name, _)| *name));
    let mut rows: Vec<_> = names.map(|name| (Row::new(name), Vec::new())).collect();
    for turn in 0..TURNS {
        for (server, (_, samples)) in rows.iter_mut().enumerate() {
            samples.extend(turn_of(&site, &mut servers, server, share(of(server), turn))?);
        }
    }
    let mut rows: Vec<_> = rows.into_iter().map(|(row, samples)| finish(row, &samples)).collect();
    let _busy = keep_awake(&site.servers[0])?;
    // In turns as well: what is sealed at once has to be sent before it is too old.
    let mut samples = Vec::new();
    for turn in 0..TURNS {
        samples.extend(turn_of(&site, &mut servers, 0, share(of(0), turn))?);
    }
    rows.push(finish(Row::new(AWAKE), &samples));
    servers.peers.iter().try_for_each(|(_, peer)| peer.stands_still(false))?;
    Ok(rows)
}

/// The middle of what the asker's own clock says, in microseconds.
pub(crate) const SEEN: &str = "p50 by the asker's clock, µs";

/// Ours, on a processor that is awake.
pub(crate) const AWAKE: &str = "spa, its processor awake";

/// Something that runs on the server's processor whenever nobody else wants to.
pub(crate) fn keep_awake(host: &Host) -> Result<Running> {
    let cpu = SERVER.to_string();
    host.spawn(["chrt", "--idle", "0", "taskset", "-c", &cpu, "sh", "-c", "while :; do :; done"])
}

/// How many tries of all are made in this turn.
fn share(all: usize, turn: usize) -> usize {
    all * (turn + 1) / TURNS - all * turn / TURNS
}

fn turn_of(
    site: &Site,
    servers: &mut Servers<'_>,
    server: usize,
    tries: usize,
) -> Result<Vec<Option<Opened>>> {
    for (peer, at) in servers.peers.iter().map(|(_, peer)| peer).zip(1..) {
        peer.stands_still(at != server)?;
    }
    let sources = fresh(site, Family::V4, tries);
    let tries = match server.checked_sub(1).and_then(|peer| servers.peers.get(peer)) {
        Some((_, fwknop)) => fwknop.tries(&sources)?,
        None => servers.ours.tries(&sources, 0..20)?,
    };
    Ok(probe(site, &quiet_probe(site, server, tries)?)?.tries)
}

fn finish(row: Row, tries: &[Option<Opened>]) -> Row {
    let opened: Vec<_> = tries.iter().flatten().collect();
    let seen: Vec<_> = opened.iter().map(|opened| opened.seen_us).collect();
    row.number("tries", tries.len() as f64)
        .number("lost", (tries.len() - opened.len()) as f64)
        .number(SEEN, percentile(&seen, 0.5).unwrap_or(f64::NAN))
        .samples("µs", opened.iter().map(|opened| opened.wire_us).collect())
}
