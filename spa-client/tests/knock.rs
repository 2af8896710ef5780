//! `spa knock`: what is sent, where to, and how the program ends.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use spa_proto::{Address, Kind, Mode, PACKET_LEN, Verifier};
use support::{Client, Server, set_mode};

fn services(knock: &spa_proto::VerifiedKnock) -> Vec<String> {
    knock.request().services.iter().map(|service| service.to_string()).collect()
}

#[test]
fn a_plain_knock_asks_for_the_first_service_and_enrols() {
    let mut server = Server::new();
    let client = Client::of(&server);
    client.run(&["knock", "127.0.0.1"]).quiet();
    let knock = server.knock();
    assert_eq!(services(&knock), ["ssh"]);
    assert_eq!(knock.request().mode, Mode::Default);
    assert_eq!(knock.request().seconds, None);
    assert_eq!(knock.request().address, Address::Seen, "loopback is not global");
    assert!(matches!(knock.request().kind, Kind::Enrol(_)));
    assert!(knock.binds().is_some());
    assert_eq!(server.drain(), 0, "one address, one datagram");
}

#[test]
fn the_same_key_signs_every_knock() {
    let mut server = Server::new();
    let client = Client::of(&server);
    client.run(&["knock", "127.0.0.1"]).quiet();
    client.run(&["knock", "127.0.0.1"]).quiet();
    let bound = Verifier::Bound(server.knock().binds().unwrap());
    assert!(server.knock_verified_by(0, &bound).is_ok());
}

#[test]
fn options_reach_the_request() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let words = ["--service", "web,tcp/8443", "--ttl", "2m", "--source", "203.0.113.9"];
    let mode = ["--mode", "once", "--width", "24"];
    client.run(&[&["knock", "127.0.0.1"], &words[..], &mode].concat()).quiet();
    let knock = server.knock();
    assert_eq!(services(&knock), ["tcp/8443", "web"]);
    assert_eq!(knock.request().seconds.map(u32::from), Some(120));
    let asked = IpAddr::from([203, 0, 113, 0]);
    assert_eq!(knock.request().address, Address::Explicit(asked), "without host bits");
    assert_eq!((knock.request().mode, knock.request().width), (Mode::Once, Some(24)));
}

#[test]
fn every_mode_reaches_the_request() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let bound = ["--mode", "bound", "--source-port", "50000"];
    for (words, mode) in [
        (&["--mode", "window"][..], Mode::Window),
        (&["--mode", "once"], Mode::Once),
        (&bound, Mode::Bound { source_port: 50000 }),
    ] {
        client.run(&[&["knock", "127.0.0.1"], words].concat()).quiet();
        assert_eq!(server.knock().request().mode, mode);
    }
}

#[test]
fn the_file_of_a_server_may_name_the_mode() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let file = client.host_file("127.0.0.1");
    let text = fs::read_to_string(&file).unwrap();
    let with_mode =
        |mode: &str| text.replacen("\nservices", &format!("\nmode = {mode}\nservices"), 1);
    fs::write(&file, with_mode("\"once\"")).unwrap();
    client.run(&["knock", "127.0.0.1"]).quiet();
    assert_eq!(server.knock().request().mode, Mode::Once);
    client.run(&["knock", "127.0.0.1", "--mode", "window"]).quiet();
    assert_eq!(server.knock().request().mode, Mode::Window, "the command line goes first");
    fs::write(&file, with_mode("\"bound\"")).unwrap();
    client.run(&["knock", "127.0.0.1"]).fails(2, &["--source-port", "spa proxy"]);
    fs::write(&file, with_mode("\"twice\"")).unwrap();
    client.run(&["knock", "127.0.0.1"]).fails(3, &["127.0.0.1.toml:", "none of window"]);
    assert_eq!(server.drain(), 0);
}

/// A width is for one family; at addresses of the other one, one address is asked for.
#[test]
fn a_width_of_the_other_family_changes_nothing() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let words = ["knock", "127.0.0.1", "--source", "203.0.113.9", "--width", "64"];
    client.run(&words).quiet();
    let knock = server.knock();
    assert_eq!(knock.request().width, None);
    assert_eq!(knock.request().address, Address::Explicit([203, 0, 113, 9].into()));
}

