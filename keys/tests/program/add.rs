use std::fs;
use std::process::{Command, Stdio};

use spa_keys::{
    AddressRule, Modes, PublicKeyLine, ServerIdentity, Token, TokenEnrolment, Widest, date,
};
use spa_proto::{GrantMode, SigningKey, Verifier};

use crate::keys::{Keys, PROGRAM, Run};
use crate::token::is_of;

#[test]
fn prints_the_token_alone_and_says_the_rest_on_standard_error() {
    let keys = Keys::new();
    let run = keys.run(&["add", "alice", "--service", "ssh,web", "--ttl", "1m"]).done();
    let token = run.token();
    let server = ServerIdentity::load(&keys.dir()).ok().unwrap();
    assert_eq!((token.host.as_str(), token.port), ("fw.example.com", 62201));
    assert_eq!(token.server, server.secret.public());
    assert_eq!(token.services, ["ssh", "web"].map(|name| name.parse().unwrap()));
    for said in
        ["alice may knock for ssh, web", "anywhere", "for 1m each time", "once", "spa enroll"]
    {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
    assert!(!run.stderr.contains(run.stdout.trim()));
}

#[test]
fn the_token_lasts_a_day() {
    let keys = Keys::new();
    let before = date::now();
    let TokenEnrolment::Secret { expires, .. } = keys.add("alice").enrolment else { panic!() };
    let day = std::time::Duration::from_secs(86_400);
    let early = before.minus(std::time::Duration::from_secs(1)).plus(day);
    assert!(early <= expires && expires <= date::now().plus(day));
}

/// From there too, where the shell is in the directory of the keys.
#[test]
fn spad_toml_is_found_however_the_keys_are_named() {
    let keys = Keys::new();
    let (dir, above) = (keys.dir(), keys.dir().join(".."));
    fs::write(above.join("spad.toml"), "[service.ssh]\nport = 22\n").unwrap();
    for (number, (cwd, named)) in
        [(&above, "keys"), (&above, "./keys/"), (&dir, "."), (&dir, "../keys")].iter().enumerate()
    {
        let mut command = Command::new(PROGRAM);
        let name = format!("alice-{number}");
        command.current_dir(cwd).args(["--dir", named, "add", &name, "--service", "ssh"]);
        let token = Run::from(command.output().unwrap()).done().token();
        assert_eq!(token.lasting.len(), 1, "--dir {named}");
    }
}

#[test]
fn keeps_every_option() {
    let keys = Keys::new();
    keys.run(&[
        "add",
        "alice",
        "--service",
        "ssh",
        "--service",
        "web",
        "--ttl",
        "30s",
        "--max-ttl",
        "5m",
        "--expires",
        "2999-12-31T18:00:00+01:00",
        "--from",
        "192.0.2.0/24,10.0.0.0/8",
        "--from",
        "2001:db8::1",
        "--address",
        "seen",
        "--modes",
        "bound,once",
        "--widest-ipv4",
        "24",
        "--widest-ipv6",
        "56",
    ])
    .done();
    let record = keys.record("alice");
    assert_eq!(record.policy.services, ["ssh", "web"].map(|name| name.parse().unwrap()));
    assert_eq!(record.policy.ttl.unwrap().as_secs(), 30);
    assert_eq!(record.policy.max_ttl.unwrap().as_secs(), 300);
    assert_eq!(date::format(record.expires.unwrap()), "2999-12-31T17:00:00Z");
    let sources: Vec<_> = record.policy.sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["192.0.2.0/24", "10.0.0.0/8", "2001:db8::1/128"]);
    assert_eq!(record.policy.address, AddressRule::Seen);
    assert_eq!(record.policy.modes, [GrantMode::Once, GrantMode::Bound].into_iter().collect());
    assert_eq!(record.policy.widest, Widest { v4: 24, v6: 56 });
    keys.add("bob");
    let bob = keys.record("bob");
    assert_eq!(bob.policy.address, AddressRule::Both);
    assert_eq!((bob.policy.modes, bob.policy.widest), (Modes::ALL, Widest::ADDRESS));
}

#[test]
fn a_day_ends_at_midnight_where_the_server_is() {
    let keys = Keys::new();
    let args = ["add", "alice", "--service", "ssh", "--expires", "2999-12-31"];
    let zoned = keys.command(&args).env("TZ", "America/New_York").output().unwrap();
    assert!(zoned.status.success());
    assert_eq!(date::format(keys.record("alice").expires.unwrap()), "3000-01-01T04:59:59Z");
}

#[test]
fn takes_a_key_that_the_client_has() {
    let keys = Keys::new();
    let key = SigningKey::from_seed(&[7; 32]);
    let line = PublicKeyLine::encode(&key);
    let run = keys.run(&["add", "alice", "--service", "ssh", "--pubkey", &line]).done();
    let TokenEnrolment::Key(bound) = run.token().enrolment else { panic!("a secret") };
    assert_eq!(bound, key.verifying_key());
    assert_eq!(keys.record("alice").verifier, Verifier::Bound(bound));
    assert!(!fs::read_to_string(keys.path("clients/alice.toml")).unwrap().contains("enrolment"));
    let damaged = &line[..line.len() - 1];
    keys.run(&["add", "bob", "--service", "ssh", "--pubkey", damaged]).failed(2, "damaged");
    assert_eq!(keys.names("clients"), ["alice.toml"]);
}

