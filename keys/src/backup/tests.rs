mod history;

use spa_proto::{SigningKey, Timestamp, Verifier};
use tempfile::TempDir;

use std::sync::Arc;

use super::*;
use std::time::Duration;

use crate::policy::Policy;
use crate::record::{ClientName, ClientState};
use crate::rotation::Replaced;
use crate::store::NewClient;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn parse(name: &str) -> ClientName {
    name.parse().unwrap()
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("keys"));
    ServerIdentity::init(store.dir(), "fw.example.com", 62201).ok().unwrap();
    (dir, store)
}

fn add(store: &Store, name: &str, seed: Option<u8>) {
    let key = seed.map(|seed| SigningKey::from_seed(&[seed; 32]).verifying_key());
    let policy = Policy { services: vec!["ssh".parse().unwrap()], ..Policy::default() };
    store.add(NewClient { name: parse(name), expires: None, policy, key }, NOW).ok().unwrap();
}

/// One client of each kind.
fn full() -> (TempDir, Store) {
    let (dir, store) = store();
    add(&store, "alice/laptop", Some(1));
    add(&store, "bob", None);
    add(&store, "carol", Some(2));
    store.change_person(&parse("alice"), NOW, |one| one.disabled = Some(NOW)).ok().unwrap();
    store.revoke(&parse("carol"), NOW).ok().unwrap();
    (dir, store)
}

fn backup(store: &Store) -> Backup {
    let (backup, broken) = Backup::of(store, true).ok().unwrap();
    assert!(broken.is_empty());
    backup
}

fn outcomes(store: &Store, backup: &Backup, replace: bool) -> Vec<(String, Outcome)> {
    let done = store.restore(backup, replace, false).ok().unwrap();
    done.into_iter().map(|one| (one.file, one.outcome)).collect()
}

fn outcome(store: &Store, backup: &Backup, replace: bool, file: &str) -> Outcome {
    let found = outcomes(store, backup, replace).into_iter().find(|(name, _)| name == file);
    found.unwrap_or_else(|| panic!("{file}")).1
}

#[test]
fn reads_what_it_writes_also_under_a_passphrase() {
    let (_dir, store) = full();
    let backup = backup(&store);
    let text = backup.to_text();
    assert!(*Backup::parse(&text).ok().unwrap().to_text() == *text);
    let sealed = backup.seal("correct horse", [7; SALT_LEN]).ok().unwrap();
    assert!(Backup::is_sealed(&sealed) && !Backup::is_sealed(&text) && !sealed.contains("psk"));
    assert!(*Backup::unseal(&sealed, "correct horse").ok().unwrap().to_text() == *text);
    assert!(matches!(Backup::unseal(&sealed, "another").err(), Some(BackupError::Passphrase)));
    let mut bytes = sealed.into_bytes();
    let last = bytes.len() - 10;
    bytes[last] = if bytes[last] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(bytes).unwrap();
    assert!(Backup::unseal(&changed, "correct horse").is_err());
}

#[test]
fn any_change_is_seen() {
    let (_dir, store) = full();
    let text = backup(&store).to_text();
    assert!(matches!(Backup::parse("").err(), Some(BackupError::NotABackup)));
    for at in [20, 60, text.len() / 2, text.len() - 5] {
        assert!(Backup::parse(&text[..at]).is_err(), "cut at {at}");
    }
    for (from, to) in
        [("ssh", "web"), ("file clients/bob.toml", "file clients/../b.toml"), ("bob", "rob")]
    {
        assert!(
            text.contains(from) && Backup::parse(&text.replacen(from, to, 1)).is_err(),
            "{from}"
        );
    }
}

#[test]
fn comes_back_where_there_is_nothing_as_one_who_has_knocked() {
    let (_dir, store) = full();
    let backup = backup(&store);
    let dir = tempfile::tempdir().unwrap();
    let other = Store::open(&dir.path().join("keys"));
    let dry = other.restore(&backup, false, true).ok().unwrap();
    assert!(dry.iter().all(|one| one.outcome == Outcome::New) && !other.dir().exists());
    assert_eq!(outcomes(&other, &backup, false).len(), 5);
    let laptop = other.client(&parse("alice/laptop")).ok().unwrap();
    assert!(laptop.knocked, "its nonces may have been used: R4 must not exempt it");
    assert_eq!((laptop.kid, laptop.is_disabled()), (backup.clients[0].kid, true));
    let bob = other.client(&parse("bob")).ok().unwrap();
    assert_eq!(bob.state(NOW), ClientState::TokenExpired, "its token may have been used");
    assert_eq!(other.revoked().ok().unwrap().records.len(), 1);
    let again = outcomes(&other, &backup, false);
    assert!(again.iter().all(|(_, outcome)| *outcome == Outcome::Same), "{again:?}");
}

