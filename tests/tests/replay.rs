//! A knock works once: not again, not elsewhere, not after whatever happens to the daemon.

use std::slice;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Addressing, Datagram};
use spa_tests::product::{Client, KNOCK_PORT, Server, Site};
use spa_tests::wait::SOON;

/// Knocks, waits for the end of the grant, and gives the datagram that was used.
fn used_knock(site: &Site, server: &Server, client: &Client) -> Result<Datagram> {
    let capture = site.client.capture()?;
    site.open(server, client, &["--ttl", "2s"])?;
    let used = capture.wait_for_udp(KNOCK_PORT, 1)?.remove(0);
    site.wait_until_ended(server, Duration::from_secs(2) + SOON)?;
    Ok(used)
}

/// Sends a used knock again: as it was, from another port, and from a stranger.
fn replay_opens_nothing(site: &Site, server: &Server, used: &Datagram, when: &str) -> Result {
    let before = refusals(server)?;
    let port = used.from.port();
    site.client.send_forged(slice::from_ref(used))?;
    site.client.send_forged(&[used.from((used.from.ip(), port ^ 1).into())])?;
    site.stranger.send_forged(&[used.from((site.stranger.v4()?, port).into())])?;
    spa_tests::wait::until("three copies are refused", SOON, || {
        Ok(refusals(server)? >= before + 3)
    })?;
    site.assert_shut(server, &site.client, when)?;
    site.assert_shut(server, &site.stranger, when)
}

/// Datagrams counted as copies of others, or as older than what is remembered.
fn refusals(server: &Server) -> Result<u64> {
    let reasons = ["duplicate", "replayed", "before-start"];
    reasons.into_iter().map(|reason| server.counter(reason)).sum()
}

#[test]
fn a_copy_opens_nothing_for_anybody() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let used = used_knock(&site, &server, &alice)?;
    replay_opens_nothing(&site, &server, &used, "at once")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn a_copy_does_not_prolong_a_grant() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let capture = site.client.capture()?;
    let grant = site.open(&server, &alice, &["--ttl", "20s"])?;
    let used = capture.wait_for_udp(KNOCK_PORT, 1)?;
    std::thread::sleep(Duration::from_secs(1));
    site.client.send_forged(&used)?;
    server.wait_for_counter("duplicate", 1)?;
    let left = server.grants()?;
    assert_eq!(left.len(), 1);
    assert!(left[0].expires_in < grant.expires_in, "{:?}, before {:?}", left[0], grant);
    Ok(())
}

#[test]
fn a_copy_opens_nothing_after_a_reload() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let used = used_knock(&site, &server, &alice)?;
    server.spad(&["reload"])?.ok()?;
    replay_opens_nothing(&site, &server, &used, "after reload")?;
    server.hang_up()?;
    replay_opens_nothing(&site, &server, &used, "after SIGHUP")
}

#[test]
fn a_copy_opens_nothing_after_a_restart() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let used = used_knock(&site, &server, &alice)?;
    server.restart()?;
    replay_opens_nothing(&site, &server, &used, "after restart")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn a_copy_opens_nothing_after_kill_9() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let used = used_knock(&site, &server, &alice)?;
    server.kill9()?;
    server.start()?;
    replay_opens_nothing(&site, &server, &used, "after kill -9")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn a_copy_opens_nothing_after_the_run_directory_is_lost() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let used = used_knock(&site, &server, &alice)?;
    server.kill9()?;
    site.server.sh("rm -rf /run/spad")?.ok()?;
    server.start()?;
    replay_opens_nothing(&site, &server, &used, "as after a power cut")
}

#[test]
fn thousands_of_copies_take_nothing_from_their_owner() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let used = used_knock(&site, &server, &alice)?;
    let copies = vec![used; 5000];
    site.stranger.send_udp(&copies)?;
    site.open(&server, &alice, &[])?;
    println!("of 5000 copies {} were counted", server.counter("duplicate")?);
    assert_eq!(server.counter("granted")?, 2);
    assert_eq!(server.counter("over-budget")?, 0, "copies are free");
    Ok(())
}

/// No state hangs on a source address: there is nothing that others could spoil in its name.
#[test]
fn junk_in_the_owners_name_does_not_keep_the_owner_out() -> Result {
    const JUNK: usize = 2000;
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let capture = site.client.capture()?;
    site.open(&server, &alice, &[])?;
    // From the very port too that the last knock came from.
    let port = capture.wait_for_udp(KNOCK_PORT, 1)?[0].from.port();
    site.close(&server, "alice")?;
    let own = site.client.addresses().into_iter().zip(site.server.addresses());
    let junk = own.flat_map(|(own, server)| {
        let (from, to) = ((own, port).into(), (server, KNOCK_PORT).into());
        let payload = |n: usize| (0..336).map(|at| (n * (at + 7)).to_le_bytes()[0]).collect();
        (0..JUNK / 2).map(move |n| Datagram { from, to, payload: payload(n) })
    });
    let junk: Vec<_> = junk.collect();
    assert_eq!(junk.len(), JUNK, "of both families");
    let (first, second) = junk.split_at(JUNK / 2);
    for half in [first, second] {
        site.stranger.send_forged(half)?;
        site.open(&server, &alice, &[])?;
        site.close(&server, "alice")?;
    }
    let seen = server.counter("unknown-client")?;
    println!("of {JUNK} forged packets {seen} were seen");
    assert!(seen > 100, "control: they come from where the owner is");
    assert_eq!(server.counter("granted")?, 3);
    for reason in ["over-budget", "over-cap"] {
        assert_eq!(server.counter(reason)?, 0, "{reason}: junk is free");
    }
    Ok(())
}

#[test]
fn a_knock_that_names_its_address_is_of_no_use_to_who_sends_it_first() -> Result {
    let site = Site::with(Addressing::GLOBAL)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;

    let fresh = site.fresh_knock(&alice, &[])?;
    site.stranger.send_udp(&[fresh])?;
    server.wait_for_counter("granted", 2)?;
    let grants = server.grants()?;
    assert_eq!(grants.len(), 1);
    assert_eq!(grants[0].source, site.client.v4()?, "opened for whom the knock names");
    assert!(site.reaches(&site.client, 22)? && !site.reaches(&site.stranger, 22)?);
    Ok(())
}
