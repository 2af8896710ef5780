//! Former keys that end are taken out of their files, and nobody waits for the disk meanwhile.

use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::not_shown;
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::until;

/// How long the daemon may take to look at everything, which it does every 20 s.
const LOOK: Duration = Duration::from_secs(60);

fn keys_end_on_a_disk_that_hangs(rotate: &[&str], file: &str) -> Result {
    let site = Site::new()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let Some(disk) = site.server.disk(&server.dir().join("keys"))? else {
        return not_shown("this user cannot mount a disk");
    };
    server.start()?;
    let (alice, bob) = (site.client(&server, "alice")?, site.client(&server, "bob")?);
    for (client, name) in [(&alice, "alice"), (&bob, "bob")] {
        site.open(&server, client, &[])?;
        site.close(&server, name)?;
    }
    // The disk is in the place of the server alone.
    let cat = format!("cat {}/keys/{file}", server.dir().display());
    let has_former =
        || -> Result<bool> { Ok(server.host().sh(&cat)?.ok()?.text().contains("[former]")) };
    server.keys(&[&["rotate"], rotate, &["--overlap", "3s"]].concat())?.ok()?;
    let frozen = disk.freeze()?;
    assert!(has_former()?, "not over before the disk hangs");

    std::thread::sleep(Duration::from_secs(4));
    // What ends is dealt with before the lease is renewed.
    let lease = || -> Result<Option<u64>> { Ok(server.status()?["journal"]["lease_ms"].as_u64()) };
    let mut before = lease()?;
    until("everything is looked at", LOOK, || {
        std::thread::sleep(Duration::from_millis(200));
        let (last, now) = (before, lease()?);
        before = now;
        Ok(now > last)
    })?;
    if rotate.contains(&"bob") {
        site.open(&server, &alice, &[])?;
    }
    assert!(has_former()?, "the disk hangs still");
    drop(frozen);
    until("they are taken out of the file", LOOK, || Ok(!has_former()?))?;
    Ok(())
}

#[test]
fn of_a_client() -> Result {
    keys_end_on_a_disk_that_hangs(&["psk", "bob"], "clients/bob.toml")
}

#[test]
fn of_the_server() -> Result {
    keys_end_on_a_disk_that_hangs(&["cloak"], "server.toml")
}

#[test]
fn what_ends_by_a_clock_that_is_ahead_goes_on_when_it_is_put_right() -> Result {
    let site = Site::new()?;
    let clock = site.lab.clock()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    server.start_by(&clock)?;
    let (alice, bob) = (site.client(&server, "alice")?, site.client(&server, "bob")?);
    for (client, name) in [(&alice, "alice"), (&bob, "bob")] {
        site.open(&server, client, &[])?;
        site.close(&server, name)?;
    }
    server.keys(&["rotate", "psk", "bob", "--overlap", "1h"])?.ok()?;
    server.keys(&["rotate", "cloak", "--overlap", "1h"])?.ok()?;
    server.spad(&["ban", "192.0.2.1", "--for", "1h"])?.ok()?;
    let has_former = |file: &str| -> Result<bool> {
        Ok(std::fs::read_to_string(server.dir().join(file))?.contains("[former]"))
    };
    let in_force = || -> Result<(bool, bool)> {
        let status = server.status()?;
        Ok((status["old_keys_until_unix_ms"].is_u64(), status["bans"] == 1))
    };
    until("the keys are known", LOOK, || Ok(in_force()? == (true, true)))?;

    clock.set(24 * 3600)?;
    until("they have ended", LOOK, || Ok(in_force()? == (false, false)))?;
    // Whoever writes would have done so by then.
    std::thread::sleep(Duration::from_secs(1));
    for file in ["keys/server.toml", "keys/clients/bob.toml"] {
        assert!(has_former(file)?, "{file}");
    }
    assert!(std::fs::read_to_string(server.dir().join("state/bans.json"))?.contains("192.0.2.1"));

    clock.set(0)?;
    until("they are in force again", LOOK, || Ok(in_force()? == (true, true)))?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    site.open(&server, &bob, &[])?;
    Ok(())
}
