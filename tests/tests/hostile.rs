//! The gatekeeper, the process that meets the network, in the hands of somebody else. It has the
//! clients' symmetric keys and real requests, and says what it likes to the warden; what opens is
//! still only what a client has signed, once.

use std::time::{Duration, Instant};

use spa_tests::Result;
use spa_tests::lab::fail;
use spa_tests::product::attacks::{COPIES, FORGED, LATE, LIE, MALFORMED, NOT_OURS, SECOND, SIGNED};
use spa_tests::product::health::open_sources;
use spa_tests::product::{
    Client, KNOCK_PORT, Knocker, SERVER_NAME, Server, Settings, Site, knocker,
};
use spa_tests::wait::{SOON, until};

/// How long a gatekeeper that does not answer is put up with, and then some.
const PATIENCE: Duration = Duration::from_secs(40);

/// A daemon that three clients have knocked at before its gatekeeper was taken over; the last
/// that is returned is the one that knocks.
fn besieged<'a>(site: &'a Site, attack: &str) -> Result<(Server<'a>, Client<'a>)> {
    let mut server = site.spad()?;
    for name in ["bob", "carol", "alice"] {
        let client = site.client(&server, name)?;
        site.open(&server, &client, &[])?;
        site.close(&server, name)?;
    }
    server.stop()?;
    server.start_hostile(attack)?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    Ok((server, alice))
}

/// All counters of the warden together: this gatekeeper has none of its own.
fn judged(server: &Server) -> Result<u64> {
    let status = server.status()?;
    let counters = status["counters"].as_object();
    Ok(counters.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum())
}

fn wait_until_judged(server: &Server, count: u64) -> Result {
    until(&format!("{count} requests are judged"), PATIENCE, || Ok(judged(server)? >= count))?;
    Ok(())
}

fn restarts(server: &Server) -> Result<u64> {
    // Between two of them there is none.
    Ok(server.status()?["processes"][1]["restarts"].as_u64().unwrap_or(0))
}

/// Nothing is listed, nothing is in the kernel's sets, nobody can connect.
fn assert_nothing_open(site: &Site, server: &Server, why: &str) -> Result {
    let table = server.kernel_table()?;
    assert!(!table.contains("elements = {"), "{why}: {table}");
    site.assert_shut(server, &site.client, why)?;
    site.assert_shut(server, &site.stranger, why)
}

/// A number out of `/proc/PID/FILE` of the warden, by the words before it.
fn number(site: &Site, server: &mut Server, script: &str) -> Result<u64> {
    let status = server.status()?;
    let Some(pid) = status["processes"][0]["pid"].as_u64() else { return fail("no warden") };
    Ok(site.server.sh(&format!("cd /proc/{pid} && {script}"))?.ok()?.text().parse()?)
}

/// Processor time of the warden so far, in hundredths of a second.
const TICKS: &str = "awk '{ print $14 + $15 }' stat";
/// Memory that the warden has in use, in KiB.
const MEMORY: &str = "awk '/^VmRSS/ { print $2 }' status";

/// How many descriptors the warden has open, beside those of callers that are just leaving.
fn descriptors(site: &Site, server: &mut Server) -> Result<u64> {
    let counts = (0..5).map(|_| number(site, server, "ls fd | wc -l")).collect::<Result<Vec<_>>>();
    Ok(counts?.into_iter().min().unwrap_or(0))
}

#[test]
fn a_changed_request_opens_nothing() -> Result {
    let site = Site::new()?;
    let (server, alice) = besieged(&site, "forge")?;
    alice.knock(&[])?.ok()?;
    wait_until_judged(&server, u64::try_from(SIGNED)?)?;
    assert_eq!(server.counter("granted")?, 0);
    assert!(server.counter("bad-signature")? > 64, "among them all of the signature itself");
    assert_nothing_open(&site, &server, "forged")?;
    assert_eq!(restarts(&server)?, 0, "a request is a request: only refused");
    Ok(())
}

#[test]
fn a_request_in_another_clients_name_opens_nothing() -> Result {
    let site = Site::new()?;
    let (server, alice) = besieged(&site, "relabel")?;
    alice.knock(&[])?.ok()?;
    wait_until_judged(&server, 2)?;
    // As bob's and as carol's; she still sends along the key that she enrolled with.
    let refused = server.counter("bad-signature")? + server.counter("enrol-taken")?;
    assert_eq!((server.counter("granted")?, refused), (0, 2));
    assert_nothing_open(&site, &server, "relabelled")
}

