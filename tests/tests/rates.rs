//! Public services with a rate: one source's connections beyond it are dropped, until its time has
//! passed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use spa_tests::Result;
use spa_tests::lab::{Host, Reach, Running, fail};
use spa_tests::product::{Server, Settings, Site};

/// Limited, both, each by itself.
const WEB: u16 = 8080;
const MAIL: u16 = 2525;
const NAMES: u16 = 5353;

fn limited(trusted: &[&str]) -> Settings {
    let service = |name: &str, port: u16, more: &str| {
        format!("[service.{name}]\nport = {port}\npublic = true\nrate = \"5 per 60s\"\n{more}")
    };
    let more = [
        service("web", WEB, ""),
        service("mail", MAIL, ""),
        service("names", NAMES, "protocol = \"udp\"\n"),
    ];
    let trusted = trusted.iter().map(|network| (*network).to_owned()).collect();
    Settings { more: more.concat(), trusted, ..Settings::default() }
}

fn echoes(site: &Site) -> Result<[Running; 3]> {
    let server = &site.server;
    Ok([server.echo_tcp(WEB)?, server.echo_tcp(MAIL)?, server.echo_udp(NAMES)?])
}

/// Connects as often as may be, and once more.
fn use_up(from: &Host, to: SocketAddr) -> Result {
    for n in 1..=5 {
        assert!(from.connects(to)?, "{to}, number {n}");
    }
    assert!(!from.connects(to)?, "{to}, one too many");
    Ok(())
}

fn rates(server: &Server, words: &[&str]) -> Result<Vec<(String, String)>> {
    let said = server.spad(&[&["rates", "--json"], words].concat())?.ok()?;
    let Value::Array(list) = serde_json::from_str(&said.stdout)? else {
        return fail(format!("not a list: {said}"));
    };
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    assert!(
        list.iter().all(|row| row["begins_anew_in_ms"].as_u64().is_some_and(|ms| ms <= 60_000))
    );
    Ok(list.iter().map(|row| (text(row, "service"), text(row, "source"))).collect())
}

#[test]
fn the_sixth_connection_of_a_minute_is_dropped() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let _server = site.spad_with(&limited(&[]))?;
    let own: IpAddr = "fd00:77::1".parse()?;
    // Another /64 for the stranger: addresses within one are one source.
    site.server.ip(&format!("address add {own}/64 dev eth0 nodad\n"))?;
    site.stranger.ip("address add fd00:77::2/64 dev eth0 nodad\n")?;
    for (address, strangers) in [(site.server.v4()?, site.server.v4()?), (site.server.v6()?, own)] {
        let mut open = site.client.hold((address, WEB))?;
        for n in 2..=5 {
            assert!(site.client.connects((address, WEB))?, "{address}, number {n}");
        }
        assert!(!site.client.connects((address, WEB))?, "{address}, the sixth");
        assert!(open.is_alive("still"), "what is established flows on");
        assert!(site.client.connects((address, MAIL))?, "another service counts for itself");
        assert!(site.stranger.connects((strangers, WEB))?, "another source");
    }
    // Nothing trickles in before the minute is over.
    std::thread::sleep(Duration::from_secs(13));
    assert!(!site.client.connects((site.server.v4()?, WEB))?, "13 s later");
    Ok(())
}

#[test]
fn addresses_of_one_ipv6_network_count_together() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let server = site.spad_with(&limited(&[]))?;
    use_up(&site.client, (site.server.v6()?, WEB).into())?;
    assert!(!site.stranger.connects((site.server.v6()?, WEB))?, "its neighbour");
    let listed = rates(&server, &[])?;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0].1.ends_with("::/64"), "{listed:?}");
    Ok(())
}

#[test]
fn datagrams_that_begin_a_flow_count_too() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let _server = site.spad_with(&limited(&[]))?;
    for address in [site.server.v4()?, site.server.v6()?] {
        let to = SocketAddr::new(address, NAMES);
        let reach = |port| site.client.reach_udp_from(port, to);
        for port in 7001..=7005 {
            assert_eq!(reach(port)?, Reach::Open, "{to} from {port}");
        }
        assert_eq!(reach(7006)?, Reach::Filtered, "{to}, the sixth flow");
        assert_eq!(reach(7001)?, Reach::Open, "{to}, one from before");
    }
    Ok(())
}