#[test]
fn refuses_wrong_usage_and_makes_nothing() {
    let keys = Keys::new();
    let with = |option: &str, value: &str, complaint: &str| {
        let option = format!("{option}={value}");
        keys.run(&["add", "alice", "--service", "ssh", &option]).failed(2, complaint);
    };
    with("--ttl", "0s", "cannot be 0");
    with("--ttl", "30", "is not a duration");
    with("--max-ttl", "-1s", "is not a duration");
    with("--expires", "2020-12-31", "over already");
    with("--expires", "2020-12-31T00:00:00Z", "over already");
    with("--expires", "31.12.2030", "is not a date");
    with("--from", "10.0.0.1/8", "write 10.0.0.0/8");
    with("--from", "example.com", "is not a network");
    with("--address", "mine", "none of this, seen and both");
    with("--modes", "always", "none of window, once and bound");
    with("--modes", "", "none of window, once and bound");
    with("--widest-ipv4", "7", "8..=32");
    with("--widest-ipv6", "24", "32..=128");
    with("--service", "tcp/22", "lower-case letters");
    with("--service", "", "lower-case letters");
    with("--pubkey", "ssh-ed25519 AAAA", "spa request");
    keys.run(&["add", "alice"]).failed(2, "--service");
    keys.run(&["add", "alice", "--service", "ssh", "--ttl", "6m", "--max-ttl", "5m"])
        .failed(2, "ttl is longer than max-ttl");
    for name in [
        "Alice",
        "../alice",
        "alice/",
        "alice/laptop/x",
        "alice+x",
        "",
        ".",
        "-alice",
        &"a".repeat(65),
    ] {
        keys.run(&["add", "--service", "ssh", "--", name]).failed(2, "not a client's name");
    }
    assert!(keys.names("clients").is_empty());
}

#[test]
fn a_service_named_twice_is_refused() {
    let keys = Keys::new();
    keys.run(&["add", "alice", "--service", "ssh,ssh"]).failed(2, "services names one twice");
}

#[test]
fn never_overwrites() {
    let keys = Keys::new();
    keys.add("alice");
    let before = fs::read(keys.path("clients/alice.toml")).unwrap();
    keys.run(&["add", "alice", "--service", "web"]).failed(1, "spa-keys revoke alice");
    assert_eq!(fs::read(keys.path("clients/alice.toml")).unwrap(), before);
}

#[test]
fn needs_a_server_first() {
    let keys = Keys::none();
    let said = format!("run: spa-keys --dir {} init", keys.dir().display());
    keys.run(&["add", "alice", "--service", "ssh"]).failed(1, &said);
    assert!(!keys.dir().exists());
}

#[test]
fn says_so_when_the_token_could_not_be_handed_over() {
    let keys = Keys::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = keys.command(&["add", "alice", "--service", "ssh"]);
    let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the token is lost: run spa-keys renew alice"), "{said}");
}

/// The client is there by then, and its token is shown once.
#[test]
fn the_token_comes_also_where_nobody_hears_the_words_beside_it() {
    let keys = Keys::new();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    for (words, name) in
        [(&["add", "alice", "--service", "ssh"][..], "alice"), (&["renew", "alice"], "alice")]
    {
        let output = keys.command(words).stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        let token = Token::decode(&String::from_utf8(output.stdout).unwrap()).ok().unwrap();
        is_of(&keys, name, &token);
    }
    let refused = keys.command(&["add", "alice", "--service", "ssh"]).stderr(full()).output();
    assert_eq!(refused.unwrap().status.code(), Some(1), "and a refusal stays one");
}

#[test]
fn what_is_made_can_be_read_by_programs() {
    let keys = Keys::none();
    let said = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&keys.run(args).done().stdout).unwrap()
    };
    let made = said(&["init", "--host", "fw.example.com", "--json"]);
    assert_eq!((&made["host"], &made["port"]), (&"fw.example.com".into(), &62201.into()));
    let added = said(&["add", "alice", "--service", "ssh", "--json"]);
    assert_eq!((&added["name"], &added["services"][0]), (&"alice".into(), &"ssh".into()));
    assert!(added["token"].as_str().unwrap().starts_with("spa1") && added["expires"].is_string());
    let png = keys.path("bob.png");
    let to_file = ["add", "bob", "--service", "ssh", "--json", "--png", png.to_str().unwrap()];
    let added = said(&to_file);
    assert!(added["token"].is_null() && png.exists(), "{added}");
    let backup = keys.path("all.backup");
    let exported = said(&["export", backup.to_str().unwrap(), "--json"]);
    assert_eq!(exported["clients"], 2);
}
