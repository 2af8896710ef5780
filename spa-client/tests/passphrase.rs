//! Keys under a passphrase: set, asked for, kept unlocked for a while, taken
//! away. `SSH_ASKPASS` stands for the person.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use nix::sys::termios::{LocalFlags, tcgetattr};

use support::person::Person;
use support::{Client, Ran, Server, mode};

/// Nothing is kept unlocked, whatever the kernel has.
fn never_keep(client: &Client) {
    fs::write(client.dir().join("config.toml"), "keep-unlocked = \"0s\"\n").unwrap();
}

#[test]
fn a_locked_file_holds_no_key_and_knocks_as_before() {
    let mut server = Server::new();
    let client = Client::of(&server);
    never_keep(&client);
    client.run(&["knock", "127.0.0.1"]).quiet();
    let bound = spa_proto::Verifier::Bound(server.knock().binds().unwrap());
    let file = client.host_file("127.0.0.1");
    let before = fs::read_to_string(&file).unwrap();
    // The inode outlives its name here, and shows what is left of it.
    let old = fs::File::open(&file).unwrap();

    let person = Person::of(&client);
    person.sets("correct horse");
    assert_eq!(mode(&file), 0o600);
    let after = fs::read_to_string(&file).unwrap();
    for name in ["cloak", "psk", "signing-key"] {
        let line = before.lines().find(|line| line.starts_with(name)).unwrap();
        let value = line.split('"').nth(1).unwrap();
        assert!(!after.contains(value), "{name} is still there");
    }
    let mut left = String::new();
    (&old).read_to_string(&mut left).unwrap();
    assert_eq!(left.trim_matches('\0'), "", "overwritten");

    let ran = person.run(&["knock", "127.0.0.1"], &[("passphrase for 127.0.0.1", "correct horse")]);
    ran.quiet();
    assert_eq!(person.asked(), ["passphrase for 127.0.0.1: "]);
    assert!(server.knock_verified_by(0, &bound).is_ok(), "the same key as before");
    assert!(client.run(&["hosts"]).out.contains("passphrase"));
    assert_eq!(client.run(&["hosts", "--json"]).json()[0]["locked"], true);
}

/// Its key may be in a keyring, under a name that stands in the file.
#[test]
fn what_cannot_be_read_cannot_be_locked_and_is_told() {
    let server = Server::new();
    let client = Client::of(&server);
    client.run(&["lock"]).quiet();
    fs::set_permissions(client.host_file("127.0.0.1"), Permissions::from_mode(0o644)).unwrap();
    client.run(&["lock"]).fails(3, &["127.0.0.1.toml"]);
}

#[test]
fn what_is_named_wrongly_keeps_nothing_else_unlocked() {
    let server = Server::new();
    let client = Client::of(&server);
    let person = Person::of(&client);
    person.sets("correct horse");
    let unlock = ["unlock", "127.0.0.1", "--keyring", "kernel"];
    if person.run(&unlock, &[("passphrase for", "correct horse")]).code != 0 {
        return; // a kernel without a keyring
    }
    client.run(&["lock", "127.0.0.1", "typo"]).fails(3, &["typo"]);
    person.run(&["knock", "127.0.0.1"], &[]).fails(3, &["no passphrase"]);
}

/// Other keys came while a person was asked: those are not overwritten by the ones from before.
#[test]
fn what_was_changed_while_it_asked_stays() {
    let server = Server::new();
    let client = Client::of(&server);
    let person = Person::of(&client);
    let file = client.host_file("127.0.0.1");
    let meanwhile = |act: &str| {
        let answer = format!("battery'; {act} '{}", file.display());
        let ran =
            person.run(&["passphrase", "127.0.0.1"], &[("new", "battery"), ("again", &answer)]);
        ran.fails(3, &["127.0.0.1.toml", "changed meanwhile", "nothing was written"]);
    };
    meanwhile("echo '# other keys' >>");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.ends_with("# other keys\n") && text.contains("psk"), "in clear as before");
    meanwhile("rm");
    assert!(!file.exists());
}

#[test]
fn without_the_passphrase_nothing_is_sent() {
    let server = Server::new();
    let client = Client::of(&server);
    never_keep(&client);
    let person = Person::of(&client);
    person.sets("correct horse");
    let ran = person.run(&["knock", "127.0.0.1"], &[("passphrase", "wrong")]);
    assert!(!ran.fails(3, &["not the passphrase", "stay locked"]).err.contains("wrong"));
    assert_eq!(person.asked().len(), 3);
    person.run(&["knock", "127.0.0.1"], &[]).fails(3, &["was told no passphrase"]);
    let before = fs::read(client.host_file("127.0.0.1")).unwrap();
    let remove = ["passphrase", "127.0.0.1", "--remove"];
    person.run(&remove, &[("passphrase for", "wrong"), ("", "x")]).fails(3, &["stay locked"]);
    assert_eq!(fs::read(client.host_file("127.0.0.1")).unwrap(), before);
    // Nobody there at all.
    client.run_alone(&["knock", "127.0.0.1"]).fails(3, &["no terminal", "spa unlock"]);
    assert_eq!(server.drain(), 0);
}

