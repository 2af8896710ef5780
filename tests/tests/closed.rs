//! When something is wrong, protected services stay shut, and it is said.

use std::fs;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::program;
use spa_tests::product::{Server, Settings, Site};
use spa_tests::wait::{SOON, until};

/// Spoils a server that has run before and lost its table, as after a boot; then starts it.
fn a_start_that_fails(spoil: &str, why: &str) -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    server.stop()?;
    site.server.nft("delete table inet spad")?.ok()?;
    assert!(site.reaches(&site.stranger, 22)?, "open before, as after a boot without spad");
    site.server.sh(&format!("cd {} && {spoil}", server.dir().display()))?.ok()?;
    server.launch()?;
    assert!(!server.wait()?.success(), "{why}");
    assert!(server.log().contains(why), "{why}: {}", server.log());
    assert!(!site.reaches(&site.stranger, 22)?, "shut although spad did not start: {why}");
    Ok(())
}

#[test]
fn a_start_that_fails_leaves_the_service_shut() -> Result {
    a_start_that_fails("chmod 644 keys/server.toml", "chmod 600")?;
    a_start_that_fails("for f in state/lease-*; do head -c 8192 /dev/zero > $f; done", "damaged")?;
    a_start_that_fails("rm -r keys", "spa-keys")
}

#[test]
fn a_keys_directory_that_is_replaced_is_followed() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let keys = server.dir().join("keys");
    let swap =
        format!("cd {} && cp -a keys copy && mv keys old && mv copy keys", server.dir().display());
    site.server.sh(&swap)?.ok()?;
    fs::remove_file(keys.join("clients/alice.toml"))?;
    server.spad(&["reload"])?.ok()?;
    until("the grant has ended", SOON, || Ok(server.grants()?.is_empty()))?;
    site.refused(&server, &alice, &[], "unknown-client")
}

#[test]
fn a_gatekeeper_that_does_not_answer_does_not_count_as_listening() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let gatekeeper = gatekeeper(&server)?;
    site.server.sh(&format!("kill -STOP {gatekeeper}"))?.ok()?;
    assert_eq!(server.spad(&["status"])?.code(), Some(1));
    site.server.sh(&format!("kill -CONT {gatekeeper}"))?.ok()?;
    until("it answers again", SOON, || Ok(server.spad(&["status"])?.success()))?;
    Ok(())
}

fn gatekeeper(server: &Server) -> Result<String> {
    let status = server.status()?;
    let processes = status["processes"].as_array().cloned().unwrap_or_default();
    let found = processes.iter().find(|process| process["role"] == "gatekeeper");
    Ok(found.map(|process| process["pid"].to_string()).unwrap_or_default())
}

#[test]
fn an_interface_that_comes_with_a_knock_is_not_missed() -> Result {
    let site = Site::new()?;
    let settings = Settings { interfaces: vec!["eth0", "late0"], ..Settings::default() };
    let server = site.spad_with(&settings)?;
    let alice = site.client(&server, "alice")?;
    for _ in 0..5 {
        site.open(&server, &alice, &["--ttl", "1s"])?;
        site.server.sh("ip link add late0 type veth peer name peer0")?.ok()?;
        alice.knock(&["--ttl", "1s"])?.ok()?;
        let missing =
            || Ok(server.status()?["capture"]["missing"].as_array().is_some_and(Vec::is_empty));
        until("late0 is heard", Duration::from_secs(3), missing)?;
        site.server.sh("ip link del late0")?.ok()?;
    }
    Ok(())
}

#[test]
fn a_daemon_whose_log_nobody_reads_goes_on() -> Result {
    let site = Site::new()?;
    let server = Server::new(&site.server, "fw.example", &Settings::default())?;
    let spad = program("spad")?;
    let line = format!(
        "{} run --config {} 2>&1 | head -n 1",
        spad.display(),
        server.config_path().display()
    );
    let _running = site.server.spawn(["sh", "-c", &line])?;
    until("it is up", Duration::from_secs(10), || Ok(server.spad(&["status"])?.success()))?;
    for _ in 0..3 {
        server.spad(&["reload"])?.ok()?;
    }
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}
