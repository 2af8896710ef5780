//! A warden that runs out of descriptors or of memory stays shut.

use std::time::{Duration, Instant};

use spa_tests::Result;
use spa_tests::lab::fail;
use spa_tests::product::health::are_quiet;
use spa_tests::product::{Client, Health, Knocker, Server, Site};
use spa_tests::wait::until;

/// Longer than the longest pause between two gatekeepers.
const LATER: Duration = Duration::from_secs(30);

/// Sets the soft limit of one of a process's resources, such as `nofile`.
fn limit(site: &Site, pid: u64, resource: &str, value: &str) -> Result {
    site.server
        .run(["prlimit", "--pid", &pid.to_string(), &format!("--{resource}={value}:")])?
        .ok()?;
    Ok(())
}

/// The soft limit of a process's descriptors.
fn descriptor_limit(site: &Site, pid: u64) -> Result<String> {
    let limits = site.server.sh(&format!("grep 'open files' /proc/{pid}/limits"))?.ok()?;
    let soft = limits.stdout.split_whitespace().nth(3);
    soft.map_or_else(|| fail("no limit"), |soft| Ok(soft.to_owned()))
}

#[test]
fn without_descriptors_nothing_opens_that_should_not_and_later_all_is_well() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (alice, bob) = (site.client(&server, "alice")?, site.client(&server, "bob")?);
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    let (open, [warden, gatekeeper]) = (server.descriptors()?, server.pids()?);
    let before = descriptor_limit(&site, warden)?;

    // Less than it has open already: no control socket, no record, no gatekeeper any more.
    limit(&site, warden, "nofile", "8")?;
    bob.knock(&[])?.ok()?;
    until("bob's first knock cannot be written down", LATER, || {
        Ok(server.log().contains("first knock not granted"))
    })?;
    assert!(!site.reaches(&site.client, 22)?, "so it is not granted");
    are_quiet(&site.server, &[warden, gatekeeper], "with a gatekeeper")?;
    // While somebody hears them: copies of what was used.
    for host in [&site.client, &site.stranger] {
        host.send_udp(&health.used())?;
        assert!(!site.reaches(host, 22)?, "used");
    }
    site.server.sh(&format!("kill -9 {gatekeeper}"))?.ok()?;
    until("no gatekeeper can be started", LATER, || {
        Ok(server.log().contains("the gatekeeper cannot be started"))
    })?;
    are_quiet(&site.server, &[warden], "without a gatekeeper")?;
    health.strangers_stay_out("without a gatekeeper")?;

    limit(&site, warden, "nofile", &before)?;
    until("it listens again", LATER, || Ok(server.spad(&["status"])?.success()))?;
    assert_eq!(server.pids()?[0], warden, "the same warden");
    site.assert_shut(&server, &site.client, "nothing came of what was refused")?;
    health.all_is_well(&server, open, "with descriptors again")?;
    health.served_at_once(&server, &alice, "alice")?;
    health.served_at_once(&server, &bob, "bob")?;
    health.all_is_well(&server, open, "and served")
}

/// How many clients come at once.
const MORE: u32 = 200;

/// Asks for what takes memory until the daemon ends, and whether it does.
fn starves(site: &Site, server: &mut Server, alice: &Client) -> Result<bool> {
    let from = site.client.v4()?.to_string();
    let (start, mut clients) = (Instant::now(), 0);
    while start.elapsed() < LATER {
        // Records are read, and knocks come.
        for _ in 0..MORE {
            Knocker::new(server, clients)?;
            clients += 1;
        }
        alice.knock(&["--source", &from])?.ok()?;
        assert!(!site.reaches(&site.stranger, 22)?, "whatever becomes of it");
        if !server.process()?.is_running()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a daemon says that was refused memory.
const REFUSED: [&str; 4] =
    ["memory allocation", "can't spawn worker thread", "failed to allocate", "os error 12"];

#[test]
fn without_memory_it_ends_shut_or_goes_on() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    let (open, [warden, _]) = (server.descriptors()?, server.pids()?);
    // Not of address space, of which malloc has taken plenty in advance.
    limit(&site, warden, "data", "4096")?;
    let ended = starves(&site, &mut server, &alice)?;
    if ended {
        assert!(!server.wait()?.success());
    }
    let log = server.log();
    let why = log.lines().find(|line| REFUSED.iter().any(|why| line.contains(why)));
    println!("ended: {ended}: {why:?}");
    assert!(why.is_some(), "the limit was met, and it says so: {log}");
    health.strangers_stay_out("the ruleset outlives it")?;
    if ended {
        server.start()?;
    } else {
        limit(&site, warden, "data", "unlimited")?;
    }
    site.close(&server, "alice")?;
    health.all_is_well(&server, open, "with memory again")?;
    health.served_at_once(&server, &alice, "alice")
}
