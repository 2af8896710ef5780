//! What a store and a backup know of each other's later doings.

use std::time::Duration;

use std::sync::Arc;

use super::*;
use crate::identity::ReplacedServer;
use crate::rotation::Replaced;

const DAY: Duration = Duration::from_secs(86_400);
const LAPTOP: &str = "clients/alice+laptop.toml";
const BOB: &str = "clients/bob.toml";

/// The store as it is now, somewhere else.
fn copy_of(store: &Store) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let copy = Store::open(&dir.path().join("keys"));
    for part in ["", "clients", "revoked"] {
        crate::files::make_private_dir(&copy.dir().join(part)).unwrap();
        for entry in std::fs::read_dir(store.dir().join(part)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                let to = copy.dir().join(part).join(entry.file_name());
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    (dir, copy)
}

fn append(path: &Path, text: &str) {
    let before = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, before + text).unwrap();
}

#[test]
fn who_had_other_keys_before_being_revoked_stays_revoked() {
    let (_dir, store) = full();
    let old = backup(&store);
    store.renew(&parse("bob"), NOW).ok().unwrap();
    store.rotate(&parse("alice/laptop"), Replaced::Psk, DAY, NOW).ok().unwrap();
    let during = backup(&store);
    store.finish(&parse("alice/laptop"), None).ok().unwrap();
    for name in ["bob", "alice/laptop"] {
        store.revoke(&parse(name), NOW).ok().unwrap();
    }
    for backup in [&old, &during] {
        for (file, replace) in [(BOB, false), (BOB, true), (LAPTOP, false), (LAPTOP, true)] {
            assert_eq!(outcome(&store, backup, replace, file), Outcome::Revoked, "{file}");
        }
    }
    assert!(store.clients().ok().unwrap().records.is_empty());
}

#[test]
fn revoked_during_an_overlap_is_revoked_under_both_key_ids() {
    let (_dir, store) = full();
    let old = backup(&store);
    store.rotate(&parse("alice/laptop"), Replaced::All, DAY, NOW).ok().unwrap();
    store.revoke(&parse("alice/laptop"), NOW).ok().unwrap();
    assert_eq!(outcome(&store, &old, true, LAPTOP), Outcome::Revoked);
}

#[test]
fn replaced_keys_do_not_come_back_also_under_another_name() {
    let (_dir, store) = full();
    let old = backup(&store);
    store.renew(&parse("bob"), NOW).ok().unwrap();
    let kid = store.client(&parse("bob")).ok().unwrap().kid;
    assert_eq!(outcome(&store, &old, true, BOB), Outcome::Taken);
    store.rename(&parse("bob"), &parse("rob")).ok().unwrap();
    assert_eq!(outcome(&store, &old, true, BOB), Outcome::Taken);
    assert_eq!(store.client(&parse("rob")).ok().unwrap().kid, kid);
}

#[test]
fn a_newer_backup_takes_away_whom_it_knows_as_revoked_and_what_was_used() {
    let (_dir, store) = full();
    let (_copy, rolled_back) = copy_of(&store);
    store.rename(&parse("alice/laptop"), &parse("alice/phone")).ok().unwrap();
    store.rotate(&parse("alice/phone"), Replaced::Psk, DAY, NOW).ok().unwrap();
    store.revoke(&parse("alice/phone"), NOW).ok().unwrap();
    let bob = store.client(&parse("bob")).ok().unwrap();
    let key = SigningKey::from_seed(&[9; 32]).verifying_key();
    store.note_first_knock(&bob.name, &bob.kid, Some(key)).ok().unwrap();
    let newer = backup(&store);
    assert_eq!(outcome(&rolled_back, &newer, false, BOB), Outcome::Differs, "it was used");
    assert!(rolled_back.client(&parse("alice/laptop")).is_ok(), "all or nothing");
    assert_eq!(outcome(&rolled_back, &newer, true, LAPTOP), Outcome::Revoked);
    assert!(rolled_back.client(&parse("alice/laptop")).is_err());
    assert_eq!(rolled_back.revoked().ok().unwrap().records.len(), 2);
    let bob = rolled_back.client(&parse("bob")).ok().unwrap();
    assert_eq!((bob.verifier, bob.knocked), (Verifier::Bound(key), true));
    let again = outcomes(&rolled_back, &newer, false);
    assert!(again.iter().all(|(_, outcome)| *outcome == Outcome::Same), "{again:?}");
}