/// The grant is for the address that was knocked at, too, and nothing connects
/// across families.
#[test]
fn a_given_address_is_only_asked_for_by_its_own_family() {
    let server = Server::new();
    let client = Client::of(&server);
    let words = ["knock", "127.0.0.1", "--source", "2001:db8::9"];
    client.run(&words).fails(5, &["--source 2001:db8::9 is IPv6", "reached by IPv4"]);
    assert_eq!(server.drain(), 0);

    for (address, source) in [("127.0.0.1", "203.0.113.9"), ("::1", "2001:db8::9")] {
        let mut server = Server::named(address, &[address]);
        let client = Client::of(&server);
        client.run(&["knock", address, "--source", source]).quiet();
        let knock = server.knock();
        assert_eq!(knock.request().address, Address::Explicit(source.parse().unwrap()));
    }
}

#[test]
fn hosts_are_known_by_alias_and_by_name() {
    let server = Server::named("LocalHost", &["127.0.0.1"]);
    let client = Client::new();
    let token = server.token().encode();
    client.run_with_input(&["enroll", "-", "--name", "fw"], &token);
    for host in ["fw", "FW", "localhost", "LOCALHOST."] {
        client.run(&["knock", host, "-4"]).quiet();
        assert_eq!(server.drain(), 1, "{host}");
    }
    client.run(&["knock", "elsewhere"]).fails(3, &["\"elsewhere\"", "fw"]);
}

#[test]
fn a_host_name_of_two_servers_must_be_told_apart() {
    let (one, other) = (Server::new(), Server::new());
    let client = Client::new();
    for (server, name) in [(&one, "one"), (&other, "other")] {
        client.run_with_input(&["enroll", "-", "--name", name], &server.token().encode());
    }
    client.run(&["knock", "127.0.0.1"]).fails(3, &["one", "other"]);
    client.run(&["knock", "other"]).quiet();
    assert_eq!((one.drain(), other.drain()), (0, 1));
}

