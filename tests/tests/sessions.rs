//! Connections made through grants: recorded, and cut when the grant is taken back.

use nix::sys::signal::Signal;
use serde_json::Value;
use spa_tests::lab::{Addressing, Hold};
use spa_tests::product::{Server, Settings, Site};
use spa_tests::wait::{SOON, until, until_some};
use spa_tests::{LabError, Result};

/// Both families, one after the other: the server's first address is of that family.
const FAMILIES: [Addressing; 2] = [Addressing::PRIVATE, Addressing::V6_ONLY];

fn sessions(server: &Server) -> Result<Vec<Value>> {
    let said = server.spad(&["sessions", "--json"])?.ok()?;
    Ok(serde_json::from_str(&said.stdout)?)
}

/// Waits until so many sessions are known.
fn wait_for(server: &Server, count: usize) -> Result<Vec<Value>> {
    until_some(&format!("{count} sessions"), SOON, || {
        let known = sessions(server)?;
        Ok((known.len() == count).then_some(known))
    })
}

/// The audit's line about a session that has ended, with all of these parts.
fn ended(server: &Server, parts: &[&str]) -> Result<String> {
    until_some(&format!("the audit says that it has ended: {parts:?}"), SOON, || {
        let log = server.log();
        let mut lines = log.lines().filter(|line| line.contains("session ended"));
        let found = lines.find(|line| parts.iter().all(|part| line.contains(part)));
        Ok(found.map(str::to_owned))
    })
}

#[test]
fn revoking_a_client_cuts_its_connections_and_nobody_elses() -> Result {
    for addressing in FAMILIES {
        let site = Site::with(addressing)?;
        let server = site.spad()?;
        let alice = site.client(&server, "alice")?;
        let bob = site.client(&server, "bob")?.copy_to(&site.stranger)?;
        site.open(&server, &alice, &[])?;
        let mut of_alice = site.client.hold((site.address(), 22))?;
        bob.knock(&["--wait"])?.ok()?;
        let mut of_bob = site.stranger.hold((site.address(), 22))?;
        assert!(of_alice.is_alive("a") && of_bob.is_alive("b"));

        let said = server.spad(&["revoke", "alice"])?.ok()?;
        assert!(said.stdout.contains("connections cut"), "{said}");
        assert!(!of_alice.is_alive("after"), "the connection is cut");
        assert!(of_bob.is_alive("still"), "nobody else's is");
        ended(&server, &["client=alice", "revoked by the administrator"])?;
    }
    Ok(())
}

#[test]
fn revoking_one_grant_cuts_what_was_made_through_it() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let elsewhere = alice.copy_to(&site.stranger)?;
    let grant = site.open(&server, &alice, &["--ttl", "1s"])?;
    let mut here = site.client.hold((site.address(), 22))?;
    elsewhere.knock(&["--wait"])?.ok()?;
    let mut there = site.stranger.hold((site.address(), 22))?;
    until("the grant is over", SOON, || {
        Ok(server.grants()?.iter().all(|other| other.id != grant.id))
    })?;
    assert!(here.is_alive("a"), "an expired grant leaves its connections alone");

    server.spad(&["revoke", "--grant", &grant.id])?.ok()?;
    assert!(!here.is_alive("after") && there.is_alive("still"));
    let said = server.spad(&["revoke", "--grant", "4711"])?;
    assert!(!said.success() && said.stderr.contains("4711"), "{said}");
    Ok(())
}

#[test]
fn revoking_the_record_cuts_within_a_second() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let mut held = site.client.hold((site.address(), 22))?;
    wait_for(&server, 1)?;
    server.keys(&["revoke", "alice"])?.ok()?;
    wait_for(&server, 0)?;
    assert!(!held.is_alive("after"));
    Ok(())
}

