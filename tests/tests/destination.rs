//! Which of the server's addresses a grant is for.

use std::net::IpAddr;

use spa_tests::Result;
use spa_tests::lab::Addressing;
use spa_tests::product::{Client, SERVER_NAME, Server, Settings, Site};

/// Two addresses of each family for the server.
fn site_with_two_addresses(family: Addressing) -> Result<(Site, [IpAddr; 2])> {
    let site = Site::with(family)?;
    let first = site.address();
    let (second, len): (IpAddr, _) = match first {
        IpAddr::V4(_) => ([10, 0, 0, 99].into(), 24),
        IpAddr::V6(_) => ("fd00::99".parse()?, 64),
    };
    let nodad = if second.is_ipv6() { "nodad" } else { "" };
    site.server.ip(&format!("address add {second}/{len} dev eth0 {nodad}\n"))?;
    Ok((site, [first, second]))
}

/// Knocks at this address of the server; which one the grant is for.
fn knock_at(
    site: &Site,
    server: &Server,
    client: &Client,
    address: IpAddr,
) -> Result<Option<IpAddr>> {
    site.client.set_name(SERVER_NAME, &[address])?;
    Ok(site.grant(server, client, &["--ttl", "5m"])?.destination)
}

fn any_address() -> Settings {
    let more = "[firewall]\ngrant-destination = \"any\"\n".to_owned();
    Settings { more, ..Settings::default() }
}

const FAMILIES: [Addressing; 2] = [Addressing::V4_ONLY, Addressing::V6_ONLY];

#[test]
fn a_knock_opens_the_address_that_it_came_to() -> Result {
    for family in FAMILIES {
        let (site, addresses) = site_with_two_addresses(family)?;
        let server = site.spad()?;
        let alice = site.client(&server, "alice")?;
        for (here, elsewhere) in [(0, 1), (1, 0)].map(|(a, b)| (addresses[a], addresses[b])) {
            assert_eq!(knock_at(&site, &server, &alice, here)?, Some(here));
            assert!(site.client.connects((here, 22))?, "knocked at {here}");
            assert!(!site.client.connects((elsewhere, 22))?, "not at {elsewhere}");
            site.close(&server, "alice")?;
        }
    }
    Ok(())
}

#[test]
fn it_opens_all_addresses_where_the_server_says_so() -> Result {
    for family in FAMILIES {
        let (site, addresses) = site_with_two_addresses(family)?;
        let server = site.spad_with(&any_address())?;
        let alice = site.client(&server, "alice")?;
        assert_eq!(knock_at(&site, &server, &alice, addresses[1])?, None);
        for address in addresses {
            assert!(site.client.connects((address, 22))?, "{address}");
            assert!(!site.stranger.connects((address, 22))?, "{address}");
        }
    }
    Ok(())
}

#[test]
fn a_source_of_the_other_family_is_granted_only_for_any_address() -> Result {
    let site = Site::new()?;
    for (settings, why) in [(Settings::default(), "not-grantable"), (any_address(), "granted")] {
        let dir = site.server.dir().join("spad");
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        let server = site.spad_with(&settings)?;
        let alice = site.client(&server, why)?;
        // By its IPv4 address, for its IPv6 address.
        let source = site.client.v6()?.to_string();
        let datagram = knock_for(&site, &alice, &source)?;
        site.client.send_udp(&[datagram])?;
        server.wait_for_counter(why, 1)?;
        assert_eq!(site.client.connects((site.server.v6()?, 22))?, why == "granted");
    }
    Ok(())
}

/// A knock for this source, made for an address of its family and sent by the other.
fn knock_for(site: &Site, client: &Client, source: &str) -> Result<spa_tests::lab::Datagram> {
    site.client.set_name(SERVER_NAME, &[site.server.v6()?])?;
    let fresh = site.fresh_knock(client, &["--source", source]);
    site.client.set_name(SERVER_NAME, &[site.server.v4()?])?;
    fresh
}

#[test]
fn grants_of_another_setting_end_with_it() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    for (before, after, restart) in [
        (Settings::default(), any_address(), false),
        (any_address(), Settings::default(), false),
        (Settings::default(), any_address(), true),
        (any_address(), Settings::default(), true),
    ] {
        server.configure(&before)?;
        server.spad(&["reload"])?.ok()?;
        site.open(&server, &alice, &["--ttl", "5m"])?;
        server.configure(&after)?;
        if restart {
            server.restart()?
        } else {
            drop(server.spad(&["reload"])?.ok()?)
        }
        site.assert_shut(&server, &site.client, "another setting")?;
    }
    Ok(())
}
