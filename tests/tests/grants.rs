//! A grant: how long it lasts, for whom, and what is shown of it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use spa_tests::Result;
use spa_tests::lab::{Addressing, fail};
use spa_tests::product::{KNOCK_PORT, Knocker, Settings, Site, knocker};
use spa_tests::wait::{SOON, until};

#[test]
fn a_grant_lasts_as_long_as_was_asked_for() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let start = Instant::now();
    let grant = site.open(&server, &alice, &["--ttl", "4s"])?;
    assert!(grant.expires_in <= Duration::from_secs(4), "{grant:?}");
    until("shut again", SOON * 3, || Ok(!site.reaches(&site.client, 22)?))?;
    let took = start.elapsed();
    println!("a grant of 4 s: shut after {took:?}");
    assert!(took > Duration::from_millis(3900), "shut after {took:?}");
    site.assert_shut(&server, &site.client, "over")
}

#[test]
fn a_second_knock_extends_the_grant_and_makes_no_second() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "10s"])?;
    let extended = site.open(&server, &alice, &["--ttl", "2m"])?;
    assert_eq!(server.grants()?.len(), 1, "extended, not doubled");
    assert!(extended.expires_in > Duration::from_secs(100), "{extended:?}");
    let kept = site.open(&server, &alice, &["--ttl", "5s"])?;
    assert!(kept.expires_in > Duration::from_secs(90), "never shortened by a knock: {kept:?}");
    Ok(())
}

#[test]
fn a_grant_is_never_longer_than_the_record_and_the_service_allow() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh", "--max-ttl", "1m"])?;
    let bob = site.client(&server, "bob")?;
    let grant = site.open(&server, &alice, &["--ttl", "4m"])?;
    assert!(grant.expires_in <= Duration::from_secs(60), "the record's: {grant:?}");
    site.close(&server, "alice")?;
    let grant = site.open(&server, &bob, &["--ttl", "2h"])?;
    assert!(grant.expires_in <= Duration::from_secs(300), "the service's: {grant:?}");
    Ok(())
}

#[test]
fn a_grant_that_asks_for_nothing_lasts_as_its_record_says_else_its_service() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh", "--ttl", "10s"])?;
    let bob = site.client(&server, "bob")?;
    let grant = site.open(&server, &alice, &[])?;
    assert!(grant.expires_in <= Duration::from_secs(10), "the record's: {grant:?}");
    site.close(&server, "alice")?;
    let grant = site.open(&server, &bob, &[])?;
    assert!(grant.expires_in > Duration::from_secs(20), "the service's: {grant:?}");
    Ok(())
}

#[test]
fn an_address_that_is_named_is_opened_instead_of_the_senders() -> Result {
    let site = Site::with(Addressing::GLOBAL)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    let other = site.stranger.v4()?;
    alice.knock(&["--source", &other.to_string()])?.ok()?;
    server.wait_for_counter("granted", 2)?;
    assert_eq!(server.grants()?[0].source, other);
    assert!(site.reaches(&site.stranger, 22)?, "opened for the address that was named");
    assert!(!site.reaches(&site.client, 22)?, "not for the sender's");
    Ok(())
}

#[test]
fn the_address_you_see_is_the_packets() -> Result {
    let site = Site::with(Addressing::GLOBAL)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    let fresh = site.fresh_knock(&alice, &["--source", "seen"])?;
    let from = std::net::SocketAddr::new("203.0.113.77".parse()?, 4000);
    site.client.send_forged(&[fresh.from(from)])?;
    server.wait_for_counter("granted", 2)?;
    assert_eq!(server.grants()?[0].source, from.ip());
    Ok(())
}

/// Asked for by whoever does not ask `spa`, which does not even send some of these.
#[test]
fn addresses_that_are_nobodys_are_never_granted() -> Result {
    const NOBODYS: [&str; 14] = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "::ffff:192.0.2.1",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
    ];
    let site = Site::new()?;
    let server = site.spad()?;
    let asks = Knocker::new(&server, 0)?;
    until("it is known", SOON, || Ok(server.status()?["clients"] == 1))?;
    let mut sources: Vec<IpAddr> =
        NOBODYS.iter().map(|text| text.parse()).collect::<std::result::Result<_, _>>()?;
    // The server's own, and the broadcast address of its network.
    sources.extend(site.server.addresses());
    sources.push([10, 0, 0, 255].into());
    // Beside each of them one that can be granted, in the same family.
    let control = [IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse()?];
    for (number, source) in (0..).zip(sources) {
        let own = site.server.addresses().into_iter().find(|own| own.is_ipv4() == source.is_ipv4());
        let Some(to) = own else { return fail("no address of this family") };
        let knock = asks.knock(source, (to, KNOCK_PORT).into(), knocker::now()?, number)?;
        site.client.send_udp(&[knock])?;
        server.wait_for_counter("not-grantable", u64::from(number) + 1)?;
        assert_eq!(server.grants()?, [], "{source}");
    }
    for (number, source) in (1000..).zip(control) {
        let to = (site.server.addresses()[usize::from(source.is_ipv6())], KNOCK_PORT).into();
        site.client.send_udp(&[asks.knock(source, to, knocker::now()?, number)?])?;
    }
    server.wait_for_counter("granted", 2)?;
    Ok(())
}

#[test]
fn the_list_of_grants_has_what_people_and_programs_need() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    assert_eq!(server.spad(&["grants", "--json"])?.ok()?.text(), "[]");
    let alice = site.client(&server, "alice")?;
    let grant = site.open(&server, &alice, &[])?;
    assert_eq!((grant.client.as_str(), grant.service.as_str()), ("alice", "ssh"));
    assert_eq!(grant.ports, ["tcp/22"]);
    assert_eq!((grant.mode.as_str(), grant.source), ("window", site.client.v4()?));
    assert!(grant.expires_in <= Duration::from_secs(30) && !grant.expires_in.is_zero());
    let text = server.spad(&["grants"])?.ok()?.stdout;
    assert!(text.contains("alice") && text.contains(&site.client.v4()?.to_string()), "{text}");
    Ok(())
}

#[test]
fn the_status_has_what_people_and_programs_need() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let status = server.status()?;
    for key in ["mode", "capture", "ruleset", "grants", "counters", "journal", "clock", "processes"]
    {
        assert!(!status[key].is_null(), "{key} in {status}");
    }
    assert_eq!(status["mode"], "guard");
    assert_eq!(status["counters"]["granted"], 1);
    let text = server.spad(&["status"])?.ok()?.stdout;
    assert!(text.contains("guard"), "{text}");
    Ok(())
}

#[test]
fn the_tolerance_is_the_configured_one() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&Settings { tolerance: "5s", ..Settings::default() })?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    site.refused(&server, &alice.with_clock("+8s"), &[], "stale")?;
    Ok(())
}
