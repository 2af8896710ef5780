//! `spa enroll` and `spa request`: tokens in, keys kept.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use spa_keys::PublicKeyLine;
use spa_proto::Verifier;
use support::{Client, Server, mode, set_mode};

#[test]
fn a_token_on_standard_input_becomes_a_private_file() {
    let (client, server) = (Client::new(), Server::new());
    let ran =
        client.run_with_input(&["enroll", "-"], &format!("\n {}\r\n", *server.token().encode()));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out, "");
    assert_eq!(mode(&client.host_file("127.0.0.1")), 0o600);
    for dir in [client.dir(), client.dir().join("hosts")] {
        assert_eq!(mode(&dir), 0o700, "{}", dir.display());
    }
}

#[test]
fn says_what_it_trusts_and_what_comes_next_but_no_secret() {
    let (client, server) = (Client::new(), Server::named("FW.Example.com", &["127.0.0.1"]));
    let token = server.token();
    let ran = client.run_with_input(&["enroll", "-"], &token.encode());
    let (port, key) =
        (server.port.to_string(), spa_keys::encoding::to_base64(server.secret.public().as_bytes()));
    for word in ["FW.Example.com", &port, &key, "ssh, web", "before 20", "spa knock fw.example.com"]
    {
        assert!(ran.err.contains(word), "{word:?} is missing: {}", ran.err);
    }
    let file = fs::read_to_string(client.host_file("fw.example.com")).unwrap();
    for line in file
        .lines()
        .filter(|line| ["psk", "cloak", "signing", "secret"].iter().any(|k| line.starts_with(k)))
    {
        let value = line.split('"').nth(1).unwrap();
        assert!(!ran.err.contains(value), "shows {line}");
    }
}

#[test]
fn a_file_may_hold_the_token() {
    let (client, server) = (Client::new(), Server::new());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, server.token().encode().as_bytes()).unwrap();
    set_mode(&path, 0o644);
    let ran = client.run(&["enroll", path.to_str().unwrap(), "--name", "fw"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("others on this machine can read"), "{}", ran.err);
    assert!(client.host_file("fw").exists());
}

#[test]
fn a_token_among_the_arguments_is_refused() {
    let (client, server) = (Client::new(), Server::new());
    let token = server.token().encode();
    // What begins with a hyphen would be an option.
    let part = |from: usize| token[from..].trim_start_matches('-');
    for argument in [token.as_str(), part(5), part(40)] {
        let ran = client.run(&["enroll", argument]).fails(2, &["history", "others"]);
        assert!(!ran.err.contains(&argument[..20]), "repeats the token: {}", ran.err);
    }
    assert!(!client.dir().exists(), "nothing was made");
}

#[test]
fn damaged_tokens_are_refused_and_leave_nothing() {
    let (client, server) = (Client::new(), Server::new());
    let token = server.token().encode();
    let other = if &token[50..51] == "_" { "A" } else { "_" };
    for text in ["", "hello", &token[..token.len() - 1], &token.replace(&token[50..51], other)] {
        client.run_with_input(&["enroll", "-"], text).fails(3, &["token"]);
    }
    client.run(&["enroll", "/nonexistent/token"]).fails(3, &["/nonexistent/token"]);
    assert!(!client.dir().join("hosts").exists());
}

#[test]
fn without_a_terminal_nothing_is_asked() {
    Client::new().run(&["enroll"]).fails(2, &["spa enroll -"]);
}

#[test]
fn the_terminal_does_not_show_the_token() {
    let (client, server) = (Client::new(), Server::new());
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = client.command(&["enroll"]);
    command.stdin(pty.slave.try_clone().unwrap()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut asked = [0; 5];
    child.stderr.as_mut().unwrap().read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"token");

    let mut master = fs::File::from(pty.master);
    let deadline = Instant::now() + Duration::from_secs(5);
    while echoes(&pty.slave) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Stopped, it would leave the terminal to a shell that shows what is typed next.
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim();
    let stop = 1 << (nix::libc::SIGTSTP - 1);
    assert_eq!(u64::from_str_radix(blocked, 16).unwrap() & stop, stop, "{blocked}");
    let token = server.token().encode();
    writeln!(master, "{}", *token).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(echoes(&pty.slave), "the terminal is left as it was");
    assert_eq!(screen(&mut master).trim(), "", "only the end of the line is shown");
    assert!(client.host_file("127.0.0.1").exists());
}

/// What the terminal has shown so far.
fn screen(master: &mut fs::File) -> String {
    let mut shown = [0; 4096];
    let len = master.read(&mut shown).unwrap();
    String::from_utf8_lossy(&shown[..len]).into_owned()
}

fn echoes(terminal: &impl std::os::fd::AsFd) -> bool {
    use nix::sys::termios::{LocalFlags, tcgetattr};
    tcgetattr(terminal).unwrap().local_flags.contains(LocalFlags::ECHO)
}

