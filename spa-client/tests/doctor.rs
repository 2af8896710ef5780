//! `spa doctor`: what it looks at, and what it says of it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use spa_keys::Token;
use spa_proto::Verifier;
use support::{Client, Ran, Server, SilentPort, free_port, set_mode};

/// The line of a check, without the white space.
fn line(ran: &Ran, check: &str) -> String {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = ran.out.lines().map(words);
    let found = lines.find(|line| line.split(' ').nth(1) == Some(check));
    found.unwrap_or_else(|| panic!("{check} is missing: {}", ran.out))
}

fn faketime(client: &Client, time: &str, words: &[&str]) -> Ran {
    let doctor = client.command(words);
    let mut then = Command::new("faketime");
    then.env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .arg(time)
        .arg(doctor.get_program())
        .args(doctor.get_args());
    then.output().expect("faketime: apt install faketime").into()
}

#[test]
fn all_in_order() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let silent = SilentPort::new();
    let port = silent.port();
    let words = ["doctor", "127.0.0.1", "--wait", "30", "--wait-port", &port];
    let child = client.start(&words);
    server.next_knock();
    silent.open();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    for (check, words) in [
        ("keys", "127.0.0.1.toml"),
        ("enrolment", "not confirmed yet"),
        ("name", "127.0.0.1 is 127.0.0.1"),
        ("route", "the address that the server sees"),
        ("clock", "it shows 20"),
        ("before", "silent, as it should be"),
        ("knock", "336 bytes left, and nothing came back"),
        ("after", "opened within"),
    ] {
        let line = line(&ran, check);
        assert!(line.contains(words) && !line.starts_with("BAD"), "{line}");
    }
    assert_eq!(server.drain(), 0, "one knock");
    assert!(!fs::read_to_string(client.host_file("127.0.0.1")).unwrap().contains("secret"));
    let ran = client.run(&["doctor", "127.0.0.1", "--wait", "1", "--wait-port", &port]);
    assert!(line(&ran, "enrolment").starts_with("ok enrolment the server knows"), "{}", ran.out);
}

/// Its key went to the server before any knock, which shows nothing yet.
#[test]
fn keys_that_have_not_opened_anything_yet_are_not_called_good() {
    let server = Server::new();
    let client = Client::of(&server);
    let Verifier::Bound(key) = client.verifier("127.0.0.1") else { panic!("no key") };
    let psk = spa_proto::Psk::from_bytes([10; 32]);
    client.enroll(&Token { psk, ..server.token_for_key(key) });
    let silent = SilentPort::new();
    let ran = client.run(&["doctor", "127.0.0.1", "--wait", "1", "--wait-port", &silent.port()]);
    let line = line(&ran, "enrolment");
    assert!(line.starts_with("note enrolment no knock with these keys"), "{line}");
    assert!(line.contains("127.0.0.1.former"), "{line}");
}

#[test]
fn a_port_that_nobody_guards_is_told_from_a_silent_one() {
    let server = Server::new();
    let client = Client::of(&server);
    drop(server);
    let port = free_port().to_string();
    let ran = client.run(&["doctor", "127.0.0.1", "--wait", "1", "--wait-port", &port]);
    assert_eq!(ran.code, 1);
    assert!(line(&ran, "knock").contains("port unreachable"), "{}", ran.out);
    assert!(line(&ran, "before").starts_with("note before TCP port"), "{}", ran.out);
    assert!(line(&ran, "after").starts_with("BAD"), "{}", ran.out);
    assert_eq!(ran.out.matches("-> ").count(), ran.out.matches("BAD").count(), "what to do");
}

#[test]
fn a_service_that_comes_up_by_itself_is_no_sign_of_enrolment() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let free = free_port();
    let words = ["doctor", "127.0.0.1", "--wait", "30", "--wait-port", &free.to_string()];
    let child = client.start(&words);
    server.next_knock();
    let _service = TcpListener::bind(("127.0.0.1", free)).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert!(line(&ran, "before").contains("nothing listens"), "{}", ran.out);
    assert!(line(&ran, "after").contains("opened within"), "{}", ran.out);
    let file = fs::read_to_string(client.host_file("127.0.0.1")).unwrap();
    assert!(file.contains("secret"), "the token may not have been used");
}

/// Whether the program leaves its memory behind when it is aborted in the middle of something.
#[cfg(target_os = "linux")]
fn leaves_a_core(command: &Command, meanwhile: impl FnOnce()) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let (place, mut aborted) = (tempfile::tempdir().unwrap(), Command::new("sh"));
    aborted.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]).current_dir(&place);
    aborted.arg(command.get_program()).args(command.get_args());
    let mut child = aborted.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    meanwhile();
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGABRT).unwrap();
    child.wait().unwrap().core_dumped()
}

