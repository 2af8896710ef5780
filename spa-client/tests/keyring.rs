//! Unlocked keys in a desktop's keyring, which is a real one.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use support::desktop::Desktop;
use support::person::Person;
use support::{Client, Server, set_mode};

const PASSPHRASE: &str = "correct horse";
const ANSWER: [(&str, &str); 1] = [("passphrase", PASSPHRASE)];
const KNOCK: [&str; 2] = ["knock", "127.0.0.1"];

/// A client whose keys are under a passphrase.
fn client(server: &Server, env: Vec<(&'static str, String)>) -> Client {
    let mut client = Client::of(server);
    client.env = env;
    Person::of(&client).sets(PASSPHRASE);
    client
}

#[track_caller]
fn unlock(client: &Client, words: &[&str], keeper: &str) {
    let ran = Person::of(client).run(&[&["unlock", "127.0.0.1"], words].concat(), &ANSWER);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains(keeper), "{}", ran.err);
}

#[track_caller]
fn is_not_asked(client: &Client) {
    let person = Person::of(client);
    person.run(&KNOCK, &[]).quiet();
    assert!(person.asked().is_empty());
}

#[track_caller]
fn is_asked(client: &Client) {
    let person = Person::of(client);
    person.run(&KNOCK, &ANSWER).quiet();
    assert_eq!(person.asked().len(), 1);
}

#[test]
fn keys_are_unlocked_while_the_desktops_keyring_is() {
    let server = Server::new();
    let mut desktop = Desktop::new();
    let client = client(&server, desktop.env());
    unlock(&client, &["--for", "10m"], "for 10m, by the desktop's keyring");
    for _ in 0..2 {
        is_not_asked(&client);
    }

    desktop.lock();
    client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    for _ in 0..2 {
        is_asked(&client);
    }
    desktop.log_in_again();
    is_not_asked(&client);

    assert_eq!(desktop.secrets().len(), 1);
    assert_eq!(client.run(&["lock"]).code, 0);
    assert!(desktop.secrets().is_empty(), "forgotten there");
    client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    is_asked(&client);
    is_not_asked(&client);
    assert_eq!(desktop.secrets().len(), 1, "kept by the way");
    assert_eq!(server.drain(), 7);
}

