//! Several clients behind one address: each holds a grant of its own, and the
//! kernel's element is theirs in common.

use std::collections::BTreeMap;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::Addressing;
use spa_tests::product::{Client, Server, Service, Settings, Site};
use spa_tests::wait::{SOON, until};

/// Who holds a grant, and for how long still.
fn holders(server: &Server) -> Result<BTreeMap<String, Duration>> {
    Ok(server.grants()?.into_iter().map(|grant| (grant.client, grant.expires_in)).collect())
}

fn two_clients<'site>(site: &'site Site, server: &Server) -> Result<[Client<'site>; 2]> {
    Ok([site.client(server, "alice")?, site.client(server, "bob")?])
}

#[test]
fn the_longer_time_wins() -> Result {
    for family in [Addressing::V4_ONLY, Addressing::V6_ONLY] {
        let site = Site::with(family)?;
        let server = site.spad()?;
        let [alice, bob] = two_clients(&site, &server)?;
        site.open(&server, &alice, &["--ttl", "8s"])?;
        site.open(&server, &bob, &["--ttl", "2s"])?;
        until("bob's ends", SOON * 2, || Ok(!holders(&server)?.contains_key("bob")))?;
        assert!(site.reaches(&site.client, 22)?, "alice's is longer");
        site.wait_until_ended(&server, SOON * 4)?;
    }
    Ok(())
}

#[test]
fn the_one_who_stays_has_its_own_time() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let [alice, bob] = two_clients(&site, &server)?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    site.open(&server, &bob, &["--ttl", "4s"])?;
    server.spad(&["revoke", "alice"])?.ok()?;
    assert!(site.reaches(&site.client, 22)?, "bob's");
    site.wait_until_ended(&server, SOON * 3)
}

#[test]
fn who_holds_what_is_known_after_a_restart_and_after_kill_9() -> Result {
    for family in [Addressing::V4_ONLY, Addressing::V6_ONLY] {
        let site = Site::with(family)?;
        let mut server = site.spad()?;
        let [alice, bob] = two_clients(&site, &server)?;
        site.open(&server, &alice, &["--ttl", "4m"])?;
        site.open(&server, &bob, &["--ttl", "2m"])?;
        let before = holders(&server)?;
        for kill in [false, true] {
            if kill {
                server.kill9()?;
                server.start()?;
            } else {
                server.restart()?;
            }
            let after = holders(&server)?;
            assert_eq!(after.len(), 2, "{after:?}");
            for (client, left) in &after {
                assert!(*left < before[client], "{client}: {left:?} of {before:?}");
                assert!(*left + Duration::from_secs(60) > before[client], "{after:?}");
            }
        }
        server.spad(&["revoke", "alice"])?.ok()?;
        assert_eq!(holders(&server)?.keys().collect::<Vec<_>>(), ["bob"]);
        assert!(site.reaches(&site.client, 22)?, "bob's");
        site.close(&server, "bob")?;
        site.assert_shut(&server, &site.client, "nobody is left")?;
    }
    Ok(())
}

#[test]
fn a_revoked_grant_stays_revoked_after_kill_9() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let [alice, bob] = two_clients(&site, &server)?;
    site.open(&server, &alice, &["--ttl", "4m"])?;
    site.open(&server, &bob, &["--ttl", "2m"])?;
    server.spad(&["revoke", "alice"])?.ok()?;
    server.kill9()?;
    server.start()?;
    assert_eq!(holders(&server)?.keys().collect::<Vec<_>>(), ["bob"]);
    Ok(())
}

#[test]
fn grants_of_a_service_that_is_gone_end_with_it() -> Result {
    let site = Site::new()?;
    let _web = site.server.echo_tcp(8080)?;
    let web = Service { name: "web", port: 8080, ..Service::SSH };
    let both = Settings::with_services(&[Service::SSH, web]);
    let mut server = site.spad_with(&both)?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh,web"])?;
    for restart in [false, true] {
        site.grant(&server, &alice, &["--service", "ssh,web", "--ttl", "5m"])?;
        server.configure(&Settings::default())?;
        if restart {
            server.restart()?
        } else {
            drop(server.spad(&["reload"])?.ok()?)
        }
        let left = server.grants()?;
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].service, "ssh", "the other one stays");
        server.configure(&both)?;
        server.spad(&["reload"])?.ok()?;
        assert!(!site.reaches(&site.client, 8080)?, "gone for good");
        site.close(&server, "alice")?;
    }
    Ok(())
}

/// Where connections end with their grants, that is with the last grant that lets them in.
#[test]
fn a_connection_ends_with_the_last_grant_for_its_address_whoever_knocked_last() -> Result {
    let site = Site::new()?;
    let _echo = site.server.echo_tcp(7)?;
    let more = "[service.echo]\nport = 7\ncut-on-expiry = true\n".to_owned();
    let mut server = site.spad_with(&Settings { more, ..Settings::default() })?;
    let service = ["--service", "echo"];
    let [mallory, bob] = ["mallory", "bob"].map(|name| site.client_with(&server, name, &service));
    let (mallory, bob) = (mallory?, bob?);
    site.grant(&server, &bob, &["--service", "echo", "--ttl", "14s"])?;
    site.grant(&server, &mallory, &["--service", "echo", "--ttl", "1s"])?;
    let mut held = site.client.hold((site.address(), 7))?;
    let began = std::time::Instant::now();
    until("hers is over", SOON * 2, || Ok(!holders(&server)?.contains_key("mallory")))?;
    assert!(held.is_alive("his"), "his lets it in");
    server.restart()?;
    assert!(holders(&server)?.contains_key("bob"), "after {:?}", began.elapsed());
    assert!(held.is_alive("still"), "after a restart as well");
    until("his is over", SOON * 6, || Ok(holders(&server)?.is_empty()))?;
    until("and the connection", SOON, || Ok(!server.spad(&["sessions"])?.stdout.contains("echo")))?;
    assert!(!held.is_alive("after"));
    Ok(())
}

#[test]
fn a_connection_ends_when_the_last_grant_for_its_address_is_taken_back() -> Result {
    let site = Site::new()?;
    let _echo = site.server.echo_tcp(7)?;
    let more = "[service.echo]\nport = 7\ncut-on-expiry = true\n".to_owned();
    let server = site.spad_with(&Settings { more, ..Settings::default() })?;
    let service = ["--service", "echo"];
    let bob = site.client_with(&server, "bob", &service)?;
    let mallory = site.client_with(&server, "mallory", &service)?;
    site.grant(&server, &bob, &["--service", "echo", "--ttl", "5m"])?;
    site.grant(&server, &mallory, &["--service", "echo", "--ttl", "1s"])?;
    let mut held = site.client.hold((site.address(), 7))?;
    until("hers is over", SOON * 2, || Ok(!holders(&server)?.contains_key("mallory")))?;
    assert!(held.is_alive("his"));
    server.spad(&["revoke", "bob"])?.ok()?;
    assert!(!held.is_alive("after"), "nothing lets it in any more");
    Ok(())
}