#[test]
fn nothing_is_imported_where_a_revocation_cannot_be_read() {
    let (_dir, store) = full();
    let old = Backup { revoked: Vec::new(), ..backup(&store) };
    let dir = store.dir().join("revoked");
    let file = std::fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    append(&file, "nonsense");
    std::fs::remove_file(store.dir().join(BOB)).unwrap();
    let said = store.restore(&old, true, false).err().unwrap().to_string();
    assert!(said.contains("carol-") && store.client(&parse("bob")).is_err(), "{said}");
}

#[test]
fn who_is_disabled_stays_so() {
    let (_dir, store) = full();
    store.change_person(&parse("alice"), NOW, |one| one.disabled = None).ok().unwrap();
    let old = backup(&store);
    let ttl = Some(DAY);
    let edit = |bob: &mut ClientRecord| {
        (bob.disabled, Arc::make_mut(&mut bob.policy).ttl) = (Some(NOW), ttl)
    };
    store.change(&parse("bob"), edit).ok().unwrap();
    let edit = |alice: &mut Person| (alice.disabled, alice.policy.ttl) = (Some(NOW), ttl);
    store.change_person(&parse("alice"), NOW, edit).ok().unwrap();
    let done = outcomes(&store, &old, true);
    for file in [BOB, "clients/alice+.toml"] {
        assert!(done.contains(&(file.into(), Outcome::Disabled)), "{done:?}");
    }
    let (bob, alice) = (store.client(&parse("bob")), store.person(&parse("alice")));
    let (bob, alice) = (bob.ok().unwrap(), alice.ok().unwrap().unwrap());
    assert_eq!((bob.disabled, bob.policy.ttl), (Some(NOW), None));
    assert_eq!((alice.disabled, alice.policy.ttl), (Some(NOW), None));
}

#[test]
fn a_server_is_known_by_its_keys() {
    let (_dir, store) = full();
    let old = backup(&store);
    let path = store.dir().join(SERVER);
    append(&path, "# in the cellar\n");
    assert_eq!(outcome(&store, &old, false, SERVER), Outcome::Same);
    ServerIdentity::rotate(store.dir(), ReplacedServer::Key, DAY, NOW).ok().unwrap();
    assert_eq!(outcome(&store, &old, false, SERVER), Outcome::Same, "it still knows them");
    ServerIdentity::finish(store.dir(), None).ok().unwrap();
    assert_eq!(outcome(&store, &old, true, SERVER), Outcome::Differs);
    std::fs::remove_file(store.dir().join(BOB)).unwrap();
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(outcome(&store, &old.without_server(), false, BOB), Outcome::New);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
}

#[test]
fn devices_without_what_limits_them_are_not_exported() {
    let (_dir, store) = full();
    append(&store.dir().join("clients/alice+.toml"), "nonsense");
    let (backup, broken) = Backup::of(&store, false).ok().unwrap();
    assert_eq!(backup.clients.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["bob"]);
    let said: Vec<_> = broken.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|one| one.contains("alice+laptop.toml: not exported")), "{said:?}");
}

#[test]
fn a_client_is_not_made_a_person() {
    let (_dir, store) = full();
    let old = backup(&store);
    let (_other_dir, other) = self::store();
    add(&other, "alice", None);
    let done = outcomes(&other, &old.without_server(), true);
    for file in ["clients/alice+.toml", LAPTOP] {
        assert!(done.contains(&(file.into(), Outcome::Taken)), "{done:?}");
    }
    assert!(other.person(&parse("alice")).ok().unwrap().is_none());
}

#[test]
fn former_keys_count_as_used_as_well() {
    let (_dir, store) = full();
    store.rotate(&parse("alice/laptop"), Replaced::Psk, DAY, NOW).ok().unwrap();
    let old = backup(&store);
    let dir = tempfile::tempdir().unwrap();
    let other = Store::open(&dir.path().join("keys"));
    assert_eq!(outcome(&other, &old, false, LAPTOP), Outcome::New);
    let laptop = other.client(&parse("alice/laptop")).ok().unwrap();
    assert!(laptop.knocked && laptop.former.unwrap().knocked);
}

#[test]
fn as_many_key_ids_are_kept_as_fit() {
    let (_dir, store) = full();
    let mut kids = Vec::new();
    for _ in 0..70 {
        kids.push(store.client(&parse("bob")).ok().unwrap().kid);
        store.renew(&parse("bob"), NOW).ok().unwrap();
    }
    assert_eq!(store.client(&parse("bob")).ok().unwrap().former_kids, kids[6..]);
}
