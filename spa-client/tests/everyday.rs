//! `spa knock` from day to day: several servers, all services, again, without
//! sending, for somebody else.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use spa_keys::date;
use spa_proto::{Address, Reason, VerifiedKnock};
use support::{Client, Server, SilentPort, mode};

/// A client of several servers, by these names.
fn client_of(servers: &[(&str, &Server)]) -> Client {
    let client = Client::new();
    for (name, server) in servers {
        client.run_with_input(&["enroll", "-", "--name", name], &server.token().encode());
    }
    client
}

fn services(knock: &VerifiedKnock) -> Vec<String> {
    knock.request().services.iter().map(|service| service.to_string()).collect()
}

#[test]
fn all_of_several_hosts_are_tried() {
    let (one, other) = (Server::new(), Server::new());
    let client = client_of(&[("one", &one), ("other", &other)]);
    client.run(&["knock", "one", "other"]).quiet();
    assert_eq!((one.drain(), other.drain()), (1, 1));

    let ran = client.run(&["knock", "one", "nobody", "other"]).fails(3, &["nobody"]);
    assert_eq!(ran.out, "", "what works says nothing");
    assert_eq!((one.drain(), other.drain()), (1, 1), "a failure keeps none of the others back");

    let (code, mut shown) = client.run_at_terminal(&["knock", "one", "other"]);
    let mut lines: Vec<_> = std::mem::take(&mut shown).lines().map(str::to_owned).collect();
    lines.sort();
    let line =
        |name| format!("{name}: knocked for ssh (1 address), for as long as the server says");
    assert_eq!((code, lines), (0, vec![line("one"), line("other")]));
}

#[test]
fn json_has_an_object_for_each_host() {
    let server = Server::new();
    let client = client_of(&[("one", &server)]);
    let ran = client.run(&["knock", "one", "nobody", "--json"]).fails(3, &["nobody"]);
    let mut rows: Vec<serde_json::Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows.sort_by_key(|row| row["name"].to_string());
    let keys =
        |row: &serde_json::Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&rows[0]), keys(&rows[1]), "the same fields, whatever happens");
    assert_eq!((&rows[0]["name"], &rows[0]["exit"]), (&"nobody".into(), &3.into()));
    assert!(rows[0]["error"].as_str().unwrap().contains("no keys"));
    assert_eq!((&rows[1]["error"], &rows[1]["exit"]), (&serde_json::Value::Null, &0.into()));
}

/// One after the other, the second would not be knocked at before the first opens.
#[test]
fn several_hosts_are_waited_for_at_once() {
    let (mut one, mut other) = (Server::new(), Server::new());
    let client = client_of(&[("one", &one), ("other", &other)]);
    let silent = SilentPort::new();
    let port = silent.port();
    let child = client.start(&["knock", "one", "other", "--wait=60", "--wait-port", &port]);
    one.next_knock();
    other.next_knock();
    silent.open();
    support::Ran::from(child.wait_with_output().unwrap()).quiet();
}

#[test]
fn all_services_are_asked_for_four_at_a_time() {
    let mut server = Server::new();
    server.services = vec!["a", "b", "c", "d", "e", "f"];
    let client = Client::of(&server);
    let ran = client.run(&["knock", "127.0.0.1", "--all-services", "--json"]);
    let json = ran.json();
    assert_eq!(json["services"].as_array().unwrap().len(), 6);
    assert_eq!(json["sent"][1]["services"], serde_json::json!(["e", "f"]));
    let asked: Vec<_> = server.knocks().iter().map(services).collect();
    assert_eq!(asked, [vec!["a", "b", "c", "d"], vec!["e", "f"]]);
    let (_, shown) = client.run_at_terminal(&["knock", "127.0.0.1", "--all-services"]);
    assert!(shown.contains("a, b, c, d, e, f (1 address)"), "{shown}");
    client.run(&["knock", "127.0.0.1", "--all-services", "--service", "a"]).fails(2, &[]);
}

