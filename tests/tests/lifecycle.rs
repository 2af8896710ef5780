//! The daemon comes and goes: what is shut stays shut, and what is granted ends on time.

use std::time::{Duration, Instant};

use spa_tests::Result;
use spa_tests::lab::{Privilege, fail, not_shown};
use spa_tests::product::{Grant, Health, SERVER_NAME, Server, Service, Settings, Site};
use spa_tests::wait::{SOON, until};

/// Waits until the port is shut for the client, and checks that this was not too early.
fn assert_ends_on_time(site: &Site, granted: Instant, ttl: Duration) -> Result {
    until("the port is shut", ttl + SOON, || Ok(!site.reaches(&site.client, 22)?))?;
    let took = granted.elapsed();
    assert!(took >= ttl - Duration::from_millis(50), "shut after {took:?}, granted for {ttl:?}");
    Ok(())
}

#[test]
fn a_grant_ends_on_time_after_kill_9() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let start = Instant::now();
    site.open(&server, &alice, &["--ttl", "5s"])?;
    server.kill9()?;
    assert!(site.reaches(&site.client, 22)?, "still granted");
    assert!(!site.reaches(&site.stranger, 22)?, "still shut for others");
    assert_ends_on_time(&site, start, Duration::from_secs(5))
}

#[test]
fn a_grant_is_listed_with_its_client_after_kill_9_and_a_new_start() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let before = site.open(&server, &alice, &["--ttl", "1m"])?;
    server.kill9()?;
    server.start()?;
    let after = server.grants()?;
    assert_eq!(after.len(), 1, "{after:?}");
    assert_eq!((&after[0].client, after[0].source), (&before.client, before.source));
    assert_eq!((&after[0].service, &after[0].ports), (&before.service, &before.ports));
    assert!(after[0].expires_in < before.expires_in, "{after:?}, before {before:?}");
    assert!(site.reaches(&site.client, 22)? && !site.reaches(&site.stranger, 22)?);
    site.close(&server, "alice")
}

#[test]
fn a_grant_ends_on_time_after_kill_9_and_a_new_start() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let start = Instant::now();
    site.open(&server, &alice, &["--ttl", "5s"])?;
    server.kill9()?;
    server.start()?;
    assert_ends_on_time(&site, start, Duration::from_secs(5))?;
    site.assert_shut(&server, &site.client, "over")
}

#[test]
fn sigterm_leaves_shut_what_was_shut_and_granted_what_was_granted() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let start = Instant::now();
    site.open(&server, &alice, &["--ttl", "4s"])?;
    let status = server.stop()?;
    assert!(status.success(), "{status}: {}", server.log());
    assert!(site.reaches(&site.client, 22)?, "granted");
    assert!(!site.reaches(&site.stranger, 22)?, "shut");
    assert_ends_on_time(&site, start, Duration::from_secs(4))
}

#[test]
fn a_knock_at_a_dead_daemon_opens_nothing() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    server.kill9()?;
    alice.knock(&[])?.ok()?;
    assert!(!site.reaches(&site.client, 22)?);
    Ok(())
}

#[test]
fn the_port_never_opens_while_the_daemon_comes_and_goes() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let probers = [
        site.stranger.prober((site.server.v4()?, 22))?,
        site.stranger.prober((site.server.v6()?, 22))?,
    ];
    server.spad(&["reload"])?.ok()?;
    server.restart()?;
    server.kill9()?;
    server.start()?;
    server.stop()?;
    server.start()?;
    for prober in probers {
        let (tries, open) = prober.finish()?;
        assert_eq!(open, Vec::<String>::new(), "of {tries} tries");
        assert!(tries > 20, "{tries} tries");
    }
    Ok(())
}

