//! People with several devices; clients that are disabled, limited and renamed while the daemon runs.

use spa_tests::Result;
use spa_tests::product::{Client, Server, Settings, Site};
use spa_tests::wait::{SOON, until, until_some};

/// Two devices of one person, and how often knocks were granted so far.
fn devices<'site>(site: &'site Site, server: &Server) -> Result<(Client<'site>, Client<'site>)> {
    let device = |name: &str| -> Result<Client<'site>> {
        let client = Client::new(&site.client, &name.replace('/', "-"), "fw.example");
        client.enroll(&server.add(name, &["--service", "ssh"])?)?.ok()?;
        Ok(client)
    };
    Ok((device("alice/laptop")?, device("alice/phone")?))
}

fn no_grants(server: &Server, what: &str) -> Result {
    let took = until(what, SOON, || Ok(server.grants()?.is_empty()))?;
    println!("{what}: {took:?}");
    Ok(())
}

/// Knocks until that is refused for this reason: the daemon hears of a change within a second.
fn refused_soon(server: &Server, client: &Client, why: &str) -> Result {
    let before = server.counter(why)?;
    until(&format!("a knock is refused: {why}"), SOON, || {
        client.knock(&[])?.ok()?;
        Ok(server.counter(why)? > before)
    })?;
    Ok(())
}

/// Knocks until that is granted.
fn granted_soon(server: &Server, client: &Client) -> Result {
    client.knock_until_heard(server)
}

#[test]
fn a_person_who_is_revoked_has_no_device_left() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (laptop, phone) = devices(&site, &server)?;
    site.open(&server, &laptop, &["--ttl", "5m"])?;
    site.open(&server, &phone, &["--ttl", "5m"])?;
    let bob = site.client(&server, "bob")?.copy_to(&site.stranger)?;
    bob.knock(&["--wait"])?.ok()?;
    let mut connection = site.client.hold((site.address(), 22))?;
    let mut of_bob = site.stranger.hold((site.address(), 22))?;
    assert!(connection.is_alive("before") && of_bob.is_alive("before"));

    server.keys(&["revoke", "alice"])?.ok()?;
    until("both grants are withdrawn", SOON, || {
        Ok(server.grants()?.iter().all(|grant| grant.client == "bob"))
    })?;
    assert!(!site.reaches(&site.client, 22)?, "both devices are gone");
    assert!(!connection.is_alive("after"), "and so is the connection");
    assert!(of_bob.is_alive("after"), "nobody else's is");
    let granted = server.counter("granted")?;
    for device in [&laptop, &phone] {
        device.knock(&[])?.ok()?;
    }
    server.wait_for_counter("unknown-client", 2)?;
    assert_eq!(server.counter("granted")?, granted);
    Ok(())
}

#[test]
fn spad_takes_back_what_all_devices_of_a_person_hold() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (laptop, phone) = devices(&site, &server)?;
    site.open(&server, &laptop, &["--ttl", "5m"])?;
    site.open(&server, &phone, &["--ttl", "5m"])?;
    for (who, count) in [("alice", 2), ("alice/phone", 1), ("bob", 0)] {
        let listed = server.spad(&["grants", who, "--json"])?.ok()?;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed.stdout)?;
        assert_eq!(listed.len(), count, "{who}: {listed:?}");
    }
    server.spad(&["revoke", "alice/phone"])?.ok()?;
    assert_eq!(server.grants()?[0].client, "alice/laptop");
    site.open(&server, &phone, &["--ttl", "5m"])?;
    server.spad(&["revoke", "alice"])?.ok()?;
    site.assert_shut(&server, &site.client, "both of them")?;
    site.open(&server, &laptop, &[])?;
    Ok(())
}

#[test]
fn who_is_disabled_is_out_at_once_and_in_again_when_enabled() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let (laptop, phone) = devices(&site, &server)?;
    site.open(&server, &laptop, &["--ttl", "5m"])?;
    let mut connection = site.client.hold((site.address(), 22))?;
    assert!(connection.is_alive("before"));

    server.keys(&["disable", "alice/laptop"])?.ok()?;
    no_grants(&server, "the grant is withdrawn")?;
    assert!(!connection.is_alive("after"));
    site.refused(&server, &laptop, &[], "client-disabled")?;
    site.open(&server, &phone, &[])?;
    site.close(&server, "alice")?;
    server.keys(&["disable", "alice"])?.ok()?;
    refused_soon(&server, &phone, "client-disabled")?;
    server.restart()?;
    site.refused(&server, &phone, &[], "client-disabled")?;

    server.keys(&["enable", "alice"])?.ok()?;
    granted_soon(&server, &phone)?;
    site.refused(&server, &laptop, &[], "client-disabled")?;
    server.keys(&["enable", "alice/laptop"])?.ok()?;
    granted_soon(&server, &laptop)
}

