use std::fs;
use std::os::unix::fs::MetadataExt;

use spa_keys::Token;

use crate::keys::Keys;

/// A directory of keys, and a table in it.
fn with(table: &str) -> (Keys, String) {
    let keys = Keys::new();
    let path = keys.path("table.csv");
    fs::write(&path, table).unwrap();
    (keys, path.display().to_string())
}

const TABLE: &str = "name,service,max-ttl,from\nalice/laptop,ssh;web,5m,\nbob,ssh,,192.0.2.0/24\n";

#[test]
fn all_are_added_and_each_has_a_token_of_its_own() {
    let (keys, table) = with(TABLE);
    let dir = keys.path("tokens").display().to_string();
    let run = keys.run(&["add-many", &table, "--tokens", &dir, "--json"]).done();
    assert_eq!(run.stderr, "", "no bar where there is no terminal");
    assert_eq!(keys.names("tokens"), ["alice+laptop.token", "bob.token"]);
    for (at, name) in ["alice/laptop", "bob"].into_iter().enumerate() {
        let added = &run.json()[at];
        let path = added["token"].as_str().unwrap();
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        let token = Token::decode(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!((added["name"].as_str(), token.kid), (Some(name), keys.record(name).kid));
    }
    assert_eq!(keys.record("alice/laptop").policy.max_ttl.unwrap().as_secs(), 300);
}

#[test]
fn all_tokens_can_be_in_one_file() {
    let (keys, table) = with(TABLE);
    let file = keys.path("tokens.csv");
    keys.run(&["add-many", &table, "--tokens-csv", &file.display().to_string()]).done();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let rows: Vec<_> = text.lines().filter_map(|line| line.split_once(',')).collect();
    assert_eq!((rows[0], rows.len()), (("name", "token"), 3));
    assert_eq!(Token::decode(rows[2].1).unwrap().kid, keys.record("bob").kid);
}

#[test]
fn one_that_is_wrong_keeps_all_from_being_added() {
    let table = "name,service,ttl\nalice,ssh,30s\nalice,ssh,\ncarol,,\ndave,ssh,30\nerin/x,ssh,\nerin,ssh,\n";
    let (keys, path) = with(table);
    let dir = keys.path("tokens").display().to_string();
    let many = |keys: &Keys| keys.run(&["add-many", &path, "--tokens", &dir]);
    let run = many(&keys).failed(1, "nothing was added");
    assert!(run.stderr.contains("table.csv:5: invalid value '30' for '--ttl"), "{run:?}");
    fs::write(&path, table.replace("dave,ssh,30\n", "dave,ssh,\n")).unwrap();
    keys.add("dave");
    fs::create_dir(keys.path("tokens")).unwrap();
    fs::write(keys.path("tokens/alice.token"), "another").unwrap();
    let run = many(&keys).failed(1, "nothing was added");
    for said in [
        "table.csv:3: alice is there already, at ",
        "table.csv:4: services is empty",
        "table.csv:5: there is a client dave already",
        "table.csv:7: erin is either",
        "table.csv:2: ",
    ] {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
    assert_eq!(keys.names("clients"), ["dave.toml"]);
    assert_eq!(fs::read_to_string(keys.path("tokens/alice.token")).unwrap(), "another");
}

/// What no token can say is known before anybody is added.
#[test]
fn one_who_may_knock_for_too_much_keeps_all_from_being_added() {
    let services: Vec<_> = (0..256).map(|number| format!("s{number}")).collect();
    let table = format!("name,service\nalice,ssh\nbob,{}\n", services.join(";"));
    let (keys, path) = with(&table);
    let dir = keys.path("tokens").display().to_string();
    let run = keys.run(&["add-many", &path, "--tokens", &dir]).failed(1, "nothing was added");
    assert!(run.stderr.contains("table.csv:3: "), "{}", run.stderr);
    assert!(run.stderr.contains("more than 255 services"), "{}", run.stderr);
    assert!(keys.names("clients").is_empty());
}

#[test]
fn a_dry_run_adds_nothing_and_tokens_need_a_place() {
    let (keys, table) = with(TABLE);
    let run = keys.run(&["add-many", &table, "--dry-run"]).done();
    assert_eq!(run.stdout, "2 clients could be added\n");
    keys.run(&["add-many", &table]).failed(2, "--tokens");
    keys.run(&["add-many", "/nowhere.csv", "--dry-run"]).failed(1, "cannot read /nowhere.csv");
    assert!(keys.names("clients").is_empty() && !keys.path("tokens").exists());
}

/// Tokens that cannot be written are nobody's: no client is left without one.
#[test]
fn who_has_no_token_is_no_client() {
    let (keys, table) = with(TABLE);
    fs::create_dir(keys.path("tokens")).unwrap();
    let dir = keys.path("tokens").display().to_string();
    keys.run(&["add-many", &table, "--tokens", &dir]).done();
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    fs::write(&table, "name,service\ncarol,ssh\n").unwrap();
    keys.run_in(script, &["add-many", &table, "--tokens", &dir])
        .failed(1, "0 of 1 clients were added");
    assert!(!keys.names("clients").contains(&"carol.toml".to_owned()));
}
