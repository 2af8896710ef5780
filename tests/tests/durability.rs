//! Directories that cannot be written: nothing is granted that might be forgotten.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use spa_tests::Result;
use spa_tests::lab::{Datagram, Host};
use spa_tests::product::health::open_sources;
use spa_tests::product::{
    Client, Health, KNOCK_PORT, Knocker, SERVER_NAME, Server, Service, Settings, Site, knocker,
};
use spa_tests::wait::{SOON, until};

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

/// Has the daemon serve alice, and kills it. Its lease, for which there is room already, is gone.
fn dies_without_lease(server: &mut Server, health: &Health, alice: &Client) -> Result<[u64; 2]> {
    server.start()?;
    health.served_at_once(server, alice, "alice")?;
    let open = server.descriptors()?;
    server.kill9()?;
    server.host().sh(&format!("rm {}/state/lease-*", server.dir().display()))?.ok()?;
    Ok(open)
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
    let status = server.spad(&["status"])?;
    assert_eq!(status.code(), Some(1), "nobody is let in: {status}");
    for said in [server.log(), status.stdout] {
        assert!(said.contains(&*state), "names the directory: {said}");
    }
    Ok(())
}

fn unfill(host: &Host, state: &Path) -> Result {
    host.sh(&format!("rm {}/fill", state.display()))?.ok()?;
    Ok(())
}

/// Starts a daemon whose state directory cannot be written from `breaks` on, until it `is_mended`.
fn until_it_can_be_written(
    breaks: impl FnOnce(&Host, &Path) -> Result,
    is_mended: impl FnOnce(&Host, &Path) -> Result,
) -> Result {
    let site = Site::new()?;
    let (mut server, state) = with_small_state(&site)?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    let open = dies_without_lease(&mut server, &health, &alice)?;
    breaks(&site.server, &state)?;
    assert_grants_nothing(&site, &mut server, &alice)?;
    assert_says_so(&server, &state)?;
    health.all_is_well(&server, open, "while it cannot be written")?;
    is_mended(&site.server, &state)?;
    health.served_at_once(&server, &alice, "alice")?;
    assert_eq!(server.status()?["journal"]["durable"], true);
    health.all_is_well(&server, open, "it can be written again")
}

#[test]
fn a_full_state_directory_means_no_grant_until_there_is_space() -> Result {
    until_it_can_be_written(fill, unfill)
}

#[test]
fn a_read_only_state_directory_means_no_grant_until_it_can_be_written() -> Result {
    until_it_can_be_written(
        |host, state| host.remount(state, true),
        |host, state| host.remount(state, false),
    )
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
        health.all_is_well(&server, open, fails)?;
        site.server.remount(&state, false)?;
        health.served_at_once(&server, &alice, "alice")?;
        assert_eq!(server.status()?["journal"]["durable"], true);
        health.all_is_well(&server, open, fails)?;
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
    let open = server.descriptors()?;
    server.kill9()?;
    let run = Path::new(RUN);
    site.server.sh(&format!("rm -r {RUN} && mkdir -m 700 {RUN}"))?.ok()?;
    site.server.mount_tmpfs(run, "16k")?;
    fill(&site.server, run)?;
    server.launch()?;
    assert!(!server.wait()?.success());
    assert!(server.log().contains("No space left"), "{}", server.log());
    health.strangers_stay_out("no daemon runs")?;
    site.server.sh(&format!("umount {RUN}"))?.ok()?;
    server.start()?;
    health.all_is_well(&server, open, "there is room again")
}

const RUN: &str = "/run/spad";
/// Room for one journal, and for a second one of the same size beside it, which it is written anew
/// into when it is full.
const ROOM: &str = "256k";
/// All of their knocks together are more than the first journal has room for: it takes 512 entries,
/// and each knock is two of them.
const KNOCKERS: u32 = 20;
/// Of one client no more are remembered one by one.
const BURST: u32 = 16;

/// A knock of each client, one burst after the other, for addresses that nobody else asks for.
fn more_than_it_has_room_for(site: &Site, server: &Server) -> Result<Vec<Datagram>> {
    let knockers = (0..KNOCKERS).map(|n| Knocker::new(server, n)).collect::<Result<Vec<_>>>()?;
    // Alice is there already.
    until("they are known", SOON, || Ok(server.status()?["clients"] == KNOCKERS + 1))?;
    let (to, now) = (SocketAddr::new(site.address(), KNOCK_PORT), knocker::now()?);
    let each = |number: u32| {
        let source = Ipv4Addr::from(0x0b00_0001 + number);
        knockers[(number % KNOCKERS) as usize].knock(source, to, now, number)
    };
    (0..KNOCKERS * BURST).map(each).collect()
}

