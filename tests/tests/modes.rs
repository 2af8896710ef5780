//! Grant modes: how often a knock lets in, and from which port.

use std::net::SocketAddr;

use spa_tests::Result;
use spa_tests::lab::{Addressing, Host, Lab};
use spa_tests::product::{Client, SERVER_NAME, Server, Service, Settings, Site};

const FAMILIES: [Addressing; 2] = [Addressing::V4_ONLY, Addressing::V6_ONLY];

/// Settings whose service grants single connections unless asked otherwise.
fn once_by_default() -> Settings {
    let more = "[service.ssh]\nport = 22\nmode = \"once\"\n".to_owned();
    Settings { more, ..Settings::with_services(&[]) }
}

#[test]
fn window_lets_in_any_number_of_connections() -> Result {
    for family in FAMILIES {
        let site = Site::with(family)?;
        let server = site.spad()?;
        let alice = site.client(&server, "alice")?;
        assert_eq!(site.grant(&server, &alice, &[])?.mode, "window", "by default");
        for _ in 0..3 {
            assert!(site.reaches(&site.client, 22)?);
        }
        assert!(!site.reaches(&site.stranger, 22)?);
    }
    Ok(())
}

#[test]
fn once_lets_in_one_connection_for_each_knock() -> Result {
    for family in FAMILIES {
        let site = Site::with(family)?;
        let server = site.spad()?;
        let alice = site.client(&server, "alice")?;
        for _ in 0..2 {
            assert_eq!(site.grant(&server, &alice, &["--mode", "once"])?.mode, "once");
            assert!(!site.reaches(&site.stranger, 22)?, "not for others");
            let mut session = site.client.hold((site.address(), 22))?;
            assert!(!site.reaches(&site.client, 22)?, "used up");
            assert!(session.is_alive("still"), "the one connection lives on");
        }
    }
    Ok(())
}

#[test]
fn the_service_says_the_mode_and_the_client_another() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&once_by_default())?;
    let alice = site.client(&server, "alice")?;
    assert_eq!(site.grant(&server, &alice, &[])?.mode, "once");
    assert!(site.reaches(&site.client, 22)? && !site.reaches(&site.client, 22)?);
    assert_eq!(site.grant(&server, &alice, &["--mode", "window"])?.mode, "window");
    assert!(site.reaches(&site.client, 22)? && site.reaches(&site.client, 22)?);
    Ok(())
}

#[test]
fn a_record_without_the_mode_is_refused() -> Result {
    for family in FAMILIES {
        let site = Site::with(family)?;
        let server = site.spad()?;
        let bound = ["--mode", "bound", "--source-port", "40000"];
        for (allowed, asked) in [
            ("once", &["--mode", "window"][..]),
            ("window,bound", &["--mode", "once"]),
            ("window,once", &bound),
            ("bound", &[]),
        ] {
            let name = allowed.replace(',', "-");
            let client =
                site.client_with(&server, &name, &["--service", "ssh", "--modes", allowed])?;
            site.refused(&server, &client, asked, "mode-not-allowed")?;
            site.assert_shut(&server, &site.client, &format!("{asked:?} of {allowed}"))?;
        }
    }
    Ok(())
}

/// A grant that neither says is one that the record allows.
#[test]
fn a_record_without_the_services_mode_gets_one_that_it_has() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice =
        site.client_with(&server, "alice", &["--service", "ssh", "--modes", "once,bound"])?;
    assert_eq!(site.grant(&server, &alice, &[])?.mode, "once");
    Ok(())
}

#[test]
fn bound_lets_in_from_its_port_alone() -> Result {
    for family in FAMILIES {
        let site = Site::with(family)?;
        let server = site.spad()?;
        let alice = site.client(&server, "alice")?;
        let grant = site.grant(&server, &alice, &["--mode", "bound", "--source-port", "40000"])?;
        assert_eq!(grant.mode, "bound");
        assert!(!site.reaches(&site.client, 22)?, "another port");
        assert_eq!(connects_through_proxy(&alice, &["--no-fallback"])?, "bound");
    }
    Ok(())
}

// Several clients behind one address share one element.

#[test]
fn two_unused_grants_for_one_address_are_one_connection() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (alice, bob) = (site.client(&server, "alice")?, site.client(&server, "bob")?);
    site.grant(&server, &alice, &["--mode", "once"])?;
    site.grant(&server, &bob, &["--mode", "once"])?;
    assert_eq!(server.grants()?.len(), 2, "each has its own");
    assert!(site.reaches(&site.client, 22)? && !site.reaches(&site.client, 22)?);
    site.grant(&server, &alice, &["--mode", "once"])?;
    assert!(site.reaches(&site.client, 22)?, "a new knock, a new connection");
    Ok(())
}

