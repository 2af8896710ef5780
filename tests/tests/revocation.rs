//! Taking rights back while the daemon runs.

use spa_tests::Result;
use spa_tests::product::Site;
use spa_tests::wait::{SOON, until};

#[test]
fn a_client_revoked_in_the_keys_loses_its_grant_and_its_next_knock() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "5m"])?;

    server.keys(&["revoke", "alice"])?.ok()?;
    let took = until("the grant is withdrawn", SOON, || Ok(server.grants()?.is_empty()))?;
    println!("grant gone {took:?} after spa-keys revoke");
    site.assert_shut(&server, &site.client, "revoked")?;

    let granted = server.counter("granted")?;
    alice.knock(&[])?.ok()?;
    server.wait_for_counter("unknown-client", 1)?;
    assert_eq!(server.counter("granted")?, granted, "no grant after revoking");
    site.assert_shut(&server, &site.client, "knock after revoking")
}

#[test]
fn a_client_revoked_while_the_daemon_is_down_stays_out() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    server.stop()?;
    server.keys(&["revoke", "alice"])?.ok()?;
    server.start()?;
    site.assert_shut(&server, &site.client, "revoked before the start")?;
    alice.knock(&[])?.ok()?;
    server.wait_for_counter("unknown-client", 1)?;
    site.assert_shut(&server, &site.client, "knock after revoking")
}

#[test]
fn revoking_grants_leaves_the_record() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    server.spad(&["revoke", "alice"])?.ok()?;
    site.assert_shut(&server, &site.client, "grant revoked")?;
    assert!(server.keys(&["list"])?.ok()?.stdout.contains("alice"), "the record stays");
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn revoking_one_of_two_clients_at_one_address_leaves_the_other() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (alice, bob) = (site.client(&server, "alice")?, site.client(&server, "bob")?);
    site.open(&server, &alice, &["--ttl", "5m"])?;
    site.open(&server, &bob, &["--ttl", "4m"])?;
    server.spad(&["revoke", "alice"])?.ok()?;
    let left = server.grants()?;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].client, "bob");
    assert!(site.reaches(&site.client, 22)?, "bob may still connect");
    server.spad(&["revoke", "bob"])?.ok()?;
    site.assert_shut(&server, &site.client, "nobody is left")
}

#[test]
fn revoking_nobody_is_an_error() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    for said in [server.spad(&["revoke", "nobody"])?, server.keys(&["revoke", "nobody"])?] {
        assert!(!said.success() && said.stderr.contains("nobody"), "{said}");
    }
    Ok(())
}

#[test]
fn a_client_added_while_the_daemon_runs_is_known_within_a_second() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    // The token is a line on its way to somebody: nobody knocks faster than the daemon looks.
    std::thread::sleep(std::time::Duration::from_secs(1));
    site.open(&server, &alice, &[])?;
    Ok(())
}