#[test]
fn a_request_is_used_once_however_often_it_is_passed_on() -> Result {
    let site = Site::new()?;
    let (mut server, alice) = besieged(&site, "again")?;
    let knock = site.fresh_knock(&alice, &[])?;
    site.client.send_udp(std::slice::from_ref(&knock))?;
    wait_until_judged(&server, 1 + COPIES)?;
    assert_eq!((server.counter("granted")?, server.counter("replayed")?), (1, COPIES));
    assert_eq!(server.grants()?.len(), 1);
    site.close(&server, "alice")?;
    // The next one does not care what was used already, nor does the one of the next daemon.
    site.stranger.send_udp(std::slice::from_ref(&knock))?;
    let pid = server.status()?["processes"][1]["pid"].clone();
    site.server.sh(&format!("kill -9 {pid}"))?.ok()?;
    until("another listens", SOON, || {
        let status = server.status()?;
        Ok(status["capture"]["in_force"] == true && status["processes"][1]["pid"] != pid)
    })?;
    let before = judged(&server)?;
    site.stranger.send_udp(std::slice::from_ref(&knock))?;
    wait_until_judged(&server, before + 1 + COPIES)?;
    assert_nothing_open(&site, &server, "after another gatekeeper's start")?;
    server.kill9()?;
    server.start_hostile("again")?;
    site.stranger.send_udp(&[knock])?;
    wait_until_judged(&server, 1 + COPIES)?;
    assert_eq!(server.counter("granted")?, 0);
    assert_nothing_open(&site, &server, "after another daemon's start")
}

#[test]
fn a_lie_about_where_a_knock_came_from_opens_no_other_address_than_was_signed() -> Result {
    let site = Site::new()?;
    let (server, alice) = besieged(&site, "lie")?;
    let own = site.client.v4()?;
    alice.knock(&["--source", &own.to_string()])?.ok()?;
    server.wait_for_counter("granted", 1)?;
    assert_eq!(server.grants()?[0].source, own, "signed");
    site.close(&server, "alice")?;
    // Whoever leaves it to the server to see believes what it is told: docs/threat-model.md.
    alice.knock(&["--source", "seen"])?.ok()?;
    server.wait_for_counter("granted", 2)?;
    assert_eq!(server.grants()?[0].source, LIE);
    assert!(!site.reaches(&site.stranger, 22)?);
    Ok(())
}

/// What else a gatekeeper is believed: which of the server's addresses was knocked at.
#[test]
fn a_lie_about_where_a_knock_went_opens_no_other_source_and_no_other_host() -> Result {
    let site = Site::new()?;
    site.server.ip(&format!("address add {SECOND}/24 dev eth0\n"))?;
    let (mut server, alice) = besieged(&site, "lie-second")?;
    let own = site.client.v4()?;
    for (attack, told) in [("lie-second", SECOND), ("lie-not-ours", NOT_OURS)] {
        server.stop()?;
        server.start_hostile(attack)?;
        alice.knock(&["--source", &own.to_string()])?.ok()?;
        server.wait_for_counter("granted", 1)?;
        let grants = server.grants()?;
        assert_eq!((grants.len(), grants[0].source), (1, own), "{attack}: as was signed");
        assert_eq!(grants[0].destination, Some(told.into()), "{attack}");
        assert_eq!(open_sources(&server)?, [own].into(), "{attack}: and nobody else in the kernel");
        for address in [site.address(), SECOND.into()] {
            let is_told = address == told;
            assert_eq!(site.client.connects((address, 22))?, is_told, "{attack}: {address}");
            assert!(!site.stranger.connects((address, 22))?, "{attack}: {address}");
        }
        site.close(&server, "alice")?;
    }
    Ok(())
}

#[test]
fn a_lie_about_the_family_or_the_servers_keys_opens_nothing() -> Result {
    let site = Site::new()?;
    let (mut server, alice) = besieged(&site, "lie-family")?;
    let own = site.client.v4()?.to_string();
    for (attack, refused) in [("lie-family", "not-grantable"), ("lie-generation", "no-record")] {
        server.stop()?;
        server.start_hostile(attack)?;
        alice.knock(&["--source", &own])?.ok()?;
        server.wait_for_counter(refused, 1)?;
        assert_eq!(judged(&server)?, 1, "{attack}");
        assert_nothing_open(&site, &server, attack)?;
        assert_eq!(restarts(&server)?, 0, "{attack}: a request is a request: only refused");
    }
    Ok(())
}

