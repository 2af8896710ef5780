//! Grants for more than one address: where a carrier or IPv6 privacy changes the
//! client's address between its knock and its connection.

use std::net::IpAddr;

use spa_tests::Result;
use spa_tests::lab::{Addressing, Host, Lab};
use spa_tests::product::{Client, SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

const WIDE: [&str; 6] = ["--service", "ssh", "--widest-ipv4", "24", "--widest-ipv6", "64"];

/// A client behind a carrier's translation: what it sends by UDP comes from one
/// address of the carrier's pool, and what it sends by TCP from another.
fn carrier(lab: &Lab) -> Result<(Host, Host, Host)> {
    let (client, carrier, server) =
        (lab.host("client")?, lab.host("carrier")?, lab.host("server")?);
    lab.lan_with(Addressing::V4_ONLY, &[&carrier, &client])?;
    lab.lan_with(Addressing::V4_ONLY, &[&server, &carrier])?;
    carrier.forward()?;
    carrier.ip("address add 10.0.1.20/24 dev eth1\naddress add 10.0.1.21/24 dev eth1\n")?;
    carrier
        .nft(
            "table ip nat {\n chain out {\n type nat hook postrouting priority srcnat\n \
             oifname eth1 meta l4proto udp snat to 10.0.1.20\n \
             oifname eth1 meta l4proto tcp snat to 10.0.1.21\n }\n}\n",
        )?
        .ok()?;
    client.route_via(&carrier.v4()?)?;
    client.set_name(SERVER_NAME, &[server.v4()?])?;
    Ok((client, carrier, server))
}

#[test]
fn a_carriers_pool_needs_a_prefix() -> Result {
    let lab = Lab::new()?;
    let (client, _carrier, server) = carrier(&lab)?;
    let _echo = server.echo_tcp(22)?;
    let mut spad = Server::new(&server, SERVER_NAME, &Settings::default())?;
    spad.start()?;
    let alice = Client::new(&client, "alice", SERVER_NAME);
    alice.enroll(&spad.add("alice", &WIDE)?)?.ok()?;
    let ssh = (server.v4()?, 22);

    alice.knock(&[])?.ok()?;
    spad.wait_for_counter("granted", 1)?;
    assert_eq!(spad.grants()?[0].source, IpAddr::from([10, 0, 1, 20]), "the one that knocked");
    assert!(!client.connects(ssh)?, "the other one connects");

    alice.knock(&["--width", "24"])?.ok()?;
    spad.wait_for_counter("granted", 2)?;
    assert_eq!(spad.grants()?[1].width, Some(24));
    assert!(client.connects(ssh)?, "any of the prefix");
    Ok(())
}

/// From now on the host's connections come from this address.
fn change_address(host: &Host, to: &str) -> Result {
    let old = host.v6()?;
    host.ip(&format!(
        "address add {to}/64 dev eth0 nodad\naddress change {old}/64 dev eth0 preferred_lft 0\n"
    ))
}

#[test]
fn a_privacy_address_needs_its_network() -> Result {
    for options in [&[][..], &["--width", "64"]] {
        let site = Site::with(Addressing::V6_ONLY)?;
        let server = site.spad()?;
        let alice = site.client_with(&server, "alice", &WIDE)?;
        let grant = site.open(&server, &alice, options)?;
        let wide = grant.width.is_some();
        assert_eq!(grant.width, (!options.is_empty()).then_some(64));
        change_address(&site.client, "fd00::abcd")?;
        for (host, which) in [(&site.client, "a new address"), (&site.stranger, "its network")] {
            if wide {
                // An address that has just come may have to be asked for twice.
                until(which, SOON, || site.reaches(host, 22))?;
            } else {
                assert!(!site.reaches(host, 22)?, "from {which}");
            }
        }
        site.stranger.ip("address add fd00:0:7::7/128 dev eth0 nodad\n")?;
        site.server.ip("route add fd00:0:7::7/128 dev eth0\n")?;
        site.stranger
            .ip(&format!("route replace {}/128 dev eth0 src fd00:0:7::7\n", site.address()))?;
        assert!(!site.reaches(&site.stranger, 22)?, "but no other network");
    }
    Ok(())
}

#[test]
fn a_record_without_permission_is_refused() -> Result {
    for (family, one, wider) in
        [(Addressing::V4_ONLY, "24", "23"), (Addressing::V6_ONLY, "64", "63")]
    {
        let site = Site::with(family)?;
        let server = site.spad()?;
        let narrow = site.client(&server, "narrow")?;
        let wide = site.client_with(&server, "wide", &WIDE)?;
        site.refused(&server, &narrow, &["--width", one], "width-not-allowed")?;
        site.refused(&server, &wide, &["--width", wider], "width-not-allowed")?;
        site.assert_shut(&server, &site.client, "refused")?;
        site.open(&server, &wide, &["--width", one])?;
    }
    Ok(())
}

/// The settings with other widths.
fn with_widths(v4: &str, v6: &str) -> Settings {
    let more = format!("[firewall]\nwidths-ipv4 = [{v4}]\nwidths-ipv6 = [{v6}]\n");
    Settings { more, ..Settings::default() }
}

#[test]
fn a_server_without_that_width_grants_the_next_narrower() -> Result {
    for (family, asked, given) in
        [(Addressing::V4_ONLY, "24", Some(28)), (Addressing::V6_ONLY, "64", Some(80))]
    {
        let site = Site::with(family)?;
        let server = site.spad_with(&with_widths("16, 28, 30", "48, 80, 96"))?;
        let alice = site.client_with(&server, "alice", &WIDE)?;
        assert_eq!(site.open(&server, &alice, &["--width", asked])?.width, given);
    }
    Ok(())
}

#[test]
fn a_server_without_any_narrower_width_grants_none() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&with_widths("16", ""))?;
    let alice = site.client_with(&server, "alice", &WIDE)?;
    site.refused(&server, &alice, &["--width", "24"], "width-not-allowed")?;
    site.assert_shut(&server, &site.client, "no such width")
}

#[test]
fn once_is_once_for_the_whole_prefix() -> Result {
    for (family, width) in [(Addressing::V4_ONLY, "24"), (Addressing::V6_ONLY, "64")] {
        let site = Site::with(family)?;
        let server = site.spad()?;
        let alice = site.client_with(&server, "alice", &WIDE)?;
        site.grant(&server, &alice, &["--width", width, "--mode", "once"])?;
        assert!(site.reaches(&site.stranger, 22)?, "any of the prefix");
        assert!(!site.reaches(&site.client, 22)? && !site.reaches(&site.stranger, 22)?, "used up");
    }
    Ok(())
}

#[test]
fn grants_of_a_width_that_is_gone_end_with_it() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client_with(&server, "alice", &WIDE)?;
    for restart in [false, true] {
        server.configure(&Settings::default())?;
        server.spad(&["reload"])?.ok()?;
        site.open(&server, &alice, &["--width", "24", "--ttl", "5m"])?;
        server.configure(&with_widths("28", "64"))?;
        if restart {
            server.restart()?
        } else {
            drop(server.spad(&["reload"])?.ok()?)
        }
        site.assert_shut(&server, &site.client, "no such width any more")?;
    }
    Ok(())
}
