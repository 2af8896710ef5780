use std::fs;
use std::os::unix::fs::MetadataExt;

use spa_keys::encoding;

use crate::keys::Keys;

fn outcomes(run: &crate::keys::Run) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let json = run.json();
    json.as_array().unwrap().iter().map(|one| (text(&one["file"]), text(&one["outcome"]))).collect()
}

#[test]
fn what_is_exported_comes_back_elsewhere() {
    let (keys, other) = (Keys::new(), Keys::none());
    keys.add("alice/laptop");
    keys.add("bob");
    keys.run(&["set", "alice", "--max-ttl", "5m", "--yes"]).done();
    keys.run(&["revoke", "bob"]).done();
    let file = keys.path("backup").display().to_string();
    let run = keys.run(&["export", &file]).done();
    assert_eq!((run.stdout.as_str(), fs::metadata(&file).unwrap().mode() & 0o777), ("", 0o600));
    keys.run(&["export", &file]).failed(1, "is there already");

    let dry = other.run(&["import", &file, "--dry-run", "--json"]).done();
    assert!(outcomes(&dry).iter().all(|(_, outcome)| outcome == "new") && !other.dir().exists());
    other.run(&["import", &file]).done();
    for path in ["server.toml", "clients/alice+.toml"] {
        assert_eq!(
            fs::read(other.path(path)).unwrap(),
            fs::read(keys.path(path)).unwrap(),
            "{path}"
        );
    }
    assert_eq!(other.names("revoked"), keys.names("revoked"));
    let shown = other.run(&["show", "alice/laptop", "--json"]).done().json();
    assert_eq!(shown["state"], "token-expired", "nobody knows whether it was used");
    other.run(&["renew", "alice/laptop"]).done();
    let again = outcomes(&keys.run(&["import", &file, "--json"]).done());
    assert!(again.iter().all(|(_, outcome)| outcome == "same"), "{again:?}");
}

#[test]
fn a_passphrase_keeps_it_to_those_who_know_it() {
    let keys = Keys::new();
    keys.add("alice");
    let psk = encoding::to_base64(keys.record("alice").psk.expose());
    let [file, word, other] =
        ["backup", "word", "other"].map(|name| keys.path(name).display().to_string());
    for (path, text) in [(&word, "correct horse\n"), (&other, "battery\n")] {
        spa_keys::files::create_new(path.as_ref(), text).unwrap();
    }
    keys.run(&["export", &file, "--passphrase-file", &word]).done();
    assert!(!fs::read_to_string(&file).unwrap().contains(psk.as_str()));
    keys.run(&["import", &file, "--passphrase-file", &other])
        .failed(1, "passphrase is another one");
    let run = keys.run(&["import", &file, "--passphrase-file", &word]).done();
    assert!(run.stdout.contains("same      clients/alice.toml"), "{run:?}");
}

#[test]
fn what_says_something_else_is_in_the_way_of_all() {
    let keys = Keys::new();
    for name in ["alice", "bob"] {
        keys.add(name);
    }
    let file = keys.path("backup").display().to_string();
    keys.run(&["export", &file]).done();
    keys.run(&["set", "alice", "--ttl", "30s"]).done();
    fs::remove_file(keys.path("clients/bob.toml")).unwrap();
    let run = keys.run(&["import", &file, "--json"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("nothing was imported: 1 of them"), "{run:?}");
    assert_eq!(keys.names("clients"), ["alice.toml"]);
    let done = outcomes(&keys.run(&["import", &file, "--replace", "--json"]).done());
    assert!(done.contains(&("clients/alice.toml".into(), "replaced".into())), "{done:?}");
    assert_eq!((keys.record("alice").policy.ttl, keys.names("clients").len()), (None, 2));
}

#[test]
fn only_a_whole_private_backup_is_read() {
    let keys = Keys::new();
    keys.add("alice");
    let file = keys.path("backup").display().to_string();
    keys.run(&["export", &file, "--without-server"]).done();
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains("secret-key"));
    fs::write(&file, &text[..text.len() - 3]).unwrap();
    keys.run(&["import", &file]).failed(1, "the backup is damaged");
    fs::write(&file, "something else").unwrap();
    keys.run(&["import", &file]).failed(1, "this is not a backup");
    crate::keys::chmod(keys.path("backup").as_ref(), 0o644);
    keys.run(&["import", &file]).failed(1, "is open to others");
    let other = Keys::none();
    crate::keys::chmod(keys.path("backup").as_ref(), 0o600);
    fs::write(&file, text).unwrap();
    other.run(&["import", &file]).failed(1, "there is no server key");
}

/// On a new machine the package, or somebody, has run init before.
#[test]
fn it_comes_back_where_init_has_made_another_key() {
    let (keys, other) = (Keys::new(), Keys::new());
    keys.add("alice");
    let file = keys.path("backup").display().to_string();
    keys.run(&["export", &file]).done();
    let run = other.run(&["import", &file]);
    assert!(run.code == Some(1) && run.stderr.contains("--without-server"), "{run:?}");
    assert!(run.stdout.contains("differs   server.toml"), "{run:?}");
    assert!(other.names("clients").is_empty());
    fs::rename(other.path("server.toml"), other.path("server.toml.new")).unwrap();
    other.run(&["import", &file]).done();
    let text = |keys: &Keys| fs::read(keys.path("server.toml")).unwrap();
    assert_eq!(text(&other), text(&keys));

    let third = Keys::new();
    let own = text(&third);
    third.run(&["import", &file, "--without-server"]).done();
    assert_eq!((text(&third), third.names("clients")), (own, vec!["alice.toml".to_owned()]));
}