#[test]
fn it_can_be_changed_and_taken_away() {
    let server = Server::new();
    let client = Client::of(&server);
    never_keep(&client);
    let person = Person::of(&client);
    let plain = fs::read_to_string(client.host_file("127.0.0.1")).unwrap();
    let set = ["passphrase", "127.0.0.1"];
    let different = [("new passphrase", "one"), ("the same again", "two")];
    person.run(&set, &different).fails(2, &["two different"]);
    person.run(&set, &[("new passphrase", "")]).fails(2, &["--remove"]);
    assert_eq!(fs::read_to_string(client.host_file("127.0.0.1")).unwrap(), plain);

    person.sets("first");
    let change =
        [("new passphrase", "second"), ("the same again", "second"), ("passphrase for", "first")];
    assert_eq!(person.run(&set, &change).code, 0);
    person.run(&["knock", "127.0.0.1"], &[("passphrase", "first")]).fails(3, &["stay locked"]);
    person.run(&["knock", "127.0.0.1"], &[("passphrase", "second")]).quiet();
    let remove = ["passphrase", "127.0.0.1", "--remove"];
    assert_eq!(person.run(&remove, &[("passphrase", "second")]).code, 0);
    assert_eq!(fs::read_to_string(client.host_file("127.0.0.1")).unwrap(), plain, "as it was");
    assert!(client.run(&remove).err.contains("nothing was changed"));
    client.run(&["knock", "127.0.0.1"]).quiet();
    assert_eq!(server.drain(), 2);
}

#[test]
fn a_locked_file_cannot_be_garbled() {
    let server = Server::new();
    let client = Client::of(&server);
    never_keep(&client);
    let plain = fs::read_to_string(client.host_file("127.0.0.1")).unwrap();
    let person = Person::of(&client);
    person.sets("x");
    let file = client.host_file("127.0.0.1");
    let locked = fs::read_to_string(&file).unwrap();
    let psk = plain.lines().find(|line| line.starts_with("psk")).unwrap();
    for (text, hint) in [
        (locked.replacen("\n\n", &format!("\n{psk}\n\n"), 1), "both in clear and"),
        (locked.replace("sealed = \"", "sealed = \"A"), "127.0.0.1.toml:"),
        (locked.replace("memory-kib = 65536", "memory-kib = 4000000000"), "more work"),
    ] {
        assert_ne!(text, locked);
        fs::write(&file, text).unwrap();
        person.run(&["knock", "127.0.0.1"], &[("passphrase", "x")]).fails(3, &[hint]);
    }
    assert_eq!(server.drain(), 0);
}

/// Where the kernel has a keyring for us; else there is nothing to be kept.
#[cfg(target_os = "linux")]
#[test]
fn keys_stay_unlocked_for_a_while() {
    let server = Server::new();
    let client = Client::of(&server);
    let person = Person::of(&client);
    person.sets("correct horse");
    let answer = [("passphrase", "correct horse")];
    let unlocked = person.run(&["unlock", "127.0.0.1", "--for", "1m"], &answer);
    assert_eq!(unlocked.code, 0, "{}", unlocked.err);
    for _ in 0..2 {
        person.run(&["knock", "127.0.0.1"], &[]).quiet();
        assert!(person.asked().is_empty());
    }
    assert_eq!(client.run(&["lock"]).code, 0);
    person.run(&["knock", "127.0.0.1"], &[]).fails(3, &["no passphrase"]);
    person.run(&["knock", "127.0.0.1"], &answer).quiet();
    person.run(&["knock", "127.0.0.1"], &[]).quiet();
    assert_eq!(server.drain(), 4, "asked once, kept by the way");

    let change = [("new passphrase", "x"), ("the same again", "x"), ("passphrase for", "wrong")];
    person.run(&["passphrase", "127.0.0.1"], &change).fails(3, &["stay locked"]);
    assert_eq!(client.run(&["lock", "127.0.0.1"]).code, 0);
    person.run(&["knock", "127.0.0.1"], &[]).fails(3, &["no passphrase"]);
}

/// A client that has to be asked each time.
fn locked() -> (Server, Client) {
    let server = Server::new();
    let client = Client::of(&server);
    never_keep(&client);
    Person::of(&client).sets("correct horse");
    (server, client)
}

/// A knock that asks for the passphrase on a terminal of its own.
struct Asked {
    child: Child,
    terminal: fs::File,
    /// Keeps the terminal there when the child has ended.
    slave: OwnedFd,
    before: LocalFlags,
}

