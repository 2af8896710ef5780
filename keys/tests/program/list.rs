use std::fs;

use serde_json::{Value, json};
use spa_keys::{PublicKeyLine, Store, encoding};
use spa_proto::SigningKey;

use crate::keys::{Keys, chmod};

fn knock(keys: &Keys, name: &str) {
    let store = Store::open(&keys.dir());
    let record = keys.record(name);
    let key = SigningKey::from_seed(&[1; 32]).verifying_key();
    store.note_first_knock(&record.name, &record.kid, Some(key)).ok().unwrap();
}

/// Moves one date of a record into the past.
fn age(keys: &Keys, name: &str, date: &str) {
    let path = keys.path(&format!("clients/{name}.toml"));
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.starts_with(date)).unwrap();
    fs::write(&path, text.replace(line, &format!("{date} = 2020-01-01T00:00:00Z"))).unwrap();
}

fn one_of_each_state() -> Keys {
    let keys = Keys::new();
    let line = PublicKeyLine::encode(&SigningKey::from_seed(&[7; 32]));
    for name in ["pending", "late", "enrolled", "gone"] {
        keys.add(name);
    }
    keys.run(&["add", "bound", "--service", "ssh,web", "--pubkey", &line]).done();
    keys.run(&["add", "over", "--service", "ssh", "--expires", "2999-01-01"]).done();
    knock(&keys, "enrolled");
    age(&keys, "late", "enrolment-expires");
    age(&keys, "over", "expires");
    keys.run(&["revoke", "gone"]).done();
    keys
}

#[test]
fn shows_every_state_in_an_aligned_table() {
    let run = one_of_each_state();
    let run = run.run(&["list"]).done();
    let lines: Vec<_> = run.stdout.lines().collect();
    let column = |heading: &str| lines[0].find(heading).unwrap();
    let (services, state, expires) = (column("SERVICES"), column("STATE"), column("EXPIRES"));
    let last = column("LAST KNOCK");
    let rows: Vec<_> = lines[1..]
        .iter()
        .map(|line| {
            let name = line.split_whitespace().next().unwrap();
            (
                name,
                line[services..state].trim(),
                line[state..expires].trim(),
                line[expires..last].trim(),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("bound", "ssh,web", "never knocked", "never"),
            ("enrolled", "ssh", "enrolled", "never"),
            ("late", "ssh", "token expired", "never"),
            ("over", "ssh", "expired", "2020-01-01T00:00:00Z"),
            ("pending", "ssh", "pending", "never"),
            ("gone", "ssh", "revoked", "never"),
        ]
    );
    assert_eq!(run.stderr, "");
}

#[test]
fn json_has_what_is_documented() {
    let keys = one_of_each_state();
    let list = keys.run(&["list", "--json"]).done().json();
    let states: Vec<_> = list.as_array().unwrap().iter().map(|client| &client["state"]).collect();
    assert_eq!(
        states,
        ["never-knocked", "enrolled", "token-expired", "expired", "pending", "revoked"]
    );
    for client in list.as_array().unwrap() {
        for key in [
            "name",
            "kid",
            "state",
            "services",
            "created",
            "expires",
            "sources",
            "address",
            "modes",
            "widest_ipv4",
            "widest_ipv6",
            "ttl_seconds",
            "max_ttl_seconds",
        ] {
            assert!(client.get(key).is_some(), "{key}: {client}");
        }
    }
}

#[test]
fn show_has_all_policy_and_no_secrets() {
    let keys = Keys::new();
    let args = ["--ttl", "30s", "--max-ttl", "5m", "--from", "10.0.0.0/8", "--address", "this"];
    let modes = ["--modes", "once", "--widest-ipv4", "24"];
    keys.run(
        &[
            &["add", "alice", "--service", "ssh,web", "--expires", "2999-12-31T00:00:00Z"],
            &args[..],
            &modes[..],
        ]
        .concat(),
    )
    .done();
    let record = keys.record("alice");
    let shown = keys.run(&["show", "alice", "--json"]).done();
    let mut json = shown.json();
    let created = json["created"].take();
    let token_expires = json["token_expires"].take();
    assert!(created.is_string() && token_expires.is_string());
    assert_eq!(
        json,
        json!({
            "name": "alice", "kid": record.kid.to_string(), "state": "pending",
            "services": ["ssh", "web"], "created": Value::Null, "expires": "2999-12-31T00:00:00Z",
            "sources": ["10.0.0.0/8"], "hours": [], "address": "this", "modes": ["once"],
            "widest_ipv4": 24, "widest_ipv6": 128, "ttl_seconds": 30, "max_ttl_seconds": 300,
            "token_expires": Value::Null,
        })
    );
    let text = keys.run(&["show", "alice"]).done().stdout;
    for value in [
        "alice",
        "pending",
        "ssh, web",
        "30s",
        "5m",
        "10.0.0.0/8",
        "this",
        "once",
        "/24",
        "2999-12-31",
    ] {
        assert!(text.contains(value), "{value}: {text}");
    }
    let list = keys.run(&["list", "--json"]).done();
    assert_eq!(list.json()[0], shown.json());
    let psk = encoding::to_base64(record.psk.expose());
    assert!([&text, &shown.stdout, &list.stdout].iter().all(|out| !out.contains(psk.as_str())));
}

#[test]
fn show_knows_the_revoked_and_not_the_unknown() {
    let keys = Keys::new();
    keys.add("alice");
    keys.run(&["revoke", "alice"]).done();
    let shown = keys.run(&["show", "alice", "--json"]).done().json();
    assert_eq!(shown["state"], "revoked");
    assert!(shown["revoked"].is_string());
    let again = keys.add("alice");
    let shown = keys.run(&["show", "alice", "--json"]).done().json();
    assert_eq!(
        (&shown["state"], &shown["kid"]),
        (&json!("pending"), &json!(again.kid.to_string()))
    );
    keys.run(&["show", "bob"]).failed(1, "there is no client bob");
}

#[test]
fn broken_records_are_named_and_hide_no_others() {
    let keys = Keys::new();
    for name in ["alice", "bob", "carol", "dave"] {
        keys.add(name);
    }
    fs::write(keys.path("clients/bob.toml"), "name = \"bob\"\nfoo = 1\n").unwrap();
    chmod(&keys.path("clients/carol.toml"), 0o644);
    fs::create_dir(keys.path("clients/erin.toml")).unwrap();
    for (args, count) in [(&["list", "--json"], 2), (&["list", "--dir"], 3)] {
        let run = match args[1] {
            "--json" => keys.run(args),
            _ => keys.run(&["list"]),
        };
        assert_eq!(run.code, Some(1));
        for said in
            ["bob.toml:2: unknown field `foo`", "run: chmod 600", "erin.toml is not a regular"]
        {
            assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
        }
        match args[1] {
            "--json" => assert_eq!(run.json().as_array().unwrap().len(), count),
            _ => assert_eq!(run.stdout.lines().count(), count, "{}", run.stdout),
        }
        assert!(run.stdout.contains("alice") && run.stdout.contains("dave"));
    }
    keys.run(&["show", "bob"]).failed(1, "bob.toml:2: ");
}

#[test]
fn lists_nothing_where_there_is_nothing() {
    let keys = Keys::none();
    keys.run(&["list"]).failed(1, "init");
    assert!(!keys.dir().exists());
    let keys = Keys::new();
    let run = keys.run(&["list"]).done();
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("no clients yet"));
    assert_eq!(keys.run(&["list", "--json"]).done().json(), json!([]));
}