/// More is told at once than is read at once: what the first part begins has ended in the last,
/// and there is something to cut on the way.
#[test]
fn what_ends_while_another_connection_is_cut_does_not_stay_in_the_list() -> Result {
    let site = Site::with(Addressing::V4_ONLY)?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    server.process()?.signal(Signal::SIGSTOP)?;
    let opened = open_many_and_revoke(&site, &server);
    server.process()?.resume()?;
    let mut kept = opened?;
    wait_for(&server, 0)?;
    assert!(!kept.is_alive("after"));
    Ok(())
}

/// Of its connections all but the first, which is returned, are over when alice is revoked.
fn open_many_and_revoke(site: &Site, server: &Server) -> Result<Hold> {
    let kept = site.client.hold((site.address(), 22))?;
    let brief = site.client.hold((site.address(), 22))?;
    let connect = format!("exec 3<>/dev/tcp/{}/22; exec 3>&-", site.address());
    let many = format!("for i in $(seq 400); do {connect}; done");
    site.client.run(["bash", "-ec", &many])?.ok()?;
    drop(brief);
    server.keys(&["revoke", "alice"])?.ok()?;
    Ok(kept)
}

#[test]
fn the_audit_has_who_when_and_how_much() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let grant = site.open(&server, &alice, &[])?;
    let mut held = site.client.hold((site.address(), 22))?;
    assert!(held.is_alive(&"x".repeat(1000)));
    // That by which `open` saw that the port is open is over at once.
    let known = wait_for(&server, 1)?;
    assert_eq!(known[0]["grant"].to_string(), grant.id);
    drop(held);
    let source = format!("source={} ", known[0]["source"].as_str().unwrap_or_default());
    let line = ended(&server, &[&source, "client=alice", "service=ssh", "start=20", "end=20"])?;
    for way in ["bytes_in=", "bytes_out="] {
        assert!((1000..5000).contains(&number(&line, way)?), "{way} in {line}");
    }
    wait_for(&server, 0)?;
    Ok(())
}

fn number(line: &str, key: &str) -> Result<u64> {
    match line.split_once(key) {
        Some((_, rest)) => Ok(rest.split(' ').next().unwrap_or_default().parse()?),
        None => Err(LabError::new(format!("no {key} in {line}"))),
    }
}

#[test]
fn sessions_and_their_owners_survive_a_restart() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let bob = site.client(&server, "bob")?.copy_to(&site.stranger)?;
    site.open(&server, &alice, &[])?;
    let mut of_alice = site.client.hold((site.address(), 22))?;
    bob.knock(&["--wait"])?.ok()?;
    let mut of_bob = site.stranger.hold((site.address(), 22))?;
    let before = wait_for(&server, 2)?;
    server.kill9()?;
    // Made while nobody looks.
    let mut unseen = site.client.hold((site.address(), 22))?;
    server.start()?;
    let after = sessions(&server)?;
    assert!(before.iter().all(|session| after.contains(session)), "{before:?} {after:?}");
    server.spad(&["revoke", "alice"])?.ok()?;
    assert!(!of_alice.is_alive("after") && !unseen.is_alive("after"), "alice's are cut");
    assert!(of_bob.is_alive("still"), "bob's is not");
    Ok(())
}

#[test]
fn a_client_revoked_while_the_daemon_is_down_loses_its_connections_at_the_start() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let mut held = site.client.hold((site.address(), 22))?;
    wait_for(&server, 1)?;
    server.stop()?;
    assert!(held.is_alive("alone"), "it does not need the daemon");
    server.keys(&["revoke", "alice"])?.ok()?;
    server.start()?;
    assert!(!held.is_alive("after"));
    Ok(())
}

#[test]
fn what_a_revoked_client_opened_while_nobody_looked_is_cut_at_the_start() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "1m"])?;
    server.stop()?;
    let mut unseen = site.client.hold((site.address(), 22))?;
    assert!(unseen.is_alive("alone"));
    server.keys(&["revoke", "alice"])?.ok()?;
    server.start()?;
    assert!(!unseen.is_alive("after"));
    Ok(())
}

