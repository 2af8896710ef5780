//! `spad stop` says what it leaves, and leaves just that.

use std::time::{Duration, Instant};

use spa_tests::Result;
use spa_tests::lab::{fail, program};
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

fn ruleset(site: &Site) -> Result<String> {
    Ok(site.server.run(["nft", "list", "ruleset"])?.ok()?.stdout)
}

#[test]
fn stop_leaves_shut_what_was_shut_and_grants_that_end() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let start = Instant::now();
    site.open(&server, &alice, &["--ttl", "5s"])?;
    let said = server.spad(&["stop"])?.ok()?;
    for part in ["spad has ended", "ssh (tcp/22): still shut", "1 grant ends within 5 s"] {
        assert!(said.stdout.contains(part), "{part}: {said}");
    }
    assert!(server.wait()?.success());
    assert!(site.reaches(&site.client, 22)? && !site.reaches(&site.stranger, 22)?);
    until("the grant ends", SOON * 3, || Ok(!site.reaches(&site.client, 22)?))?;
    assert!(start.elapsed() > Duration::from_millis(4950));
    Ok(())
}

/// The command is over when the daemon is: its lock and its table are free.
#[test]
fn a_start_right_after_a_stop_finds_everything_free() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (spad, config) = (program("spad")?, server.config_path());
    let (spad, config) = (spad.display(), config.display());
    let again = format!("{spad} stop --config {config} && exec {spad} run --config {config}");
    let mut daemons = Vec::new();
    for _ in 0..5 {
        let mut next = site.server.spawn(["sh", "-c", &again])?;
        until("the next is ready", SOON * 3, || {
            let ended = !next.is_running()?;
            let said = || format!("the next did not start: {}", next.stderr());
            if ended { fail(said()) } else { Ok(next.stderr().contains("ready")) }
        })?;
        daemons.push(next);
    }
    Ok(())
}

#[test]
fn stop_open_leaves_nothing_in_the_kernel() -> Result {
    for owned in [true, false] {
        let site = Site::new()?;
        site.server.nft("table inet theirs {\n chain c { }\n}\n")?.ok()?;
        let before = ruleset(&site)?;
        let more = format!("[firewall]\nown-table = {owned}\n");
        let mut server = site.spad_with(&Settings { more, ..Settings::default() })?;
        let alice = site.client(&server, "alice")?;
        site.open(&server, &alice, &[])?;
        let said = server.spad(&["stop", "--open", "--json"])?.ok()?;
        assert!(said.stderr.contains("shuts nothing any more"), "said before: {said}");
        let left: serde_json::Value = serde_json::from_str(&said.stdout)?;
        assert_eq!((&left["was_running"], &left["open"]), (&true.into(), &true.into()), "{said}");
        assert_eq!(left["services"][0], "ssh (tcp/22)");
        assert!(server.wait()?.success());
        assert_eq!(ruleset(&site)?, before);
        assert!(site.reaches(&site.stranger, 22)?);
    }
    Ok(())
}

#[test]
fn stop_open_removes_what_a_dead_daemon_has_left() -> Result {
    let site = Site::new()?;
    let before = ruleset(&site)?;
    let mut server = site.spad()?;
    server.kill9()?;
    assert_eq!(server.spad(&["stop"])?.code(), Some(3), "nobody to stop");
    assert!(!site.reaches(&site.stranger, 22)?, "and shut it stays");
    let said = server.spad(&["stop", "--open"])?.ok()?;
    assert!(said.stdout.contains("no spad is running"), "{said}");
    assert_eq!(ruleset(&site)?, before);
    assert!(site.reaches(&site.stranger, 22)?);
    server.spad(&["stop", "--open"])?.ok()?;
    Ok(())
}

/// Opened on purpose, the port is everybody's: who came in then stays, as at a first start.
#[test]
fn who_came_in_while_it_was_open_on_purpose_stays() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    server.spad(&["stop", "--open"])?.ok()?;
    let mut session = site.stranger.hold((site.address(), 22))?;
    server.start()?;
    assert!(session.is_alive("still"));
    assert!(!site.reaches(&site.stranger, 22)?, "but nobody else");
    Ok(())
}

#[test]
fn stop_open_does_not_touch_a_table_that_is_not_ours() -> Result {
    let site = Site::new()?;
    site.server.nft("add table inet spad\nadd chain inet spad mine\n")?.ok()?;
    let server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let said = server.spad(&["stop", "--open"])?;
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(said.stderr.contains("was not made by spad"), "{said}");
    assert!(ruleset(&site)?.contains("mine"));
    Ok(())
}