#[test]
#[cfg(target_os = "linux")]
fn no_core_file_has_the_keys() {
    let mut server = Server::new();
    let client = Client::of(&server);
    let port = SilentPort::new().port();
    let doctor = client.command(&["doctor", "127.0.0.1", "--wait", "30", "--wait-port", &port]);
    assert!(!leaves_a_core(&doctor, || drop(server.next_knock())));
    let mut sleep = Command::new("sleep");
    sleep.arg("30");
    let begun = || std::thread::sleep(std::time::Duration::from_millis(300));
    if !leaves_a_core(&sleep, begun) {
        eprintln!("not shown: this machine makes no core files at all");
    }
}

#[test]
fn keys_that_others_can_read_are_the_end_of_it() {
    let server = Server::new();
    let client = Client::of(&server);
    set_mode(&client.host_file("127.0.0.1"), 0o644);
    let ran = client.run(&["doctor", "127.0.0.1"]);
    assert_eq!(ran.code, 1);
    assert!(line(&ran, "keys").contains("chmod 600"), "{}", ran.out);
    assert_eq!(server.drain(), 0);
    client.run(&["doctor", "nobody"]).fails(3, &["nobody"]);
}

#[test]
fn a_name_without_address() {
    let server = Server::named("no-such-host.invalid", &["127.0.0.1"]);
    let client = Client::of(&server);
    let ran = client.run(&["doctor", "no-such-host.invalid"]);
    assert_eq!(ran.code, 1);
    assert!(line(&ran, "name").starts_with("BAD name cannot resolve"), "{}", ran.out);
}

#[test]
fn a_clock_that_cannot_be_right() {
    let server = Server::new();
    let client = Client::of(&server);
    let port = free_port().to_string();
    let words = ["doctor", "127.0.0.1", "--wait", "1", "--wait-port", &port];
    for (time, words_expected) in [
        ("1970-01-02 00:00:00", "never set"),
        ("2025-06-01 00:00:00", "when the keys were written"),
    ] {
        let ran = faketime(&client, time, &words);
        assert!(line(&ran, "clock").contains(words_expected), "{}", ran.out);
        assert!(line(&ran, "clock").starts_with("BAD"), "{}", ran.out);
    }
}

/// Answers one question for the time, with a clock that is ahead by so many seconds.
fn time_server(ahead: u64) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut asked = [0; 48];
        let (_, from) = socket.recv_from(&mut asked).unwrap();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = (since.as_secs() + 2_208_988_800 + ahead).to_be_bytes();
        let fraction =
            u32::try_from((u64::from(since.subsec_nanos()) << 32) / 1_000_000_000).unwrap();
        let time = [&now[4..], &fraction.to_be_bytes()].concat();
        let head = [&[0x24, 1, 6, 0xec], &[0; 8][..], b"TEST"].concat();
        let answer = [&head[..], &time, &asked[40..48], &time, &time].concat();
        socket.send_to(&answer, from).unwrap();
    });
    address
}

#[test]
fn the_clock_is_compared_with_a_server_that_the_user_names() {
    let server = Server::new();
    let client = Client::of(&server);
    let port = free_port().to_string();
    let words = ["doctor", "127.0.0.1", "--wait", "1", "--wait-port", &port];
    let settings = client.dir().join("config.toml");
    let says = |server: &str| {
        fs::write(&settings, format!("time-server = \"{server}\"\n")).unwrap();
        let ran = client.run(&words);
        ran.out.lines().filter(|line| line.contains(" clock ")).nth(1).unwrap().to_owned()
    };
    for (ahead, verdict, words) in
        [(0, "ok", "0.0 s"), (20, "note", "s behind"), (300, "BAD", "s behind")]
    {
        let line = says(&time_server(ahead));
        assert!(line.starts_with(verdict) && line.contains(words), "{line}");
    }
    let nobody = format!("127.0.0.1:{}", free_port());
    let said = says(&nobody);
    assert!(said.starts_with("note") && said.contains("cannot be asked"), "{said}");

    fs::write(&settings, "\ntime-sever = \"x\"\n").unwrap();
    let ran = client.run(&words);
    assert!(line(&ran, "settings").contains("config.toml:2"), "{}", ran.out);
    assert!(line(&ran, "knock").starts_with("ok"), "knocked all the same: {}", ran.out);
    assert_eq!(ran.code, 1);
    let json = client.run(&[&words[..], &["--json"]].concat());
    assert!(json.out.contains("config.toml:2") && json.code == 1, "{json:?}");
}

#[test]
fn programs_get_it_as_json() {
    let server = Server::new();
    let client = Client::of(&server);
    let port = free_port().to_string();
    let words = ["doctor", "127.0.0.1", "--wait", "1", "--wait-port", &port, "--json"];
    let ran = client.run(&words);
    assert_eq!(ran.code, 1);
    let json = ran.json();
    assert_eq!(json["name"], "127.0.0.1");
    let rows = json["findings"].as_array().unwrap();
    let checks: Vec<_> = rows.iter().map(|row| row["check"].as_str().unwrap()).collect();
    let expected =
        ["keys", "enrolment", "clock", "clock", "name", "route", "before", "knock", "after"];
    assert_eq!(checks, expected);
    let bad = rows.iter().filter(|row| row["verdict"] == "bad");
    assert!(bad.clone().count() > 0 && bad.clone().all(|row| row["advice"].is_string()));
}
