//! Tokens on their way: under a passphrase, withdrawn, made anew.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::product::{Client, SERVER_NAME, Server, Site};
use spa_tests::wait::{SOON, until};

const ALICE: [&str; 4] = ["add", "alice", "--service", "ssh"];

/// Knocks with a token that is none any more, until the daemon says that it knows nobody of it.
fn nobody(site: &Site, server: &Server, client: &Client) -> Result {
    let (before, granted) = (server.counter("unknown-client")?, server.counter("granted")?);
    until("the record is gone", SOON, || {
        client.knock(&[])?.ok()?;
        sleep(Duration::from_millis(100));
        Ok(server.counter("unknown-client")? > before)
    })?;
    assert_eq!(server.counter("granted")?, granted);
    site.assert_shut(server, &site.client, "the token is of nobody")
}

#[test]
fn a_token_under_a_passphrase_enrols() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let file = site.lab.dir().join("passphrase");
    fs::write(&file, "correct horse\n")?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    let with_file = ["--passphrase-file", &*file.to_string_lossy()];
    let sealed = server.keys(&[&ALICE[..], &with_file].concat())?.ok()?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    let said = alice.enroll(sealed.text())?;
    assert!(!said.success() && said.stderr.contains("--passphrase-file"), "{said}");
    let enroll = [&["enroll", "-"][..], &with_file].concat();
    alice.spa_with_input(&enroll, sealed.text())?.ok()?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn a_withdrawn_token_enrols_nobody() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let token = server.add("alice", &["--service", "ssh"])?;
    let pending = server.keys(&["pending", "--json"])?.ok()?;
    assert!(pending.stdout.contains("\"alice\""), "{pending}");
    let early = Client::new(&site.client, "early", SERVER_NAME);
    early.enroll(&token)?.ok()?;
    server.keys(&["withdraw", "alice"])?.ok()?;
    assert_eq!(server.keys(&["pending", "--json"])?.ok()?.text(), "[]");
    nobody(&site, &server, &early)?;
    let late = Client::new(&site.client, "late", SERVER_NAME);
    late.enroll(&token)?.ok()?;
    nobody(&site, &server, &late)?;
    let waited = late.knock(&["--wait=1"])?;
    assert!(!waited.success() && waited.stderr.contains("withdrawn or renewed"), "{waited}");
    Ok(())
}

#[test]
fn a_renewed_token_enrols_and_the_one_before_does_not() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let before = server.add("alice", &["--service", "ssh"])?;
    let after = server.keys(&["renew", "alice"])?.ok()?;
    let thief = Client::new(&site.client, "thief", SERVER_NAME);
    thief.enroll(&before)?.ok()?;
    nobody(&site, &server, &thief)?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    alice.enroll(after.text())?.ok()?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    nobody(&site, &server, &thief)?;
    let again = server.keys(&["renew", "alice"])?;
    assert!(!again.success() && again.stderr.contains("has enrolled"), "{again}");
    site.open(&server, &alice, &[])?;
    Ok(())
}

/// The person at the client is told what the server has no way to answer.
#[test]
fn what_a_token_says_of_time_is_what_is_granted() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    for (name, options, seconds) in [
        ("alice", &["--service", "ssh"][..], 30),
        ("bob", &["--service", "ssh", "--ttl", "2m"], 120),
    ] {
        let client = Client::new(&site.client, name, SERVER_NAME);
        client.enroll(&server.add(name, options)?)?.ok()?;
        let told = client.knock(&["--json", "--wait"])?.ok()?;
        assert!(told.stdout.contains(&format!("\"ttl_s\":{seconds},")), "{told}");
        let grants = server.grants()?;
        let granted =
            grants.iter().find(|grant| grant.client == name).map(|grant| grant.expires_in);
        let (most, least) = (Duration::from_secs(seconds), Duration::from_secs(seconds / 4));
        assert!(granted.is_some_and(|left| left <= most && left > least), "{granted:?}");
    }
    Ok(())
}
