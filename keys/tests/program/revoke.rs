use std::fs;

use spa_keys::encoding;

use crate::keys::Keys;

#[test]
fn takes_the_record_away_and_keeps_what_is_no_secret() {
    let keys = Keys::new();
    let token = keys.add("alice");
    let record = fs::read_to_string(keys.path("clients/alice.toml")).unwrap();
    let hash = record.lines().find(|line| line.starts_with("enrolment-hash")).unwrap();
    let run = keys.run(&["revoke", "alice"]).done();
    assert!(run.stdout.contains("alice"));
    assert!(keys.names("clients").is_empty());
    let kept = format!("alice-{:.8}.toml", token.kid.to_string());
    assert_eq!(keys.names("revoked"), [kept.as_str()]);
    let kept = fs::read_to_string(keys.path(&format!("revoked/{kept}"))).unwrap();
    assert!(kept.contains(&token.kid.to_string()) && kept.contains("revoked = 20"));
    assert!(!kept.contains(encoding::to_base64(token.psk.expose()).as_str()));
    assert!(!kept.contains(hash.split('"').nth(1).unwrap()));
}

#[test]
fn the_name_can_be_used_again_for_a_new_key() {
    let keys = Keys::new();
    let first = keys.add("alice");
    keys.run(&["revoke", "alice"]).done();
    let second = keys.add("alice");
    assert_ne!(first.kid, second.kid);
    assert!(first.psk.expose() != second.psk.expose());
    keys.run(&["revoke", "alice"]).done();
    assert_eq!(keys.names("revoked").len(), 2);
}

#[test]
fn says_who_is_not_there() {
    let keys = Keys::new();
    keys.run(&["revoke", "alice"]).failed(1, "there is no client alice");
    keys.add("alice");
    keys.run(&["revoke", "alice"]).done();
    keys.run(&["revoke", "alice"]).failed(1, "alice is revoked already");
    keys.run(&["revoke", "../server"]).failed(2, "not a client's name");
    assert!(keys.path("server.toml").exists());
}

#[test]
fn says_how_to_be_rid_of_a_broken_record() {
    let keys = Keys::new();
    let path = keys.path("clients/alice.toml");
    keys.add("alice");
    fs::write(&path, "garbage").unwrap();
    keys.run(&["revoke", "alice"]).failed(1, &format!("run: rm {}", path.display()));
    assert!(path.exists());
}

/// On a full disk nothing can be noted: whoever wants somebody out has to know that they are in.
#[test]
fn who_cannot_be_shut_out_is_said_to_be_in() {
    let keys = Keys::new();
    for name in ["alice", "bob/phone"] {
        keys.add(name);
    }
    keys.run(&["set", "bob", "--max-ttl", "5m", "--yes"]).done();
    // The lock has room for its one byte.
    let full = |bytes| format!("trap '' XFSZ; prlimit --fsize={bytes} -- \"$@\"");
    for bytes in [0, 1] {
        for (word, name) in
            [("revoke", "alice"), ("disable", "alice"), ("disable", "bob"), ("revoke", "bob")]
        {
            let said = keys.run_in(&full(bytes), &[word, name]).failed(1, "CAN STILL KNOCK").stderr;
            assert!(said.contains("cannot write ") && said.contains(name), "{word}: {said}");
            let file = keys.path("clients/alice.toml").display().to_string();
            let rm = bytes == 1 && (word, name) == ("revoke", "alice");
            assert_eq!(said.contains(&format!("rm {file}")), rm, "{word} {name}: {said}");
        }
    }
    assert_eq!(keys.names("clients"), ["alice.toml", "bob+.toml", "bob+phone.toml"]);
    keys.run(&["revoke", "alice"]).done();
}