#[test]
fn another_server_of_the_same_name_replaces_nothing() {
    let (one, other) = (Server::new(), Server::new());
    let client = Client::of(&one);
    let before = fs::read(client.host_file("127.0.0.1")).unwrap();
    let ran = client.run_with_input(&["enroll", "-"], &other.token().encode());
    let ran = ran.fails(3, &["127.0.0.1", "--name", "--replace"]);
    assert!(!ran.err.contains("its key"), "nobody is asked to trust it first: {}", ran.err);
    assert_eq!(fs::read(client.host_file("127.0.0.1")).unwrap(), before);

    let ran = client.run_with_input(&["enroll", "-", "--name", "other"], &other.token().encode());
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn the_same_token_again_is_no_error_and_makes_no_other_key() {
    let server = Server::new();
    let client = Client::of(&server);
    let before = fs::read(client.host_file("127.0.0.1")).unwrap();
    let token = server.token().encode();
    let ran = client.run_with_input(&["enroll", "-"], &token);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("before"), "{}", ran.err);
    client.run_with_input(&["enroll", "-", "--name", "b"], &token).fails(3, &["as 127.0.0.1"]);
    assert_eq!(fs::read(client.host_file("127.0.0.1")).unwrap(), before);
    assert!(!client.host_file("b").exists());
}

#[test]
fn each_enrolment_makes_a_key_of_its_own() {
    let server = Server::new();
    let signing = |client: &Client| {
        let file = fs::read_to_string(client.host_file("127.0.0.1")).unwrap();
        file.lines().find(|line| line.starts_with("signing")).unwrap().to_owned()
    };
    assert_ne!(signing(&Client::of(&server)), signing(&Client::of(&server)));
}

#[test]
fn aliases_cannot_leave_the_directory() {
    let (client, server) = (Client::new(), Server::new());
    for name in ["../x", "/x", "", ".x", "a/b"] {
        client
            .run_with_input(&["enroll", "-", "--name", name], &server.token().encode())
            .fails(2, &[]);
    }
    client.run(&["knock", "../../etc/passwd"]).fails(3, &["no keys for"]);
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let (client, server) = (Client::new(), Server::new());
    fs::create_dir_all(client.dir().join("hosts")).unwrap();
    set_mode(&client.dir().join("hosts"), 0o777);
    client.run_with_input(&["enroll", "-"], &server.token().encode()).fails(3, &["hosts"]);
}

#[test]
fn a_requested_key_is_found_again_by_its_token() {
    let (client, mut server) = (Client::new(), Server::new());
    let ran = client.run(&["request"]);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 1), "{ran:?}");
    let key = PublicKeyLine::decode(&ran.out).unwrap().key;
    let requests = client.dir().join("requests");
    let files = || fs::read_dir(&requests).unwrap().map(|file| file.unwrap().path());
    assert_eq!(files().map(|path| mode(&path)).collect::<Vec<_>>(), [0o600]);
    assert_eq!(mode(&requests), 0o700);

    client.enroll(&server.token_for_key(key));
    assert_eq!(files().count(), 0, "kept once only");
    client.run(&["knock", "127.0.0.1"]).quiet();
    let knock = server.knock_verified_by(0, &Verifier::Bound(key)).expect("signed by that key");
    assert!(knock.binds().is_none());
}

#[test]
fn a_token_for_a_key_made_elsewhere_is_refused() {
    let (client, elsewhere, server) = (Client::new(), Client::new(), Server::new());
    let key = PublicKeyLine::decode(&elsewhere.run(&["request"]).out).unwrap().key;
    client.run(&["request"]);
    let token = server.token_for_key(key).encode();
    client.run_with_input(&["enroll", "-"], &token).fails(3, &["spa request"]);

    // Another key under the name of the right one is not the right one.
    let only = |client: &Client| fs::read_dir(client.dir().join("requests")).unwrap().next();
    let (ours, theirs) = (only(&client).unwrap().unwrap(), only(&elsewhere).unwrap().unwrap());
    fs::rename(ours.path(), ours.path().with_file_name(theirs.file_name())).unwrap();
    client.run_with_input(&["enroll", "-"], &token).fails(3, &["spa request"]);
    assert!(!client.host_file("127.0.0.1").exists());
}

#[test]
fn several_tokens_are_taken_in_at_once() {
    let servers =
        [Server::named("a.example", &["127.0.0.1"]), Server::named("b.example", &["127.0.0.1"])];
    let tokens: Vec<_> = servers.iter().map(|server| server.token().encode().to_string()).collect();
    let client = Client::new();
    let all = tokens.join("\n");
    client.run_with_input(&["enroll", "-", "--name", "x"], &all).fails(2, &["--name"]);
    let broken = format!("{}\nspa1.AAAA\n{}\n", tokens[0], tokens[1]);
    let ran = client.run_with_input(&["enroll", "-"], &broken).fails(3, &["damaged"]);
    assert!(ran.err.contains("a.example") && ran.err.contains("b.example"), "{}", ran.err);
    for name in ["a.example", "b.example"] {
        assert!(
            client.host_file(name).exists(),
            "one that is broken keeps none of the others back"
        );
    }
    assert_eq!(client.run_with_input(&["enroll", "-"], &all).code, 0, "again is no harm");
    // As many as there are, or none.
    let late = format!("{}\n{}", " ".repeat(100_000), tokens[0]);
    let ran = client.run_with_input(&["enroll", "-"], &late);
    assert!(ran.code == 0 && ran.err.contains("taken in before"), "{}", ran.err);
    let too_much = " ".repeat(17 * 1024 * 1024);
    client.run_with_input(&["enroll", "-"], &too_much).fails(3, &["there are more than"]);
}
