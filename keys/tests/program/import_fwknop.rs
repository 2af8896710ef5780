use std::fs;

use spa_keys::{AddressRule, Token};

use crate::keys::Keys;

const ACCESS: &str = "SOURCE              192.0.2.0/24;\nOPEN_PORTS          tcp/22,tcp/8080;\n\
    REQUIRE_USERNAME    alice;\nREQUIRE_SOURCE_ADDRESS  Y;\nFW_ACCESS_TIMEOUT   60;\n\
    KEY_BASE64          c2VjcmV0LWtleQ==;\nHMAC_KEY_BASE64     aG1hYy1rZXk=;\n\nSOURCE ANY\nKEY open-sesame\n";

fn with_access() -> (Keys, [String; 3]) {
    let keys = Keys::new();
    let [access, config, tokens] =
        ["access.conf", "spad.toml", "tokens"].map(|name| keys.path(name));
    fs::write(&access, ACCESS).unwrap();
    fs::write(&config, "[service.shell]\nport = 22\n").unwrap();
    (keys, [access, config, tokens].map(|path| path.display().to_string()))
}

#[test]
fn takes_over_policies_and_no_keys() {
    let (keys, [access, config, tokens]) = with_access();
    let args = ["import-fwknop", &access, "--config", &config, "--tokens", &tokens];
    let run = keys.run(&args).done();
    let record = keys.record("alice");
    let services: Vec<_> = record.policy.services.iter().map(ToString::to_string).collect();
    assert_eq!(services, ["shell", "tcp-8080"]);
    assert_eq!(
        (record.policy.address, record.policy.ttl.unwrap().as_secs()),
        (AddressRule::This, 60)
    );
    let token = fs::read_to_string(keys.path("tokens/alice.token")).unwrap();
    assert_eq!(Token::decode(&token).unwrap().kid, record.kid);
    for said in [
        "access.conf:1: alice may knock for shell, tcp-8080, from 192.0.2.0/24, for 1m each time",
        "access.conf:6: KEY_BASE64: not taken over",
        "access.conf:9: SOURCE: stanza left out: without OPEN_PORTS",
        "[service.tcp-8080]\nport = 8080",
        "1 clients added",
    ] {
        assert!(run.stdout.contains(said), "{said}: {}", run.stdout);
    }
    let record = fs::read_to_string(keys.path("clients/alice.toml")).unwrap();
    let all = format!("{record}{token}{}{}", run.stdout, run.stderr);
    for secret in ["c2VjcmV0", "aG1hYy1", "sesame"] {
        assert!(!all.contains(secret), "{secret}");
    }
    keys.run(&["import-fwknop", &access, "--dry-run"])
        .output_fails_with("there is a client alice already");
}

#[test]
fn a_dry_run_says_the_same_and_adds_nothing() {
    let (keys, [access, config, _]) = with_access();
    let args = [
        "import-fwknop",
        &access,
        "--config",
        &config,
        "--dry-run",
        "--service",
        "shell",
        "--json",
    ];
    let report = keys.run(&args).done().json();
    let names: Vec<_> =
        report["clients"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["alice", "fwknop-2"], "the second by --service");
    assert_eq!(report["notes"].as_array().unwrap().len(), 5, "{report}");
    assert!(keys.names("clients").is_empty());
    keys.run(&["import-fwknop", &access]).failed(2, "--tokens");
    fs::write(&config, "no toml").unwrap();
    keys.run(&args).failed(1, "spad.toml");
}
