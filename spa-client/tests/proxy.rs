//! `spa proxy`: the connection that it is, and how it comes about.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread;

use spa_proto::{Mode, Service};
use support::{Client, Ran, Server, SilentPort};

/// More than all buffers on the way together.
const MUCH: usize = 20_000_000;

/// A service that anybody can connect to.
struct Listening {
    listener: TcpListener,
    port: String,
}

impl Listening {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        Self { listener, port }
    }

    fn proxy(&self, client: &Client, words: &[&str]) -> Child {
        client.start(&[&["proxy", "127.0.0.1", &self.port], words].concat())
    }

    fn accept(&self) -> TcpStream {
        self.listener.accept().unwrap().0
    }
}

/// A client whose token is used up: nothing but the proxy's connection comes.
fn enrolled() -> (Server, Client) {
    let server = Server::new();
    let client = Client::of(&server);
    let file = client.host_file("127.0.0.1");
    let text = std::fs::read_to_string(&file).unwrap();
    let (text, _) = text.split_once("\n[enrolment]").unwrap();
    std::fs::write(&file, format!("{text}\n")).unwrap();
    (server, client)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

fn ended(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

#[test]
fn all_bytes_go_both_ways_and_each_end_is_passed_on() {
    let (_server, client) = enrolled();
    let service = Listening::new();
    let mut child = service.proxy(&client, &[]);
    let mut input = child.stdin.take().unwrap();
    let asking = thread::spawn(move || input.write_all(&bytes(MUCH)));
    let mut there = service.accept();
    let mut asked = Vec::new();
    there.read_to_end(&mut asked).unwrap();
    assert!(asked == bytes(MUCH), "the end of standard input ends the question");
    asking.join().unwrap().unwrap();
    let answering = thread::spawn(move || there.write_all(&bytes(MUCH)));
    let output = child.wait_with_output().unwrap();
    answering.join().unwrap().unwrap();
    assert!(output.stdout == bytes(MUCH));
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn single_bytes_are_not_kept_back() {
    let (_server, client) = enrolled();
    let service = Listening::new();
    let mut child = service.proxy(&client, &[]);
    let mut there = service.accept();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for byte in 0..100 {
        let mut got = [0];
        input.write_all(&[byte]).unwrap();
        there.read_exact(&mut got).unwrap();
        assert_eq!(got, [byte]);
        there.write_all(&got).unwrap();
        output.read_exact(&mut got).unwrap();
        assert_eq!(got, [byte]);
    }
    drop((input, there));
    assert_eq!(ended(child).code, 0);
}

#[test]
fn a_server_that_has_said_all_still_listens() {
    let (_server, client) = enrolled();
    let service = Listening::new();
    let mut child = service.proxy(&client, &[]);
    let mut there = service.accept();
    there.write_all(b"all I have").unwrap();
    there.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "all I have", "and the end of it is seen here");
    child.stdin.take().unwrap().write_all(b"and I").unwrap();
    let mut heard = String::new();
    there.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "and I");
    assert_eq!(ended(child).code, 0);
}

#[test]
fn a_reader_that_has_enough_holds_nobody_up() {
    let (_server, client) = enrolled();
    let service = Listening::new();
    let mut child = service.proxy(&client, &[]);
    let mut there = service.accept();
    drop(child.stdout.take());
    there.write_all(&bytes(MUCH)).unwrap();
    there.shutdown(Shutdown::Write).unwrap();
    child.stdin.take().unwrap().write_all(b"thanks").unwrap();
    let mut heard = String::new();
    there.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "thanks");
    assert_eq!(ended(child).code, 0);
}

#[test]
fn a_connection_that_breaks_is_an_error_of_its_own() {
    let (_server, client) = enrolled();
    let service = Listening::new();
    let mut child = service.proxy(&client, &[]);
    let there = service.accept();
    child.stdin.as_mut().unwrap().write_all(b"never read").unwrap();
    there.peek(&mut [0; 16]).unwrap();
    drop(there); // unread data: a reset
    let input = child.stdin.take(); // still open
    ended(child).fails(6, &["127.0.0.1: the connection broke", "reset"]);
    drop(input);
}

