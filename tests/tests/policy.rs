//! Who may do what: services, sources, dates, and whose address is opened.

use std::thread::sleep;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Addressing, Reach};
use spa_tests::product::{Service, Settings, Site};

const WEB: Service = Service { name: "web", port: 8080, ..Service::SSH };

#[test]
fn a_grant_for_one_service_opens_no_other() -> Result {
    let site = Site::new()?;
    let _web = site.server.echo_tcp(8080)?;
    let server = site.spad_with(&Settings::with_services(&[Service::SSH, WEB]))?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh,web"])?;
    assert!(!site.reaches(&site.client, 22)? && !site.reaches(&site.client, 8080)?);

    let grant = site.open(&server, &alice, &["--service", "web"])?;
    assert_eq!((grant.service.as_str(), grant.port()?), ("web", 8080));
    assert!(!site.reaches(&site.client, 22)?, "ssh was not asked for");

    site.open(&server, &alice, &["--service", "ssh"])?;
    assert!(site.reaches(&site.client, 22)? && site.reaches(&site.client, 8080)?);
    assert!(!site.reaches(&site.stranger, 22)? && !site.reaches(&site.stranger, 8080)?);
    Ok(())
}

#[test]
fn what_is_not_a_service_is_none_of_its_business() -> Result {
    let site = Site::new()?;
    let _other = site.server.echo_tcp(9000)?;
    let _server = site.spad()?;
    assert!(site.reaches(&site.stranger, 9000)?, "guard says nothing about other ports");
    assert_eq!(site.stranger.reach((site.address(), 9001))?, Reach::Refused);
    Ok(())
}

#[test]
fn a_udp_service_opens_as_well() -> Result {
    let site = Site::new()?;
    let _dns = site.server.echo_udp(53)?;
    let dns = Service { name: "dns", port: 53, protocol: "udp", ..Service::SSH };
    let server = site.spad_with(&Settings::with_services(&[dns]))?;
    let alice = site.client_with(&server, "alice", &["--service", "dns"])?;
    assert_eq!(site.client.reach_udp((site.address(), 53))?, Reach::Filtered);
    alice.knock(&["--service", "dns"])?.ok()?;
    server.wait_for_counter("granted", 1)?;
    assert_eq!(site.client.reach_udp((site.address(), 53))?, Reach::Open);
    assert_eq!(site.stranger.reach_udp((site.address(), 53))?, Reach::Filtered);
    Ok(())
}

#[test]
fn two_clients_have_their_own_rights() -> Result {
    let site = Site::new()?;
    let _web = site.server.echo_tcp(8080)?;
    let server = site.spad_with(&Settings::with_services(&[Service::SSH, WEB]))?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh"])?;
    let bob = site.client_with(&server, "bob", &["--service", "web"])?;

    site.open(&server, &alice, &["--service", "ssh"])?;
    site.refused(&server, &alice, &["--service", "web"], "service-not-allowed")?;
    assert!(!site.reaches(&site.client, 8080)?, "alice must not open web");
    site.close(&server, "alice")?;

    site.open(&server, &bob, &["--service", "web"])?;
    site.refused(&server, &bob, &["--service", "ssh"], "service-not-allowed")?;
    assert!(!site.reaches(&site.client, 22)?, "bob must not open ssh");
    Ok(())
}

#[test]
fn a_service_that_is_not_there_is_refused() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh,web"])?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    site.refused(&server, &alice, &["--service", "web"], "unknown-service")?;
    site.assert_shut(&server, &site.client, "there is no such service")
}

#[test]
fn a_source_outside_the_records_networks_is_refused() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let office = ["--service", "ssh", "--from", "192.0.2.0/24"];
    let alice = site.client_with(&server, "alice", &office)?;
    site.refused(&server, &alice, &[], "source-not-allowed")?;
    site.assert_shut(&server, &site.client, "not the office")?;

    let both = ["--service", "ssh", "--from", "192.0.2.0/24", "--from", "10.0.0.0/8"];
    let bob = site.client_with(&server, "bob", &both)?;
    site.open(&server, &bob, &[])?;
    Ok(())
}