/// Ending one of two shortens what they share: that must not count as unused.
#[test]
fn the_end_of_anothers_grant_is_no_second_use() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (alice, bob) = (site.client(&server, "alice")?, site.client(&server, "bob")?);
    for _ in 0..2 {
        site.grant(&server, &alice, &["--mode", "once", "--ttl", "5m"])?;
        site.grant(&server, &bob, &["--mode", "once", "--ttl", "1m"])?;
        assert!(site.reaches(&site.client, 22)?, "bob's");
        server.spad(&["revoke", "alice"])?.ok()?;
        assert!(!site.reaches(&site.client, 22)?, "used up, whoever is revoked");
        server.spad(&["revoke", "bob"])?.ok()?;
    }
    site.grant(&server, &alice, &["--mode", "once", "--ttl", "5m"])?;
    site.grant(&server, &bob, &["--mode", "once", "--ttl", "1m"])?;
    server.spad(&["revoke", "alice"])?.ok()?;
    assert!(site.reaches(&site.client, 22)?, "bob's is unused, and stays");
    Ok(())
}

/// Nobody can tell whether it was used before somebody took it away.
#[test]
fn a_used_grant_does_not_come_back_with_the_table() -> Result {
    let site = Site::new()?;
    let more = format!("{}\n[firewall]\nown-table = false\n", once_by_default().more);
    let server = site.spad_with(&Settings { more, ..Settings::with_services(&[]) })?;
    let alice = site.client(&server, "alice")?;
    site.grant(&server, &alice, &["--ttl", "5m"])?;
    assert!(site.reaches(&site.client, 22)?);
    let repairs = |status: serde_json::Value| status["ruleset"]["repairs"].as_u64();
    for time in 1..=2 {
        site.server.run(["nft", "flush", "ruleset"])?.ok()?;
        spa_tests::wait::until("put back", spa_tests::wait::SOON, || {
            Ok(repairs(server.status()?) >= Some(time))
        })?;
        assert!(!site.reaches(&site.client, 22)?, "flushed {time} times");
    }
    Ok(())
}

// Bound, through address translation

/// Two users behind one router, and a server outside.
struct Behind {
    user: Host,
    neighbour: Host,
    server: Host,
    router: Host,
    _lab: Lab,
}

/// The router translates in these words of nft.
fn behind_nat(outside: Addressing, translation: &str) -> Result<Behind> {
    let lab = Lab::new()?;
    let (user, neighbour) = (lab.host("user")?, lab.host("neighbour")?);
    let (router, server) = (lab.host("router")?, lab.host("server")?);
    let inside = if outside == Addressing::V6_ONLY { outside } else { Addressing::V4_ONLY };
    lab.lan_with(inside, &[&router, &user, &neighbour])?;
    lab.lan_with(outside, &[&router, &server])?;
    router.forward()?;
    router
        .nft(&format!(
            "table inet nat {{\n chain out {{\n type nat hook postrouting priority srcnat\n \
             oifname \"eth1\" {translation}\n }}\n}}\n"
        ))?
        .ok()?;
    for host in [&user, &neighbour] {
        host.route_via(&router.addresses()[0])?;
        host.set_name(SERVER_NAME, &server.addresses())?;
    }
    Ok(Behind { user, neighbour, server, router, _lab: lab })
}

impl Behind {
    fn spad(&self) -> Result<Server<'_>> {
        let mut spad =
            Server::new(&self.server, SERVER_NAME, &Settings::with_services(&[Service::SSH]))?;
        spad.start()?;
        Ok(spad)
    }

    fn client(&self, spad: &Server, name: &str, modes: &str) -> Result<Client<'_>> {
        let client = Client::new(&self.user, name, SERVER_NAME);
        client.enroll(&spad.add(name, &["--service", "ssh", "--modes", modes])?)?.ok()?;
        Ok(client)
    }
}

/// Sends a word through `spa proxy --mode bound`; in which mode it came back.
fn connects_through_proxy(client: &Client, options: &[&str]) -> Result<&'static str> {
    let words =
        [&["proxy", SERVER_NAME, "22", "--service", "ssh", "--mode", "bound", "-v"], options]
            .concat();
    let said = client.spa_with_input(&words, "hello\n")?;
    Ok(
        match (
            said.success() && said.stdout == "hello\n",
            said.stderr.contains("asking for one once"),
        ) {
            (true, false) => "bound",
            (true, true) => "once",
            (false, _) => "not at all",
        },
    )
}

