//! `spa enroll` with a token for a server that is here already: other keys in
//! place of those, and what the user chose stays.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::net::TcpListener;

use spa_keys::Token;
use spa_proto::{Cloak, EnrolSecret, Kid, Psk, ServerSecret, Verifier, VerifyingKey};
use support::{Client, Server, SilentPort};

const HOST: &str = "127.0.0.1";

fn key_of(client: &Client) -> VerifyingKey {
    match client.verifier(HOST) {
        Verifier::Bound(key) => key,
        Verifier::Pending { .. } => unreachable!("it is the client's"),
    }
}

/// What an update brings when everything but the signing key is replaced.
fn other_keys(server: &Server, client: &Client) -> Token {
    Token {
        server: ServerSecret::from_bytes([7; 32]).public(),
        cloak: Cloak::from_bytes([8; 16]),
        kid: Kid::from_bytes([9; 16]),
        psk: Psk::from_bytes([10; 32]),
        ..server.token_for_key(key_of(client))
    }
}

fn text(client: &Client) -> String {
    fs::read_to_string(client.host_file(HOST)).unwrap()
}

fn line<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(key)).unwrap()
}

#[test]
fn a_token_for_the_key_that_is_here_brings_all_else() {
    let server = Server::new();
    let client = Client::of(&server);
    let mode = text(&client).replacen("port =", "mode = \"once\"\nport =", 1);
    fs::write(client.host_file(HOST), &mode).unwrap();
    let before = text(&client);
    let token = other_keys(&server, &client);
    let ran = client.run_with_input(&["enroll", "-", "--yes"], &token.encode());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("has new keys"), "{}", ran.err);

    let after = text(&client);
    for (key, stays) in [
        ("signing-key", true),
        ("mode", true),
        ("server-key", false),
        ("key-id", false),
        ("cloak", false),
        ("psk", false),
    ] {
        assert_eq!(line(&before, key) == line(&after, key), stays, "{key}: {after}");
    }
    assert!(!after.contains("[enrolment]"), "there is nothing to enrol: {after}");
    let former = client.host_file(HOST).with_extension("former");
    assert_eq!(fs::read_to_string(&former).unwrap(), before, "until the new ones work");
    assert_eq!(support::mode(&former), 0o600);

    let ran = client.run_with_input(&["enroll", "-"], &token.encode());
    assert!(ran.code == 0 && ran.err.contains("taken in before"), "{}", ran.err);
    // A cloak alone is news as well.
    let cloak = Token { cloak: Cloak::from_bytes([12; 16]), ..token };
    client.enroll(&cloak);
    assert_ne!(line(&after, "cloak"), line(&text(&client), "cloak"));
    assert_eq!(fs::read_to_string(&former).unwrap(), before, "the first, which may have worked");
    // And so is how long services open.
    let time = std::num::NonZeroU32::new(90).unwrap();
    let times = Token { lasting: [(cloak.services[0], time)].into(), ..cloak };
    client.enroll(&times);
    assert!(text(&client).contains("[lasting]\nssh = \"90s\"\n"), "{}", text(&client));
    // And so is a server that has moved.
    let before = text(&client);
    let moved = Token { host: "fw.example".into(), port: 62999, ..times };
    let unseen = client.run_with_input(&["enroll", "-"], &moved.encode());
    unseen.fails(3, &["at fw.example instead of", "--replace or --yes"]);
    assert_eq!(text(&client), before);
    let ran = client.run_with_input(&["enroll", "-", "--yes"], &moved.encode());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(text(&client).contains("host = \"fw.example\"\nport = 62999\n"), "{}", text(&client));
    client.enroll(&Token { port: 62998, ..moved });
    assert!(text(&client).contains("\nport = 62998\n"), "{}", text(&client));
    client.run(&["forget", HOST]);
    assert!(!former.exists() && !client.host_file(HOST).exists());
}

/// Whoever saw the key that this machine has can make a token for it, of a server of
/// their own.
#[test]
fn another_server_is_not_taken_in_unseen() {
    let server = Server::new();
    let client = Client::of(&server);
    let before = text(&client);
    let key = other_keys(&server, &client);
    let host = Token { host: "evil.example".into(), server: server.token().server, ..key.clone() };
    for (token, what) in [(&key, "another server key"), (&host, "at evil.example instead of")] {
        let ran = client.run_with_input(&["enroll", "-"], &token.encode());
        ran.fails(3, &["replaces  127.0.0.1: 127.0.0.1,", what, "--replace or --yes"]);
        assert_eq!(text(&client), before);
    }
    let named = client.run_with_input(&["enroll", "-", "--yes", "--name", "fw"], &key.encode());
    named.fails(3, &["replaces the keys of 127.0.0.1"]);
    assert_eq!(text(&client), before);
    let ran = client.run_with_input(&["enroll", "-", "--replace"], &key.encode());
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn a_token_for_another_key_changes_nothing() {
    let server = Server::new();
    let client = Client::of(&server);
    let before = text(&client);
    let other = Client::of(&server);
    let ran = client.run_with_input(&["enroll", "-"], &other_keys(&server, &other).encode());
    ran.fails(3, &["for a key that was made elsewhere"]);
    assert_eq!(text(&client), before);
    assert!(!client.host_file(HOST).with_extension("former").exists());
}

/// Another enrolment takes the place of keys only where somebody says so.
#[test]
fn another_enrolment_replaces_when_told() {
    let server = Server::new();
    let client = Client::of(&server);
    let before = text(&client);
    let token = Token {
        kid: Kid::from_bytes([9; 16]),
        enrolment: spa_keys::TokenEnrolment::Secret {
            secret: EnrolSecret::from_bytes([11; 32]),
            expires: spa_proto::Timestamp::from_millis(4_000_000_000_000),
        },
        ..server.token()
    };
    client
        .run_with_input(&["enroll", "-"], &token.encode())
        .fails(3, &["a server called", "--replace"]);
    assert_eq!(text(&client), before);
    let ran = client.run_with_input(&["enroll", "-", "--replace"], &token.encode());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let after = text(&client);
    assert!(after.contains("[enrolment]"));
    assert_ne!(line(&before, "signing-key"), line(&after, "signing-key"), "a key of its own");
}

/// Keys from before go when a port has been seen to open by the new ones, and not
/// when it was open anyway.
#[test]
fn former_keys_go_when_the_new_ones_have_opened() {
    let server = Server::new();
    let client = Client::of(&server);
    let token = Token {
        psk: Psk::from_bytes([10; 32]),
        kid: Kid::from_bytes([9; 16]),
        ..other_keys(&server, &client)
    };
    client.run_with_input(&["enroll", "-", "--yes"], &token.encode());
    let former = client.host_file(HOST).with_extension("former");
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    client.run(&["knock", HOST, "--wait", "--wait-port", &port]).quiet();
    assert!(former.exists(), "it was open before");
    while server.datagram(0).is_some() {}
    let silent = SilentPort::new();
    let child = client.start(&["knock", HOST, "--wait=20", "--wait-port", &silent.port()]);
    // It looks at the port for half a second before it sends, which is as long as we listen at once.
    assert!((0..60).any(|_| server.datagram(0).is_some()));
    silent.open();
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(!former.exists());
}