#[test]
fn a_dry_run_says_all_and_sends_nothing() {
    let server = Server::new();
    let client = Client::of(&server);
    let ran = client.run(&["knock", "127.0.0.1", "--dry-run", "--ttl", "2m"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for words in ["would send 336 bytes", "127.0.0.1.toml", "to open ssh"] {
        assert!(ran.out.contains(words), "{words:?} is missing: {}", ran.out);
    }
    let json = client.run(&["knock", "127.0.0.1", "--dry-run", "--json"]).json();
    assert_eq!((&json["dry_run"], &json["sent"][0]["port"]), (&true.into(), &server.port.into()));
    assert_eq!(server.drain(), 0);
}

#[test]
fn a_dry_run_that_nobody_can_be_told_of_has_failed() {
    let server = Server::new();
    let client = Client::of(&server);
    for words in [&["--dry-run"][..], &["--dry-run", "--json"], &["--json"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut knock = client.command(&[&["knock", "127.0.0.1"], words].concat());
        let said = knock.stdout(full).output().unwrap();
        assert_eq!(said.status.code(), Some(3), "{words:?}");
        let why = String::from_utf8_lossy(&said.stderr);
        assert!(why.contains("cannot write to standard output"), "{words:?}: {why}");
        assert_eq!(why.lines().count(), 1, "once: {why}");
    }
}

#[test]
fn a_dry_run_of_the_last_knock_waits_for_nothing() {
    let server = Server::new();
    let client = Client::of(&server);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let words = ["knock", "127.0.0.1", "--wait", "--wait-port", &port];
    assert_eq!(client.run_at_terminal(&words).0, 0);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_ok(), "it waits when it is meant");
    while listener.accept().is_ok() {}
    server.drain();
    let ran = client.run(&["knock", "--again", "--dry-run"]);
    assert_eq!((ran.code, server.drain()), (0, 0), "{ran:?}");
    assert!(listener.accept().is_err(), "nobody has connected");
}

#[test]
fn the_last_knock_of_a_person_is_made_again() {
    let mut server = Server::new();
    let client = Client::of(&server);
    client.run(&["knock", "--again"]).fails(3, &["last-knock.toml", "without --again"]);
    client.run(&["knock", "127.0.0.1"]).quiet();
    client.run(&["knock", "--again"]).fails(3, &["no knock is remembered"]);

    let words = ["knock", "127.0.0.1", "--ttl", "90s", "--service", "web"];
    assert_eq!(client.run_at_terminal(&words).0, 0);
    let file = client.dir().join("state/last-knock.toml");
    assert_eq!(mode(&file), 0o600);
    let kept = fs::read(&file).unwrap();
    assert_eq!(server.drain(), 2);
    for round in 0..2 {
        client.run(&["knock", "--again"]).quiet();
        let knock = server.knock();
        assert_eq!(services(&knock), ["web"], "round {round}");
        assert_eq!(knock.request().seconds.map(u32::from), Some(90));
    }
    client.run_at_terminal(&["knock", "--again"]);
    assert_eq!(server.drain(), 1);
    assert_eq!(fs::read(&file).unwrap(), kept, "what is made again stays what it was");
    client.run(&["knock", "--again", "--ttl", "5m"]).fails(2, &["--again", "--ttl"]);
    client.run(&["knock", "--again", "127.0.0.1"]).fails(2, &["--again", "127.0.0.1"]);

    fs::write(&file, "knock = [\"--no-such-option\"]\n").unwrap();
    client.run(&["knock", "--again"]).fails(3, &["last-knock.toml", "--no-such-option"]);
    assert_eq!(server.drain(), 0);
}

/// Writes a knock for 203.0.113.9 and gives its file.
fn save(client: &Client, name: &str, words: &[&str]) -> (PathBuf, String) {
    let file = client.dir().join(name);
    let path = file.to_str().unwrap().to_owned();
    let knock = ["knock", "127.0.0.1", "--from", "203.0.113.9", "--save", &path];
    let ran = client.run(&[&knock[..], words].concat());
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert!(ran.err.contains("works once") && ran.err.contains("server's clock"), "{}", ran.err);
    (file, path)
}

#[test]
fn a_saved_knock_is_sent_as_it_is_and_works_once() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let (file, path) = save(&client, "saved.toml", &["--ttl", "2m"]);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(server.drain(), 0, "saving sends nothing");
    let again = ["knock", "127.0.0.1", "--from", "203.0.113.9", "--save", &path];
    client.run(&again).fails(3, &["saved.toml", "stays as it is"]);

    // Somebody without any keys.
    let friend = Client::new();
    friend.run(&["send", &path]).quiet();
    let knock = server.knock();
    assert_eq!(knock.request().address, Address::Explicit(IpAddr::from([203, 0, 113, 9])));
    assert_eq!(knock.request().seconds.map(u32::from), Some(120));
    friend.run(&["send", &path]).quiet();
    let pending = server.pending();
    let twice = server.knock_verified_by(0, &pending).err();
    assert_eq!(twice, Some(Reason::Duplicate), "the same bytes");
    assert!(!friend.dir().exists(), "and it leaves nothing behind");
}

#[test]
fn a_saved_knock_can_go_through_a_pipe() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let ran = client.run(&["knock", "127.0.0.1", "--source", "seen", "--save", "-"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    Client::new().run_with_input(&["send", "-"], &ran.out).quiet();
    assert_eq!(server.knock().request().address, Address::Seen);
}

/// It is sealed before it is known by which family it goes: of the other one, the server would
/// refuse it, and it were used up.
#[test]
fn a_saved_width_goes_by_its_family() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let seen = ["knock", "127.0.0.1", "--source", "seen", "--save", "-"];
    let saved = |words: &[&str]| client.run(&[&seen[..], words].concat()).out;
    let friend = Client::new();
    let for_v6 = saved(&["--width", "64"]);
    friend.run_with_input(&["send", "-"], &for_v6).fails(4, &["no IPv6 address"]);
    for (words, width) in [(&["--width", "24"][..], Some(24)), (&["--width", "64", "-4"], None)] {
        let text = saved(words);
        assert!(text.contains("family = \"IPv4\""), "{words:?}: {text}");
        friend.run_with_input(&["send", "-"], &text).quiet();
        assert_eq!(server.knock().request().width, width, "{words:?}");
        assert_eq!(server.drain(), 0);
    }
    assert!(!saved(&[]).contains("family"), "whatever the server's name leads to");
}

#[test]
fn a_saved_knock_is_for_its_own_time_only() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let far = Duration::from_secs(300);
    for (name, time) in
        [("past.toml", date::now().minus(far)), ("later.toml", date::now().plus(far))]
    {
        let (_, path) = save(&client, name, &["--at", &date::format(time)]);
        let ran = client.run(&["send", &path]);
        assert_eq!(ran.code, 0);
        assert!(ran.err.contains("most servers will refuse"), "{}", ran.err);
        let pending = server.pending();
        assert_eq!(server.knock_verified_by(0, &pending).err(), Some(Reason::Stale), "{name}");
    }
}