#[test]
fn the_number_of_a_session_is_nobody_elses_after_restarts() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let bob = site.client(&server, "bob")?.copy_to(&site.stranger)?;
    for _ in 0..3 {
        site.open(&server, &alice, &["--ttl", "1s"])?;
        site.wait_until_ended(&server, SOON * 3)?;
    }
    site.open(&server, &alice, &["--ttl", "1s"])?;
    let mut held = site.client.hold((site.address(), 22))?;
    site.wait_until_ended(&server, SOON * 3)?;
    let number = wait_for(&server, 1)?[0]["grant"].as_u64();
    for _ in 0..2 {
        server.stop()?;
        server.start()?;
    }
    bob.knock(&["--wait"])?.ok()?;
    let of_bob = server.grants()?.into_iter().map(|grant| grant.id.parse().ok()).next().flatten();
    assert!(of_bob > number, "{of_bob:?} after {number:?}");
    assert!(held.is_alive("still"));
    Ok(())
}

#[test]
fn a_reload_that_shuts_a_port_leaves_who_is_in_already() -> Result {
    let site = Site::new()?;
    let _echo = site.server.echo_tcp(7)?;
    let server = site.spad()?;
    let mut before = site.stranger.hold((site.address(), 7))?;
    let more = "[service.echo]\nport = 7\n".to_owned();
    server.configure(&Settings { more, ..Settings::default() })?;
    server.spad(&["reload"])?.ok()?;
    assert!(before.is_alive("still"), "it was open to everyone until now");
    assert!(!site.reaches(&site.stranger, 7)?, "shut from now on");
    Ok(())
}

/// As a reload does; and what was shut already lets nobody in by this.
#[test]
fn a_restart_that_shuts_a_port_leaves_who_is_in_already() -> Result {
    let site = Site::new()?;
    let _echo = site.server.echo_tcp(7)?;
    let mut server = site.spad()?;
    let mut before = site.stranger.hold((site.address(), 7))?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh"])?;
    alice.knock(&["--wait"])?.ok()?;
    let mut granted = site.client.hold((site.address(), 22))?;
    let more = "[service.echo]\nport = 7\n".to_owned();
    server.configure(&Settings { more, ..Settings::default() })?;
    server.restart()?;
    assert!(before.is_alive("still"), "it was open to everyone until now");
    assert!(granted.is_alive("still"), "by its grant");
    assert!(!site.reaches(&site.stranger, 7)?, "shut from now on");
    server.keys(&["revoke", "alice"])?.ok()?;
    until("her connection is cut", SOON, || Ok(!granted.is_alive("?")))?;
    assert!(before.is_alive("still"));
    // Again, with nothing that is new.
    server.restart()?;
    assert!(before.is_alive("still") && !site.reaches(&site.stranger, 7)?);
    Ok(())
}

#[test]
fn a_service_may_say_that_connections_end_with_their_grant() -> Result {
    let site = Site::new()?;
    let more = "[service.echo]\nport = 7\ncut-on-expiry = true\n".to_owned();
    let _echo = site.server.echo_tcp(7)?;
    let server = site.spad_with(&Settings { more, ..Settings::default() })?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh,echo"])?;
    alice.knock(&["--service", "ssh", "--service", "echo", "--ttl", "2s"])?.ok()?;
    until("open", SOON, || site.reaches(&site.client, 7))?;
    let mut cut = site.client.hold((site.address(), 7))?;
    let mut kept = site.client.hold((site.address(), 22))?;
    assert!(cut.is_alive("a") && kept.is_alive("a"));
    until("the grants are over", SOON * 2, || Ok(server.grants()?.is_empty()))?;
    // The kernel's clock may be some milliseconds ahead of the one that cuts.
    ended(&server, &["client=alice", "service=echo", "grant expired"])?;
    assert!(!cut.is_alive("after"), "it ends with its grant");
    assert!(kept.is_alive("after"), "that of another service does not");
    Ok(())
}