/// A request that nobody has used is not for later: what counts is the moment at which the warden
/// has it, not when it came over the network.
#[test]
fn a_request_that_is_kept_back_is_stale() -> Result {
    const TOLERANCE: Duration = Duration::from_secs(30);
    let site = Site::new()?;
    let clock = site.lab.clock()?;
    let (mut server, alice) = besieged(&site, "late")?;
    for (kept, end) in [(LATE + Duration::from_secs(1), "granted"), (2 * TOLERANCE, "stale")] {
        server.stop()?;
        clock.set(0)?;
        server.start_hostile_by(&clock, "late")?;
        alice.knock(&[])?.ok()?;
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(judged(&server)?, 0, "control: it is kept back");
        clock.set(i64::try_from(kept.as_secs())?)?;
        server.wait_for_counter(end, 1)?;
        assert_eq!(judged(&server)?, 1, "{end}");
        if end == "stale" {
            assert_nothing_open(&site, &server, end)?;
        } else {
            site.close(&server, "alice")?;
        }
    }
    Ok(())
}

#[test]
fn what_is_no_message_is_refused_and_the_gatekeeper_replaced() -> Result {
    let site = Site::new()?;
    let (mut server, alice) = besieged(&site, MALFORMED[0].0)?;
    for (kind, why) in MALFORMED {
        server.stop()?;
        let said = server.log().len();
        server.start_hostile(kind)?;
        let open = descriptors(&site, &mut server)?;
        alice.knock(&[])?.ok()?;
        until(&format!("{kind}: replaced"), SOON, || Ok(restarts(&server)? > 0))?;
        // For what it said, and not since it had failed at saying it.
        let log = server.log().split_off(said);
        assert!(log.contains(&format!("said=\"sending what is {kind}\"\n")), "{kind}: {log}");
        let ended = log.lines().find(|line| line.contains("another is started"));
        let reason = format!(" why={why} ");
        assert!(ended.is_some_and(|line| line.contains(&reason)), "{kind}: {log}");
        assert!(!log.contains("panicked"), "{kind}: {log}");
        assert_eq!(judged(&server)?, 0, "{kind}");
        assert_nothing_open(&site, &server, kind)?;
        until(&format!("{kind}: the next listens"), SOON, || {
            Ok(server.status()?["capture"]["in_force"] == true)
        })?;
        assert_eq!(descriptors(&site, &mut server)?, open, "{kind}: all closed");
    }
    Ok(())
}

/// The gate counts, but this one is not asked.
#[test]
fn what_one_client_has_signed_is_served_no_faster_than_it_may_knock() -> Result {
    const ALL: u32 = 200;
    let site = Site::new()?;
    let mut server = site.spad()?;
    let mallory = Knocker::new(&server, 0)?;
    let bob = site.client(&server, "bob")?;
    site.open(&server, &bob, &[])?;
    site.close(&server, "bob")?;
    server.stop()?;
    server.start_hostile("unbounded")?;
    let (begun, to) = (Instant::now(), (site.server.v4()?, KNOCK_PORT).into());
    let knock = |n| mallory.knock([198, 51, 100, u8::try_from(n)?], to, knocker::now()?, n);
    site.client.send_udp(&(0..ALL).map(knock).collect::<Result<Vec<_>>>()?)?;
    wait_until_judged(&server, ALL.into())?;
    let (granted, refused) = (server.counter("granted")?, server.counter("over-budget")?);
    let most = 40 + 5 * (begun.elapsed().as_secs() + 1);
    assert!(granted >= 40 && granted <= most, "{granted} of {most}");
    assert_eq!(granted + refused, u64::from(ALL));
    site.open(&server, &bob, &[])?;
    Ok(())
}

#[test]
fn what_it_writes_is_no_line_of_the_log_and_little_of_it() -> Result {
    let site = Site::new()?;
    let (mut server, alice) = besieged(&site, "talk")?;
    alice.knock(&[])?.ok()?;
    until("it stands still, and is replaced", PATIENCE, || Ok(restarts(&server)? > 0))?;
    let log = server.log();
    assert!(!log.lines().any(|line| line.starts_with(FORGED)), "{log}");
    let told = log.lines().find(|line| line.contains("mallory")).unwrap_or_default();
    assert!(told.contains("said=\"2026-01-01") && told.len() < 800, "{log}");
    assert_nothing_open(&site, &server, "talkative")?;
    server.stop().map(drop)
}

