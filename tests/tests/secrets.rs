//! Secrets stay where they belong, and are gone when they should be.

use std::fs;
use std::path::Path;
use std::time::Duration;

use spa_keys::encoding::from_base64;
use spa_tests::lab::{Doing, Result, fail, program};
use spa_tests::product::{Client, SERVER_NAME, Server, Settings, Site, Traces, texts};
use spa_tests::wait::{SOON, until};

/// Process numbers of warden and gatekeeper.
fn pids(server: &Server) -> Result<[u64; 2]> {
    let status = server.status()?;
    let pid = |at: usize| status["processes"][at]["pid"].as_u64();
    match (pid(0), pid(1)) {
        (Some(warden), Some(gatekeeper)) => Ok([warden, gatekeeper]),
        _ => fail(format!("not two processes: {status}")),
    }
}

/// How many traces of a client's keys are in memory: of the pre-shared key and of what is derived
/// from it, in the warden and in the gatekeeper.
#[derive(Debug, PartialEq)]
struct Found {
    psk: [usize; 2],
    derived: [usize; 2],
}

const NOTHING: Found = Found { psk: [0, 0], derived: [0, 0] };

fn look(site: &Site, server: &Server, traces: &Traces) -> Result<Found> {
    let [warden, gatekeeper] = pids(server)?;
    let both = |needles: &[Vec<u8>]| -> Result<[usize; 2]> {
        let host = &site.server;
        Ok([Traces::found(needles, host, warden)?, Traces::found(needles, host, gatekeeper)?])
    };
    Ok(Found { psk: both(&traces.psk)?, derived: both(&traces.derived)? })
}

#[test]
fn a_revoked_clients_keys_are_in_nobodys_memory() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (alice, bob) = (site.client(&server, "alice")?, site.client(&server, "bob")?);
    let traces = ["alice", "bob"].map(|name| Traces::of(&server, name));
    let [alices, bobs] = traces;
    let (alices, bobs) = (alices?, bobs?);
    // Knocks, another gatekeeper's provisioning, more clients: all of these move keys about.
    site.open(&server, &alice, &[])?;
    site.open(&server, &bob, &[])?;
    for number in 0..60 {
        server.add(&format!("more{number}"), &["--service", "ssh"])?;
    }
    server.spad(&["reload"])?.ok()?;
    site.open(&server, &alice, &[])?;
    until("the gatekeeper listens", SOON, || Ok(server.status()?["capture"]["in_force"] == true))?;

    let before = look(&site, &server, &alices)?;
    assert!(before.psk[0] > 0 && before.derived[1] > 0, "the scan sees what is there: {before:?}");
    assert_eq!(before.psk[1], 0, "the gatekeeper never has it");

    let clients = server.status()?["clients"].as_u64();
    // Many at once: what a queue of them has left is not all written over by the next messages.
    server.spad(&["reload"])?.ok()?;
    server.keys(&["revoke", "alice"])?.ok()?;
    // The answer comes from the gatekeeper as well, in order.
    until("she is gone", SOON, || Ok(server.status()?["clients"].as_u64() < clients))?;
    server.status()?;
    println!("before: {before:?}, of {} and {}", alices.psk.len(), alices.derived.len());
    assert_eq!(look(&site, &server, &alices)?, NOTHING, "after revoking; before: {before:?}");
    let others = look(&site, &server, &bobs)?;
    assert!(others.psk[0] > 0 && others.derived[1] > 0, "{others:?}");
    Ok(())
}

/// Nor are keys that were replaced, once their overlap is over.
#[test]
fn keys_that_were_replaced_are_in_nobodys_memory() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let before = Traces::of(&server, "alice")?;
    let token = server.keys(&["rotate", "psk", "alice"])?.ok()?;
    alice.enroll(token.text())?.ok()?;
    site.open(&server, &alice, &[])?;
    let during = look(&site, &server, &before)?;
    assert!(during.psk[0] > 0 && during.derived[1] > 0, "old keys work: {during:?}");
    server.keys(&["rotate", "psk", "alice", "--finish"])?.ok()?;
    until("they are gone", SOON, || {
        server.status()?;
        Ok(look(&site, &server, &before)? == NOTHING)
    })?;

    // The same psk, but what is derived from it for the server's old key.
    let (before, own) = (Traces::of(&server, "alice")?, Traces::of_own_key(&server)?);
    server.keys(&["rotate", "server"])?.ok()?;
    until("they are taken up", SOON, || Ok(server.log().contains("the server has other keys")))?;
    let token = server.keys(&["rotate", "--token", "alice"])?.ok()?;
    alice.spa_with_input(&["enroll", "-", "--replace"], token.text())?.ok()?;
    site.open(&server, &alice, &[])?;
    let during = (look(&site, &server, &before)?.derived, look(&site, &server, &own)?.psk);
    assert!(during.0[1] > 0 && during.1[0] > 0 && during.1[1] > 0, "old keys work: {during:?}");
    server.keys(&["rotate", "server", "--finish", "--yes"])?.ok()?;
    until("they are gone", SOON, || Ok(look(&site, &server, &before)?.derived[1] == 0))?;
    let after = look(&site, &server, &own)?;
    assert_eq!(after, NOTHING, "the server's old key; before: {during:?}");
    Ok(())
}

