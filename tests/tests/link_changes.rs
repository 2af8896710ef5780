//! Interfaces that go down, come up, are renamed, deleted and made again, and get other addresses
//! and sizes: over IPv4 and IPv6, for a named interface and for `any`. Knocks are heard again, the
//! port stays shut, nobody spins and nothing leaks.

use std::net::IpAddr;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Host, Lab, Lan};
use spa_tests::product::{Client, Health, SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

/// How long until a knock is heard after a change: the daemon is told of it.
const HEARD: Duration = SOON;

/// What happens to `eth0`, as lines of `ip`; `V6` is its IPv6 address, which the kernel forgets
/// with the link.
const CHANGES: [(&str, &str); 5] = [
    ("down and up", "link set eth0 down\nlink set eth0 up\nV6"),
    (
        "renamed and back",
        "link set eth0 down\nlink set eth0 name away\nlink set away name eth0\nlink set eth0 up\nV6",
    ),
    ("a small MTU", "link set eth0 mtu 1280\n"),
    ("a larger MTU", "link set eth0 mtu 9000\nlink set eth0 mtu 1500\n"),
    ("no address for a moment", "address flush dev eth0\naddress add V4/24 dev eth0\nV6"),
];

fn change(host: &Host, lines: &str) -> Result {
    let (v4, v6) = (host.v4()?, host.v6()?);
    let v6 = format!("address add {v6}/64 dev eth0 nodad\n");
    host.ip(&lines.replace("V6", &v6).replace("V4", &v4.to_string()))
}

fn on(interface: &'static str) -> Settings {
    Settings { interfaces: vec![interface], ..Settings::default() }
}

/// Served over this address of the server, within the time that is stated.
fn served_over(
    health: &Health,
    site: &Site,
    server: &Server,
    alice: &Client,
    address: IpAddr,
) -> Result {
    site.client.set_name(SERVER_NAME, &[address])?;
    let served = health.served_within(HEARD, server, alice, "alice")?;
    println!("over {address}: served {served}");
    Ok(())
}

fn heard_through_all_changes(interface: &'static str) -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&on(interface))?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    let both = [site.server.v4()?, site.server.v6()?];
    let mut open = None;
    for (name, lines) in CHANGES.iter().chain(&CHANGES) {
        change(&site.server, lines)?;
        until("the network is back", SOON * 3, || {
            let ping = |address: IpAddr| format!("ping -c1 -W1 {address}");
            Ok(site.client.sh(&both.map(ping).join(" && "))?.success())
        })?;
        both.iter().try_for_each(|to| served_over(&health, &site, &server, &alice, *to))?;
        // After the first change: sockets have been made anew once.
        let now = server.descriptors()?;
        assert_eq!(*open.get_or_insert(now), now, "{name}");
    }
    health.nothing_opens(&server, "after all changes")?;
    health.is_quiet(&server, "after all changes")
}

#[test]
fn a_named_interface_is_heard_through_all_changes() -> Result {
    heard_through_all_changes("eth0")
}

#[test]
fn any_interface_is_heard_through_all_changes() -> Result {
    heard_through_all_changes("any")
}

/// A server and a client, on a network that interfaces can be attached to.
fn network<'lab>(lab: &'lab Lab, hosts: &[&Host]) -> Result<Lan<'lab>> {
    let lan = lab.lan(hosts)?;
    hosts[1].set_name(SERVER_NAME, &[hosts[0].v4()?])?;
    Ok(lan)
}

#[test]
fn an_interface_deleted_and_made_again_is_heard() -> Result {
    for interface in ["any", "eth0"] {
        let lab = Lab::new()?;
        let (server, client) = (lab.host("server")?, lab.host("client")?);
        let lan = network(&lab, &[&server, &client])?;
        let _echo = server.echo_tcp(22)?;
        let mut spad = Server::new(&server, SERVER_NAME, &on(interface))?;
        spad.start()?;
        let alice = Client::new(&client, "alice", SERVER_NAME);
        alice.enroll(&spad.add("alice", &["--service", "ssh"])?)?.ok()?;
        alice.knock_until_heard(&spad)?;
        let open = spad.descriptors()?;
        for _ in 0..3 {
            server.ip("link del eth0\n")?;
            lan.attach_as(&server, "eth0")?;
            for address in [server.v4()?, server.v6()?] {
                assert!(!client.connects((address, 22))?, "no grant for the new address");
                client.set_name(SERVER_NAME, &[address])?;
                alice.knock_until_heard(&spad)?;
                assert!(client.connects((address, 22))?, "{interface}");
            }
            spad.spad(&["revoke", "alice"])?.ok()?;
        }
        assert_eq!(spad.descriptors()?, open, "{interface}");
    }
    Ok(())
}

/// The name is what was configured: under another one it is another interface, and `spad status`
/// says what is missing.
#[test]
fn a_named_interface_under_another_name_is_not_heard_until_it_has_its_own_again() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&on("eth0"))?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    site.server.ip("link set eth0 down\nlink set eth0 name away\nlink set away up\n")?;
    until("status says so", SOON, || {
        let said = server.spad(&["status"])?;
        Ok(!said.success() && said.all().contains("eth0"))
    })?;
    alice.knock(&[])?.ok()?;
    health.strangers_stay_out("under another name")?;
    assert_eq!(server.grants()?, []);
    health.is_quiet(&server, "nothing to hear on")?;
    change(&site.server, "link set away down\nlink set away name eth0\nlink set eth0 up\nV6")?;
    until("status is well", SOON, || Ok(server.spad(&["status"])?.success()))?;
    served_over(&health, &site, &server, &alice, site.server.v4()?)?;
    health.nothing_opens(&server, "under its own name")
}

/// A grant is for the address that was knocked at; and what is the host's own is known at once.
#[test]
fn an_address_that_changes_takes_no_grant_along() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let (old, new) = (site.server.v4()?, IpAddr::from([10, 0, 0, 77]));
    site.grant(&server, &alice, &["--source", "10.0.0.88", "--ttl", "5m"])?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    site.server.ip(&format!("address del {old}/24 dev eth0\naddress add {new}/24 dev eth0\n"))?;
    assert!(!site.client.connects((new, 22))?, "no grant for the new address");
    assert!(!site.stranger.connects((new, 22))?);
    site.client.set_name(SERVER_NAME, &[new])?;
    site.refused(&server, &alice, &["--source", &new.to_string()], "not-grantable")?;
    alice.knock(&[])?.ok()?;
    until("served at the new address", SOON, || site.client.connects((new, 22)))?;
    assert!(!site.stranger.connects((new, 22))?);
    site.server.ip(&format!("address add {old}/24 dev eth0\n"))?;
    assert!(site.client.connects((old, 22))?, "the grant for the old one lasts as it did");
    Ok(())
}
