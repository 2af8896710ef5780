//! What is shown of a token before it is taken in, and what it takes to get at one
//! under a passphrase.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;

use spa_keys::{SealedToken, Token, TokenEnrolment, date};
use support::{Client, Ran, Server, set_mode};

/// A token in a file of its own.
fn file(client: &Client, token: &str) -> PathBuf {
    let path = client.dir().with_file_name("token");
    fs::write(&path, token).unwrap();
    set_mode(&path, 0o600);
    path
}

/// `spa enroll` with a person at a terminal, who gives this answer if there is a
/// question; how it ended, and what was on the screen.
fn at_terminal(client: &Client, words: &[&str], answer: &str) -> (i32, String) {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = client.command(words);
    command.stdin(pty.slave.try_clone().unwrap()).stderr(pty.slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut master = File::from(pty.master);
    let (mut shown, mut answered) = (Vec::new(), false);
    let mut part = [0; 1024];
    // The end is an error here.
    while let Ok(len @ 1..) = master.read(&mut part) {
        shown.extend_from_slice(&part[..len]);
        if !answered && shown.ends_with(b"[y/N] ") {
            answered = true;
            master.write_all(answer.as_bytes()).unwrap();
        }
    }
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(answered, shown.contains("take it in?"), "{shown}");
    (child.wait().unwrap().code().unwrap(), shown)
}

#[test]
fn a_person_sees_what_is_to_be_trusted_and_is_asked() {
    let (client, server) = (Client::new(), Server::named("fw.example.com", &["127.0.0.1"]));
    let path = file(&client, &server.token().encode());
    let enroll = ["enroll", path.to_str().unwrap()];
    for answer in ["n\n", "\n", "\x04"] {
        let (code, shown) = at_terminal(&client, &enroll, answer);
        assert_eq!(code, 3, "{shown}");
        assert!(shown.contains("not taken in"), "{shown}");
        let (before, _) = shown.split_once("take it in?").unwrap();
        let key = spa_keys::encoding::to_base64(server.secret.public().as_bytes());
        for word in ["fw.example.com", &server.port.to_string(), &key, "ssh, web", "before 20"] {
            assert!(before.contains(word), "{word:?} is missing: {shown}");
        }
        assert!(!client.host_file("fw.example.com").exists(), "{answer:?}");
    }
    let (code, shown) = at_terminal(&client, &enroll, "y\n");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("spa knock fw.example.com"), "{shown}");
    assert!(client.host_file("fw.example.com").exists());
}

#[test]
fn nobody_is_asked_who_said_yes_or_is_not_there() {
    let server = Server::named("fw.example.com", &["127.0.0.1"]);
    let (client, other) = (Client::new(), Client::new());
    let path = file(&client, &server.token().encode());
    let (code, shown) = at_terminal(&client, &["enroll", "--yes", path.to_str().unwrap()], "");
    assert_eq!((code, shown.contains("take it in?")), (0, false), "{shown}");
    // Standard input alone is a terminal.
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = other.command(&["enroll", path.to_str().unwrap()]);
    let ran = Ran::from(command.stdin(pty.slave).output().unwrap());
    assert_eq!((ran.code, ran.err.contains("take it in?")), (0, false), "{}", ran.err);
    assert!(ran.err.contains("fw.example.com, UDP port"), "shown all the same: {}", ran.err);
}