#[test]
fn trusted_networks_have_no_rate() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let client = [site.client.v4()?.to_string(), site.client.v6()?.to_string()];
    let _server = site.spad_with(&limited(&[&client[0], &client[1]]))?;
    for address in [site.server.v4()?, site.server.v6()?] {
        for n in 1..=8 {
            assert!(site.client.connects((address, WEB))?, "{address}, number {n}");
        }
        use_up(&site.stranger, (address, WEB).into())?;
    }
    Ok(())
}

#[test]
fn notrack_of_others_is_no_way_around() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let _server = site.spad_with(&limited(&[]))?;
    let chain = |hook: &str| {
        format!("chain {hook} {{ type filter hook {hook} priority -450; notrack\n }}\n")
    };
    let table = [chain("prerouting"), chain("output")].concat();
    site.server.nft(&format!("table inet theirs {{ {table} }}"))?.ok()?;
    for address in [site.server.v4()?, site.server.v6()?] {
        use_up(&site.client, (address, WEB).into())?;
        let to = SocketAddr::new(address, NAMES);
        for n in 1..=5 {
            assert_eq!(site.client.reach_udp(to)?, Reach::Open, "{to}, {n}");
        }
        assert_eq!(site.client.reach_udp(to)?, Reach::Filtered, "{to}");
    }
    Ok(())
}

#[test]
fn sources_are_listed_and_let_begin_anew() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let server = site.spad_with(&limited(&[]))?;
    let (address, client) = (site.server.v4()?, site.client.v4()?.to_string());
    assert!(rates(&server, &[])?.is_empty());
    assert!(server.spad(&["rates"])?.ok()?.stdout.contains("none"));
    use_up(&site.client, (address, WEB).into())?;
    use_up(&site.client, (address, MAIL).into())?;
    use_up(&site.stranger, (address, WEB).into())?;
    let row = |service: &str, source: &str| (service.to_owned(), source.to_owned());
    let mut listed = rates(&server, &["web"])?;
    listed.sort();
    let stranger = site.stranger.v4()?.to_string();
    assert_eq!(listed, [row("web", &client), row("web", &stranger)]);
    assert_eq!(rates(&server, &["--source", &client])?.len(), 2);
    let text = server.spad(&["rates"])?.ok()?.stdout;
    assert!(text.contains("mail") && text.contains(&client), "{text}");

    let said = server.spad(&["rates", "web", "--source", &client, "--clear"])?.ok()?;
    assert_eq!(said.text(), "1 cleared");
    assert!(site.client.connects((address, WEB))?, "anew");
    assert!(!site.client.connects((address, MAIL))?, "not of the other service");
    assert!(!site.stranger.connects((address, WEB))?, "not another source");
    server.spad(&["rates", "--clear"])?.ok()?;
    assert!(rates(&server, &[])?.is_empty());
    use_up(&site.stranger, (address, WEB).into())?;
    for unknown in ["ssh", "nothing"] {
        let said = server.spad(&["rates", unknown])?;
        assert!(!said.success() && said.stderr.contains(unknown), "{said}");
    }
    Ok(())
}

#[test]
fn clearing_an_ipv6_address_clears_its_network() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let server = site.spad_with(&limited(&[]))?;
    let to = (site.server.v6()?, WEB).into();
    use_up(&site.client, to)?;
    let client = site.client.v6()?.to_string();
    server.spad(&["rates", "--source", &client, "--clear"])?.ok()?;
    use_up(&site.client, to)
}

#[test]
fn counts_outlive_a_reload() -> Result {
    let site = Site::new()?;
    let _echoes = echoes(&site)?;
    let server = site.spad_with(&limited(&[]))?;
    let to = (site.server.v4()?, WEB).into();
    use_up(&site.client, to)?;
    server.spad(&["reload"])?.ok()?;
    assert!(!site.client.connects(to)?, "still used up");
    Ok(())
}
