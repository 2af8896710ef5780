use std::fs;
use std::path::Path;

use spa_keys::{ServerIdentity, encoding};

use crate::keys::{Keys, Run};

fn load(keys: &Keys) -> ServerIdentity {
    ServerIdentity::load(&keys.dir()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn makes_a_server_and_prints_its_public_key() {
    let keys = Keys::none();
    let run = keys.run(&["init", "--host", "fw.example.com", "--port", "4711"]).done();
    let server = load(&keys);
    assert_eq!((server.host.as_str(), server.port), ("fw.example.com", 4711));
    let public = encoding::to_base64(server.secret.public().as_bytes());
    let secret = encoding::to_base64(server.secret.expose().as_slice());
    assert!(run.stdout.contains(public.as_str()) && run.stdout.contains("fw.example.com"));
    assert!(!run.stdout.contains(secret.as_str()));
    assert_eq!(run.stderr, "");
}

#[test]
fn defaults_to_the_name_of_the_machine_and_port_62201() {
    let keys = Keys::none();
    let run = keys.run(&["init"]).done();
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let server = load(&keys);
    assert_eq!(server.port, 62201);
    assert!(server.host.starts_with(own.trim()), "{}", server.host);
    assert_eq!(run.stderr.contains("may not find"), !server.host.contains('.'));
}

#[test]
fn never_replaces_a_server() {
    let keys = Keys::new();
    let before = fs::read(keys.path("server.toml")).unwrap();
    keys.run(&["init", "--host", "other.example.com"]).failed(1, "there already");
    assert_eq!(fs::read(keys.path("server.toml")).unwrap(), before);
    fs::write(keys.path("server.toml"), "garbage").unwrap();
    keys.run(&["init"]).failed(1, "there already");
    assert_eq!(fs::read(keys.path("server.toml")).unwrap(), b"garbage");
}

#[test]
fn two_servers_have_nothing_in_common() {
    let (one, other) = (load(&Keys::new()), load(&Keys::new()));
    assert_ne!(one.secret.public(), other.secret.public());
    assert!(one.cloak.expose() != other.cloak.expose());
}

#[test]
fn refuses_what_is_no_host_or_port() {
    let keys = Keys::none();
    for args in [["--host", ""], ["--host", "a b"], ["--host", "-x"], ["--host", "a/b"]] {
        keys.run(&["init", &args.join("=")]).failed(2, "is not a host name");
    }
    for port in ["0", "65536", "x", "-1"] {
        keys.run(&["init", &format!("--port={port}")]).failed(2, "--port");
    }
    assert!(!keys.dir().exists());
}

#[test]
fn a_directory_can_be_named_after_the_command_as_well() {
    let keys = Keys::none();
    let dir = keys.dir();
    let args: [&Path; 3] = [Path::new("init"), Path::new("--dir"), &dir];
    let run: Run =
        std::process::Command::new(crate::keys::PROGRAM).args(args).output().unwrap().into();
    run.done();
    load(&keys);
}

#[test]
fn usage_has_exit_status_2_and_help_has_examples() {
    let keys = Keys::none();
    keys.run(&[]).failed(2, "Usage");
    keys.run(&["frobnicate"]).failed(2, "frobnicate");
    keys.run(&["init", "--hots", "x"]).failed(2, "--host");
    let help = keys.run(&["--help"]).done().stdout;
    assert!(help.contains("spa-keys add alice --service ssh | ssh laptop spa enroll -"));
    assert!(keys.run(&["add", "--help"]).done().stdout.contains("--pubkey"));
}