#[test]
fn keys_that_are_being_replaced_come_back_with_those_that_replace_them() {
    let (_dir, store) = store();
    add(&store, "alice", Some(1));
    add(&store, "bob", Some(2));
    let before = backup(&store);
    let overlap = std::time::Duration::from_secs(3600);
    store.rotate(&parse("alice"), Replaced::Psk, overlap, NOW).ok().unwrap();
    store.rotate(&parse("bob"), Replaced::All, overlap, NOW).ok().unwrap();
    let text = backup(&store).to_text();
    let during = Backup::parse(&text).ok().unwrap();
    assert!(*during.to_text() == *text);

    let dir = tempfile::tempdir().unwrap();
    let other = Store::open(&dir.path().join("keys"));
    assert!(outcomes(&other, &during, false).iter().all(|(_, outcome)| *outcome == Outcome::New));
    for name in ["alice", "bob"] {
        let [own, back] = [&store, &other].map(|store| store.client(&parse(name)).ok().unwrap());
        assert!(back.kids().eq(own.kids()), "{name}");
        let [own, back] = [own, back].map(|record| record.former.unwrap());
        assert!(own.psk.expose() == back.psk.expose() && own.key == back.key, "{name}");
        assert_eq!(own.until, back.until);
        assert!(!own.knocked && back.knocked, "{name}: its nonces may have been used");
    }
    let again = outcomes(&other, &during, false);
    assert!(again.iter().all(|(_, outcome)| *outcome == Outcome::Same), "{again:?}");

    // Under another name by now, its former key-id is still its own.
    store.rename(&parse("alice"), &parse("carol")).ok().unwrap();
    assert_eq!(outcome(&store, &before, true, "clients/alice.toml"), Outcome::Taken);
}

#[test]
fn what_is_newer_or_different_stays_and_nothing_is_written_then() {
    let (_dir, store) = full();
    let backup = backup(&store);
    let (name, kid) = (parse("bob"), backup.clients[1].kid);
    let key = SigningKey::from_seed(&[9; 32]).verifying_key();
    store.note_first_knock(&name, &kid, Some(key)).ok().unwrap();
    store
        .change(&name, |bob| Arc::make_mut(&mut bob.policy).ttl = Some(Duration::from_secs(30)))
        .ok()
        .unwrap();
    std::fs::remove_file(store.clients_dir().join("alice+laptop.toml")).unwrap();
    let done = outcomes(&store, &backup, false);
    assert!(done.contains(&("clients/bob.toml".into(), Outcome::Differs)), "{done:?}");
    assert!(store.client(&parse("alice/laptop")).is_err(), "all or nothing");
    assert_eq!(outcome(&store, &backup, true, "clients/bob.toml"), Outcome::Replaced);
    let bob = store.client(&name).ok().unwrap();
    assert_eq!(
        (bob.verifier, bob.knocked, bob.policy.ttl),
        (Verifier::Bound(key), true, None),
        "keys stay"
    );
    assert!(store.client(&parse("alice/laptop")).is_ok());
    // A key-id that was replaced since is not brought back, whatever is asked for.
    store.change(&name, |bob| bob.kid = spa_proto::Kid::from_bytes([8; 16])).ok().unwrap();
    assert_eq!(outcome(&store, &backup, true, "clients/bob.toml"), Outcome::Taken);
}

#[test]
fn nobody_comes_back_who_was_revoked_since_nor_another_server() {
    let (_dir, store) = full();
    let old = backup(&store);
    store.revoke(&parse("alice/laptop"), NOW).ok().unwrap();
    for replace in [false, true] {
        let done = outcome(&store, &old, replace, "clients/alice+laptop.toml");
        assert_eq!(done, Outcome::Revoked);
        assert!(store.client(&parse("alice/laptop")).is_err());
    }
    let (_dir, other) = self::store();
    for replace in [false, true] {
        assert_eq!(outcome(&other, &old, replace, "server.toml"), Outcome::Differs);
        assert!(other.clients().ok().unwrap().records.is_empty());
    }
    add(&other, "bob/phone", None);
    let clients = Backup { server: None, ..old };
    assert_eq!(outcome(&other, &clients, true, "clients/bob.toml"), Outcome::Taken);
    store.rename(&parse("bob"), &parse("rob")).ok().unwrap();
    assert_eq!(outcome(&store, &clients, true, "clients/bob.toml"), Outcome::Renamed);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(
        any in ".{0,80}", name in "(clients|revoked)/[a-z+./]{0,12}", len in 0_usize..200,
        body in "[a-z =\"\n]{0,60}",
    ) {
        for text in [any.clone(), format!("{HEADING}\n{any}"), format!("{SEALED}\n{any}"),
            format!("{HEADING}\nfile {name} {len}\n{body}"),
            format!("{HEADING}\nfile {name} {}\n{body}sha256 {any}\n", body.len())] {
            proptest::prop_assert!(Backup::parse(&text).is_err());
        }
        proptest::prop_assert!(Backup::unseal(&any, "x").is_err());
    }
}
