//! `spa-keys rotate`: two sets of keys for a while, and nobody shut out unnoticed.

use std::fs;
use std::time::Duration;

use spa_keys::{Store, TokenEnrolment};
use spa_proto::{SigningKey, Verifier};

use crate::keys::Keys;

/// A client whose key is bound, as after its enrolment.
fn enrolled(keys: &Keys, name: &str) -> SigningKey {
    keys.add(name);
    let (signing, kid) = (SigningKey::from_seed(&[7; 32]), keys.record(name).kid);
    first_knock(keys, name, &kid, Some(&signing));
    signing
}

fn first_knock(keys: &Keys, name: &str, kid: &spa_proto::Kid, binds: Option<&SigningKey>) {
    let binds = binds.map(SigningKey::verifying_key);
    Store::open(&keys.dir()).note_first_knock(&name.parse().unwrap(), kid, binds).unwrap();
}

#[test]
fn a_psk_is_replaced_beside_the_old_one() {
    let keys = Keys::new();
    let signing = enrolled(&keys, "alice");
    let before = keys.record("alice");
    let token = keys.run(&["rotate", "psk", "alice", "--overlap", "2d"]).done().token();
    let record = keys.record("alice");
    assert!(record.kid != before.kid && record.psk.expose() != before.psk.expose());
    assert!(token.kid == record.kid && token.psk.expose() == record.psk.expose());
    let key = signing.verifying_key();
    assert!(matches!(token.enrolment, TokenEnrolment::Key(it) if it == key), "no secret");
    assert_eq!((&record.verifier, record.knocked), (&Verifier::Bound(key), false));

    let former = record.former.clone().unwrap();
    assert!((former.kid, former.key, former.knocked) == (before.kid, key, true));
    let two_days = Duration::from_secs(2 * 86_400);
    assert!(former.until.since(spa_keys::date::now()) <= two_days);
    assert!(former.until.plus(Duration::from_secs(600)).since(spa_keys::date::now()) > two_days);
    let under = record.under(&before.kid).unwrap();
    assert_eq!(under.expires, Some(former.until), "the old keys end by themselves");
    assert!(under.psk.expose() == before.psk.expose() && under.knocked);
    assert!(record.under(&spa_proto::Kid::from_bytes([0; 16])).is_none());
    let again = keys.run(&["rotate", "--token", "alice"]).done().token();
    assert!(again.encode() == token.encode(), "a token that was lost");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let lost = keys.command(&["rotate", "--token", "alice"]).stdout(full).output().unwrap();
    let said = String::from_utf8(lost.stderr).unwrap();
    assert!(said.contains("is lost: run spa-keys rotate --token alice"), "{said}");
}

#[test]
fn all_keys_are_replaced_by_another_enrolment() {
    let keys = Keys::new();
    let old = enrolled(&keys, "alice");
    let token = keys.run(&["rotate", "client", "alice"]).done().token();
    assert!(matches!(token.enrolment, TokenEnrolment::Secret { .. }));
    let record = keys.record("alice");
    assert!(matches!(record.verifier, Verifier::Pending { .. }));
    assert!(record.former.clone().unwrap().key == old.verifying_key());
    keys.run(&["rotate", "--token", "alice"]).failed(1, "has not used its token");

    let new = SigningKey::from_seed(&[8; 32]);
    first_knock(&keys, "alice", &record.kid, Some(&new));
    let record = keys.record("alice");
    assert_eq!(record.verifier, Verifier::Bound(new.verifying_key()));
    assert!(record.knocked && record.former.is_some(), "the old keys still work");
}

#[test]
fn nobody_is_shut_out_unnoticed() {
    let keys = Keys::new();
    enrolled(&keys, "alice");
    let before = keys.record("alice").kid;
    keys.run(&["rotate", "psk", "alice", "--finish"]).failed(1, "are not being replaced");
    keys.run(&["rotate", "psk", "alice", "--abort"]).failed(1, "are not being replaced");
    keys.run(&["rotate", "psk", "alice"]).done();
    keys.run(&["rotate", "client", "alice"]).failed(1, "being replaced already");
    keys.run(&["rotate", "psk", "alice", "--finish"]).failed(1, "alice has not moved");
    assert!(keys.record("alice").former.is_some());

    let status = || keys.run(&["rotate", "--status", "--json"]).done().json();
    assert_eq!(status()["clients"][0]["moved"], false);
    let table = keys.run(&["rotate", "--status"]).done().stdout;
    assert!(table.contains("alice  psk"), "{table}");
    first_knock(&keys, "alice", &keys.record("alice").kid, None);
    assert_eq!(status()["clients"][0]["moved"], true);

    keys.run(&["rotate", "psk", "alice", "--abort"]).failed(1, "alice has moved");
    keys.run(&["rotate", "psk", "alice", "--finish"]).done();
    let record = keys.record("alice");
    assert!(record.former.is_none() && record.kid != before && record.knocked);
    assert_eq!(status()["clients"].as_array().unwrap().len(), 0);

    keys.run(&["rotate", "psk", "alice"]).done();
    keys.run(&["rotate", "psk", "alice", "--finish", "--yes"]).done();
    assert!(!keys.record("alice").knocked, "shut out because somebody said so");
}

#[test]
fn an_aborted_rotation_leaves_what_was() {
    let keys = Keys::new();
    enrolled(&keys, "alice");
    let before = std::fs::read_to_string(keys.path("clients/alice.toml")).unwrap();
    for what in ["psk", "client"] {
        keys.run(&["rotate", what, "alice"]).done();
        keys.run(&["rotate", what, "alice", "--abort"]).done();
        let after = std::fs::read_to_string(keys.path("clients/alice.toml")).unwrap();
        assert_eq!(after, before, "{what}");
    }
}