#[test]
fn a_token_past_its_time_is_not_taken_in() {
    let (client, server) = (Client::new(), Server::new());
    let late = |token: Token| {
        let secret = server.enrol.clone();
        let expires = date::now().minus(std::time::Duration::from_secs(3600));
        Token { enrolment: TokenEnrolment::Secret { secret, expires }, ..token }
    };
    let token = late(server.token()).encode();
    client.run_with_input(&["enroll", "-"], &token).fails(3, &["was over at 20", "renew"]);
    assert!(!client.host_file("127.0.0.1").exists());

    // Who has taken it in before is told that.
    let client = Client::of(&server);
    let ran = client.run_with_input(&["enroll", "-"], &token);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// `spa enroll` of standard input, for a person who answers with one line after the other.
fn with_answers(client: &Client, token: &str, answers: &[&str]) -> (Ran, usize) {
    let (asked, program) =
        (client.dir().with_file_name("asked"), client.dir().with_file_name("ask"));
    let cases: String = answers
        .iter()
        .enumerate()
        .map(|(at, answer)| format!("  {}) echo '{answer}';;\n", at + 1))
        .collect();
    let script = format!(
        "#!/bin/sh\necho \"$1\" >> {asked}\ncase $(wc -l < {asked}) in\n{cases}  *) exit 1;;\nesac\n",
        asked = asked.display()
    );
    fs::write(&program, script).unwrap();
    set_mode(&program, 0o700);
    drop(fs::remove_file(&asked));
    let mut command = client.command(&["enroll", file(client, token).to_str().unwrap()]);
    command.env("SSH_ASKPASS", program).env("SSH_ASKPASS_REQUIRE", "force");
    let ran = Ran::from(command.output().unwrap());
    let asked = fs::read_to_string(asked).unwrap_or_default();
    assert!(asked.lines().all(|line| line == "passphrase of the token: "), "{asked}");
    (ran, asked.lines().count())
}

#[test]
fn a_passphrase_is_asked_for_and_opens_the_token() {
    let mut server = Server::new();
    let line = SealedToken::seal(&server.token(), "correct horse", [7; 16]).unwrap().encode();
    let client = Client::new();
    let (ran, asked) = with_answers(&client, &line, &["a", "b", "c", "correct horse"]);
    let ran = ran.fails(3, &["not the token's passphrase"]);
    assert_eq!((asked, ran.err.matches("not the token's").count()), (3, 3), "{}", ran.err);
    assert!(!client.host_file("127.0.0.1").exists());

    let (ran, asked) = with_answers(&client, &line, &["slip", "correct horse"]);
    assert_eq!((ran.code, asked), (0, 2), "{}", ran.err);
    assert!(!ran.err.contains("horse"), "{}", ran.err);
    client.run(&["knock", "127.0.0.1"]).quiet();
    assert!(server.knock().binds().is_some());
}

#[test]
fn a_passphrase_can_come_from_a_file() {
    let server = Server::new();
    let line = SealedToken::seal(&server.token(), "correct horse", [7; 16]).unwrap().encode();
    let client = Client::new();
    let path = client.dir().with_file_name("passphrase");
    let path = path.to_str().unwrap();
    let enroll = ["enroll", "-", "--passphrase-file", path];
    client.run_with_input(&enroll, &line).fails(3, &[path]);
    fs::write(path, "wrong\n").unwrap();
    set_mode(path.as_ref(), 0o600);
    client.run_with_input(&enroll, &line).fails(3, &["not the token's passphrase"]);
    fs::write(path, "correct horse\n").unwrap();
    set_mode(path.as_ref(), 0o640);
    client.run_with_input(&enroll, &line).fails(3, &["chmod 600"]);
    set_mode(path.as_ref(), 0o600);
    let ran = client.run_with_input(&enroll, &line);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let damaged = &line[..line.len() - 1];
    client.run_with_input(&enroll, damaged).fails(3, &["damaged"]);
}

#[test]
fn without_a_terminal_it_says_where_the_passphrase_can_be() {
    let server = Server::new();
    let line = SealedToken::seal(&server.token(), "correct horse", [7; 16]).unwrap().encode();
    let client = Client::new();
    let enroll = client.command(&["enroll", file(&client, &line).to_str().unwrap()]);
    let mut command = std::process::Command::new("setsid");
    command.arg("-w").arg(enroll.get_program()).args(enroll.get_args());
    let ran = Ran::from(command.env_remove("SSH_ASKPASS").output().unwrap());
    ran.fails(3, &["no terminal", "--passphrase-file"]);
}
