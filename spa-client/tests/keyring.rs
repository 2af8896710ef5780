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
    fs::create_dir_all(&bin).unwrap();
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
    let entry = "application spa server 127.0.0.1";
    let expected =
        format!("search {entry}\nstore --label=spa: 127.0.0.1 {entry}\nsearch {entry}\n");
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

/// Makes somebody sit at the desktop of the `secret-tool`.
fn sits_there(client: &mut Client) {
    client.env.push(("DISPLAY", ":none".to_owned()));
}

/// Whoever has locked the keyring does not want the key kept beside, also where it never had one.
#[test]
fn a_locked_keyring_is_not_gone_round() {
    let server = Server::new();
    let mut desktop = Desktop::new();
    let client = client(&server, desktop.env());
    desktop.lock();
    for _ in 0..2 {
        is_asked(&client);
    }
    let ran = Person::of(&client).run(&["unlock", "127.0.0.1"], &ANSWER);
    ran.fails(3, &["desktop's keyring does not take it", "--keyring kernel"]);
    client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    unlock(&client, &["--keyring", "kernel"], "by the kernel's keyring");
    is_not_asked(&client);
    assert_eq!(client.run(&["lock"]).code, 0);
    desktop.log_in_again();
    is_asked(&client);
    is_not_asked(&client);
    assert_eq!(desktop.secrets().len(), 1);
    client.run(&["lock"]);
}

/// A knock has no time for a person at the desktop, and goes to no other keeper for it.
#[test]
fn a_knock_does_not_wait_for_the_desktop_to_be_unlocked() {
    let server = Server::new();
    let mut client = client(&server, Vec::new());
    tool(&mut client, "echo $1 >> $dir/told\ncase $1 in store) exec sleep 1000;; esac");
    sits_there(&mut client);
    let begin = Instant::now();
    is_asked(&client);
    assert!(begin.elapsed() < Duration::from_secs(30), "as long as a person is waited for");
    client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    assert_eq!(fs::read_to_string(client.dir().join("told")).unwrap(), "search\nstore\n");
    assert_eq!(server.drain(), 1);
}

/// Who unlocks is told what is waited for.
#[test]
fn who_unlocks_is_told_of_a_locked_keyring() {
    let server = Server::new();
    let mut client = client(&server, Vec::new());
    // It is unlocked as soon as that was asked for.
    let script = "case $1 in store) until grep -q 'waiting 30 s' $dir/said; do sleep 0.1; done\n\
                  exec cat > $dir/given;; esac";
    tool(&mut client, script);
    sits_there(&mut client);
    let said = client.dir().join("said");
    let mut command = Person::of(&client).command(&["unlock", "127.0.0.1"], &ANSWER);
    command.stderr(fs::File::create(&said).unwrap());
    assert!(command.status().unwrap().success());
    let said = fs::read_to_string(&said).unwrap();
    assert!(said.contains("by the desktop's keyring"), "{said}");
    client.run(&["lock"]);
}

/// From where there is no way to the desktop nothing is known of it.
#[test]
fn a_knock_without_a_bus_leaves_the_desktops_keys_unlocked() {
    let server = Server::new();
    let desktop = Desktop::new();
    let mut client = client(&server, desktop.env());
    unlock(&client, &["--for", "10m"], "desktop");
    client.env = Vec::new();
    client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    is_asked(&client);
    client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    client.env = desktop.env();
    is_not_asked(&client);
    let before = desktop.secrets();
    tool(&mut client, "exit 1");
    client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    client.env = desktop.env();
    is_not_asked(&client);
    assert_eq!(desktop.secrets(), before);
    client.run(&["lock"]);
}

/// Whoever has chosen the kernel is not kept from it by a half that the desktop does not give.
#[test]
fn who_chooses_the_kernel_does_not_depend_on_the_desktop() {
    let server = Server::new();
    let mut client = client(&server, Vec::new());
    let script = "echo \"$@\" >> $dir/told\ncase $1 in store) exec cat > $dir/given;; esac\n\
                  echo '[/1]'";
    tool(&mut client, script);
    sits_there(&mut client);
    unlock(&client, &["--keyring", "desktop"], "desktop");
    is_asked(&client);
    is_asked(&client);
    fs::write(client.dir().join("config.toml"), "keyring = \"kernel\"\n").unwrap();
    is_asked(&client);
    let told = client.dir().join("told");
    fs::remove_file(&told).unwrap();
    is_not_asked(&client);
    assert!(!told.exists(), "the desktop is not asked");
    client.run(&["lock"]);
}