#[test]
fn who_has_no_key_yet_has_nothing_to_replace() {
    let keys = Keys::new();
    keys.add("alice");
    keys.run(&["rotate", "psk", "alice"]).failed(1, "has not used its token yet");
    keys.run(&["rotate", "psk", "bob"]).failed(1, "there is no client bob");
    keys.run(&["rotate", "psk"]).failed(2, "whose keys");
    keys.run(&["rotate"]).failed(2, "required");
}

/// Old keys that were never knocked with are marked when they are.
#[test]
fn both_sets_of_keys_have_a_first_knock_of_their_own() {
    let keys = Keys::new();
    let line = spa_keys::PublicKeyLine::encode(&SigningKey::from_seed(&[7; 32]));
    keys.run(&["add", "alice", "--service", "ssh", "--pubkey", &line]).done();
    keys.run(&["rotate", "psk", "alice"]).done();
    let former = keys.record("alice").former.unwrap();
    assert!(!former.knocked);
    first_knock(&keys, "alice", &former.kid, None);
    let record = keys.record("alice");
    assert!(record.former.as_ref().unwrap().knocked && !record.knocked);
    let store = Store::open(&keys.dir());
    let again = store.note_first_knock(&"alice".parse().unwrap(), &former.kid, None);
    assert!(matches!(again, Err(spa_keys::StoreError::Changed(_))));
    first_knock(&keys, "alice", &record.kid, None);
    assert!(keys.record("alice").knocked);
}

fn server(keys: &Keys) -> spa_keys::ServerIdentity {
    spa_keys::ServerIdentity::load(&keys.dir()).ok().unwrap()
}

#[test]
fn a_servers_key_or_cloak_is_replaced_beside_the_old_one() {
    for (what, key, cloak) in [("server", false, true), ("cloak", true, false)] {
        let keys = Keys::new();
        enrolled(&keys, "alice");
        let text = std::fs::read_to_string(keys.path("server.toml")).unwrap();
        let before = server(&keys);
        keys.run(&["rotate", what, "--overlap", "30d"]).done();
        let after = server(&keys);
        assert_eq!(after.secret.public() == before.secret.public(), key, "{what}");
        assert_eq!(after.cloak.expose() == before.cloak.expose(), cloak, "{what}");
        let former = after.former.as_ref().unwrap();
        assert!(former.secret.public() == before.secret.public());
        assert!(former.cloak.expose() == before.cloak.expose());
        assert_eq!(after.memory_key(), before.secret.public(), "what was used stays known");
        assert_eq!((after.host.as_str(), after.port), ("fw.example.com", 62201));

        let token = keys.run(&["rotate", "--token", "alice"]).done().token();
        assert!(token.server == after.secret.public());
        assert!(token.cloak.expose() == after.cloak.expose());
        assert!(token.kid == keys.record("alice").kid, "the client's own stay");
        keys.run(&["rotate", "server"]).failed(1, "the server are being replaced already");
        keys.run(&["rotate", what, "--abort"]).done();
        let aborted = std::fs::read_to_string(keys.path("server.toml")).unwrap();
        assert_eq!(aborted, text, "{what}");
    }
}

#[test]
fn a_server_is_not_moved_before_all_its_clients_are() {
    let keys = Keys::new();
    enrolled(&keys, "alice");
    enrolled(&keys, "bob");
    // Dates are to the second: who was made in the same one may have the old keys.
    let of_now = keys.path("clients/bob.toml");
    let text = std::fs::read_to_string(&of_now).unwrap();
    let created = text.lines().find(|line| line.starts_with("created")).unwrap();
    std::fs::write(&of_now, text.replace(created, "created = 2026-01-01T00:00:00Z")).unwrap();
    keys.run(&["rotate", "server", "--finish"]).failed(1, "are not being replaced");
    keys.run(&["rotate", "server"]).done();
    let status = || keys.run(&["rotate", "--status", "--json"]).done().json()["server"].clone();
    assert_eq!(status()["not_moved"], serde_json::json!(["alice", "bob"]));
    let said = keys.run(&["rotate", "server", "--finish"]).failed(1, "have not moved");
    assert!(said.stderr.contains("  alice\n  bob\n"), "{said:?}");

    let marks = server(&keys).moved(&keys.dir()).unwrap();
    marks.add(&[keys.record("alice").kid]).unwrap();
    assert_eq!((&status()["moved"], &status()["not_moved"][0]), (&1.into(), &"bob".into()));
    let table = keys.run(&["rotate", "--status"]).done().stdout;
    assert!(table.contains("1 have moved, 1 have not\n  bob\n"), "{table}");
    keys.run(&["rotate", "server", "--abort"]).failed(1, "  alice\n");
    let said = keys.run(&["rotate", "server", "--finish"]).failed(1, "  bob\n");
    assert!(!said.stderr.contains("alice"), "{said:?}");
    marks.add(&[keys.record("bob").kid]).unwrap();

    let first = server(&keys).memory_key();
    keys.run(&["rotate", "server", "--finish"]).done();
    let now = server(&keys);
    assert!(now.former.is_none() && now.secret.public() != first && now.memory_key() == first);
    assert_eq!(keys.names("").iter().filter(|name| name.starts_with("moved")).count(), 0);
    keys.run(&["rotate", "server"]).done();
    assert_eq!(status()["moved"], 0, "another time");
    keys.run(&["rotate", "server", "--finish", "--yes"]).done();
    assert_eq!(server(&keys).memory_key(), first, "still");
}
