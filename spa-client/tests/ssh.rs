//! `spa ssh` and `spa ssh-config`, with an ssh that only says what it was told.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use spa_proto::{Mode, Service};
use support::{Client, Ran, Server, SilentPort, mode, set_mode};

/// A client whose `ssh` answers `-G` with these lines, and else notes its words and ends with 42.
struct Ssh {
    client: Client,
    bin: tempfile::TempDir,
}

impl Ssh {
    fn new(client: Client, answer: &str) -> Self {
        let bin = tempfile::tempdir().unwrap();
        let place = bin.path().display();
        let script = format!(
            "#!/bin/sh\nfor host; do :; done\n\
             if [ \"$1\" = -G ]; then cat {place}/answer-\"$host\" 2>&- || cat {place}/answer; exit; fi\n\
             printf '%s\\n' \"$@\" > {place}/words\nexit 42\n"
        );
        fs::write(bin.path().join("ssh"), script).unwrap();
        set_mode(&bin.path().join("ssh"), 0o755);
        fs::write(bin.path().join("answer"), answer).unwrap();
        Self { client, bin }
    }

    /// What ssh answers where it is asked about this host, with whatever options.
    fn answers(&self, host: &str, answer: &str) {
        fs::write(self.bin.path().join(format!("answer-{host}")), answer).unwrap();
    }

    /// Runs `spa ssh`, and gives what ssh was told, if it was run.
    fn run(&self, words: &[&str]) -> (Ran, Option<Vec<String>>) {
        let dir = self.client.dir();
        let mut command = Command::new(env!("CARGO_BIN_EXE_spa"));
        command.arg("--config-dir").arg(dir).arg("ssh").args(words);
        let path = format!("{}:{}", self.bin.path().display(), std::env::var("PATH").unwrap());
        let ran = Ran::from(command.env("PATH", path).output().unwrap());
        let noted = self.bin.path().join("words");
        let told = fs::read_to_string(&noted).ok();
        drop(fs::remove_file(noted));
        (ran, told.map(|text| text.lines().map(str::to_owned).collect()))
    }
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn answer(host: &str, port: u16, more: &str) -> String {
    format!("host typed\nuser bob\nhostname {host}\nport {port}\naddressfamily any\n{more}\n")
}

#[test]
fn knocks_waits_and_becomes_ssh() {
    let mut server = Server::new();
    server.services = vec!["web", "ssh"];
    let (_listener, port) = listener();
    let ssh = Ssh::new(Client::of(&server), &answer("127.0.0.1", port, ""));
    let line = ["-4", "-o", "Port=1", "-v", "bob@127.0.0.1", "ls", "-la", "a b", "--ttl"];
    let (ran, told) = ssh.run(&[&["--ttl", "90s"], &line[..]].concat());
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (42, "", ""));
    assert_eq!(told.unwrap(), line, "all of it, unchanged");
    let knock = server.knock();
    let asked: Vec<_> = knock.request().services.iter().collect();
    assert_eq!(asked, ["ssh".parse::<Service>().unwrap()], "not the first, but ssh");
    assert_eq!(knock.request().seconds.map(u32::from), Some(90));
    assert_eq!(knock.request().mode, Mode::Window, "for ssh, after the one that looked");
}

/// `spa ssh` has done it, or does not want it done.
#[test]
fn what_ssh_knocks_meanwhile_is_left_out() {
    let server = Server::new();
    let mut client = Client::of(&server);
    let now = spa_keys::date::now().as_millis();
    let knock = ["knock", "127.0.0.1"];
    for (told, words, knocks) in [
        ("-".to_owned(), &["--service", "web"][..], 0),
        (format!("127.0.0.1 {now}"), &[], 0),
        (format!("127.0.0.1 {now}"), &["--wait=1", "-v"], 0),
        (format!("127.0.0.1 {now}"), &["--service", "ssh", "--wait=1", "--wait-port", "22"], 0),
        (format!("127.0.0.1 {now}"), &["--service", "web"], 1),
        (format!("127.0.0.1 {}", now - 60_000), &[], 1),
        (format!("192.0.2.1 {now}"), &[], 1),
        ("anything".to_owned(), &[], 1),
    ] {
        client.env = vec![("SPA_SSH", told.clone())];
        let ran = client.run(&[&knock, words].concat());
        assert_eq!((ran.code, server.drain()), (0, knocks), "{told:?} {words:?}: {}", ran.err);
    }
}