/// While an enrolment is refused by policy, its token stays good: whoever takes a process over
/// later must not find what was in it.
#[test]
fn the_one_time_secret_of_an_enrolment_is_in_nobodys_memory() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let token = server.add("alice", &["--service", "ssh"])?;
    let secret = Traces::of_token(&token)?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    alice.enroll(&token)?.ok()?;
    server.keys(&["set", "alice", "--clear", "service", "--service", "web"])?.ok()?;
    site.refused(&server, &alice, &["--service", "ssh"], "service-not-allowed")?;
    assert_eq!(look(&site, &server, &secret)?, NOTHING, "after it was refused");
    server.keys(&["set", "alice", "--clear", "service", "--service", "ssh"])?.ok()?;
    site.open(&server, &alice, &[])?;
    assert_eq!(look(&site, &server, &secret)?, NOTHING, "after it was accepted");
    Ok(())
}

/// A connection through `spa proxy` lasts for days, `spa lock` is said meanwhile.
#[test]
fn a_proxy_holds_no_keys_once_it_is_connected() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let Traces { psk, derived } = Traces::of(&server, "alice")?;
    site.close(&server, "alice")?;
    server.stop()?;
    let (spa, dir) = (program("spa")?.display().to_string(), alice.dir().display().to_string());
    let words = ["proxy", SERVER_NAME, "22", "--wait", "60", "--config-dir", &dir];
    let mut proxy = site.client.spawn([spa.as_str()].iter().chain(&words))?;
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid()))?;
    let of_host = |line: &str| line.strip_prefix("NSpid:")?.split_whitespace().last()?.parse().ok();
    let Some(pid) = status.lines().find_map(of_host) else { return fail(status) };
    let held = || -> Result<[usize; 2]> {
        let found = |needles: &[Vec<u8>]| Traces::found(needles, &site.client, pid);
        Ok([found(&psk)?, found(&derived)?])
    };
    let keeps = || Ok(held()?.iter().all(|found| *found > 0));
    until("it has keys while it knocks", Duration::from_secs(10), keeps)?;
    server.start()?;
    proxy.write_line("a line")?;
    proxy.wait_for("a line", Duration::from_secs(30))?;
    assert_eq!(held()?, [0, 0], "and none when it is connected");
    assert!(proxy.is_running()?);
    Ok(())
}

/// Names of secrets in files.
const SECRET: [&str; 5] = ["secret-key", "cloak", "psk", "signing-key", "secret"];

/// The secrets that stand in these files, in all forms of [`texts`].
fn secret_texts(files: &[&Path]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in files {
        for line in fs::read_to_string(file)?.lines() {
            let Some((name, value)) = line.split_once(" = ") else { continue };
            if SECRET.contains(&name) {
                let value = value.trim_matches('"');
                let long = from_base64::<32>(value).map(|bytes| bytes.to_vec());
                let bytes = long.or_else(|_| from_base64::<16>(value).map(|bytes| bytes.to_vec()));
                found.extend(texts(&bytes.doing(format!("{name} of {}", file.display()))?));
            }
        }
    }
    Ok(found)
}

/// A file with one secret that is nearly right, in several ways: a letter too many, the quotes
/// forgotten, one of them, another word before it, one letter that is none of this alphabet, twice,
/// under a name that is for something else, and as a name itself.
fn nearly_right(good: &str) -> Vec<String> {
    let secret =
        |line: &&str| line.split_once(" = ").is_some_and(|(name, _)| SECRET.contains(&name));
    let mut broken = Vec::new();
    for line in good.lines().filter(secret) {
        let [first, last] = [line.find('"').unwrap_or(0), line.len() - 1];
        for bad in [
            line.replacen('"', "\"A", 1),
            line.replace('"', ""),
            line[..last].to_owned(),
            format!("psk = {line}"),
            format!("{}!{}", &line[..first + 9], &line[first + 9..]),
            format!("{line}\n{line}"),
            format!("{line}\nmodes = {}", &line[first..]),
            format!("{line}\n{} = 1", &line[first..]),
        ] {
            broken.push(good.replace(line, &bad));
        }
    }
    broken
}

fn assert_none_in(said: &str, secrets: &[String]) {
    for secret in secrets {
        assert!(!said.contains(secret.as_str()), "{secret} in {said}");
    }
}

