//! Interfaces that go down, come up, are renamed, deleted and made again, and get other addresses
//! and sizes: over IPv4 and IPv6, for a named interface and for `any`. Knocks are heard again, the
//! port stays shut, nobody spins and nothing leaks.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Host, Lan};
use spa_tests::product::{Client, Health, SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

/// How long until a knock is heard after a change: the daemon is told of it.
const HEARD: Duration = SOON;

/// What happens to `eth0`, as lines of `ip`, and what comes after a look at the daemon; `V6` is its
/// IPv6 address, which the kernel forgets with the link.
const CHANGES: [(&str, &str, &str); 5] = [
    ("down and up", "link set eth0 down\n", "link set eth0 up\nV6"),
    (
        "renamed and back",
        "link set eth0 down\nlink set eth0 name away\n",
        "link set away name eth0\nlink set eth0 up\nV6",
    ),
    ("a small MTU", "link set eth0 mtu 1280\n", ""),
    ("a larger MTU", "link set eth0 mtu 9000\n", "link set eth0 mtu 1500\n"),
    ("no address for a moment", "address flush dev eth0\n", "address add V4/24 dev eth0\nV6"),
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
    for (number, (name, lines, back)) in CHANGES.iter().chain(&CHANGES).enumerate() {
        // The second time it is for what leaks.
        let first = number < CHANGES.len();
        change(&site.server, lines)?;
        if first {
            health.is_quiet(&server, &format!("{name}, in the middle of it"))?;
        }
        change(&site.server, back)?;
        until("the network is back", SOON * 3, || {
            let ping = |address: IpAddr| format!("ping -c1 -W1 {address}");
            Ok(site.client.sh(&both.map(ping).join(" && "))?.success())
        })?;
        both.iter().try_for_each(|to| served_over(&health, &site, &server, &alice, *to))?;
        // After the first change: sockets have been made anew once.
        let now = server.descriptors()?;
        let open = *open.get_or_insert(now);
        if first || number + 1 == 2 * CHANGES.len() {
            health.all_is_well(&server, open, name)?;
        } else {
            assert_eq!(now, open, "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_named_interface_is_heard_through_all_changes() -> Result {
    heard_through_all_changes("eth0")
}

#[test]
fn any_interface_is_heard_through_all_changes() -> Result {
    heard_through_all_changes("any")
}

/// A network that interfaces can be attached to again, with all hosts of the site on it, as `eth0`.
fn attachable(site: &Site) -> Result<Lan<'_>> {
    let lan = site.lab.lan(&[])?;
    for host in [&site.server, &site.client, &site.stranger] {
        host.ip("link del eth0\n")?;
        lan.attach_as(host, "eth0")?;
    }
    site.client.set_name(SERVER_NAME, &[site.server.v4()?])?;
    Ok(lan)
}

fn heard_on_a_new_one(interface: &'static str) -> Result {
    let site = Site::new()?;
    let lan = attachable(&site)?;
    let server = site.spad_with(&on(interface))?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    let open = server.descriptors()?;
    for time in 1..=3 {
        site.server.ip("link del eth0\n")?;
        health.is_quiet(&server, &format!("{interface}: eth0 is gone, time {time}"))?;
        lan.attach_as(&site.server, "eth0")?;
        for address in [site.server.v4()?, site.server.v6()?] {
            assert!(!site.client.connects((address, 22))?, "no grant for the new address");
            served_over(&health, &site, &server, &alice, address)?;
        }
        let why = format!("{interface}: eth0 was made again, time {time}");
        health.all_is_well(&server, open, &why)?;
    }
    Ok(())
}

#[test]
fn a_named_interface_deleted_and_made_again_is_heard() -> Result {
    heard_on_a_new_one("eth0")
}

#[test]
fn on_any_interface_one_deleted_and_made_again_is_heard() -> Result {
    heard_on_a_new_one("any")
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
    let open = server.descriptors()?;
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
    health.all_is_well(&server, open, "under its own name")
}

/// A grant is for the address that was knocked at; and what is the host's own is known at once.
#[test]
fn an_address_that_changes_takes_no_grant_along() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    let open = server.descriptors()?;
    let (old, new) = (site.server.v4()?, Ipv4Addr::new(10, 0, 0, 77));
    site.grant(&server, &alice, &["--source", "10.0.0.88", "--ttl", "5m"])?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    site.server.change_v4("eth0", new)?;
    let new = IpAddr::from(new);
    assert!(!site.client.connects((new, 22))?, "no grant for the new address");
    health.all_is_well(&server, open, "at the new address")?;
    site.client.set_name(SERVER_NAME, &[new])?;
    site.refused(&server, &alice, &["--source", &new.to_string()], "not-grantable")?;
    alice.knock(&[])?.ok()?;
    until("served at the new address", SOON, || site.client.connects((new, 22)))?;
    assert!(!site.stranger.connects((new, 22))?);
    site.server.ip(&format!("address add {old}/24 dev eth0\n"))?;
    assert!(site.client.connects((old, 22))?, "the grant for the old one lasts as it did");
    assert!(!site.stranger.connects((old, 22))?);
    health.all_is_well(&server, open, "at both addresses")
}
