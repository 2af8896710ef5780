//! `spa hosts` and `spa forget`, and where files are kept.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::process::Command;

use support::{Client, Server, set_mode};

#[test]
fn lists_servers_without_secrets() {
    let server = Server::new();
    let client = Client::of(&server);
    let ran = client.run(&["hosts"]);
    assert_eq!(ran.code, 0);
    let kid = &server.kid.to_string()[..8];
    for word in ["127.0.0.1", &server.port.to_string(), "ssh,web", kid, "not confirmed"] {
        assert!(ran.out.contains(word), "{word:?} is missing: {}", ran.out);
    }

    let json = client.run(&["hosts", "--json"]).json();
    let row = json.as_array().unwrap().first().unwrap().as_object().unwrap();
    let keys: Vec<_> = row.keys().map(String::as_str).collect();
    let expected = [
        "confirmed",
        "host",
        "kid",
        "locked",
        "name",
        "port",
        "server_key",
        "services",
        "token_expires",
    ];
    assert_eq!(keys, expected);
    assert_eq!(row["kid"], server.kid.to_string());
}

#[test]
fn no_servers_is_no_error() {
    let ran = Client::new().run(&["hosts"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert_eq!(Client::new().run(&["hosts", "--json"]).out.trim(), "[]");
}

#[test]
fn a_broken_file_does_not_hide_the_others() {
    let server = Server::new();
    let client = Client::of(&server);
    let broken = client.host_file("broken");
    fs::write(&broken, "host = 1\n").unwrap();
    set_mode(&broken, 0o600);
    let ran = client.run(&["hosts"]).fails(3, &["broken.toml:1"]);
    assert!(ran.out.contains("127.0.0.1"), "{}", ran.out);
    client.run(&["knock", "127.0.0.1"]).quiet();
    client.run(&["knock", "elsewhere"]).fails(3, &["broken.toml"]);
    assert_eq!(client.run(&["forget", "broken"]).code, 0);
    assert!(!broken.exists());
    set_mode(&client.host_file("127.0.0.1"), 0o644);
    let ran = client.run(&["hosts"]).fails(3, &["chmod 600"]);
    assert!(!ran.err.contains("spa enroll"), "there is one: {}", ran.err);
}

#[test]
fn forgets_one_server() {
    let server = Server::new();
    let client = Client::of(&server);
    assert_eq!(client.run(&["forget", "127.0.0.1"]).code, 0);
    assert!(!client.host_file("127.0.0.1").exists());
    client.run(&["forget", "127.0.0.1"]).fails(3, &["no keys for"]);
    client.run(&["knock", "127.0.0.1"]).fails(3, &["spa enroll"]);
    client.enroll(&server.token());
    // The keys from before that cannot be deleted keep none that are in force.
    std::fs::create_dir(client.host_file("127.0.0.1").with_extension("former")).unwrap();
    client.run(&["forget", "127.0.0.1"]).fails(3, &["127.0.0.1.former"]);
    assert!(!client.host_file("127.0.0.1").exists());
}

/// A `spa` that is killed while it writes leaves keys behind under another name.
#[test]
fn forgets_what_was_not_written_to_its_end() {
    let server = Server::new();
    let client = Client::of(&server);
    let keys = client.host_file("127.0.0.1");
    let left = |name: &str| {
        let path = keys.with_file_name(format!(".{name}.0123456789abcdef.tmp"));
        fs::copy(&keys, &path).unwrap();
        path
    };
    let gone = ["127.0.0.1.toml", "127.0.0.1.former"].map(left);
    // One that is killed between the two steps leaves the file two names.
    fs::hard_link(&keys, keys.with_file_name(".127.0.0.1.toml.fedcba9876543210.tmp")).unwrap();
    let others = ["10.127.0.0.1.toml", "127.0.0.1.toml.toml"].map(left);
    assert_eq!(client.run(&["forget", "127.0.0.1"]).code, 0);
    assert!(gone.iter().all(|path| !path.exists()));
    let mut there: Vec<_> = fs::read_dir(keys.parent().unwrap()).unwrap().flatten().collect();
    there.retain(|entry| !others.contains(&entry.path()));
    assert!(there.is_empty(), "{there:?}");
    assert!(others.iter().all(|path| path.exists()));
}

#[test]
fn files_are_kept_where_the_desktop_says() {
    let home = tempfile::tempdir().unwrap();
    let line = |xdg: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spa"));
        command.arg("request").env("HOME", home.path()).env("XDG_CONFIG_HOME", xdg);
        assert!(command.output().unwrap().status.success());
    };
    let xdg = home.path().join("xdg");
    line(xdg.to_str().unwrap());
    assert!(xdg.join("spa/requests").is_dir());
    line("relative");
    let default =
        if cfg!(target_os = "macos") { "Library/Application Support/spa" } else { ".config/spa" };
    assert!(home.path().join(default).join("requests").is_dir());
}