#[test]
fn a_broken_configuration_is_refused_and_the_old_one_stays() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "1m"])?;
    server.write_config(&format!("tolerence = \"30s\"\n{}", server.config()))?;

    let said = server.spad(&["reload"])?;
    assert!(!said.success() && said.all().contains("tolerence"), "{said}");
    server.hang_up()?;
    until("the log says why", SOON, || Ok(server.log().contains("tolerence")))?;
    assert!(server.process()?.is_running()?);
    assert_eq!(server.grants()?.len(), 1, "grants stay");
    assert!(site.reaches(&site.client, 22)? && !site.reaches(&site.stranger, 22)?);
    site.close(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn a_reload_takes_a_new_service_up_and_keeps_grants() -> Result {
    let site = Site::new()?;
    let _web = site.server.echo_tcp(8080)?;
    let server = site.spad()?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh,web"])?;
    let before = site.open(&server, &alice, &["--ttl", "1m"])?;
    assert!(site.reaches(&site.stranger, 8080)?, "not protected yet");

    let web = Service { name: "web", port: 8080, ..Service::SSH };
    server.configure(&Settings::with_services(&[Service::SSH, web]))?;
    server.spad(&["reload"])?.ok()?;
    assert!(!site.reaches(&site.stranger, 8080)?, "protected now");
    let kept = server.grants()?;
    assert_eq!(kept.len(), 1);
    assert!(kept[0].expires_in < before.expires_in, "{kept:?}");
    assert!(site.reaches(&site.client, 22)?, "kept");
    site.open(&server, &alice, &["--service", "web"])?;
    Ok(())
}

#[test]
fn a_reload_that_removes_a_service_ends_its_protection_and_its_grants() -> Result {
    let site = Site::new()?;
    let _web = site.server.echo_tcp(8080)?;
    let web = Service { name: "web", port: 8080, ..Service::SSH };
    let server = site.spad_with(&Settings::with_services(&[Service::SSH, web]))?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh,web"])?;
    site.open(&server, &alice, &["--service", "web"])?;
    server.configure(&Settings::default())?;
    server.spad(&["reload"])?.ok()?;
    assert!(site.reaches(&site.stranger, 8080)?, "nobody's business any more");
    assert!(!site.reaches(&site.stranger, 22)?, "the other is still protected");
    assert_eq!(server.grants()?, [], "no grant for a service that is gone");
    Ok(())
}

/// A second one is started while a grant is held; why it is refused must be said like this.
fn a_second_daemon_is_refused(settings: &Settings, says: &str) -> Result {
    let site = Site::new()?;
    let mut server = site.spad_with(settings)?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    let before = site.open(&server, &alice, &["--ttl", "5m"])?;
    let (pids, open) = (server.pids()?, server.descriptors()?);

    let second = server.spad(&["run"])?;
    assert!(!second.success() && second.code() != Some(124), "{second}");
    assert!(second.stderr.contains(says), "it says why: {second}");

    assert!(server.process()?.is_running()?);
    assert_eq!(server.pids()?, pids, "the first one, both halves");
    let [after] = &server.grants()?[..] else { return fail("not one grant") };
    let expires_in = before.expires_in;
    assert!(after.expires_in <= expires_in, "not prolonged: {after:?}, before {before:?}");
    assert_eq!(Grant { expires_in, ..after.clone() }, before, "the same grant");
    assert!(site.reaches(&site.client, 22)?, "and it holds");
    health.all_is_well(&server, open, "after a second daemon")?;
    site.close(&server, "alice")?;
    health.served_at_once(&server, &alice, "alice")
}

/// By the owner of the table, where the kernel knows one, else by the lock of the journal.
#[test]
fn a_second_daemon_on_the_same_files_is_refused() -> Result {
    a_second_daemon_is_refused(&Settings::default(), "another spad")
}

#[test]
fn a_second_daemon_is_refused_also_where_the_table_has_no_owner() -> Result {
    let more = "[firewall]\nown-table = false\n".to_owned();
    let unowned = Settings { more, ..Settings::default() };
    a_second_daemon_is_refused(&unowned, "another spad runs with this server key and run-dir")
}

#[test]
fn commands_without_a_daemon_say_that_there_is_none() -> Result {
    let site = Site::new()?;
    let server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    for command in [&["status"][..], &["grants"], &["revoke", "alice"], &["reload"]] {
        let said = server.spad(command)?;
        assert!(!said.success() && said.stderr.contains("/run/spad"), "{said}");
    }
    Ok(())
}

#[test]
fn the_half_that_reads_packets_runs_as_the_configured_user() -> Result {
    let site = Site::new()?;
    site.server.add_user("spad", 991)?;
    let server = site.spad()?;
    if site.lab.privilege() == Privilege::UserNamespace {
        return not_shown("a second user, for want of root");
    }
    let processes = server.status()?["processes"].as_array().cloned().unwrap_or_default();
    let users: Vec<_> = processes.iter().map(|process| process["uid"].as_u64()).collect();
    assert_eq!(users, [Some(0), Some(991)], "{processes:?}");
    Ok(())
}
