//! What the daemon writes down: a line for each accepted knock, few for refused ones.

use spa_tests::Result;
use spa_tests::product::{Server, Site};
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
    let token = server.add("alice", &["--service", "ssh"])?;
    let alice = spa_tests::product::Client::new(&site.client, "alice", "fw.example");
    alice.enroll(&token)?.ok()?;
    site.open(&server, &alice, &[])?;
    assert!(!server.log().contains(&token));
    Ok(())
}