#[test]
fn no_secret_is_in_arguments_environment_log_or_answers() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    // A record that is nearly right: complaints must not quote it.
    let record = server.dir().join("keys/clients/alice.toml");
    let good = fs::read_to_string(&record)?;
    let secrets = secret_texts(&[&record, &server.dir().join("keys/server.toml")])?;
    assert_eq!(secrets.len(), 3 * texts(&[0; 32]).len(), "psk, cloak and the server's key");
    let mut said = String::new();
    for broken in nearly_right(&good) {
        fs::write(&record, broken)?;
        until("it is refused", SOON, || Ok(server.status()?["clients"] == 0))?;
        said += &server.spad(&["check"])?.all();
        said += &server.keys(&["list"])?.all();
        said += &server.keys(&["show", "alice"])?.all();
        fs::write(&record, &good)?;
        until("it is taken", SOON, || Ok(server.status()?["clients"] == 1))?;
    }
    said += &server.status()?.to_string();
    said += &server.spad(&["grants"])?.all();
    said += &server.keys(&["show", "alice"])?.all();
    said += &server.keys(&["list"])?.all();
    for pid in pids(&server)? {
        let look = format!("cat /proc/{pid}/cmdline /proc/{pid}/environ /proc/{pid}/comm");
        said += &site.server.sh(&look)?.ok()?.all();
    }
    said += &server.log();
    assert!(said.contains("alice.toml") && said.contains("gatekeeper"), "control: {said}");
    assert_none_in(&said, &secrets);
    Ok(())
}

#[test]
fn a_server_key_that_is_nearly_right_is_never_quoted() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let key = server.dir().join("keys/server.toml");
    let good = fs::read_to_string(&key)?;
    let secrets = secret_texts(&[&key])?;
    let broken = nearly_right(&good);
    assert_eq!(broken.len(), 16, "of two secrets");
    let mut said = String::new();
    for text in &broken {
        fs::write(&key, text)?;
        // What runs reads it anew, what is started for the first time.
        server.spad(&["reload"])?;
        for command in [&["list"][..], &["add", "bob", "--service", "ssh"], &["rotate", "server"]] {
            let refused = server.keys(command)?;
            assert!(!refused.success() || command == ["list"], "control: {text}: {refused}");
            said += &refused.all();
        }
        let check = server.spad(&["check"])?;
        assert!(!check.success(), "control: {text}: {check}");
        said += &check.all();
    }
    said += &server.log();
    server.stop()?;
    server.launch()?;
    assert!(!server.wait()?.success(), "it does not start with {}", broken[15]);
    said += &server.log();
    assert!(said.contains("server.toml"), "control: {said}");
    assert_none_in(&said, &secrets);
    fs::write(&key, &good)?;
    server.start()
}

#[test]
fn a_clients_key_that_is_nearly_right_is_never_quoted() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    // Without a knock, so that the secret of the enrolment is there still.
    let alice = site.client(&server, "alice")?;
    let file = alice.dir().join(format!("hosts/{SERVER_NAME}.toml"));
    let good = fs::read_to_string(&file)?;
    let secrets = secret_texts(&[&file])?;
    let broken = nearly_right(&good);
    assert_eq!(broken.len(), 32, "cloak, psk, signing key, and the enrolment's secret: {good}");
    let mut said = String::new();
    for text in &broken {
        fs::write(&file, text)?;
        for command in [&["knock", SERVER_NAME][..], &["hosts"], &["doctor", SERVER_NAME]] {
            let refused = alice.spa(command)?;
            assert!(!refused.success() || command == ["hosts"], "control: {text}: {refused}");
            said += &refused.all();
        }
    }
    assert!(said.contains(&format!("{SERVER_NAME}.toml")), "control: {said}");
    assert_none_in(&said, &secrets);
    assert_eq!(server.counter("granted")?, 0);
    fs::write(&file, &good)?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn a_key_that_others_can_read_is_refused_with_what_to_do() -> Result {
    let site = Site::new()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let key = server.dir().join("keys/server.toml").display().to_string();
    for mode in ["0644", "0640", "0604", "0610"] {
        site.server.sh(&format!("chmod {mode} {key}"))?.ok()?;
        server.launch()?;
        assert!(!server.wait()?.success(), "{mode}");
        let log = server.log();
        assert!(log.contains(mode) && log.contains(&format!("chmod 600 {key}")), "{log}");
        assert!(server.spad(&["check"])?.stderr.contains("chmod 600"), "check says it as well");
        assert!(!site.reaches(&site.client, 22)?, "shut all the same");
    }
    site.server.sh(&format!("chmod 600 {key}"))?.ok()?;
    server.start()
}

#[test]
fn the_server_key_can_come_as_a_credential() -> Result {
    let site = Site::new()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let alice = site.client(&server, "alice")?;
    let (credentials, key) =
        (server.dir().join("credentials"), server.dir().join("keys/server.toml"));
    fs::create_dir(&credentials)?;
    fs::rename(&key, credentials.join("server.toml"))?;
    let given = format!("CREDENTIALS_DIRECTORY={}", credentials.display());
    server.start_as(&["env", &given])?;
    site.open(&server, &alice, &[])?;
    let environment = format!("cat /proc/{}/environ", pids(&server)?[1]);
    let environment = site.server.sh(&environment)?.ok()?;
    assert!(!environment.stdout.contains("CREDENTIALS"), "not for the gatekeeper: {environment}");
    server.stop()?;
    site.server.sh(&format!("chmod 644 {}/server.toml", credentials.display()))?.ok()?;
    server.launch_as(&["env", &given])?;
    assert!(!server.wait()?.success() && server.log().contains("chmod 600"), "{}", server.log());
    Ok(())
}