#[test]
fn ssh_is_not_run_where_nothing_opens() {
    let server = Server::new();
    let silent = SilentPort::new();
    let port = silent.port().parse().unwrap();
    let ssh = Ssh::new(Client::of(&server), &answer("127.0.0.1", port, ""));
    let (ran, told) = ssh.run(&["--wait", "1", "127.0.0.1"]);
    ran.fails(255, &["did not open within 1 s"]);
    assert_eq!(told, None);
}

#[test]
fn hosts_without_keys_are_for_ssh_alone() {
    let server = Server::new();
    let ssh = Ssh::new(Client::of(&server), &answer("elsewhere.example", 22, ""));
    let (ran, told) = ssh.run(&["elsewhere"]);
    assert_eq!(told.unwrap(), ["elsewhere"]);
    ran.fails(42, &["no keys for elsewhere.example"]);
    set_mode(&ssh.client.host_file("127.0.0.1"), 0o644);
    let (ran, _) = ssh.run(&["elsewhere"]);
    ran.fails(42, &["no keys for elsewhere.example", "not looked at", "chmod"]);
    let quiet = Ssh::new(Client::of(&server), &answer("elsewhere.example", 22, "loglevel QUIET"));
    assert_eq!(quiet.run(&["-q", "elsewhere"]).0.err, "");
    assert_eq!(server.drain(), 0);
}

#[test]
fn an_alias_of_spa_is_a_name_for_ssh() {
    let server = Server::new();
    let (_listener, port) = listener();
    let client = Client::new();
    client.run_with_input(&["enroll", "-", "--name", "office"], &server.token().encode());
    let ssh = Ssh::new(client, &answer("office", port, ""));
    let (_, told) = ssh.run(&["bob@office"]);
    assert_eq!(told.unwrap(), ["-o", "HostName=127.0.0.1", "bob@office"]);
    assert_eq!(server.drain(), 1);
}

#[test]
fn a_jump_host_is_knocked_at_and_a_proxy_is_left_alone() {
    let server = Server::new();
    let (_listener, port) = listener();
    let inner = answer("inner.example", 22, "proxyjump bob@outer,other");
    let ssh = Ssh::new(Client::of(&server), &inner);
    // By its configuration, where it has another one before it.
    ssh.answers("outer", &answer("outer.example", 22, "proxyjump first"));
    ssh.answers("first", &answer("127.0.0.1", port, ""));
    let (ran, told) = ssh.run(&["inner"]);
    assert_eq!((ran.err.as_str(), told.unwrap()), ("", vec!["inner".to_owned()]));
    assert_eq!(server.drain(), 1);
    for round in ["proxyjump outer", "proxycommand nc %h %p"] {
        ssh.answers("first", &answer("127.0.0.1", port, round));
        assert_eq!(ssh.run(&["inner"]).0.code, 42);
        assert_eq!(server.drain(), 0, "{round}");
    }
    let proxy = answer("127.0.0.1", port, "proxycommand spa proxy %h %p");
    let ssh = Ssh::new(Client::of(&server), &proxy);
    assert_eq!(ssh.run(&["127.0.0.1"]).0.code, 42);
    assert_eq!(server.drain(), 0);
}

#[test]
fn one_connection_is_left_to_ssh() {
    let mut server = Server::new();
    let (listener, port) = listener();
    let ssh = Ssh::new(Client::of(&server), &answer("127.0.0.1", port, ""));
    assert_eq!(ssh.run(&["--mode", "once", "127.0.0.1"]).0.code, 42);
    assert_eq!(server.knock().request().mode, Mode::Once);
    assert!(support::accepted(&listener).is_empty(), "not used up by looking");
    let (ran, told) = ssh.run(&["--mode", "bound", "127.0.0.1"]);
    ran.fails(255, &["--proxy"]);
    assert_eq!((told, server.drain()), (None, 0));
}

#[test]
fn questions_to_ssh_are_no_reason_to_knock() {
    let server = Server::new();
    let ssh = Ssh::new(Client::of(&server), &answer("127.0.0.1", 22, ""));
    for words in [&["-V"][..], &["-Q", "cipher"], &["-O", "check", "127.0.0.1"]] {
        assert_eq!(ssh.run(words).1.unwrap(), words);
    }
    let (ran, _) = ssh.run(&["-G", "127.0.0.1"]);
    assert!(ran.out.contains("hostname 127.0.0.1"), "as git asks what ssh it has");
    assert_eq!(server.drain(), 0);
}