/// What the desktop goes on having is worth nothing by itself.
#[test]
fn the_desktop_keeps_nothing_beyond_its_time() {
    let server = Server::new();
    let desktop = Desktop::new();
    let client = client(&server, desktop.env());
    unlock(&client, &["--for", "1s"], "desktop");
    let first = desktop.secrets();
    assert_eq!(first.len(), 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    while client.run_alone(&KNOCK).code == 0 {
        assert!(Instant::now() < deadline, "still unlocked");
    }
    assert_eq!(desktop.secrets(), first);
    unlock(&client, &["--for", "10m"], "desktop");
    let second = desktop.secrets();
    assert_eq!(second.len(), 1, "in place of the first");
    assert_ne!(second, first, "the same key under another half");
    client.run(&["lock"]);
}

#[test]
fn where_there_is_no_desktop_the_kernel_keeps_them() {
    let server = Server::new();
    let desktop = Desktop::new();
    let mut client = client(&server, Vec::new());
    let by_kernel = |client: &Client| {
        unlock(client, &["--for", "1m"], "by the kernel's keyring");
        is_not_asked(client);
        assert_eq!(client.run(&["lock"]).code, 0);
        client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    };
    by_kernel(&client);
    client.env = vec![("DISPLAY", ":none".to_owned())];
    by_kernel(&client);
    client.env.push(("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere".to_owned()));
    by_kernel(&client);
    let words = ["unlock", "127.0.0.1", "--keyring", "desktop"];
    let ran = Person::of(&client).run(&words, &ANSWER);
    ran.fails(3, &["desktop's keyring does not take it", "libsecret-tools"]);
    client.run_alone(&KNOCK).fails(3, &["no terminal"]);

    // A bus that may have a keyring, and nobody before it who could be asked for its password.
    client.env = desktop.env();
    client.env.retain(|(name, _)| *name != "DISPLAY");
    by_kernel(&client);
    unlock(&client, &["--keyring", "desktop"], "by the desktop's keyring");
    assert_eq!(desktop.secrets().len(), 1);

    client.env = desktop.env();
    let settings = client.dir().join("config.toml");
    fs::write(&settings, "keyring = \"kernel\"\n").unwrap();
    by_kernel(&client);
    assert!(desktop.secrets().is_empty());
    fs::write(&settings, "keyring = \"gnome\"\n").unwrap();
    client.run(&["unlock", "127.0.0.1"]).fails(3, &["config.toml:1", "auto, kernel or desktop"]);
}

/// The kernel counts seconds in 32 bits: more would be for ever, or for less than is said.
#[test]
fn nothing_is_unlocked_for_ever() {
    let server = Server::new();
    let client = client(&server, Vec::new());
    for time in ["4294967296s", "50000d"] {
        let words = ["unlock", "127.0.0.1", "--for", time];
        Person::of(&client).run(&words, &ANSWER).fails(2, &["at most 49710d"]);
        let settings = format!("keep-unlocked = \"{time}\"\n");
        fs::write(client.dir().join("config.toml"), settings).unwrap();
        let refused = ["config.toml:1", "at most 49710d"];
        Person::of(&client).run(&["unlock", "127.0.0.1"], &ANSWER).fails(3, &refused);
        fs::remove_file(client.dir().join("config.toml")).unwrap();
        client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    }
    unlock(&client, &["--for", "49710d"], "for 49710d, by the kernel's keyring");
    is_not_asked(&client);
    assert_eq!(client.run(&["lock"]).code, 0);
}

/// A `secret-tool` that is this script; `$dir` is the client's directory.
fn tool(client: &mut Client, script: &str) {
    let dir = client.dir();
    let bin = dir.join("bin");
    fs::create_dir(&bin).unwrap();
    let tool = bin.join("secret-tool");
    fs::write(&tool, format!("#!/bin/sh\ndir={}\n{script}\n", dir.display())).unwrap();
    set_mode(&tool, 0o755);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    client.env = vec![("PATH", path), ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/x".to_owned())];
}

/// Neither waits for ever, nor says a secret where others can read it.
#[test]
fn a_keyring_that_hangs_is_left_alone() {
    let server = Server::new();
    let mut client = client(&server, Vec::new());
    let script = "echo \"$@\" >> $dir/told\ncase $1 in store) exec cat > $dir/given;; esac\n\
                  exec sleep 1000";
    tool(&mut client, script);
    unlock(&client, &["--keyring", "desktop"], "desktop");
    client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    let told = fs::read_to_string(client.dir().join("told")).unwrap();
    let expected = "store --label=spa: 127.0.0.1 application spa server 127.0.0.1\n\
                    search application spa server 127.0.0.1\n";
    assert_eq!(told, expected);
    let given = fs::read_to_string(client.dir().join("given")).unwrap();
    assert_eq!(given.len(), 44, "256 bits in base64");
    assert_eq!(server.drain(), 0);
}

/// Where somebody is, the desktop may ask for its password; the passphrase need not be asked for.
#[test]
fn a_person_can_unlock_the_desktops_keyring() {
    let server = Server::new();
    let mut client = client(&server, Vec::new());
    let script = "case \"$1 $2\" in 'store '*) exec cat > $dir/given;; esac\necho '[/1]'\n\
                  case \"$2\" in --unlock) echo \"secret = $(cat $dir/given)\";; esac";
    tool(&mut client, script);
    unlock(&client, &["--keyring", "desktop"], "desktop");
    client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    let pty = nix::pty::openpty(None, None).unwrap();
    let knock = client.command(&KNOCK);
    let mut at_terminal = std::process::Command::new("setsid");
    at_terminal.args(["-c", "-w"]).arg(knock.get_program()).args(knock.get_args());
    at_terminal.stdin(pty.slave).envs(client.env.clone());
    let ran = support::Ran::from(at_terminal.output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("waiting 30 s for it to be unlocked"), "{}", ran.err);
    assert_eq!(server.drain(), 1);
}
