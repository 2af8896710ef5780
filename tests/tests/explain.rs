//! `spad explain`: an administrator is asked why somebody cannot get in.

use std::fs;
use std::net::IpAddr;

use serde_json::Value;
use spa_tests::Result;
use spa_tests::lab::{Datagram, Doing, program};
use spa_tests::product::knocker::now;
use spa_tests::product::{Server, Site};

/// A capture of raw IP packets (pcap, link type 101), all at this time.
fn pcap(millis: u64, datagrams: &[Datagram]) -> Result<Vec<u8>> {
    let number = |value: u64| u32::try_from(value).doing("a number of a capture");
    let mut file = Vec::new();
    for value in [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, 101] {
        file.extend(u32::to_le_bytes(value));
    }
    for datagram in datagrams {
        let packet = datagram.to_ip_packet()?;
        let len = packet.len() as u64;
        for value in [millis / 1000, millis % 1000 * 1000, len, len] {
            file.extend(number(value)?.to_le_bytes());
        }
        file.extend(packet);
    }
    Ok(file)
}

/// What is said of each packet of a file, which is put beside the server's.
fn explained(server: &Server, name: &str, file: &[u8], options: &[&str]) -> Result<Vec<Value>> {
    let path = server.dir().join(name);
    fs::write(&path, file)?;
    let path = path.display().to_string();
    let said = server.spad(&[&["explain", "--json", &path], options].concat())?.ok()?;
    said.text().lines().map(|line| serde_json::from_str(line).doing("JSON")).collect()
}

/// Each verdict, and whose knock it is.
fn verdicts(told: &[Value]) -> Vec<(&str, &str)> {
    told.iter().map(|told| (text(told, "verdict"), text(told, "client"))).collect()
}

fn text<'told>(told: &'told Value, key: &str) -> &'told str {
    told[key].as_str().unwrap_or_default()
}

/// What the daemon makes of packets is what is said of them afterwards, whether a
/// daemon runs or not.
#[test]
fn what_is_said_is_what_the_daemon_does() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let late = alice.with_clock("-95s");
    site.open(&server, &alice, &[])?;
    let knocks = [
        site.fresh_knock(&alice, &[])?,
        site.fresh_knock(&late, &[])?,
        site.fresh_knock(&alice, &["--service", "web"])?,
        site.fresh_knock(&alice, &[])?.with_bit_flipped(8 * 310),
    ];
    let expected = [
        ("granted", "alice"),
        ("stale", "alice"),
        ("unknown-service", "alice"),
        ("bad-tag", "alice"),
    ];
    let file = pcap(now()?.as_millis(), &knocks)?;
    let told = explained(&server, "knocks.pcap", &file, &[])?;
    assert_eq!(verdicts(&told), expected);
    assert_eq!(told[1]["otherwise"], "granted");
    assert!(text(&told[1], "why").contains(" s behind"), "{}", told[1]);

    let before = expected.map(|(reason, _)| server.counter(reason));
    site.client.send_udp(&knocks)?;
    for ((reason, _), before) in expected.into_iter().zip(before) {
        server.wait_for_counter(reason, before? + 1)?;
    }

    server.stop()?;
    assert_eq!(verdicts(&explained(&server, "knocks.pcap", &file, &[])?), expected);
    server.keys(&["revoke", "alice"])?.ok()?;
    let told = explained(&server, "knocks.pcap", &file, &[])?;
    assert_eq!(verdicts(&told), [("unknown-client", ""); 4]);
    assert!(text(&told[0], "why").contains("was revoked"), "{}", told[0]);
    Ok(())
}

#[test]
fn a_saved_knock_is_explained_and_can_still_be_used() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let address: IpAddr = site.client.v4()?;
    alice.knock(&["--from", &address.to_string(), "--save", "knock.toml"])?.ok()?;
    let text = fs::read(site.client.dir().join("knock.toml"))?;
    let told = explained(&server, "knock.toml", &text, &[])?;
    assert_eq!(verdicts(&told), [("granted", "alice")]);
    let later = explained(&server, "knock.toml", &text, &["--at", "2060-01-01T00:00:00Z"])?;
    assert_eq!(
        (verdicts(&later), &later[0]["otherwise"]),
        (vec![("unknown-client", "alice")], &"granted".into())
    );
    assert_eq!(server.grants()?, [], "it was looked at");
    alice.spa(&["send", "knock.toml"])?.ok()?;
    server.wait_for_counter("granted", 1)?;
    Ok(())
}

/// Whoever may not read the keys is told so, and no key is ever printed.
#[test]
fn it_takes_the_keys_and_tells_none() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let knock = site.fresh_knock(&alice, &[])?;
    let path = server.dir().join("knock");
    fs::write(&path, &knock.payload)?;
    let (spad, config) = (program("spad")?, server.config_path());
    let words = |user: &str| {
        format!(
            "{user} {} --config {} explain -v {}",
            spad.display(),
            config.display(),
            path.display()
        )
    };
    let said = server.host().sh(&words(""))?.ok()?.all();
    assert!(said.contains("client   alice"), "{said}");
    for file in ["keys/server.toml", "keys/clients/alice.toml"] {
        let text = fs::read_to_string(server.dir().join(file))?;
        let secrets = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split('"').nth(1));
        for secret in secrets.filter(|value| value.len() > 20) {
            assert!(!said.contains(secret), "{file} is in what is said");
        }
    }
    let refused = server.host().sh(&words("setpriv --reuid 65534 --regid 65534 --clear-groups"))?;
    assert_eq!(refused.code(), Some(1), "{}", refused.all());
    Ok(())
}
