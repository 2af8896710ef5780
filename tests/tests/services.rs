//! Services with several ports, and knocks for several services.

use spa_tests::Result;
use spa_tests::lab::{Addressing, Reach, Running};
use spa_tests::product::{Service, Settings, Site};

const PORTS: &str = "
[service.ssh]
ports = [22, \"5000-5100\", \"udp/60000-60010\"]

[service.beside]
ports = [4999, 5101, 60000, \"udp/22\", \"udp/59999\", \"udp/60011\"]
";

fn settings() -> Settings {
    Settings { more: PORTS.into(), ..Settings::with_services(&[]) }
}

fn echoes(site: &Site) -> Result<Vec<Running>> {
    let tcp = [4999, 5000, 5050, 5100, 5101, 60_000].map(|port| site.server.echo_tcp(port));
    let udp = [22, 59_999, 60_000, 60_010, 60_011].map(|port| site.server.echo_udp(port));
    tcp.into_iter().chain(udp).collect()
}

fn udp(site: &Site, port: u16) -> Result<bool> {
    Ok(site.client.reach_udp((site.address(), port))? == Reach::Open)
}

#[test]
fn one_knock_opens_all_ports_of_the_service_and_nothing_beside() -> Result {
    for family in [Addressing::V4_ONLY, Addressing::V6_ONLY] {
        let site = Site::with(family)?;
        let _echoes = echoes(&site)?;
        let server = site.spad_with(&settings())?;
        let alice = site.client(&server, "alice")?;
        assert!(!site.reaches(&site.client, 5050)? && !udp(&site, 60_000)?, "shut before");
        let grant = site.open(&server, &alice, &[])?;
        assert_eq!(grant.ports, ["tcp/22", "tcp/5000-5100", "udp/60000-60010"]);
        for port in [22, 5000, 5050, 5100] {
            assert!(site.reaches(&site.client, port)?, "tcp/{port}");
            assert!(!site.reaches(&site.stranger, port)?, "tcp/{port} for a stranger");
        }
        for port in [60_000, 60_010] {
            assert!(udp(&site, port)?, "udp/{port}");
        }
        for port in [4999, 5101, 60_000] {
            assert!(!site.reaches(&site.client, port)?, "tcp/{port}");
        }
        for port in [22, 59_999, 60_011] {
            assert!(!udp(&site, port)?, "udp/{port}");
        }
    }
    Ok(())
}

#[test]
fn a_port_stands_for_its_service() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let server = site.spad_with(&settings())?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--service", "tcp/5050"])?;
    assert!(udp(&site, 60_010)?, "all of the service");
    Ok(())
}

#[test]
fn a_knock_for_several_services_opens_each() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let server = site.spad_with(&settings())?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh,beside"])?;
    site.grant(&server, &alice, &["--service", "ssh,beside"])?;
    let names: Vec<_> = server.grants()?.into_iter().map(|grant| grant.service).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for port in [22, 4999, 5000, 5101] {
        assert!(site.reaches(&site.client, port)?, "tcp/{port}");
    }
    Ok(())
}

#[test]
fn one_service_that_is_refused_refuses_all() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let server = site.spad_with(&settings())?;
    let alice = site.client(&server, "alice")?;
    for (services, why) in [
        ("ssh,beside", "service-not-allowed"),
        ("beside,ssh", "service-not-allowed"),
        ("ssh,elsewhere", "unknown-service"),
    ] {
        site.refused(&server, &alice, &["--service", services], why)?;
        assert!(!site.reaches(&site.client, 4999)?, "{services}");
        site.assert_shut(&server, &site.client, services)?;
    }
    Ok(())
}

#[test]
fn a_reload_without_a_service_ends_its_grants_and_complains_of_nothing() -> Result {
    let site = Site::with(Addressing::V4_ONLY)?;
    let echo = Service { name: "echo", port: 7, ..Service::SSH };
    let server = site.spad_with(&Settings::with_services(&[Service::SSH, echo]))?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh,echo"])?;
    alice.knock(&["--all-services", "--ttl", "5m"])?.ok()?;
    server.wait_for_counter("granted", 1)?;
    assert_eq!(server.grants()?.len(), 2);
    server.configure(&Settings::default())?;
    server.spad(&["reload"])?.ok()?;
    let left: Vec<_> = server.grants()?.into_iter().map(|grant| grant.service).collect();
    assert_eq!(left, ["ssh"]);
    assert!(site.reaches(&site.client, 22)?, "the other stays");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    Ok(())
}
