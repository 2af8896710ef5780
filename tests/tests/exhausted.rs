//! A warden that runs out of descriptors or of memory stays shut.

use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::fail;
use spa_tests::product::{Server, Site};
use spa_tests::wait::until;

/// Longer than the longest pause between two gatekeepers.
const LATER: Duration = Duration::from_secs(30);

fn pid(server: &Server, at: usize) -> Result<u64> {
    let status = server.status()?;
    match status["processes"][at]["pid"].as_u64() {
        Some(pid) => Ok(pid),
        None => fail(format!("no such process: {status}")),
    }
}

/// Sets the soft limit of one of a process's resources, such as `nofile`.
fn limit(site: &Site, pid: u64, resource: &str, value: &str) -> Result {
    site.server
        .run(["prlimit", "--pid", &pid.to_string(), &format!("--{resource}={value}:")])?
        .ok()?;
    Ok(())
}

#[test]
fn without_descriptors_nothing_opens_that_should_not_and_later_all_is_well() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (alice, bob) = (site.client(&server, "alice")?, site.client(&server, "bob")?);
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    let (warden, gatekeeper) = (pid(&server, 0)?, pid(&server, 1)?);
    let before = site.server.sh(&format!("grep 'open files' /proc/{warden}/limits"))?.ok()?;
    let Some(before) = before.stdout.split_whitespace().nth(3).map(str::to_owned) else {
        return fail("no limit");
    };

    // Less than it has open already: no control socket, no record, no gatekeeper any more.
    limit(&site, warden, "nofile", "8")?;
    bob.knock(&[])?.ok()?;
    until("bob's first knock cannot be written down", LATER, || {
        Ok(server.log().contains("first knock not granted"))
    })?;
    assert!(!site.reaches(&site.client, 22)?, "so it is not granted");
    site.server.sh(&format!("kill -9 {gatekeeper}"))?.ok()?;
    until("no gatekeeper can be started", LATER, || {
        Ok(server.log().contains("the gatekeeper cannot be started"))
    })?;
    alice.knock(&[])?.ok()?;
    assert!(!site.reaches(&site.client, 22)? && !site.reaches(&site.stranger, 22)?);

    limit(&site, warden, "nofile", &before)?;
    until("it listens again", LATER, || {
        let status = server.spad(&["status"])?;
        Ok(status.success())
    })?;
    assert_eq!(pid(&server, 0)?, warden, "the same warden");
    site.assert_shut(&server, &site.client, "nothing came of what was refused")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    site.open(&server, &bob, &[])?;
    Ok(())
}

#[test]
fn without_memory_it_ends_shut_or_goes_on() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    limit(&site, pid(&server, 0)?, "as", "4096")?;
    // Records are read, knocks come, somebody asks: all of it takes memory.
    let many = ["--service", "ssh"];
    let starved = until("it has noticed", LATER, || {
        for number in 0..20 {
            // Errors: names are taken the second time.
            server.add(&format!("more{number}"), &many).ok();
        }
        alice.knock(&["--source", &site.client.v4()?.to_string()])?.ok()?;
        assert!(!site.reaches(&site.stranger, 22)?, "whatever becomes of it");
        Ok(!server.process()?.is_running()?)
    });
    match starved {
        Ok(took) => {
            assert!(!server.wait()?.success());
            let log = server.log();
            let why = ["memory allocation", "can't spawn worker thread", "failed to allocate"];
            let why = log.lines().find(|line| why.iter().any(|why| line.contains(why)));
            println!("ended after {took:?}: {why:?}");
            assert!(why.is_some(), "says why: {log}");
            assert!(!site.reaches(&site.stranger, 22)?, "the ruleset outlives it");
            server.start()?;
        }
        Err(_) => limit(&site, pid(&server, 0)?, "as", "unlimited")?,
    }
    assert!(!site.reaches(&site.stranger, 22)?);
    site.close(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}