impl Asked {
    fn new(client: &Client) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap().local_flags;
        // `setsid -c` makes it the controlling terminal; standard input is somebody else's data.
        // The shell in between ends as one that has caught the signal does.
        let knock = client.command(&["knock", "127.0.0.1", "--source", "seen"]);
        let mut command = std::process::Command::new("setsid");
        command.args(["-c", "-w", "sh", "-c", "\"$@\" < /dev/null", "sh"]);
        command.arg(knock.get_program()).args(knock.get_args());
        command.env_remove("SSH_ASKPASS_REQUIRE").env_remove("SSH_ASKPASS");
        command.stdin(pty.slave.try_clone().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let mut terminal = fs::File::from(pty.master);
        let mut shown = [0; 256];
        let len = terminal.read(&mut shown).unwrap();
        assert!(String::from_utf8_lossy(&shown[..len]).contains("passphrase for 127.0.0.1"));
        let asked = Self { child, terminal, slave: pty.slave, before };
        // It asks first, and then hides what comes.
        while asked.flags().contains(LocalFlags::ECHO) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        asked
    }

    fn flags(&self) -> LocalFlags {
        tcgetattr(&self.slave).unwrap().local_flags
    }

    /// Types this; what came of it, what was shown, and whether the terminal is as it was.
    fn types(mut self, text: &[u8]) -> (Ran, String, bool) {
        self.terminal.write_all(text).unwrap();
        let slave = self.slave.try_clone().unwrap();
        let ran = Ran::from(self.child.wait_with_output().unwrap());
        let restored = tcgetattr(&slave).unwrap().local_flags == self.before;
        drop((slave, self.slave));
        let mut shown = [0; 256];
        let len = self.terminal.read(&mut shown).unwrap_or_default();
        (ran, String::from_utf8_lossy(&shown[..len]).into_owned(), restored)
    }
}

#[test]
fn the_terminal_is_asked_without_showing_it() {
    let (server, client) = locked();
    let (ran, shown, restored) = Asked::new(&client).types(b"correct horse\n");
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert!(!shown.contains("horse") && restored);
    assert_eq!(server.drain(), 1);
}

/// Also where a program that ran it goes on, and not only the shell.
#[test]
fn who_declines_to_answer_has_the_terminal_as_it_was() {
    let (server, client) = locked();
    let (ran, _, restored) = Asked::new(&client).types(b"corr\x03");
    assert!(restored, "after Ctrl-C");
    assert_ne!(ran.code, 0);
    let (ran, _, restored) = Asked::new(&client).types(b"\x04");
    assert!(restored, "after Ctrl-D");
    assert!(!ran.fails(3, &["no passphrase was given"]).err.contains("no terminal"));
    assert_eq!(server.drain(), 0);
}

/// Other keys come under the same passphrase, and none stay in clear beside them.
#[test]
fn an_update_is_under_the_passphrase_of_before() {
    let server = Server::new();
    let client = Client::of(&server);
    let spa_proto::Verifier::Bound(key) = client.verifier("127.0.0.1") else { unreachable!() };
    never_keep(&client);
    let person = Person::of(&client);
    person.sets("correct horse");
    let token = spa_keys::Token {
        psk: spa_proto::Psk::from_bytes([10; 32]),
        kid: spa_proto::Kid::from_bytes([9; 16]),
        ..server.token_for_key(key)
    };
    let file = client.dir().join("token");
    fs::write(&file, &*token.encode()).unwrap();
    let words = ["enroll", file.to_str().unwrap()];
    let before = fs::read_to_string(client.host_file("127.0.0.1")).unwrap();
    assert_eq!(person.run(&words, &[("passphrase for", "wrong")]).code, 3);
    assert_eq!(fs::read_to_string(client.host_file("127.0.0.1")).unwrap(), before);
    let ran = person.run(&words, &[("passphrase for", "correct horse")]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let after = fs::read_to_string(client.host_file("127.0.0.1")).unwrap();
    assert!(after.contains("[locked]") && !after.contains("psk"), "{after}");
    let salt = |text: &str| text.lines().find(|line| line.starts_with("salt")).unwrap().to_owned();
    assert_ne!(salt(&before), salt(&after), "sealed with a key of its own");
    let ran =
        person.run(&["knock", "127.0.0.1", "--dry-run"], &[("passphrase for", "correct horse")]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let former = client.host_file("127.0.0.1").with_extension("former");
    assert!(former.exists());
    person.run(&["passphrase", "127.0.0.1", "--remove"], &[("passphrase for", "correct horse")]);
    assert!(former.exists(), "under its own");
    let words = ["passphrase", "127.0.0.1"];
    let ran = person.run(&words, &[("new passphrase", "battery"), ("again", "battery")]);
    assert!(ran.err.contains("the keys from before are gone"), "{}", ran.err);
    assert!(!former.exists());
}