#[test]
fn without_ssh_it_says_so() {
    let client = Client::new();
    let mut command = client.command(&["ssh", "fw"]);
    Ran::from(command.env("PATH", "/nowhere").output().unwrap()).fails(255, &["openssh-client"]);
}

/// A home with a configuration for ssh, and a client of two servers.
struct Home {
    client: Client,
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let client = Client::new();
        for (host, name) in [("fw.example.com", "fw"), ("nas.example.com", "nas")] {
            let server = Server::named(host, &["127.0.0.1"]);
            client.run_with_input(&["enroll", "-", "--name", name], &server.token().encode());
        }
        Self { client, dir: tempfile::tempdir().unwrap() }
    }

    fn ssh_config(&self, words: &[&str]) -> Ran {
        let mut command = self.client.command(&[&["ssh-config"], words].concat());
        command.env("HOME", self.dir.path()).output().unwrap().into()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join(".ssh/config")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    /// What ssh makes of the file; without running anything.
    fn ssh_says(&self, host: &str) -> String {
        let output = Command::new("ssh").arg("-G").arg("-F").arg(self.file()).arg(host).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn write(&self, text: &str, mode: u32) {
        fs::create_dir_all(self.dir.path().join(".ssh")).unwrap();
        fs::write(self.file(), text).unwrap();
        set_mode(&self.file(), mode);
    }

    fn names(&self) -> Vec<String> {
        let listing = fs::read_dir(self.dir.path().join(".ssh")).unwrap();
        let mut names: Vec<_> =
            listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn the_lines_are_printed_and_nothing_else_happens() {
    let home = Home::new();
    let ran = home.ssh_config(&[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let line = "Match host fw.example.com,nas.example.com exec \"";
    assert!(
        ran.out.contains(line) && ran.out.contains("knock %h --wait --wait-port %p\""),
        "{}",
        ran.out
    );
    assert!(ran.out.contains(&home.client.dir().display().to_string()), "{}", ran.out);
    assert!(!home.dir.path().join(".ssh").exists());
    let one = home.ssh_config(&["nas", "--proxy"]).out;
    assert!(one.contains("Match host nas.example.com\n  ProxyCommand "), "{one}");
    assert!(!one.contains("fw.example.com"), "{one}");
    home.ssh_config(&["other"]).fails(3, &["\"other\""]);
}

/// The first service of a token may be another, and its port is none to wait at.
#[test]
fn the_lines_knock_for_what_ssh_connects_to() {
    let client = Client::new();
    for (host, services) in
        [("a.example.com", vec!["web", "ssh"]), ("b.example.com", vec!["admin"])]
    {
        let mut server = Server::named(host, &["127.0.0.1"]);
        server.services = services;
        client.run_with_input(&["enroll", "-"], &server.token().encode());
    }
    let ran = client.run(&["ssh-config"]);
    let line = |host, words: &str| {
        let mut lines = ran.out.lines();
        lines.any(|line| line.contains(host) && line.ends_with(&format!(" {words}\"")))
    };
    assert!(
        line("host a.example.com ", "knock %h --service ssh --wait --wait-port %p"),
        "{}",
        ran.out
    );
    assert!(line("host b.example.com ", "knock %h --wait --wait-port %p"), "{}", ran.out);
}

#[test]
fn a_host_of_two_servers_is_not_written() {
    let home = Home::new();
    let again = Server::named("nas.example.com", &["127.0.0.1"]);
    home.client.run_with_input(&["enroll", "-", "--name", "other"], &again.token().encode());
    home.ssh_config(&["--write"]).fails(3, &["nas.example.com", "spa forget"]);
    assert!(!home.file().exists());
    assert_eq!(home.ssh_config(&["fw"]).code, 0, "others can be");
}

#[test]
fn a_new_file_is_private() {
    let home = Home::new();
    assert_eq!(home.ssh_config(&["--write"]).code, 0);
    assert_eq!((mode(&home.file()), mode(&home.dir.path().join(".ssh"))), (0o600, 0o700));
    assert_eq!(home.names(), ["config"], "nothing to back up");
    let said = home.ssh_config(&["--remove"]);
    assert_eq!((said.code, home.text().as_str()), (0, ""));
    assert!(home.ssh_config(&["--remove"]).err.contains("nothing was changed"));
}

#[test]
fn lines_come_once_and_what_was_there_is_kept() {
    let home = Home::new();
    let before = "User bob\nHost fw\n  HostName fw.example.com\n";
    for file_mode in [0o600, 0o644] {
        home.write(before, file_mode);
        assert_eq!(home.ssh_config(&["--write", "--proxy"]).code, 0);
        assert_eq!(mode(&home.file()), file_mode);
        let after = home.text();
        assert!(after.starts_with(before), "{after}");
        assert!(home.ssh_config(&["--write", "--proxy"]).err.contains("nothing was changed"));
        assert_eq!(home.text(), after, "once");

        // ssh's own alias, too, and other hosts not at all.
        for (host, proxied) in [("fw", true), ("nas.example.com", true), ("x.example.com", false)] {
            assert_eq!(home.ssh_says(host).contains("proxy %h %p"), proxied, "{host}");
        }
        fs::write(home.file(), after + "Compression yes\n").unwrap();
        assert!(home.ssh_says("x.example.com").contains("compression yes"), "for all hosts");
        home.write(before, file_mode);
    }
    let backups = ["config", "config.before-spa", "config.before-spa-2"];
    assert_eq!(home.names(), backups, "none takes the place of another");
    for (backup, file_mode) in backups[1..].iter().zip([0o600, 0o644]) {
        let backup = home.file().with_file_name(backup);
        assert_eq!(
            (fs::read_to_string(&backup).unwrap().as_str(), mode(&backup)),
            (before, file_mode)
        );
    }
}

#[test]
fn a_server_whose_file_is_damaged_keeps_its_lines() {
    let home = Home::new();
    assert_eq!(home.ssh_config(&["--write"]).code, 0);
    let before = home.text();
    let file = home.client.host_file("fw");
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, "garbage").unwrap();
    for words in [&["--write"][..], &[]] {
        let ran = home.ssh_config(words).fails(3, &["fw.toml:1", "name the servers"]);
        assert_eq!(ran.out, "");
    }
    assert_eq!(home.text(), before);
    assert_eq!(home.ssh_config(&["--write", "nas"]).code, 0, "named");
    assert!(!home.text().contains("fw.example.com"));
    fs::write(&file, whole).unwrap();
    assert_eq!(home.ssh_config(&["--write"]).code, 0);
    assert_eq!(home.text(), before);
}

#[test]
fn a_link_stays_a_link() {
    let home = Home::new();
    let dotfiles = home.dir.path().join("dotfiles");
    fs::create_dir_all(&dotfiles).unwrap();
    home.write("", 0o600);
    fs::remove_file(home.file()).unwrap();
    symlink(dotfiles.join("ssh"), home.file()).unwrap();
    home.ssh_config(&["--write"]).fails(3, &["config"]);
    fs::write(dotfiles.join("ssh"), "Host x\n").unwrap();
    assert_eq!(home.ssh_config(&["--write"]).code, 0);
    assert!(home.file().is_symlink());
    assert!(fs::read_to_string(dotfiles.join("ssh")).unwrap().contains("Match host"));
}

#[test]
fn what_is_not_understood_is_not_touched() {
    let home = Home::new();
    home.ssh_config(&["--write"]);
    let half = home.text().replace("Match all\n# <<< spa >>>\n", "");
    home.write(&half, 0o600);
    for words in ["--write", "--remove"] {
        home.ssh_config(&[words]).fails(3, &["config:1", "half"]);
    }
    assert_eq!(home.text(), half);
    fs::write(home.file(), [0xff, 0xfe]).unwrap();
    home.ssh_config(&["--write"]).fails(3, &["config", "UTF-8"]);
    if chown(&home.file()) {
        home.ssh_config(&["--write"]).fails(3, &["belongs to somebody else"]);
    }
    let elsewhere = home.dir.path().join("none/of/it");
    let ran = home.ssh_config(&["--write", "--file", elsewhere.to_str().unwrap()]);
    assert_eq!((ran.code, mode(&elsewhere)), (0, 0o600));
    let nobody = Client::new();
    nobody.run(&["ssh-config"]).fails(3, &["spa enroll"]);
}

/// To nobody; whether we could.
fn chown(file: &Path) -> bool {
    std::os::unix::fs::chown(file, Some(65534), None).is_ok()
}
