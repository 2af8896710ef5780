//! Where knocks are heard: interfaces that come, go and come again, with or without Ethernet.

use std::net::SocketAddr;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Addressing, Lab, Reach, not_shown};
use spa_tests::product::{Client, KNOCK_PORT, SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

fn on(interface: &'static str) -> Settings {
    Settings { interfaces: vec![interface], ..Settings::default() }
}

#[test]
fn an_interface_that_comes_later_is_heard() -> Result {
    for interface in ["any", "eth0"] {
        let lab = Lab::new()?;
        let (server, client) = (lab.host("server")?, lab.host("client")?);
        let lan = lab.lan(&[&client])?;
        let _echo = server.echo_tcp(22)?;
        let mut spad = Server::new(&server, SERVER_NAME, &on(interface))?;
        spad.launch()?;
        until("the ruleset is in force", SOON, || Ok(spad.kernel_table().is_ok()))?;

        if interface == "eth0" {
            assert!(!spad.spad(&["status"])?.success(), "nothing is heard yet");
        }

        lan.attach_as(&server, "eth0")?;
        assert!(!client.connects((server.v4()?, 22))?, "protected from the first moment");
        client.set_name(SERVER_NAME, &[server.v4()?])?;
        until("status is well", SOON, || Ok(spad.spad(&["status"])?.success()))?;
        let alice = Client::new(&client, "alice", SERVER_NAME);
        alice.enroll(&spad.add("alice", &["--service", "ssh"])?)?.ok()?;
        alice.knock_until_heard(&spad)?;
        assert!(client.connects((server.v4()?, 22))?, "{interface}");
    }
    Ok(())
}

#[test]
fn a_named_interface_is_heard_and_another_is_not() -> Result {
    let lab = Lab::new()?;
    let (server, client) = (lab.host("server")?, lab.host("client")?);
    lab.lan(&[&server, &client])?;
    lab.lan(&[&server, &client])?;
    let mut spad = Server::new(&server, SERVER_NAME, &on("eth0"))?;
    spad.start()?;
    let alice = Client::new(&client, "alice", SERVER_NAME);
    alice.enroll(&spad.add("alice", &["--service", "ssh"])?)?.ok()?;
    let addresses: Vec<_> = server.interfaces().iter().filter_map(|one| one.v4).collect();
    client.set_name(SERVER_NAME, &[addresses[1].into()])?;
    alice.knock(&[])?.ok()?;
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(spad.grants()?, [], "eth1 is not listened on");
    client.set_name(SERVER_NAME, &[addresses[0].into()])?;
    alice.knock_until_heard(&spad)
}

#[test]
fn a_tunnel_without_ethernet_header_is_heard() -> Result {
    let lab = Lab::new()?;
    if !lab.has_tun() {
        return not_shown("/dev/net/tun cannot be opened by this user");
    }
    for interface in ["any", "tun0"] {
        let lab = Lab::new()?;
        let (server, client) = (lab.host("server")?, lab.host("client")?);
        let _tunnel = lab.tunnel([&server, &client])?;
        let _echo = server.echo_tcp(22)?;
        let mut spad = Server::new(&server, SERVER_NAME, &on(interface))?;
        spad.start()?;
        let alice = Client::new(&client, "alice", SERVER_NAME);
        alice.enroll(&spad.add("alice", &["--service", "ssh"])?)?.ok()?;
        client.set_name(SERVER_NAME, &[server.v4()?, server.v6()?])?;
        assert!(!client.connects((server.v4()?, 22))?);
        alice.knock_until_heard(&spad)?;
        until("both families", SOON, || Ok(spad.grants()?.len() == 2))?;
        assert!(client.connects((server.v4()?, 22))? && client.connects((server.v6()?, 22))?);
    }
    Ok(())
}

/// The kernel may show bridged packets to the firewall before they reach the bridge, where nobody
/// has heard them yet; it does so by default once `br_netfilter` is there, as with containers.
const BRIDGED_TO_FIREWALL: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

#[test]
fn a_knock_through_a_bridge_is_heard_once() -> Result {
    for setting in ["0", "1"] {
        let site = Site::new()?;
        site.server
            .sh(&format!("[ ! -e {0} ] || echo {setting} > {0}", BRIDGED_TO_FIREWALL))?
            .ok()?;
        site.server.ip("link add br0 type bridge forward_delay 0\nlink set br0 up\n\
             addr flush dev eth0\nlink set eth0 master br0\n\
             addr add 10.0.0.1/24 dev br0\n")?;
        let server = site.spad()?;
        let alice = site.client(&server, "alice")?;
        site.open(&server, &alice, &[])?;
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(server.counter("granted")?, 1, "once, although two interfaces saw it");
        assert!(!site.reaches(&site.stranger, 22)?);
    }
    Ok(())
}

#[test]
fn answers_to_our_own_flow_from_the_knock_port_are_received() -> Result {
    let site = Site::with(Addressing::PRIVATE)?;
    let _server = site.spad()?;
    let _echo = site.stranger.echo_udp(53)?;
    for address in [site.stranger.v4()?, site.stranger.v6()?] {
        let to = SocketAddr::new(address, 53);
        assert_eq!(site.server.reach_udp_from(KNOCK_PORT, to)?, Reach::Open, "{address}");
    }
    Ok(())
}