const LOCK_BOTH: [&str; 3] = ["lock", "127.0.0.1", "127.0.0.2"];

/// A second server of the same client, its keys under the same passphrase.
fn another(client: &Client) -> Server {
    let server = Server::named("127.0.0.2", &["127.0.0.2"]);
    client.enroll(&server.token());
    let answers = [("new passphrase", PASSPHRASE), ("the same again", PASSPHRASE)];
    let ran = Person::of(client).run(&["passphrase", "127.0.0.2"], &answers);
    assert_eq!(ran.code, 0, "{}", ran.err);
    server
}

/// What the kernel has goes first: nothing stays unlocked while the desktop keeps us waiting.
#[test]
fn locking_does_not_wait_for_the_desktop() {
    let server = Server::new();
    let mut client = client(&server, Vec::new());
    let _other = another(&client);
    // It outlives whoever is ended while waiting for it.
    let script = "case $1 in store) exec cat > $dir/given.$6;; \
                  clear) echo \"$@\" >> $dir/told; exec sleep 30;; esac\n\
                  echo \"secret = $(cat $dir/given.$5)\"";
    tool(&mut client, script);
    sits_there(&mut client);
    let told = client.dir().join("told");
    let one = "clear application spa server 127.0.0.1\n";
    for (words, cleared) in [(&["lock"][..], "clear application spa\n"), (&LOCK_BOTH, one)] {
        unlock(&client, &["127.0.0.2"], "desktop");
        assert_eq!(client.run_alone(&["knock", "127.0.0.1", "127.0.0.2"]).code, 0);
        let mut lock = client.command(words).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(&told).unwrap_or_default().ends_with('\n') {
            assert!(Instant::now() < deadline, "the desktop is not told");
            std::thread::sleep(Duration::from_millis(10));
        }
        lock.kill().unwrap();
        lock.wait().unwrap();
        for host in ["127.0.0.1", "127.0.0.2"] {
            client.run_alone(&["knock", host]).fails(3, &["no terminal"]);
        }
        assert_eq!(fs::read_to_string(&told).unwrap(), cleared);
        fs::remove_file(&told).unwrap();
    }
    // It is waited for once in all: after that, it is told no more.
    assert_eq!(client.run(&LOCK_BOTH).code, 0);
    assert_eq!(fs::read_to_string(&told).unwrap(), one);
}

#[test]
fn all_that_the_desktop_has_is_forgotten_together() {
    let server = Server::new();
    let desktop = Desktop::new();
    let client = client(&server, desktop.env());
    let _other = another(&client);
    let all = || unlock(&client, &["127.0.0.2"], "desktop");
    all();
    assert_eq!(desktop.secrets().len(), 2);
    assert_eq!(client.run(&["lock", "127.0.0.2"]).code, 0);
    assert_eq!(desktop.secrets().len(), 1);
    all();
    assert_eq!(client.run(&["lock"]).code, 0);
    assert!(desktop.secrets().is_empty());
}

/// Without the file nobody would find what is kept.
#[test]
fn a_server_that_is_forgotten_is_locked() {
    let server = Server::new();
    let desktop = Desktop::new();
    let mut client = client(&server, desktop.env());
    for env in [desktop.env(), Vec::new()] {
        client.env = env;
        unlock(&client, &["--for", "10m"], "for 10m");
        is_not_asked(&client);
        let (file, aside) = (client.host_file("127.0.0.1"), client.dir().join("aside"));
        fs::copy(&file, &aside).unwrap();
        assert_eq!(client.run(&["forget", "127.0.0.1"]).code, 0);
        assert!(desktop.secrets().is_empty());
        fs::rename(&aside, &file).unwrap();
        client.run_alone(&KNOCK).fails(3, &["no terminal"]);
    }
}
