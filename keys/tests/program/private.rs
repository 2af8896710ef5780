use std::fs;

use crate::keys::{Keys, chmod};

const UMASKS: [&str; 4] = ["000", "022", "077", "0777"];

#[test]
fn everything_is_private_whatever_the_umask() {
    for umask in UMASKS {
        let keys = Keys::none();
        let script = format!("umask {umask}; exec \"$@\"");
        keys.run_in(&script, &["init", "--host", "fw.example.com"]).done();
        for name in ["alice", "bob"] {
            keys.run_in(&script, &["add", name, "--service", "ssh"]).done();
        }
        keys.run_in(&script, &["revoke", "bob"]).done();
        let modes = keys.modes();
        assert_eq!(modes.len(), 7, "{modes:?}");
        for (name, mode) in modes {
            let expected = if name.ends_with(".toml") || name == "lock" { 0o600 } else { 0o700 };
            assert_eq!(mode, expected, "{name} under umask {umask}");
        }
    }
}

#[test]
fn loose_files_and_directories_are_refused_with_the_remedy() {
    let keys = Keys::new();
    keys.add("alice");
    let add = ["add", "bob", "--service", "ssh"];
    for (path, loose, tight, args) in [
        ("server.toml", 0o640, 0o600, &add[..]),
        ("clients/alice.toml", 0o604, 0o600, &["show", "alice"]),
        ("clients/alice.toml", 0o620, 0o600, &["revoke", "alice"]),
        ("clients", 0o770, 0o700, &["list"]),
        ("clients", 0o770, 0o700, &["show", "alice"]),
        ("clients", 0o777, 0o700, &add[..]),
        ("revoked", 0o722, 0o700, &["list"]),
        ("", 0o777, 0o700, &add[..]),
        ("", 0o777, 0o700, &["list"]),
    ] {
        let path = if path.is_empty() { keys.dir() } else { keys.path(path) };
        chmod(&path, loose);
        let remedy = format!("run: chmod {tight:o} {}", path.display());
        keys.run(args).failed(1, &remedy);
        chmod(&path, tight);
    }
    assert_eq!(keys.names("clients"), ["alice.toml"]);
}

#[test]
fn directories_that_others_can_write_to_are_not_used() {
    let keys = Keys::none();
    fs::create_dir(keys.dir()).unwrap();
    chmod(&keys.dir(), 0o770);
    keys.run(&["init"]).failed(1, "run: chmod 700");
    assert!(keys.modes().len() == 1, "nothing was put there");
}