/// A copy makes a file, and writes it a moment later.
#[test]
fn a_persons_file_that_is_copied_into_place_cuts_nothing_and_one_that_is_broken_does() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (laptop, _phone) = devices(&site, &server)?;
    server.keys(&["set", "alice", "--max-ttl", "5m", "--yes"])?.ok()?;
    site.open(&server, &laptop, &["--ttl", "5m"])?;
    let mut connection = site.client.hold((site.address(), 22))?;
    let clients = server.dir().join("keys/clients").display().to_string();
    server
        .host()
        .sh(&format!(
            "cd {clients} && cp -p alice+.toml .copy && for round in $(seq 20); do \
         rm alice+.toml && cp -p .copy alice+.toml && sleep 0.05 || exit 1; done"
        ))?
        .ok()?;
    assert_eq!(server.grants()?.len(), 1, "{}", server.log());
    assert!(connection.is_alive("copied"));
    server.host().sh(&format!("echo nonsense > {clients}/alice+.toml"))?.ok()?;
    refused_soon(&server, &laptop, "client-disabled")?;
    no_grants(&server, "it stays broken")?;
    assert!(!connection.is_alive("broken"));
    Ok(())
}

#[test]
fn who_was_disabled_while_the_daemon_was_down_has_no_grant_after_it() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    let mut connection = site.client.hold((site.address(), 22))?;
    assert!(connection.is_alive("before"));
    server.kill9()?;
    server.keys(&["disable", "alice"])?.ok()?;
    server.start()?;
    site.assert_shut(&server, &site.client, "disabled before the start")?;
    assert!(!connection.is_alive("after"));
    site.refused(&server, &alice, &[], "client-disabled")
}

#[test]
fn what_a_client_may_changes_with_the_next_knock() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (laptop, phone) = devices(&site, &server)?;
    site.open(&server, &laptop, &[])?;
    site.close(&server, "alice")?;

    server.keys(&["set", "alice/laptop", "--from", "192.0.2.0/24"])?.ok()?;
    refused_soon(&server, &laptop, "source-not-allowed")?;
    site.open(&server, &phone, &[])?;
    site.close(&server, "alice")?;
    server.keys(&["set", "alice/laptop", "--clear", "from"])?.ok()?;
    granted_soon(&server, &laptop)?;
    site.close(&server, "alice")?;

    // What is said of the person holds for both, whatever their own records say.
    server.keys(&["set", "alice", "--service", "web", "--yes"])?.ok()?;
    refused_soon(&server, &laptop, "service-not-allowed")?;
    site.refused(&server, &phone, &[], "service-not-allowed")?;
    server.keys(&["set", "alice", "--clear", "service", "--max-ttl", "7s"])?.ok()?;
    granted_soon(&server, &phone)?;
    let grants = server.grants()?;
    assert!(grants.iter().all(|grant| grant.expires_in.as_secs() <= 7), "{grants:?}");
    Ok(())
}

#[test]
fn the_time_of_day_decides_and_ends_grants() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    // From the second next hour on for two hours: not now, whatever the minute.
    let later =
        site.server.sh("date -u -d '+2 hours' +%H:00; date -u -d '+4 hours' +%H:00")?.ok()?;
    let hours = daily(later.stdout.trim());
    server.keys(&["set", "alice", "--hours", &hours])?.ok()?;
    refused_soon(&server, &alice, "time-not-allowed")?;
    site.assert_shut(&server, &site.client, &hours)?;
    assert!(server.log().contains("reason=\"time-not-allowed\""), "{}", server.log());

    let now = site.server.sh("date -u -d '-1 hours' +%H:00; date -u -d '+2 hours' +%H:00")?.ok()?;
    let hours = daily(now.stdout.trim());
    server.keys(&["set", "alice", "--hours", &hours])?.ok()?;
    granted_soon(&server, &alice)
}

