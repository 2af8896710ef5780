//! Keys are replaced while the daemon runs: old and new both work, and then only
//! the new ones.

use serde_json::{Value, json};
use spa_tests::Result;
use spa_tests::lab::Datagram;
use spa_tests::product::{Client, KNOCK_PORT, Server, Site};
use spa_tests::wait::{SOON, until};

/// A client that has knocked once and holds nothing any more.
fn enrolled<'site>(site: &'site Site, server: &Server, name: &str) -> Result<Client<'site>> {
    let client = site.client(server, name)?;
    site.open(server, &client, &[])?;
    site.close(server, name)?;
    Ok(client)
}

fn opens(site: &Site, server: &Server, client: &Client, name: &str) -> Result {
    site.open(server, client, &[])?;
    site.close(server, name)
}

/// The same client from before it took the token: a copy of its files.
fn as_before<'site>(site: &'site Site, client: &Client) -> Result<Client<'site>> {
    client.copy_to(&site.client)
}

fn status(server: &Server) -> Result<Value> {
    let status = server.keys(&["rotate", "--status", "--json"])?.ok()?;
    Ok(serde_json::from_str(&status.stdout)?)
}

fn refused_as_unknown(site: &Site, server: &Server, client: &Client) -> Result {
    // The gate is told within a second of the record's change.
    until("the old keys are gone", SOON, || {
        let (unknown, granted) = (server.counter("unknown-client")?, server.counter("granted")?);
        client.knock(&[])?.ok()?;
        until("it is counted", SOON, || {
            let now = server.counter("unknown-client")? + server.counter("granted")?;
            Ok(now > unknown + granted)
        })?;
        Ok(server.counter("unknown-client")? > unknown)
    })?;
    site.assert_shut(server, &site.client, "old keys")
}

#[test]
fn a_psk_is_replaced_without_a_moment_without_keys() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = enrolled(&site, &server, "alice")?;
    let before = as_before(&site, &alice)?;
    let token = server.keys(&["rotate", "psk", "alice"])?.ok()?;
    opens(&site, &server, &before, "alice")?;
    assert_eq!(status(&server)?["clients"][0]["moved"], false);
    server.kill9()?;
    server.start()?;
    opens(&site, &server, &before, "alice")?;

    alice.enroll(token.text())?.ok()?;
    opens(&site, &server, &alice, "alice")?;
    assert_eq!(status(&server)?["clients"][0]["moved"], true);
    server.kill9()?;
    server.start()?;
    assert_eq!(status(&server)?["clients"][0]["moved"], true);
    opens(&site, &server, &before, "alice")?;
    let old = site.fresh_knock(&before, &[])?;

    server.keys(&["rotate", "psk", "alice", "--finish"])?.ok()?;
    refused_as_unknown(&site, &server, &before)?;
    site.client.send_udp(&[old])?;
    opens(&site, &server, &alice, "alice")?;
    server.restart()?;
    refused_as_unknown(&site, &server, &before)?;
    opens(&site, &server, &alice, "alice")
}

#[test]
fn all_keys_of_a_client_are_replaced_by_another_enrolment() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = enrolled(&site, &server, "alice")?;
    let before = as_before(&site, &alice)?;
    let token = server.keys(&["rotate", "client", "alice"])?.ok()?;
    alice.spa_with_input(&["enroll", "-", "--replace"], token.text())?.ok()?;
    opens(&site, &server, &before, "alice")?;
    opens(&site, &server, &alice, "alice")?;
    opens(&site, &server, &before, "alice")?;
    server.keys(&["rotate", "client", "alice", "--finish"])?.ok()?;
    refused_as_unknown(&site, &server, &before)?;
    opens(&site, &server, &alice, "alice")
}

#[test]
fn new_keys_that_are_given_up_open_nothing() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = enrolled(&site, &server, "alice")?;
    let before = as_before(&site, &alice)?;
    let token = server.keys(&["rotate", "psk", "alice"])?.ok()?;
    alice.enroll(token.text())?.ok()?;
    server.keys(&["rotate", "psk", "alice", "--abort"])?.ok()?;
    refused_as_unknown(&site, &server, &alice)?;
    opens(&site, &server, &before, "alice")
}

/// What was opened with keys ends with them.
#[test]
fn old_keys_end_by_themselves_and_so_does_what_they_opened() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = enrolled(&site, &server, "alice")?;
    server.keys(&["rotate", "psk", "alice", "--overlap", "10s"])?.ok()?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    let overdue = std::time::Duration::from_secs(60);
    until("the keys are over", overdue, || {
        let expired = server.counter("client-expired")? + server.counter("unknown-client")?;
        alice.knock(&[])?.ok()?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        let now = server.counter("client-expired")? + server.counter("unknown-client")?;
        Ok(now > expired)
    })?;
    until("the grant ends with them", SOON, || Ok(server.grants()?.is_empty()))?;
    // At the next look at everything, which comes every 20 s.
    until("they are gone from the record", overdue, || {
        Ok(status(&server)?["clients"].as_array().is_some_and(Vec::is_empty))
    })?;
    until("it is told", SOON, || Ok(server.log().contains("it has not moved")))?;
    refused_as_unknown(&site, &server, &alice)
}

/// Takes the update that brings a client the server's new keys.
fn update(server: &Server, client: &Client, name: &str) -> Result {
    let token = server.keys(&["rotate", "--token", name])?.ok()?;
    // With another server key it is not taken in unasked.
    client.spa_with_input(&["enroll", "-", "--replace"], token.text())?.ok()?;
    Ok(())
}

