//! Directories that cannot be written: nothing is granted that might be forgotten.

use std::fs;
use std::path::{Path, PathBuf};

use spa_tests::Result;
use spa_tests::lab::Host;
use spa_tests::product::{Client, Health, SERVER_NAME, Server, Settings, Site};

/// A server whose state directory is a small file system of its own; not started.
fn with_small_state(site: &Site) -> Result<(Server<'_>, PathBuf)> {
    let server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let state = server.dir().join("state");
    fs::create_dir(&state)?;
    site.server.mount_tmpfs(&state, "64k")?;
    Ok((server, state))
}

fn fill(host: &Host, state: &Path) -> Result {
    // It ends with an error when the last byte is taken.
    host.sh(&format!("head -c 1M /dev/zero > {}/fill", state.display()))?;
    Ok(())
}

/// Starts a daemon that cannot write its state.
fn assert_grants_nothing(site: &Site, server: &mut Server, alice: &Client) -> Result {
    server.start()?;
    assert_eq!(server.status()?["journal"]["durable"], false);
    site.refused(server, alice, &[], "not-durable")?;
    site.assert_shut(server, &site.client, "it would not be remembered")
}

/// The error names the directory, in the log and in the status.
fn assert_says_so(server: &Server, state: &Path) -> Result {
    let state = state.to_string_lossy();
    for said in [server.log(), server.spad(&["status"])?.stdout] {
        assert!(said.contains(&*state), "names the directory: {said}");
    }
    Ok(())
}

fn assert_recovers(site: &Site, server: &Server, alice: &Client) -> Result {
    site.open(server, alice, &[])?;
    assert_eq!(server.status()?["journal"]["durable"], true);
    Ok(())
}

#[test]
fn a_full_state_directory_means_no_grant_until_there_is_space() -> Result {
    let site = Site::new()?;
    let (mut server, state) = with_small_state(&site)?;
    let alice = site.client(&server, "alice")?;
    fill(&site.server, &state)?;
    assert_grants_nothing(&site, &mut server, &alice)?;
    assert_says_so(&server, &state)?;
    site.server.sh(&format!("rm {}/fill", state.display()))?.ok()?;
    assert_recovers(&site, &server, &alice)
}

#[test]
fn a_read_only_state_directory_means_no_grant_until_it_can_be_written() -> Result {
    let site = Site::new()?;
    let (mut server, state) = with_small_state(&site)?;
    let alice = site.client(&server, "alice")?;
    site.server.remount(&state, true)?;
    assert_grants_nothing(&site, &mut server, &alice)?;
    assert_says_so(&server, &state)?;
    site.server.remount(&state, false)?;
    assert_recovers(&site, &server, &alice)
}

/// The lease on disk covers what comes soon; then nothing is granted, and what was is not forgotten.
#[test]
fn a_state_directory_that_fails_under_a_running_daemon_revives_nothing() -> Result {
    for fails in ["full", "read-only"] {
        let site = Site::new()?;
        let clock = site.lab.clock()?;
        let (mut server, state) = with_small_state(&site)?;
        server.start_by(&clock)?;
        let alice = site.client(&server, "alice")?.by(&clock);
        let health = Health::watch(&site)?;
        health.served_at_once(&server, &alice, "alice")?;
        let open = server.descriptors()?;
        // Room for the lease was taken when it was made: a disk that is full later does not matter.
        match fails {
            "full" => fill(&site.server, &state)?,
            _ => site.server.remount(&state, true)?,
        }
        clock.set(600)?;
        if fails == "full" {
            health.served_at_once(&server, &alice, "alice")?;
        } else {
            site.refused(&server, &alice, &[], "not-durable")?;
            site.assert_shut(&server, &site.client, "it would not be remembered")?;
            assert_says_so(&server, &state)?;
        }
        health.nothing_opens(&server, fails)?;
        health.is_quiet(&server, fails)?;
        site.server.remount(&state, false)?;
        health.served_at_once(&server, &alice, "alice")?;
        assert_eq!(server.status()?["journal"]["durable"], true);
        health.nothing_opens(&server, fails)?;
        assert_eq!(server.descriptors()?, open, "{fails}");
    }
    Ok(())
}

#[test]
fn a_full_run_directory_stops_the_start_and_everything_stays_shut() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    server.kill9()?;
    let run = Path::new("/run/spad");
    site.server.sh("rm -r /run/spad && mkdir -m 700 /run/spad")?.ok()?;
    site.server.mount_tmpfs(run, "16k")?;
    fill(&site.server, run)?;
    server.launch()?;
    assert!(!server.wait()?.success());
    assert!(server.log().contains("No space left"), "{}", server.log());
    health.strangers_stay_out("no daemon runs")?;
    site.server.sh("umount /run/spad")?.ok()?;
    server.start()?;
    health.nothing_opens(&server, "there is room again")
}

#[test]
fn an_enrolment_that_cannot_be_written_down_opens_nothing() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let clients = server.dir().join("keys/clients");
    // On this host only, and after the client was added.
    let place = clients.display();
    site.server.sh(&format!("mount --bind {place} {place} && mount -o remount,bind,ro {place}"))?;
    site.refused(&server, &alice, &[], "not-durable")?;
    site.assert_shut(&server, &site.client, "the key cannot be bound")?;
    site.server.remount(&clients, false)?;
    site.open(&server, &alice, &[])?;
    Ok(())
}