#[test]
fn a_client_that_is_renamed_keeps_its_grant_and_its_connection() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    let mut connection = site.client.hold((site.address(), 22))?;
    assert!(connection.is_alive("before"));
    for (from, to) in [("alice", "zoe"), ("zoe", "alice/laptop")] {
        server.keys(&["rename", from, to])?.ok()?;
        let grants = until_some("the grant has the new name", SOON, || {
            let grants = server.grants()?;
            Ok((grants.len() == 1 && grants[0].client == to).then_some(grants))
        })?;
        println!("{grants:?}");
        assert!(connection.is_alive("after"), "{from} to {to}");
    }
    site.open(&server, &alice, &[])?;
    server.spad(&["revoke", "alice"])?.ok()?;
    assert!(!connection.is_alive("revoked"), "by the person's name");
    Ok(())
}

#[test]
fn the_list_says_when_a_client_has_last_knocked() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let last = |server: &Server| -> Result<Option<String>> {
        let shown = server.keys(&["show", "alice", "--json"])?.ok()?;
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout)?;
        Ok(shown["last_knock"].as_str().map(str::to_owned))
    };
    assert_eq!(last(&server)?, None);
    site.open(&server, &alice, &[])?;
    server.stop()?;
    let first = last(&server)?;
    assert!(first.is_some(), "written down at the end");
    server.start()?;
    server.stop()?;
    assert_eq!(last(&server)?, first, "and known after a restart");
    Ok(())
}

#[test]
fn who_found_no_room_was_not_let_in() -> Result {
    let site = Site::new()?;
    let one = "[firewall]\nmax-grants = 1\n".to_owned();
    let mut server = site.spad_with(&Settings { more: one, ..Settings::default() })?;
    let (alice, carol) = (site.client(&server, "alice")?, site.client(&server, "carol")?);
    site.grant(&server, &alice, &["--source", "10.0.0.51"])?;
    site.refused(&server, &carol, &[], "full")?;
    server.stop()?;
    for (client, was_let_in) in [("alice", true), ("carol", false)] {
        let shown = server.keys(&["show", client, "--json"])?.ok()?;
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout)?;
        assert_eq!(shown["last_knock"].is_string(), was_let_in, "{client}: {shown}");
    }
    Ok(())
}

/// A record that comes back is of a client who has knocked: after a start without a
/// journal it waits like all others do, in place of being served as one that is new (R4).
#[test]
fn who_is_imported_counts_as_one_who_has_knocked() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = Client::new(&site.client, "alice", "fw.example");
    let request = alice.spa(&["request"])?.ok()?;
    let token = server.add("alice", &["--service", "ssh", "--pubkey", request.text()])?;
    alice.enroll(&token)?.ok()?;
    let backup = server.dir().join("backup").display().to_string();
    server.keys(&["export", &backup])?.ok()?;
    let text = std::fs::read_to_string(&backup)?;
    assert!(text.contains("knocked = false"), "exported before its first knock");
    site.open(&server, &alice, &[])?;
    server.stop()?;
    server.host().sh(&format!("rm {}/keys/clients/alice.toml", server.dir().display()))?.ok()?;
    server.keys(&["import", &backup])?.ok()?;
    server.reboot()?;
    server.start()?;
    site.refused(&server, &alice, &[], "before-start")?;
    site.assert_shut(&server, &site.client, "imported")
}

#[test]
fn clients_of_fwknop_enrol_with_their_tokens_and_may_do_what_they_could() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let access = server.dir().join("access.conf");
    std::fs::write(
        &access,
        "SOURCE 10.0.0.0/8;\nOPEN_PORTS tcp/22;\nREQUIRE_USERNAME bob;\nKEY secret;\nMAX_FW_TIMEOUT 9;\n\
         SOURCE 192.0.2.0/24\nOPEN_PORTS tcp/22\n",
    )?;
    let (access, tokens) = (access.display().to_string(), server.dir().join("tokens"));
    let config = server.config_path().display().to_string();
    let tokens_dir = tokens.display().to_string();
    server.keys(&["import-fwknop", &access, "--config", &config, "--tokens", &tokens_dir])?.ok()?;
    let enrolled = |name: &str| -> Result<Client<'_>> {
        let client = Client::new(&site.client, name, "fw.example");
        let token = std::fs::read_to_string(tokens.join(format!("{name}.token")))?;
        client.enroll(token.trim())?.ok()?;
        Ok(client)
    };
    granted_soon(&server, &enrolled("bob")?)?;
    assert!(server.grants()?[0].expires_in.as_secs() <= 9);
    site.close(&server, "bob")?;
    refused_soon(&server, &enrolled("fwknop-2")?, "source-not-allowed")
}

/// From the first of two hours to the second: midnight, as an end, is 24:00.
fn daily(hours: &str) -> String {
    format!("daily {}", hours.replace('\n', "-").replace("-00:00", "-24:00"))
}