/// As many sources are let in as knocks were granted, each of which was for another one.
fn assert_open_is_what_was_granted(server: &Server, granted: u64) -> Result {
    assert_eq!(open_sources(server)?.len() as u64, granted, "nothing that was refused is open");
    assert_eq!(server.grants()?.len() as u64, granted, "and none of it is listed");
    Ok(())
}

/// A daemon whose run directory is a small file system of its own, and none of whose grants ends
/// before the test does.
fn with_small_run(site: &Site) -> Result<Server<'_>> {
    let ssh = Service { ttl: "1h", max_ttl: "1h", ..Service::SSH };
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::with_services(&[ssh]))?;
    site.server.sh(&format!("mkdir -m 700 {RUN}"))?.ok()?;
    site.server.mount_tmpfs(Path::new(RUN), ROOM)?;
    server.start()?;
    Ok(server)
}

/// Sends more knocks than the journal has room for; how many of them are granted.
fn knock_until_it_is_full(site: &Site, server: &Server, knocks: &[Datagram]) -> Result<u64> {
    let count = |reason| server.counter(reason);
    let (all, before) = (knocks.len() as u64, count("granted")?);
    site.client.send_udp(knocks)?;
    until("all are judged", SOON * 10, || {
        Ok(count("granted")? + count("not-durable")? >= before + all)
    })?;
    let granted = count("granted")? - before;
    println!("{granted} of {all} were granted before the journal was full");
    assert!(granted > 0 && granted < all, "it was full in the middle of them: {granted}");
    Ok(granted)
}

/// The journal that is in use has its room: it is a second one that cannot be made when it is full.
fn a_run_directory_that_fails_under_a_running_daemon(
    breaks: impl FnOnce(&Host, &Path) -> Result,
    is_mended: impl FnOnce(&Host, &Path) -> Result,
) -> Result {
    let site = Site::new()?;
    let mut server = with_small_run(&site)?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    let open = server.descriptors()?;
    let knocks = more_than_it_has_room_for(&site, &server)?;
    breaks(&site.server, Path::new(RUN))?;
    let granted = knock_until_it_is_full(&site, &server, &knocks)?;
    // Also those that were refused count as used.
    let nothing_more_opens = |server: &Server, why: &str| -> Result {
        health.play(server, &knocks)?;
        assert_open_is_what_was_granted(server, granted)?;
        health.all_is_well(server, open, why)
    };
    site.refused(&server, &alice, &[], "not-durable")?;
    assert_eq!(server.status()?["journal"]["durable"], false);
    assert_says_so(&server, Path::new(RUN))?;
    nothing_more_opens(&server, "while nothing can be written")?;

    is_mended(&site.server, Path::new(RUN))?;
    health.served_at_once(&server, &alice, "alice")?;
    assert_eq!(server.status()?["journal"]["durable"], true);
    nothing_more_opens(&server, "it can be written again")?;
    server.kill9()?;
    server.start()?;
    nothing_more_opens(&server, "read by the next one")?;
    health.served_at_once(&server, &alice, "alice")
}

#[test]
fn a_run_directory_that_is_full_under_a_running_daemon_revives_nothing() -> Result {
    a_run_directory_that_fails_under_a_running_daemon(fill, unfill)
}

/// What is open already can be written still: another mount of it lies over it.
#[test]
fn a_run_directory_that_is_read_only_under_a_running_daemon_revives_nothing() -> Result {
    a_run_directory_that_fails_under_a_running_daemon(
        |host, run| {
            host.sh(&format!("mount --bind {0} {0}", run.display()))?.ok()?;
            host.remount(run, true)
        },
        |host, run| host.sh(&format!("umount {}", run.display()))?.ok().map(drop),
    )
}

#[test]
fn an_enrolment_that_cannot_be_written_down_opens_nothing() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (alice, bob) = (site.client(&server, "alice")?, site.client(&server, "bob")?);
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &bob, "bob")?;
    let open = server.descriptors()?;
    let clients = server.dir().join("keys/clients");
    // On this host only, and after the client was added.
    let place = clients.display();
    site.server.sh(&format!("mount --bind {place} {place} && mount -o remount,bind,ro {place}"))?;
    site.refused(&server, &alice, &[], "not-durable")?;
    site.assert_shut(&server, &site.client, "the key cannot be bound")?;
    health.all_is_well(&server, open, "the key cannot be bound")?;
    site.server.remount(&clients, false)?;
    health.served_at_once(&server, &alice, "alice")?;
    health.all_is_well(&server, open, "the key is bound")
}