/// The new keys of the server are in force: a gate that knows them has taken over.
fn wait_for_new_keys(server: &Server) -> Result {
    until("the server has other keys", SOON, || {
        Ok(server.log().contains("the server has other keys"))
    })?;
    until("and listens with them", SOON, || {
        Ok(server.status()?["capture"]["in_force"] == Value::Bool(true))
    })?;
    Ok(())
}

/// Who has not moved to the server's new keys.
fn not_moved(server: &Server) -> Result<Value> {
    Ok(status(server)?["server"]["not_moved"].clone())
}

/// Sends what was used before, from somewhere else.
fn replay(site: &Site, server: &Server, used: &[Datagram]) -> Result {
    let granted = server.counter("granted")?;
    let refusals =
        || -> Result<u64> { Ok(server.counter("duplicate")? + server.counter("replayed")?) };
    let before = refusals()?;
    site.stranger.send_udp(used)?;
    until("the replay is refused", SOON, || Ok(refusals()? > before))?;
    assert_eq!(server.counter("granted")?, granted, "used before");
    Ok(())
}

/// Knocks, and gives what went over the wire.
fn heard(site: &Site, server: &Server, client: &Client, name: &str) -> Result<Vec<Datagram>> {
    let capture = site.client.capture()?;
    opens(site, server, client, name)?;
    capture.wait_for_udp(KNOCK_PORT, 1)
}

/// A client that moves and one that does not, through the whole of an overlap.
fn everybody_is_served(what: &str) -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let (alice, bob) = (enrolled(&site, &server, "alice")?, enrolled(&site, &server, "bob")?);
    let both = [(&alice, "alice"), (&bob, "bob")];
    let used = heard(&site, &server, &alice, "alice")?;
    server.keys(&["rotate", what])?.ok()?;
    wait_for_new_keys(&server)?;
    replay(&site, &server, &used)?;
    assert_eq!(not_moved(&server)?, json!(["alice", "bob"]));

    update(&server, &alice, "alice")?;
    both.iter().try_for_each(|(client, name)| opens(&site, &server, client, name))?;
    until("alice has moved", SOON, || Ok(not_moved(&server)? == json!(["bob"])))?;
    // What was used with either stays used, whatever ends.
    let new = heard(&site, &server, &alice, "alice")?;
    for kill in [true, false] {
        if kill {
            server.kill9()?;
        } else {
            server.stop()?;
        }
        server.start()?;
        [&used, &new].into_iter().try_for_each(|used| replay(&site, &server, used))?;
        assert_eq!(not_moved(&server)?, json!(["bob"]), "it is written down");
        both.iter().try_for_each(|(client, name)| opens(&site, &server, client, name))?;
    }

    let said = server.keys(&["rotate", what, "--finish"])?;
    assert!(!said.success() && said.stderr.contains("  bob\n"), "{said}");
    opens(&site, &server, &bob, "bob")?;
    server.keys(&["rotate", what, "--finish", "--yes"])?.ok()?;
    refused_as_unknown(&site, &server, &bob)?;
    replay(&site, &server, &new)?;
    opens(&site, &server, &alice, "alice")?;
    server.restart()?;
    refused_as_unknown(&site, &server, &bob)?;
    opens(&site, &server, &alice, "alice")?;
    update(&server, &bob, "bob")?;
    opens(&site, &server, &bob, "bob")
}

#[test]
fn a_servers_key_is_replaced() -> Result {
    everybody_is_served("server")
}

#[test]
fn a_cloak_is_replaced() -> Result {
    everybody_is_served("cloak")
}

fn says_overlap(server: &Server) -> Result<bool> {
    Ok(server.status()?["old_keys_until_unix_ms"].is_u64())
}

#[test]
fn the_servers_new_keys_can_be_given_up() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = enrolled(&site, &server, "alice")?;
    let before = as_before(&site, &alice)?;
    server.keys(&["rotate", "server"])?.ok()?;
    wait_for_new_keys(&server)?;
    update(&server, &alice, "alice")?;
    opens(&site, &server, &alice, "alice")?;
    until("she has moved", SOON, || Ok(status(&server)?["server"]["moved"] == 1))?;
    assert!(says_overlap(&server)?, "spad status says that an overlap is on");
    let said = server.keys(&["rotate", "server", "--abort"])?;
    assert!(!said.success() && said.stderr.contains("  alice\n"), "{said}");
    server.keys(&["rotate", "server", "--abort", "--yes"])?.ok()?;
    refused_as_unknown(&site, &server, &alice)?;
    assert!(!says_overlap(&server)?, "and that it is not any more");
    opens(&site, &server, &before, "alice")
}

#[test]
fn the_servers_old_keys_end_by_themselves() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (alice, bob) = (enrolled(&site, &server, "alice")?, enrolled(&site, &server, "bob")?);
    server.keys(&["rotate", "server", "--overlap", "10s"])?.ok()?;
    wait_for_new_keys(&server)?;
    update(&server, &alice, "alice")?;
    for (client, name) in [(&alice, "alice"), (&bob, "bob")] {
        opens(&site, &server, client, name)?;
    }
    let overdue = std::time::Duration::from_secs(60);
    until("the old keys are gone", overdue, || Ok(status(&server)?["server"].is_null()))?;
    let log = server.log();
    assert!(log.contains("have not moved") && log.contains("clients=\"bob\""), "{log}");
    refused_as_unknown(&site, &server, &bob)?;
    opens(&site, &server, &alice, "alice")?;
    let keys = std::fs::read_to_string(server.dir().join("keys/server.toml"))?;
    assert!(!keys.contains("[former]"), "and from the disk");
    Ok(())
}