#[test]
fn bound_works_where_the_router_keeps_ports() -> Result {
    for family in FAMILIES {
        let net = behind_nat(family, "masquerade")?;
        let _echo = net.server.echo_tcp(22)?;
        let spad = net.spad()?;
        let alice = net.client(&spad, "alice", "bound")?;
        assert_eq!(connects_through_proxy(&alice, &["--no-fallback", "--ttl", "5m"])?, "bound");
        assert_eq!(spad.grants()?[0].mode, "bound");
        let ssh = (net.server.addresses()[0], 22);
        assert!(!net.neighbour.connects(ssh)?, "the neighbour has the same address");
        assert!(!net.user.connects(ssh)?, "and this another port");
    }
    Ok(())
}

#[test]
fn bound_falls_back_to_once_where_the_router_changes_ports() -> Result {
    for family in FAMILIES {
        let net = behind_nat(family, "masquerade fully-random")?;
        let _echo = net.server.echo_tcp(22)?;
        let spad = net.spad()?;
        let alice = net.client(&spad, "alice", "bound,once")?;
        assert_eq!(connects_through_proxy(&alice, &["--no-fallback"])?, "not at all");
        assert_eq!(connects_through_proxy(&alice, &["--ttl", "5m"])?, "once");
        let ssh = (net.server.addresses()[0], 22);
        assert!(!net.neighbour.connects(ssh)? && !net.user.connects(ssh)?, "used up");
    }
    Ok(())
}

#[test]
fn bound_does_not_fall_back_to_what_the_record_forbids() -> Result {
    let net = behind_nat(Addressing::V4_ONLY, "masquerade fully-random")?;
    let _echo = net.server.echo_tcp(22)?;
    let spad = net.spad()?;
    let alice = net.client(&spad, "alice", "bound")?;
    assert_eq!(connects_through_proxy(&alice, &[])?, "not at all");
    assert!(spad.counter("mode-not-allowed")? > 0, "it has asked for another");
    Ok(())
}

/// Whether a host can connect from this port of its own.
fn connects_from(host: &Host, port: u16, to: SocketAddr) -> Result<bool> {
    let (any, to) = (if to.is_ipv4() { "0.0.0.0" } else { "::" }, (to.ip(), to.port()));
    let connect = format!(
        "import socket; socket.create_connection(('{}', {}), 0.7, ('{any}', {port}))",
        to.0, to.1
    );
    Ok(host.run(["python3", "-c", &connect])?.success())
}

/// What `once` leaves open, and what it does not: the winner has one connection and no second, and
/// the client notices, since it is the one who is not served.
#[test]
fn a_neighbour_who_wins_the_race_for_once_has_one_connection_and_the_next_knock_is_served() -> Result
{
    for family in FAMILIES {
        let net = behind_nat(family, "masquerade")?;
        let _echo = net.server.echo_tcp(22)?;
        let spad = net.spad()?;
        let alice = net.client(&spad, "alice", "once")?;
        let ssh = (net.server.addresses()[0], 22);
        alice.knock(&["--ttl", "5m"])?.ok()?;
        spad.wait_for_counter("granted", 1)?;
        assert!(net.neighbour.connects(ssh)?, "whoever comes first from this address");
        assert!(!net.user.connects(ssh)? && !net.neighbour.connects(ssh)?, "used up");
        alice.knock(&["--ttl", "5m"])?.ok()?;
        spad.wait_for_counter("granted", 2)?;
        assert!(net.user.connects(ssh)?, "one knock, one connection");
        assert!(!net.neighbour.connects(ssh)?, "used up again");
    }
    Ok(())
}

/// The router sends and receives at the address that is granted. No packet filter can tell it from
/// its users; with `bound` it has to know the port, which is inside the encryption.
#[test]
fn who_is_on_the_path_can_connect_in_the_clients_place_with_bound_only_from_its_port() -> Result {
    const PORT: u16 = 40_000;
    for family in FAMILIES {
        let net = behind_nat(family, "masquerade")?;
        let _echo = net.server.echo_tcp(22)?;
        let spad = net.spad()?;
        let alice = net.client(&spad, "alice", "window,bound")?;
        let ssh = SocketAddr::new(net.server.addresses()[0], 22);
        alice.knock(&["--mode", "window"])?.ok()?;
        spad.wait_for_counter("granted", 1)?;
        assert!(net.router.connects(ssh)?, "{}: not met", family_of(ssh));
        spad.spad(&["revoke", "alice"])?.ok()?;
        assert!(!net.router.connects(ssh)?, "{}: with the grant it is over", family_of(ssh));
        let port = PORT.to_string();
        alice.knock(&["--mode", "bound", "--source-port", &port])?.ok()?;
        spad.wait_for_counter("granted", 2)?;
        assert!(!net.router.connects(ssh)?, "{}: some port", family_of(ssh));
        assert!(!connects_from(&net.router, PORT + 1, ssh)?, "{}: the next", family_of(ssh));
        assert!(connects_from(&net.router, PORT, ssh)?, "{}: its port", family_of(ssh));
    }
    Ok(())
}

fn family_of(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