#[test]
fn a_full_disk_is_not_blamed_on_the_connection() {
    let (_server, client) = enrolled();
    let service = Listening::new();
    let mut command = client.command(&["proxy", "127.0.0.1", &service.port]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    service.accept().write_all(b"data").unwrap();
    ended(child).fails(6, &["cannot write to standard output"]);
}

#[test]
fn asks_for_what_it_connects_to() {
    let (mut server, client) = enrolled();
    let key = client.verifier("127.0.0.1");
    let service = Listening::new();
    for (words, asked) in [
        (&[][..], format!("tcp/{}", service.port)),
        (&["--service", "git-ssh"], "git-ssh".to_owned()),
    ] {
        let child = service.proxy(&client, words);
        drop(service.accept());
        assert_eq!(ended(child).code, 0);
        let knock = server.knock_verified_by(0, &key).unwrap();
        let services: Vec<_> = knock.request().services.iter().collect();
        assert_eq!(services, [asked.parse::<Service>().unwrap()]);
        assert_eq!(knock.request().mode, Mode::Default);
    }
}

#[test]
fn once_is_asked_for() {
    let (mut server, client) = enrolled();
    let key = client.verifier("127.0.0.1");
    let service = Listening::new();
    let child = service.proxy(&client, &["--mode", "once"]);
    drop(service.accept());
    assert_eq!(ended(child).code, 0);
    assert_eq!(server.knock_verified_by(0, &key).unwrap().request().mode, Mode::Once);
}

#[test]
fn a_bound_connection_comes_from_the_port_that_the_knock_names() {
    let (mut server, client) = enrolled();
    let key = client.verifier("127.0.0.1");
    let service = Listening::new();
    let chosen = support::free_port();
    for words in [&[][..], &["--source-port", &chosen.to_string()]] {
        let child = service.proxy(&client, &[&["--mode", "bound"], words].concat());
        let (_, peer) = service.listener.accept().unwrap();
        assert_eq!(ended(child).code, 0);
        let mode = server.knock_verified_by(0, &key).unwrap().request().mode;
        assert_eq!(mode, Mode::Bound { source_port: peer.port() });
        assert!(words.is_empty() || peer.port() == chosen);
    }
    assert!(support::accepted(&service.listener).is_empty(), "a port makes one at a time");
}

/// As behind a router that changes ports: only mode once opens.
#[test]
fn without_a_connection_bound_falls_back_to_once() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let silent = SilentPort::new();
    let words = ["proxy", "127.0.0.1", &silent.port(), "--mode", "bound", "--wait", "30", "-v"];
    let child = client.start(&words);
    let mut ports = Vec::new();
    let other = loop {
        match server.next_knock().request().mode {
            Mode::Bound { source_port } => ports.push(source_port),
            other => break other,
        }
    };
    assert_eq!(other, Mode::Once);
    assert!(ports.len() >= 2, "knocked again");
    assert!(ports.iter().all(|port| *port == ports[0]), "with the port that is held: {ports:?}");
    silent.open();
    let ran = ended(child);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("asking for one once"), "{}", ran.err);
}

#[test]
fn no_fallback_where_it_is_not_wanted() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let silent = SilentPort::new();
    let words = ["proxy", "127.0.0.1", &silent.port(), "--mode", "bound", "--no-fallback"];
    let words = [&words[..], &["--wait", "5"]].concat();
    client.run(&words).fails(1, &["changes source ports", "--mode once"]);
    let knocks = server.knocks();
    assert!(!knocks.is_empty());
    let bound = |mode| matches!(mode, Mode::Bound { .. });
    assert!(knocks.iter().all(|knock| bound(knock.request().mode)));
}

#[test]
fn a_service_that_opens_late_is_knocked_for_again() {
    for mode in [&[][..], &["--mode", "bound", "--no-fallback"]] {
        let mut server = Server::new();
        let client = Client::of(&server);
        let silent = SilentPort::new();
        let words = ["proxy", "127.0.0.1", &silent.port(), "--wait", "60"];
        let mut child = client.start(&[&words[..], mode].concat());
        server.next_knock();
        server.next_knock();
        let listener = silent.into_listener();
        child.stdin.take().unwrap().write_all(b"at last").unwrap();
        let heard = listener.incoming().find_map(|stream| {
            let mut heard = String::new();
            stream.unwrap().read_to_string(&mut heard).ok()?;
            (!heard.is_empty()).then_some(heard)
        });
        assert_eq!(heard.unwrap(), "at last");
        assert_eq!(ended(child).code, 0, "{mode:?}");
    }
}

#[test]
fn what_cannot_be_is_said_before_anything_is_sent() {
    let (server, client) = enrolled();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    for (words, code, hints) in [
        (&["127.0.0.1", "nas"][..], 2, &["PORT --service nas"][..]),
        (&["127.0.0.1", "udp/53"], 2, &["TCP port"]),
        (&["127.0.0.1", "0"], 2, &["1 to 65535"]),
        (&["127.0.0.1", "22", "--source-port", "50000"], 2, &["--mode bound"]),
        (&["elsewhere", "22"], 3, &["no keys"]),
        (&["127.0.0.1", "22", "-6"], 4, &["no IPv6 address"]),
        (&["127.0.0.1", "22", "--mode", "bound", "--source-port", &taken], 5, &["in use", &taken]),
    ] {
        client.run(&[&["proxy"], words].concat()).fails(code, hints);
    }
    assert_eq!(server.drain(), 0);
}

/// Nothing but the server's own bytes may be on standard output, also where
/// somebody watches.
#[test]
fn a_terminal_gets_nothing_but_the_data() {
    let (_server, client) = enrolled();
    let service = Listening::new();
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = client.command(&["proxy", "127.0.0.1", &service.port]);
    command.stdout(pty.slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    service.accept().write_all(b"data").unwrap();
    assert!(child.wait().unwrap().success());
    let mut shown = [0; 64];
    let len = std::fs::File::from(pty.master).read(&mut shown).unwrap();
    assert_eq!(&shown[..len], b"data");
}
