//! `set`, `disable`, `enable`, `rename`, and all of them for people.

use std::fs;

use serde_json::{Value, json};
use spa_keys::{LastKnocks, date};

use crate::keys::Keys;

fn services(value: &Value) -> Vec<&str> {
    value["services"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect()
}

#[test]
fn set_changes_what_is_named_and_nothing_else() {
    let keys = Keys::new();
    let token = keys.add("alice");
    let before = keys.record("alice");
    let set = keys.run(&[
        "set",
        "alice",
        "--ttl",
        "30s",
        "--from",
        "10.0.0.0/8",
        "--hours",
        "mon-fri 08:00-18:00 Europe/Berlin",
        "--expires",
        "2999-12-31T00:00:00Z",
        "--modes",
        "once",
        "--widest-ipv4",
        "24",
        "--address",
        "this",
        "--json",
    ]);
    let set = set.done().json();
    assert_eq!((&set["ttl_seconds"], services(&set)), (&json!(30), vec!["ssh"]));
    assert_eq!(set["hours"], json!(["mon-fri 08:00-18:00 Europe/Berlin"]));
    let after = keys.record("alice");
    assert_eq!(
        (after.kid, &after.verifier, after.created),
        (token.kid, &before.verifier, before.created)
    );
    assert!(after.psk.expose() == before.psk.expose());
    assert_eq!(
        (after.policy.services.clone(), after.policy.max_ttl),
        (before.policy.services.clone(), None)
    );

    let parts = "ttl,from,hours,expires,modes,widest-ipv4,address";
    keys.run(&["set", "alice", "--clear", parts]).done();
    let cleared = keys.record("alice");
    assert_eq!((cleared.policy, cleared.expires), (before.policy, None));
}

#[test]
fn set_refuses_what_no_record_may_say() {
    let keys = Keys::new();
    keys.run(&["add", "alice", "--service", "ssh", "--max-ttl", "5m"]).done();
    let before = fs::read(keys.path("clients/alice.toml")).unwrap();
    keys.run(&["set", "alice"]).failed(2, "nothing to change");
    keys.run(&["set", "alice", "--ttl", "6m"]).failed(2, "ttl is longer than max-ttl");
    keys.run(&["set", "alice", "--clear", "service"]).failed(2, "services is empty");
    keys.run(&["set", "alice", "--hours", "always"]).failed(2, "no time of day");
    keys.run(&["set", "alice", "--hours", "mon 08:00-09:00 Europe/Nowhere"])
        .failed(2, "no time zone");
    keys.run(&["set", "alice", "--clear", "psk"]).failed(2, "psk");
    keys.run(&["set", "bob", "--ttl", "1m"]).failed(1, "there is no client bob");
    keys.run(&["set", "alice/phone", "--ttl", "1m"]).failed(1, "there is no client alice/phone");
    assert_eq!(fs::read(keys.path("clients/alice.toml")).unwrap(), before);
}

#[test]
fn disabled_and_enabled_again() {
    let keys = Keys::new();
    keys.add("alice");
    let run = keys.run(&["disable", "alice"]).done();
    assert_eq!(run.stdout, "alice is disabled\n");
    let shown = keys.run(&["show", "alice", "--json"]).done().json();
    assert!(shown["state"] == "disabled" && shown["disabled"].is_string());
    assert_eq!(keys.run(&["enable", "alice", "--json"]).done().json()["state"], "pending");
    keys.run(&["disable", "bob"]).failed(1, "there is no client bob");
}

#[test]
fn a_person_has_devices() {
    let keys = Keys::new();
    for device in ["alice/laptop", "alice/phone"] {
        keys.add(device);
    }
    assert_eq!(keys.names("clients"), ["alice+laptop.toml", "alice+phone.toml"]);
    let person =
        keys.run(&["set", "alice", "--service", "ssh,web", "--yes", "--json"]).done().json();
    assert_eq!(person["state"], "person");
    let names: Vec<_> =
        person["devices"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["alice/laptop", "alice/phone"]);
    keys.run(&["add", "alice/tablet"]).done();
    let shown = keys.run(&["show", "alice/tablet", "--json"]).done().json();
    assert_eq!((services(&shown).len(), services(&shown["person"])), (0, vec!["ssh", "web"]));
    let table = keys.run(&["list"]).done().stdout;
    assert!(
        table.lines().any(|line| line.contains("alice/tablet") && line.contains("ssh,web")),
        "{table}"
    );

    keys.run(&["disable", "alice/phone"]).done();
    keys.run(&["disable", "alice"]).done();
    let list = keys.run(&["list", "--json"]).done().json();
    assert!(list.as_array().unwrap().iter().all(|one| one["state"] == "disabled"), "{list}");
    let run = keys.run(&["enable", "alice/phone"]).done();
    assert!(run.stderr.contains("run spa-keys enable alice"), "{run:?}");
    keys.run(&["disable", "alice/phone"]).done();
    keys.run(&["enable", "alice"]).done();
    let text = keys.run(&["show", "alice"]).done().stdout;
    for line in ["alice/laptop, pending", "alice/phone, disabled", "ssh, web"] {
        assert!(text.contains(line), "{line}: {text}");
    }

    let run = keys.run(&["revoke", "alice", "--json"]).done().json();
    assert_eq!(run.as_array().unwrap().len(), 3);
    assert!(keys.names("clients").is_empty());
    keys.run(&["revoke", "alice"]).failed(1, "alice is revoked already");
}

/// An editor, or a copy, may have it away, with what shut her out.
#[test]
fn a_persons_file_that_is_away_is_not_made_anew_by_the_way() {
    let keys = Keys::new();
    keys.add("alice/laptop");
    keys.run(&["disable", "alice"]).done();
    keys.run(&["set", "alice", "--max-ttl", "5m"]).done();
    let path = keys.dir().join("clients/alice+.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (set, rename) = (["set", "alice", "--max-ttl", "4m"], ["rename", "alice", "alicia"]);
    for change in [&set[..], &rename[..]] {
        keys.run(change).failed(1, "alice+.toml: if there was one, put it back first");
        assert_eq!(keys.names("clients"), ["alice+laptop.toml"], "nothing has changed");
    }
    spa_keys::files::create_new(&path, &text).unwrap();
    assert_eq!(keys.run(&[&set[..], &["--json"]].concat()).done().json()["state"], "disabled");
    keys.run(&rename).done();
    assert_eq!(keys.names("clients"), ["alicia+.toml", "alicia+laptop.toml"]);
}

#[test]
fn a_name_is_either_a_clients_or_a_persons() {
    let keys = Keys::new();
    keys.add("alice");
    keys.run(&["add", "alice/phone", "--service", "ssh"]).failed(1, "spa-keys rename alice alice/");
    let run = keys.run(&["rename", "alice", "alice/laptop", "--json"]).done();
    assert_eq!(run.json(), json!(["alice/laptop"]));
    keys.add("alice/phone");
    keys.run(&["add", "alice", "--service", "ssh"]).failed(1, "alice/DEVICE");
    keys.run(&["rename", "alice", "alicia", "--yes"]).done();
    assert_eq!(keys.names("clients"), ["alicia+laptop.toml", "alicia+phone.toml"]);
    keys.add("bob");
    keys.run(&["rename", "bob", "alicia/phone"])
        .failed(1, "there is a client alicia/phone already");
    keys.run(&["rename", "bob", "alicia"]).failed(1, "alicia is either a client or a person");
    keys.run(&["rename", "carol", "dave"]).failed(1, "there is no client carol");
    keys.run(&["rename", "bob", "../bob"]).failed(2, "not a client's name");
}

#[test]
fn the_last_knock_is_told() {
    let keys = Keys::new();
    let token = keys.add("alice");
    keys.add("bob");
    let mut knocks = LastKnocks::default();
    knocks.note(token.kid, date::parse("2026-11-21T12:00:00Z").unwrap());
    knocks.write(&keys.path("last-knocks")).unwrap();
    let list = keys.run(&["list", "--json"]).done().json();
    assert_eq!(
        (&list[0]["last_knock"], list[1].get("last_knock")),
        (&json!("2026-11-21T12:00:00Z"), None)
    );
    let table = keys.run(&["list"]).done().stdout;
    let column = table.find("LAST KNOCK").unwrap();
    let cells: Vec<_> = table.lines().skip(1).map(|line| &line[column..]).collect();
    assert_eq!(cells, ["2026-11-21T12:00:00Z", "-"]);
    fs::write(keys.path("last-knocks"), "garbage").unwrap();
    keys.run(&["list"]).done();
}