#[test]
fn every_address_of_a_name_gets_a_fresh_datagram() {
    let mut server = Server::named("localhost", &["127.0.0.1", "::1"]);
    let client = Client::of(&server);
    let ran = client.run(&["knock", "localhost", "--json"]);
    let mut expected: Vec<_> = ("localhost", 1)
        .to_socket_addrs()
        .unwrap()
        .map(|address| address.ip().to_string())
        .collect();
    expected.dedup();
    let json = ran.json();
    let sent = json["sent"].as_array().unwrap();
    let addresses: Vec<_> = sent.iter().map(|row| row["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, expected);

    let pending = server.pending();
    let mut nonces = Vec::new();
    for (index, address) in ["127.0.0.1", "::1"].into_iter().enumerate() {
        if expected.iter().any(|other| other == address) {
            nonces.push(server.knock_verified_by(index, &pending).expect(address).nonce());
        }
    }
    nonces.dedup();
    assert_eq!(nonces.len(), expected.len());
    assert_eq!(server.drain(), 0);
}

#[test]
fn families_can_be_chosen() {
    let server = Server::named("::1", &["::1"]);
    let client = Client::of(&server);
    client.run(&["knock", "::1", "-6"]).quiet();
    assert_eq!(server.drain(), 1);
    client.run(&["knock", "::1", "-4"]).fails(4, &["no IPv4 address"]);
    client.run(&["knock", "::1", "-4", "-6"]).fails(2, &[]);
    assert_eq!(server.drain(), 0);
}

#[test]
fn another_port_can_be_knocked_at() {
    let server = Server::new();
    let client = Client::of(&server);
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    elsewhere.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let port = elsewhere.local_addr().unwrap().port().to_string();
    client.run(&["knock", "127.0.0.1", "--port", &port]).quiet();
    assert_eq!(elsewhere.recv(&mut [0; 2048]).unwrap(), PACKET_LEN);
    assert_eq!(server.drain(), 0);
}

#[test]
fn names_that_do_not_resolve() {
    let server = Server::named("no-such-host.invalid", &["127.0.0.1"]);
    let client = Client::of(&server);
    client.run(&["knock", "no-such-host.invalid"]).fails(4, &["cannot resolve", "no-such-host"]);
}

#[test]
fn nothing_can_be_sent() {
    let server = Server::named("fe80::1", &["127.0.0.1"]);
    let client = Client::of(&server);
    let ran = client.run(&["knock", "fe80::1", "--json"]).fails(5, &["fe80::1", "interface"]);
    let json = ran.json();
    assert!(json["sent"][0]["error"].as_str().unwrap().contains("interface"));
    assert_eq!(json["open"], serde_json::Value::Null);
}

/// In a network namespace without any route.
#[cfg(target_os = "linux")]
#[test]
fn unreachable_networks_are_said_plainly() {
    let server = Server::named("192.0.2.1", &["127.0.0.1"]);
    let client = Client::of(&server);
    let knock = client.command(&["knock", "192.0.2.1"]);
    let root = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0;
    let mut alone = std::process::Command::new("unshare");
    alone.arg(if root { "-n" } else { "-Urn" });
    let output = alone.arg(knock.get_program()).args(knock.get_args()).output();
    support::Ran::from(output.unwrap()).fails(5, &["not sent to 192.0.2.1: network unreachable"]);
}

#[test]
fn json_has_every_field() {
    let server = Server::new();
    let client = Client::of(&server);
    let words = ["knock", "127.0.0.1", "--json", "--source", "203.0.113.9", "--width", "24"];
    let mode = ["--mode", "bound", "--source-port", "50000"];
    let json = client.run(&[&words[..], &mode].concat()).json();
    assert_eq!(
        json,
        serde_json::json!({
            "name": "127.0.0.1",
            "host": "127.0.0.1",
            "services": ["ssh"],
            "ttl_s": null,
            "dry_run": false,
            "sent": [{
                "address": "127.0.0.1",
                "port": server.port,
                "services": ["ssh"],
                "source_requested": "203.0.113.0",
                "mode": "bound",
                "source_port": 50000,
                "width": 24,
            }],
            "open": null,
            "waited_ms": null,
            "error": null,
            "exit": 0,
        })
    );
}

#[test]
fn verbose_names_every_step() {
    let server = Server::new();
    let client = Client::of(&server);
    let ran = client.run(&["knock", "127.0.0.1", "-v"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    let port = server.port.to_string();
    for word in ["127.0.0.1.toml", "336 bytes", "from 127.0.0.1", &port, "ssh", "server sees"] {
        assert!(ran.err.contains(word), "{word:?} is missing: {}", ran.err);
    }
}

#[test]
fn a_person_at_a_terminal_gets_one_line() {
    let server = Server::new();
    let client = Client::of(&server);
    for (words, lasting) in
        [(&[][..], "for as long as the server says"), (&["--ttl", "120s"], "for 2m at most")]
    {
        let shown = client.run_at_terminal(&[&["knock", "127.0.0.1"], words].concat());
        let expected = format!("127.0.0.1: knocked for ssh (1 address), {lasting}");
        assert_eq!(shown, (0, expected));
    }
}

/// Nobody answers, but the token said so.
#[test]
fn a_person_is_told_how_long_it_opens() {
    let mut server = Server::new();
    let time = |seconds| std::num::NonZeroU32::new(seconds).unwrap();
    server.lasting = vec![("ssh", time(30)), ("web", time(300))];
    let client = Client::of(&server);
    let knock = ["knock", "127.0.0.1"];
    for (words, lasting) in [
        (&[][..], "up to 30s as of enrolment"),
        (&["--service", "ssh,web"], "up to 5m as of enrolment"),
        (&["--service", "tcp/22"], "for as long as the server says"),
        (&["--ttl", "120s"], "for 2m at most"),
    ] {
        let (code, shown) = client.run_at_terminal(&[&knock, words].concat());
        assert_eq!((code, shown.split_once("), ").unwrap().1), (0, lasting), "{words:?}");
        client.run(&[&knock, words].concat()).quiet();
    }
    let told = |words: &[&str]| {
        client.run(&[&knock, words, &["--json"]].concat()).json()["ttl_s"].as_u64()
    };
    assert_eq!(told(&[]), Some(30));
    assert_eq!(told(&["--ttl", "2m"]), Some(120));
    assert_eq!(told(&["--service", "tcp/22"]), None);
    assert!(server.knock().request().seconds.is_none(), "it is left to the server");
}

#[test]
fn wrong_usage() {
    let server = Server::new();
    let client = Client::of(&server);
    for (words, hint) in [
        (&["--service", "a,b,c,d,e"][..], "at most 4"),
        (&["--service", "SSH"], "SSH"),
        (&["--source", "127.0.0.1"], "loopback"),
        (&["--source", "fe80::1"], "link-local"),
        (&["--source", "ff02::1"], "multicast"),
        (&["--source", "::ffff:192.0.2.1"], "IPv4-mapped"),
        (&["--source", "0.0.0.0"], "unspecified"),
        (&["--mode", "always"], "none of window, once and bound"),
        (&["--mode", "bound"], "--source-port"),
        (&["--mode", "once", "--source-port", "50000"], "--mode bound"),
        (&["--source-port", "0", "--mode", "bound"], "0"),
        (&["--mode", "once", "--wait"], "use up"),
        (&["--width", "7"], "prefix length"),
        (&["--ttl", "0s"], "at least 1s"),
        (&["--ttl", "soon"], "soon"),
        (&["--wait", "--service", "udp/53"], "--wait-port"),
        (&["--wait", "--service", "web"], "--wait-port"),
    ] {
        client.run(&[&["knock", "127.0.0.1"], words].concat()).fails(2, &[hint]);
    }
    client.run(&["knock"]).fails(2, &[]);
    assert_eq!(server.drain(), 0, "nothing was sent");
}

#[test]
fn help_names_the_exit_codes() {
    for words in [&["--help"][..], &["knock", "--help"], &["knock", "-h"]] {
        let ran = Client::new().run(words);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("5  no knock could be sent"), "{}", ran.out);
    }
}

#[test]
fn loose_modes_are_refused() {
    let server = Server::new();
    let client = Client::of(&server);
    let file = client.host_file("127.0.0.1");
    for mode in [0o640, 0o604, 0o620, 0o666] {
        set_mode(&file, mode);
        client.run(&["knock", "127.0.0.1"]).fails(3, &["chmod 600", "127.0.0.1.toml"]);
    }
    assert_eq!(server.drain(), 0, "nothing was sent");
    set_mode(&file, 0o600);
    client.run(&["knock", "127.0.0.1"]).quiet();
}

#[test]
fn garbled_files_are_named_with_the_line() {
    let server = Server::new();
    let client = Client::of(&server);
    let file = client.host_file("127.0.0.1");
    let text = fs::read_to_string(&file).unwrap();
    let psk = text.lines().find(|line| line.starts_with("psk")).unwrap();
    let line = text.lines().position(|line| line == psk).unwrap() + 1;
    for garbled in ["psk = 7", "psk = \"AAAA\"", "psk", "color = \"red\""] {
        fs::write(&file, text.replace(psk, garbled)).unwrap();
        let place = format!("127.0.0.1.toml:{line}");
        client.run(&["knock", "127.0.0.1"]).fails(3, &[&place]);
    }
    fs::write(&file, text.replace(psk, "")).unwrap();
    client.run(&["knock", "127.0.0.1"]).fails(3, &["127.0.0.1.toml", "psk"]);
    fs::write(&file, text.replace("127.0.0.1", "../x y")).unwrap();
    client.run(&["knock", "127.0.0.1"]).fails(3, &["127.0.0.1.toml", "host"]);
    assert_eq!(server.drain(), 0);
}

#[test]
fn a_clock_that_was_never_set_is_warned_of() {
    let server = Server::new();
    let client = Client::of(&server);
    let knock = client.command(&["knock", "127.0.0.1"]);
    let mut then = std::process::Command::new("faketime");
    let output = then.arg("1970-01-02 00:00:00").arg(knock.get_program()).args(knock.get_args());
    let ran = support::Ran::from(output.output().expect("faketime: apt install faketime"));
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("clock says 1970"), "{}", ran.err);
}
