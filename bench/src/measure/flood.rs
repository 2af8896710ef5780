//! Valid knocks while packets that open nothing come as fast as one processor can send them.

use spa_tests::Result;

use super::latency::{Servers, hosts};
use super::{fresh, probe, quiet_probe};
use crate::Options;
use crate::inside::flood::Kind;
use crate::inside::probe::{Beside, Probe};
use crate::results::Row;
use crate::site::{Family, Site};

/// Tries in each flood, of ours.
const TRIES: usize = 100;
/// Of a peer's, each of which may take two seconds.
const PEER_TRIES: usize = 8;
/// Clients that knock in one flood.
const CLIENTS: u32 = 20;

/// What comes at us, and as which IP.
const FLOODS: [(&str, Family); 8] = [
    ("nothing", Family::V4),
    ("junk of a knock's length", Family::V4),
    ("junk of other lengths", Family::V4),
    ("a captured knock again and again", Family::V4),
    ("a known client's pseudonym, wrong tag", Family::V4),
    ("nothing, IPv6", Family::V6),
    ("junk of a knock's length, IPv6", Family::V6),
    ("a captured knock again and again, IPv6", Family::V6),
];

/// What comes at fwknop, a second; as fast as possible is the last.
const PEER_RATES: [Option<u32>; 3] = [Some(1_000), Some(5_000), None];

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let site = Site::new(hosts(options))?;
    let mut servers = Servers::start(&site)?;
    let mut rows = Vec::new();
    let floods = FLOODS.iter().filter(|(name, _)| name.contains(&options.only));
    for (first, (name, family)) in (0..).step_by(CLIENTS as usize).zip(floods) {
        let tries = options.tries.unwrap_or(TRIES);
        let (kind, job) = ours(&site, &mut servers, (name, *family), first, tries)?;
        rows.push(row(&site, format!("spa: {name}"), kind, job)?);
    }
    for (at, (name, peer)) in servers.peers.iter().enumerate() {
        for rate in PEER_RATES {
            let sources = fresh(&site, Family::V4, options.tries.unwrap_or(PEER_TRIES));
            let job = quiet_probe(&site, at + 1, peer.tries(&sources)?)?;
            let rated = rate.map_or("all that can be sent".to_owned(), |rate| format!("{rate}/s"));
            let job = Probe { pause_ms: (5, 120), ..job };
            rows.push(row(&site, format!("{name}: {rated}"), Some((Kind::Base64, rate)), job)?);
        }
    }
    Ok(rows)
}

/// A flood of ours, and the knocks in it.
fn ours(
    site: &Site,
    servers: &mut Servers<'_>,
    (name, family): (&str, Family),
    first: u32,
    tries: usize,
) -> Result<(Option<Beside>, Probe)> {
    let knock = site.knock(0, family)?;
    let sources = fresh(site, family, tries + 1);
    let mut all = servers.ours.tries(&sources, first..first + CLIENTS)?;
    // The one that is captured is used, in the first place.
    let Some(captured) = all.pop() else { return spa_tests::lab::fail("no tries") };
    let payload = captured.payload.clone();
    let mut job =
        Probe { knock, service: site.service(0, family)?, ..quiet_probe(site, 0, vec![])? };
    let used = probe(site, &Probe { tries: vec![captured], ..job.clone() })?;
    if used.opened().count() == 0 {
        return spa_tests::lab::fail("a knock without a flood was not honoured");
    }
    job = Probe { tries: all, pause_ms: (5, 60), patience_ms: 200, lead_ms: 500, ..job };
    let kind = match name.split(',').next() {
        Some("junk of a knock's length") => Some(Kind::Junk),
        Some("junk of other lengths") => Some(Kind::OtherLengths),
        Some("a captured knock again and again") => Some(Kind::Replay(payload)),
        Some("a known client's pseudonym") => Some(Kind::WrongTag(payload)),
        _ => None,
    };
    Ok((kind.map(|kind| (kind, None)), job))
}

fn row(site: &Site, name: String, flood: Option<Beside>, job: Probe) -> Result<Row> {
    let probed = probe(site, &Probe { flood, ..job })?;
    let opened: Vec<_> = probed.opened().map(|opened| opened.wire_us).collect();
    let row = Row::new(name)
        .number("tries", probed.tries.len() as f64)
        .number("honoured", opened.len() as f64)
        .samples("µs", opened);
    Ok(match probed.flood {
        Some(sent) => row.number("flood per second", sent.rate()),
        None => row,
    })
}