#[test]
fn counters_that_cannot_be_harm_nobody() -> Result {
    let site = Site::new()?;
    let (server, alice) = besieged(&site, "absurd")?;
    alice.knock(&[])?.ok()?;
    until("granted", SOON, || Ok(server.grants()?.len() == 1))?;
    let pid = server.status()?["processes"][1]["pid"].clone();
    site.server.sh(&format!("kill -9 {pid}"))?.ok()?;
    until("another one counts on top", SOON, || Ok(restarts(&server)? == 1))?;
    assert_eq!(server.counter("granted")?, u64::MAX, "no more than can be counted");
    Ok(())
}

#[test]
fn a_flood_delays_no_revocation_and_fills_no_memory() -> Result {
    let site = Site::new()?;
    let (mut server, alice) = besieged(&site, "flood")?;
    let lines = server.log().lines().count();
    alice.knock(&["--ttl", "5m"])?.ok()?;
    server.wait_for_counter("granted", 1)?;
    wait_until_judged(&server, 2_000)?;
    let memory = number(&site, &mut server, MEMORY)?;
    let open = descriptors(&site, &mut server)?;
    let (before, start) = (judged(&server)?, Instant::now());
    wait_until_judged(&server, before + 5_000)?;
    let rate = 5_000.0 / start.elapsed().as_secs_f64();
    let grown = number(&site, &mut server, MEMORY)?.saturating_sub(memory);
    println!("{rate:.0} requests a second judged; memory grown by {grown} KiB from {memory}");
    assert!(grown < 2_048, "{grown} KiB more than {memory}");
    assert_eq!(descriptors(&site, &mut server)?, open);

    assert_eq!(server.grants()?.len(), 1, "she has signed one");
    server.keys(&["revoke", "alice"])?.ok()?;
    let revoked = Instant::now();
    let took =
        until("her grant is gone", SOON, || Ok(!server.kernel_table()?.contains("elements = {")))?;
    println!("revoked within {took:?} in the flood");
    assert!(revoked.elapsed() < SOON);
    assert_nothing_open(&site, &server, "in the flood")?;
    // What was refused makes a line a minute for each client and reason.
    let told = server.log().lines().count() - lines;
    assert!(told < 20, "{told} lines: {}", server.log());
    server.stop()?;
    Ok(())
}

#[test]
fn one_that_says_nothing_more_is_replaced() -> Result {
    let site = Site::new()?;
    let (mut server, alice) = besieged(&site, "silence")?;
    let ticks = number(&site, &mut server, TICKS)?;
    alice.knock(&[])?.ok()?;
    let took = until("replaced", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(200));
        Ok(restarts(&server)? > 0)
    })?;
    let spent = number(&site, &mut server, TICKS)? - ticks;
    println!("replaced after {took:?}; the warden used {spent} ticks meanwhile");
    assert!(u128::from(spent) * 10 < took.as_millis() / 5, "a spin: {spent} ticks");
    assert!(server.log().contains("it does not answer"), "{}", server.log());
    assert_nothing_open(&site, &server, "silent")
}

#[test]
fn one_that_ends_at_once_is_replaced_ever_more_slowly() -> Result {
    let site = Site::new()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    server.launch_hostile("die")?;
    let died = |server: &Server| server.log().matches("another is started").count();
    until("it died once", SOON, || Ok(died(&server) > 0))?;
    let (start, ticks) = (Instant::now(), number(&site, &mut server, TICKS)?);
    std::thread::sleep(Duration::from_secs(6));
    let (count, took) = (died(&server), start.elapsed());
    let spent = number(&site, &mut server, TICKS)? - ticks;
    println!("{count} died in {took:?}; the warden used {spent} ticks");
    // Pauses of 0.4, 0.8, 1.6, 3.2 s: at most five in these six seconds, and the first.
    assert!((2..=6).contains(&count), "{count} in {took:?}");
    assert!(u128::from(spent) * 10 < took.as_millis() / 5, "a spin: {spent} ticks");
    assert!(!server.spad(&["status"])?.success(), "and status says that nobody listens");
    assert!(!site.reaches(&site.client, 22)?);
    Ok(())
}
