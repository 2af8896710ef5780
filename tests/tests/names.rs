//! Names of the server: several addresses, one family, none.

use std::collections::BTreeSet;
use std::net::IpAddr;

use spa_tests::Result;
use spa_tests::lab::Addressing;
use spa_tests::product::{KNOCK_PORT, SERVER_NAME, Site};

/// Where knocks went.
fn targets(site: &Site, knock: impl FnOnce() -> Result<()>, count: usize) -> Result<Vec<IpAddr>> {
    let capture = site.client.capture()?;
    knock()?;
    let sent = capture.wait_for_udp(KNOCK_PORT, count)?;
    let mut targets: Vec<_> = sent.iter().map(|datagram| datagram.to.ip()).collect();
    targets.sort();
    Ok(targets)
}

#[test]
fn a_name_with_several_addresses_gets_a_knock_on_each() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.server.ip("addr add 10.0.0.200/24 dev eth0\n")?;
    let mut all = vec![site.server.v4()?, "10.0.0.200".parse()?, site.server.v6()?];
    all.sort();
    site.client.set_name(SERVER_NAME, &all)?;

    let sent = targets(&site, || alice.knock(&[])?.ok().map(drop), 3)?;
    assert_eq!(sent, all, "one datagram for each address");
    server.wait_for_counter("granted", 2)?;
    let sources: BTreeSet<_> = server.grants()?.iter().map(|grant| grant.source).collect();
    assert_eq!(sources, BTreeSet::from([site.client.v4()?, site.client.v6()?]));
    for address in all {
        assert!(site.client.connects((address, 22))?, "{address}");
        assert!(!site.stranger.connects((address, 22))?, "{address}");
    }
    Ok(())
}

#[test]
fn one_family_can_be_asked_for() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let (v4, v6) = (site.server.v4()?, site.server.v6()?);
    site.client.set_name(SERVER_NAME, &[v4, v6])?;
    assert_eq!(targets(&site, || alice.knock(&["-4"])?.ok().map(drop), 1)?, [v4]);
    assert_eq!(targets(&site, || alice.knock(&["-6"])?.ok().map(drop), 1)?, [v6]);
    Ok(())
}

#[test]
fn one_address_that_cannot_be_reached_does_not_matter() -> Result {
    let site = Site::with(Addressing::V4_ONLY)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.client.set_name(SERVER_NAME, &["2001:db8::1".parse()?, site.server.v4()?])?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn no_address_that_can_be_reached_is_an_error_that_names_them() -> Result {
    let site = Site::with(Addressing::V4_ONLY)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.client.set_name(SERVER_NAME, &["2001:db8::1".parse()?])?;
    let said = alice.knock(&[])?;
    assert!(!said.success() && said.stderr.contains("2001:db8::1"), "{said}");
    Ok(())
}

#[test]
fn a_name_that_does_not_resolve_is_an_error_that_names_it() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.client.set_name(SERVER_NAME, &[])?;
    let said = alice.knock(&[])?;
    assert!(!said.success() && said.stderr.contains(SERVER_NAME), "{said}");
    Ok(())
}

#[test]
fn a_server_nobody_enrolled_at_is_an_error_that_names_it() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let said = alice.spa(&["knock", "other.example"])?;
    assert!(!said.success() && said.stderr.contains("other.example"), "{said}");
    Ok(())
}

#[test]
fn hosts_are_listed_and_forgotten() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    assert!(alice.spa(&["hosts"])?.ok()?.stdout.contains(SERVER_NAME));
    alice.spa(&["forget", SERVER_NAME])?.ok()?;
    assert!(!alice.spa(&["hosts"])?.ok()?.stdout.contains(SERVER_NAME));
    assert!(!alice.knock(&[])?.success(), "forgotten");
    Ok(())
}
