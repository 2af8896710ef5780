//! The client's whole process, from its start to its end, beside fwknop's.

use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::program;
use spa_tests::product::Client;

use crate::Options;
use crate::inside::timing::Timing;
use crate::inside::{SENDER, run_on};
use crate::ours::{Choice, Ours};
use crate::peer::{Fwknop, Mode};
use crate::results::Row;
use crate::site::{Family, Site};

/// How often each is run.
const TRIES: usize = 100;

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let hosts: &[&str] = if options.ours_only { &["spa"] } else { &["spa", "fwknop"] };
    let site = Site::new(hosts)?;
    let ours = Ours::start(&site.servers[0], &Choice::default())?;
    let mut commands = vec![
        ("a process that does nothing", vec!["/bin/true".to_owned()]),
        ("spa knock", spa_knock(&site, &ours)?),
    ];
    let peer = site
        .servers
        .get(1)
        .map(|host| Fwknop::start(host, site.address(1, Family::V4)?, Mode::Pcap));
    if let Some(fwknop) = peer.transpose()? {
        let from = site.client.v4()?.to_string();
        commands.push(("fwknop", fwknop.client_words(&from)));
    }
    let (names, commands): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
    let timing = Timing { commands, rounds: options.tries.unwrap_or(TRIES) };
    let times = run_on(&site.client, SENDER, &timing, Duration::from_secs(120))?;
    Ok(names
        .into_iter()
        .zip(times)
        .map(|(name, times)| Row::new(name).samples("µs", times))
        .collect())
}

/// The command line of a client that has enrolled.
fn spa_knock(site: &Site, ours: &Ours<'_>) -> Result<Vec<String>> {
    let address = site.servers[0].v4()?.to_string();
    let client = Client::new(&site.client, "walker", &address);
    client.enroll(&ours.server.add("walker", &["--service", "ssh"])?)?.ok()?;
    client.knock(&[])?.ok()?;
    let (program, dir) = (program("spa")?, client.dir().to_string_lossy().into_owned());
    let program = program.to_string_lossy().into_owned();
    let words = [program, "knock".to_owned(), address, "--config-dir".to_owned(), dir];
    Ok(words.to_vec())
}
