//! Tokens that nobody has used: listed, withdrawn, made anew.

use std::fs;

use serde_json::json;
use spa_keys::{PublicKeyLine, Store, Token, TokenEnrolment, date};
use spa_proto::{EnrolHash, SigningKey, Verifier, VerifyingKey};

use crate::keys::Keys;

fn key() -> VerifyingKey {
    SigningKey::from_seed(&[6; 32]).verifying_key()
}

fn add_with_key(keys: &Keys, name: &str) -> Token {
    let line = PublicKeyLine::encode(&SigningKey::from_seed(&[6; 32]));
    keys.run(&["add", name, "--service", "ssh", "--pubkey", &line]).done().token()
}

/// What the daemon does at the first knock.
fn knock(keys: &Keys, name: &str) {
    let (store, record) = (Store::open(&keys.dir()), keys.record(name));
    let binds = matches!(record.verifier, Verifier::Pending { .. }).then(key);
    store.note_first_knock(&record.name, &record.kid, binds).ok().unwrap();
}

fn secret(token: &Token) -> EnrolHash {
    match &token.enrolment {
        TokenEnrolment::Secret { secret, .. } => EnrolHash::of(secret),
        TokenEnrolment::Key(_) => panic!("a token without a secret"),
    }
}

#[test]
fn lists_tokens_that_are_still_out() {
    let keys = Keys::new();
    assert!(keys.run(&["pending"]).done().stderr.contains("every token is used"));
    for name in ["alice", "bob", "old"] {
        keys.add(name);
    }
    add_with_key(&keys, "carol");
    knock(&keys, "bob");
    let old = keys.path("clients/old.toml");
    let text = fs::read_to_string(&old).unwrap();
    let made = text.lines().find(|line| line.starts_with("enrolment-expires")).unwrap();
    fs::write(&old, text.replace(made, "enrolment-expires = 2020-01-02T03:04:05Z")).unwrap();

    let json = keys.run(&["pending", "--json"]).done().json();
    let seen: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|token| json!([token["name"], token["enrolment"], token["expired"]]))
        .collect();
    let expected = [
        json!(["alice", "secret", false]),
        json!(["carol", "key", false]),
        json!(["old", "secret", true]),
    ];
    assert_eq!(seen, expected);
    assert_eq!(json[1]["expires"], json!(null));
    assert_eq!(json[2]["made"], "2020-01-01T03:04:05Z");
    assert_eq!(json[2]["kid"], keys.record("old").kid.to_string());

    let table = keys.run(&["pending"]).done().stdout;
    let rows: Vec<_> = table.lines().map(|row| row.split_whitespace().next().unwrap()).collect();
    assert_eq!(rows, ["NAME", "alice", "carol", "old"]);
    assert!(table.contains("2020-01-02T03:04:05Z, over"), "{table}");
    Keys::none().run(&["pending"]).failed(1, "no server key");
}

#[test]
fn a_withdrawn_token_is_of_nobody() {
    let keys = Keys::new();
    keys.add("alice");
    let said = keys.run(&["withdraw", "alice"]).done();
    assert!(said.stdout.contains("alice") && said.stdout.contains("withdrawn"), "{said:?}");
    assert!(keys.names("clients").is_empty());
    assert_eq!(keys.run(&["show", "alice", "--json"]).json()["state"], "revoked");
    keys.run(&["withdraw", "alice"]).failed(1, "alice is revoked already");
    keys.run(&["withdraw", "bob"]).failed(1, "there is no client bob");
    keys.add("alice");
    assert_eq!(keys.run(&["withdraw", "alice", "--json"]).done().json()["state"], "revoked");
}

#[test]
fn a_client_that_has_knocked_is_left_alone() {
    let keys = Keys::new();
    keys.add("alice");
    add_with_key(&keys, "carol");
    for name in ["alice", "carol"] {
        knock(&keys, name);
        let file = keys.path(&format!("clients/{name}.toml"));
        let before = fs::read(&file).unwrap();
        keys.run(&["withdraw", name]).failed(1, "has enrolled");
        keys.run(&["renew", name]).failed(1, &format!("spa-keys revoke {name}"));
        assert_eq!(fs::read(&file).unwrap(), before);
    }
}

#[test]
fn a_renewed_token_has_nothing_of_the_one_before() {
    let keys = Keys::new();
    let before = keys
        .run(&[
            "add",
            "alice",
            "--service",
            "ssh,web",
            "--max-ttl",
            "5m",
            "--expires",
            "2999-12-31",
        ])
        .done()
        .token();
    let old = keys.record("alice");
    let run = keys.run(&["renew", "alice"]).done();
    let (after, new) = (run.token(), keys.record("alice"));
    assert!(run.stderr.contains("before works no more"), "{run:?}");
    assert_ne!(before.kid, after.kid);
    assert!(before.psk.expose() != after.psk.expose());
    assert!(secret(&before).as_bytes() != secret(&after).as_bytes());
    assert_eq!((new.kid, new.psk.expose() == after.psk.expose()), (after.kid, true));
    let Verifier::Pending { secret: hash, expires } = &new.verifier else { panic!() };
    assert!(hash.as_bytes() == secret(&after).as_bytes() && *expires > date::now());
    assert_eq!((new.policy, new.expires), (old.policy, old.expires));
    assert_eq!((new.created, new.knocked), (old.created, false));
    keys.run(&["renew", "bob"]).failed(1, "there is no client bob");
}

#[test]
fn a_renewed_token_for_a_key_keeps_the_key() {
    let keys = Keys::new();
    let before = add_with_key(&keys, "carol");
    let after = keys.run(&["renew", "carol"]).done().token();
    assert_ne!(before.kid, after.kid);
    assert!(matches!(after.enrolment, TokenEnrolment::Key(bound) if bound == key()));
    assert!(matches!(keys.record("carol").verifier, Verifier::Bound(bound) if bound == key()));
}

#[test]
fn a_token_that_would_open_nothing_is_not_made_anew() {
    let keys = Keys::new();
    let before = keys.run(&["add", "alice/laptop", "--service", "ssh"]).done().token();
    keys.run(&["set", "alice", "--service", "web", "--yes"]).done();
    keys.run(&["renew", "alice/laptop"]).failed(2, "may knock for nothing");
    assert_eq!(keys.record("alice/laptop").kid, before.kid, "the one before still counts");
}