#[test]
fn only_a_saved_knock_is_sent() {
    let server = Server::new();
    let client = Client::of(&server);
    let (file, path) = save(&client, "saved.toml", &[]);
    let text = fs::read_to_string(&file).unwrap();
    let line = text.lines().find(|line| line.starts_with("datagram")).unwrap();
    for (garbled, hint) in [
        (text.replace(line, "datagram = \"AAAA\""), "336 bytes"),
        (text.replace(line, ""), "datagram"),
        (text.replace("127.0.0.1", "x y"), "host"),
        ("\u{0}".repeat(400), "saved.toml"),
    ] {
        fs::write(&file, garbled).unwrap();
        client.run(&["send", &path]).fails(3, &["saved.toml", hint]);
    }
    fs::write(&file, text.replace("IPv4", "IPv6")).unwrap();
    client.run(&["send", &path]).fails(4, &["no IPv6 address"]);
    client.run(&["send", "/no/such/file"]).fails(3, &["/no/such/file"]);
    let unsaved = ["knock", "127.0.0.1", "--save", &path];
    client.run(&unsaved).fails(2, &["--source"]);
    assert_eq!(server.drain(), 0);
}

#[test]
fn shells_learn_the_words() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = Client::new().run(&["completions", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("all-services"), "{shell}");
    }
}

/// Answers one request for a web page, and gives its URL.
fn web(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all((head + answer).as_bytes()).unwrap();
    });
    url
}

#[test]
fn ones_own_address_is_asked_for_where_the_user_says_so() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let settings = client.dir().join("config.toml");
    let set = |url: &str| fs::write(&settings, format!("address-url = \"{url}\"\n")).unwrap();

    set(&web("203.0.113.9\n"));
    client.run(&["knock", "127.0.0.1"]).quiet();
    let told = Address::Explicit(IpAddr::from([203, 0, 113, 9]));
    assert_eq!(server.knock().request().address, told, "loopback is not global");

    for answer in ["10.0.0.1", "2001:db8::1", "<html>203.0.113.9</html>"] {
        set(&web(answer));
        let ran = client.run(&["knock", "127.0.0.1"]);
        assert!(ran.code == 0 && ran.err.contains("asking for the one that the server sees"));
        assert_eq!(server.knock().request().address, Address::Seen, "{answer}");
    }
    // Nobody listens there any more: who does not want to ask does not ask.
    client.run(&["knock", "127.0.0.1", "--source", "seen"]).quiet();
    server.knock();
    set(&web("no TLS").replace("http://127.0.0.1", "https://localhost"));
    let ran = client.run(&["knock", "127.0.0.1"]);
    assert!(ran.code == 0 && ran.err.contains("does not tell"), "{ran:?}");
    assert_eq!(server.drain(), 1);
    let refused = [
        "http://example.com/",
        "http://127.0.0.1:x@example.com/",
        "ftp://example.com",
        "https://a b",
        "file:///etc/hosts",
    ];
    for url in refused {
        set(url);
        client.run(&["knock", "127.0.0.1"]).fails(3, &["config.toml:1", "https://"]);
    }
    set("https://example.com/");
    for mode in [0o664, 0o646] {
        support::set_mode(&settings, mode);
        client.run(&["knock", "127.0.0.1"]).fails(3, &["config.toml", "chmod go-w"]);
    }
    assert_eq!(server.drain(), 0);
}
