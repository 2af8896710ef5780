//! `spa knock --wait`: seeing the service open.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use spa_proto::Mode;
use support::{Client, Server, SilentPort};

#[test]
fn an_open_service_ends_the_wait() {
    let server = Server::new();
    let client = Client::of(&server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = format!("tcp/{}", listener.local_addr().unwrap().port());
    client.run(&["knock", "127.0.0.1", "--wait", "--service", &service]).quiet();
    assert_eq!(server.drain(), 1, "no need to knock again");
}

#[test]
fn a_service_that_opens_late_is_noticed_at_once() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let silent = SilentPort::new();
    let port = silent.port();
    let child = client.start(&["knock", "127.0.0.1", "--wait=20", "--wait-port", &port, "--json"]);
    server.next_knock();
    std::thread::sleep(Duration::from_millis(1000));
    silent.open();
    let opened = Instant::now();
    let ran = support::Ran::from(child.wait_with_output().unwrap());
    let noticed = opened.elapsed();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(noticed < Duration::from_millis(1500), "only after {noticed:?}");
    let json = ran.json();
    assert_eq!(json["open"], true);
    assert!(json["waited_ms"].as_u64().unwrap() >= 500, "{json}");
}

#[test]
fn a_service_that_stays_shut_is_knocked_for_again_and_given_up() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let silent = SilentPort::new();
    let words = ["knock", "127.0.0.1", "--wait=5", "--json", "--wait-port", &silent.port()];
    let start = Instant::now();
    let ran = client.run(&words).fails(1, &["clock", "spad", "silent"]);
    let took = start.elapsed();
    assert!((5..8).contains(&took.as_secs()), "{took:?}");
    assert_eq!(ran.json()["open"], false);

    let nonces = [server.knock().nonce(), server.knock().nonce(), server.knock().nonce()];
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2] && nonces[0] != nonces[2]);
    assert_eq!(server.drain(), 0, "within what one client may");
}

#[test]
fn a_service_that_does_not_run_is_told_from_one_that_is_shut() {
    let server = Server::new();
    let client = Client::of(&server);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let words = ["knock", "127.0.0.1", "--wait=1", "--wait-port", &port];
    client.run(&words).fails(1, &["nothing listens there"]);
}

#[test]
fn the_secret_goes_once_an_opening_proves_the_enrolment() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let silent = SilentPort::new();
    let port = silent.port();
    let secret_kept =
        || fs::read_to_string(client.host_file("127.0.0.1")).unwrap().contains("secret");

    let child = client.start(&["knock", "127.0.0.1", "--wait=20", "--wait-port", &port]);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(secret_kept());
    silent.open();
    support::Ran::from(child.wait_with_output().unwrap()).quiet();
    assert!(!secret_kept());
    assert_eq!(support::mode(&client.host_file("127.0.0.1")), 0o600);

    let bound = spa_proto::Verifier::Bound(server.knock().binds().unwrap());
    server.drain();
    client.run(&["knock", "127.0.0.1"]).quiet();
    let knock = server.knock_verified_by(0, &bound).expect("the same key");
    assert!(matches!(knock.request().kind, spa_proto::Kind::Knock));
}

#[test]
fn the_secret_stays_where_the_service_was_open_anyway() {
    let server = Server::new();
    let client = Client::of(&server);
    let before = fs::read(client.host_file("127.0.0.1")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    client.run(&["knock", "127.0.0.1", "--wait", "--wait-port", &port]).quiet();
    assert_eq!(fs::read(client.host_file("127.0.0.1")).unwrap(), before);
}

/// The server is not left to open for the one connection that looks: that would use it up.
#[test]
fn who_looks_asks_for_more_than_one_connection() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    client.run(&["knock", "127.0.0.1", "--wait", "--wait-port", &port]).quiet();
    assert_eq!(server.knock().request().mode, Mode::Window);
    let silent = SilentPort::new();
    let words = ["knock", "127.0.0.1", "--wait=1", "--wait-port", &silent.port()];
    client.run(&words).fails(1, &["one connection for each knock", "--mode once"]);
}

/// The probe comes from the port that the caller will connect from, and leaves
/// it free, also for callers that do without `SO_REUSEADDR`.
#[test]
fn a_bound_wait_connects_from_the_port_and_leaves_it() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap().port().to_string();
    let source = support::free_port();
    let mode = ["--mode", "bound", "--source-port", &source.to_string()];
    let words = ["knock", "127.0.0.1", "--wait", "--wait-port", &there];
    client.run(&[&words[..], &mode].concat()).quiet();
    assert_eq!(server.knock().request().mode, Mode::Bound { source_port: source });
    let from_there = support::accepted(&listener).into_iter().find(|(port, _)| *port == source);
    let _open_there = from_there.expect("a connection from the port");
    let caller = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    caller.bind(&SocketAddr::from(([127, 0, 0, 1], source)).into()).expect("free");
    caller.connect(&listener.local_addr().unwrap().into()).unwrap();
}