#[test]
fn the_source_policy_holds_for_named_addresses_too() -> Result {
    let site = Site::with(Addressing::GLOBAL)?;
    let server = site.spad()?;
    let own = format!("{}/32", site.client.v4()?);
    let alice = site.client_with(&server, "alice", &["--service", "ssh", "--from", &own])?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    let other = site.stranger.v4()?.to_string();
    site.refused(&server, &alice, &["--source", &other], "source-not-allowed")?;
    site.assert_shut(&server, &site.stranger, "outside alice's networks")
}

#[test]
fn a_record_says_which_kind_of_address_may_be_opened() -> Result {
    let site = Site::with(Addressing::GLOBAL)?;
    let server = site.spad()?;
    let own = site.client.v4()?.to_string();
    for (name, kind, allowed, refused) in
        [("alice", "this", own.as_str(), "seen"), ("bob", "seen", "seen", own.as_str())]
    {
        let client = site.client_with(&server, name, &["--service", "ssh", "--address", kind])?;
        site.open(&server, &client, &["--source", allowed])?;
        site.close(&server, name)?;
        site.refused(&server, &client, &["--source", refused], "address-kind")?;
        site.assert_shut(&server, &site.client, kind)?;
    }
    Ok(())
}

#[test]
fn every_address_of_the_server_is_shut_except_to_itself() -> Result {
    let site = Site::new()?;
    let _server = site.spad()?;
    let link_local = site.server.interfaces()[0].link_local(&site.server)?;
    // Interface 2 is eth0: the first after lo.
    let link_local = std::net::SocketAddrV6::new(link_local, 22, 0, 2);
    assert!(
        site.client.reach_udp(std::net::SocketAddrV6::new(*link_local.ip(), 9, 0, 2))?
            == Reach::Refused
    );
    for target in
        [(site.server.v4()?, 22).into(), (site.server.v6()?, 22).into(), link_local.into()]
    {
        let target: std::net::SocketAddr = target;
        assert_eq!(site.client.reach(target)?, Reach::Filtered, "{target}");
    }
    for own in ["127.0.0.1", "::1", &site.server.v4()?.to_string()] {
        let own: std::net::IpAddr = own.parse()?;
        assert!(site.server.connects((own, 22))?, "{own} from the server itself");
    }
    Ok(())
}

#[test]
fn what_the_server_forwards_is_none_of_its_business() -> Result {
    let site = Site::new()?;
    let inner = site.lab.host("inner")?;
    site.lab.lan(&[&site.server, &inner])?;
    let _echo = inner.echo_tcp(22)?;
    site.server.forward()?;
    site.client.route_via(&site.server.v4()?)?;
    let inward = site.server.interfaces()[1].addresses().next();
    inner.route_via(&inward.unwrap_or(site.address()))?;
    let _server = site.spad()?;
    assert!(site.client.connects((inner.v4()?, 22))?, "somebody else's port 22");
    assert!(!site.reaches(&site.client, 22)?, "the server's own");
    Ok(())
}

#[test]
fn trusted_networks_need_no_knock() -> Result {
    let site = Site::new()?;
    let trusted = vec![format!("{}/32", site.client.v4()?)];
    let _server = site.spad_with(&Settings { trusted, ..Settings::default() })?;
    assert!(site.reaches(&site.client, 22)?, "trusted");
    assert!(!site.reaches(&site.stranger, 22)?, "not trusted");
    Ok(())
}

#[test]
fn a_client_whose_date_has_passed_is_refused() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let soon = site.server.run(["date", "-u", "-d", "+4 seconds", "+%FT%TZ"])?.ok()?;
    let options = ["--service", "ssh", "--expires", soon.text()];
    let alice = site.client_with(&server, "alice", &options)?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    sleep(Duration::from_secs(4));
    site.refused(&server, &alice, &[], "client-expired")?;
    site.assert_shut(&server, &site.client, "alice's time is over")
}
