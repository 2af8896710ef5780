//! What the daemon writes down: a line for each accepted knock, few for refused ones.

use spa_keys::{ServerIdentity, Token, TokenEnrolment};
use spa_tests::Result;
use spa_tests::lab::{LabError, fail};
use spa_tests::product::{Client, SERVER_NAME, Server, Site, texts};
use spa_tests::wait::{SOON, until};

/// Lines of the log that contain all of these.
fn lines(server: &Server, words: &[&str]) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    lines.map(str::to_owned).collect()
}

#[test]
fn an_accepted_knock_is_one_line_with_who_what_and_for_how_long() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "17s"])?;
    let source = site.client.v4()?.to_string();
    let accepted = ["knock accepted", "alice", source.as_str()];
    until("the line is there", SOON, || Ok(!lines(&server, &accepted).is_empty()))?;
    let found = lines(&server, &accepted);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("ssh") && found[0].contains("17"), "{found:?}");

    site.open(&server, &alice, &["--ttl", "18s"])?;
    until("another line", SOON, || Ok(lines(&server, &accepted).len() == 2))?;
    Ok(())
}

#[test]
fn refused_knocks_of_a_client_are_one_line_a_minute() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    for _ in 0..10 {
        site.refused(&server, &alice, &["--service", "web"], "unknown-service")?;
    }
    let found = lines(&server, &["alice", "unknown-service"]);
    assert_eq!(found.len(), 1, "{found:?}");
    Ok(())
}

#[test]
fn no_secret_is_in_the_log() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let line = server.add("alice", &["--service", "ssh"])?;
    let token = Token::decode(&line).map_err(|error| LabError::new(error.to_string()))?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    alice.enroll(&line)?.ok()?;
    site.open(&server, &alice, &[])?;
    site.refused(&server, &alice, &["--service", "web"], "unknown-service")?;
    server.spad(&["reload"])?.ok()?;
    server.keys(&["revoke", "alice"])?.ok()?;
    until("she is gone", SOON, || Ok(server.status()?["clients"] == 0))?;
    let TokenEnrolment::Secret { secret, .. } = &token.enrolment else { return fail("no secret") };
    let own = ServerIdentity::load(&server.dir().join("keys"))
        .map_err(|error| LabError::new(error.to_string()))?;
    let log = server.log();
    assert!(log.contains(&token.kid.to_string()), "control: it is about her: {log}");
    let own = own.secret.expose();
    let secrets: [(&str, &[u8]); 4] = [
        ("psk", token.psk.expose()),
        ("cloak", token.cloak.expose()),
        ("enrolment", secret.expose()),
        ("server", own.as_slice()),
    ];
    for (name, secret) in secrets {
        for text in texts(secret) {
            assert!(!log.contains(&text), "{name}, {text}: {log}");
        }
    }
    assert!(!log.contains(line.trim()), "{log}");
    Ok(())
}
