//! Many at once.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use spa_proto::Kid;
use spa_tests::Result;
use spa_tests::lab::{Host, Lab, Output, fail};
use spa_tests::product::{Client, SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::until;

const CROWD: usize = 50;

/// Runs a job for each of the clients at the same time.
fn all_at_once<'a, 'h, T: Send>(
    clients: &'a [Client<'h>],
    job: impl Fn(&'a Client<'h>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let jobs: Vec<_> = clients.iter().map(|client| scope.spawn(|| job(client))).collect();
        jobs.into_iter().map(|job| job.join().unwrap_or_else(|_| fail("a job panicked"))).collect()
    })
}

#[test]
fn fifty_clients_knock_at_once_and_each_gets_in() -> Result {
    let lab = Lab::new()?;
    let server = lab.host("server")?;
    let lan = lab.lan(&[&server])?;
    let hosts = (0..CROWD)
        .map(|number| {
            let host = lab.host(&format!("c{number}"))?;
            lan.attach(&host)?;
            host.set_name(SERVER_NAME, &[server.v4()?])?;
            Ok(host)
        })
        .collect::<Result<Vec<Host>>>()?;
    let _echo = server.echo_tcp(22)?;
    let mut spad = Server::new(&server, SERVER_NAME, &Settings::default())?;
    spad.start()?;
    let clients = hosts
        .iter()
        .map(|host| {
            let client = Client::new(host, host.name(), SERVER_NAME);
            client.enroll(&spad.add(host.name(), &["--service", "ssh", "--ttl", "5m"])?)?.ok()?;
            Ok(client)
        })
        .collect::<Result<Vec<Client>>>()?;

    all_at_once(&clients, |client| client.knock(&[]).and_then(Output::ok))?;
    spad.wait_for_counter("granted", u64::try_from(CROWD)?)?;
    let grants = spad.grants()?;
    assert_eq!(grants.len(), CROWD);
    for host in &hosts {
        let own = grants.iter().find(|grant| grant.client == host.name());
        assert_eq!(own.map(|grant| grant.source), Some(host.v4()?), "grant of {}", host.name());
    }
    let address = server.v4()?;
    let reached = all_at_once(&clients, |client| client.host().connects((address, 22)))?;
    assert_eq!(reached.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&true]), "{reached:?}");
    Ok(())
}

/// How many others there are beside those who knock.
const OTHERS: u32 = 1000;

/// For what takes a while on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Records like that of `name`, each with a key-id of its own that looks random, as real ones do.
fn write_others(server: &Server, name: &str) -> Result {
    let dir = server.dir().join("keys/clients");
    let text = fs::read_to_string(dir.join(format!("{name}.toml")))?;
    let kid = text.lines().find(|line| line.starts_with("kid = ")).unwrap_or_default();
    for number in 0..OTHERS {
        let other = format!("other{number}");
        let hash: [u8; 32] = Sha256::digest(&other).into();
        let own = Kid::from_bytes(*hash.first_chunk().unwrap_or(&[0; 16]));
        let text = text.replace(kid, &format!("kid = \"{own}\""));
        let path = dir.join(format!("{other}.toml"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.replace(name, &other).as_bytes())?;
    }
    Ok(())
}

fn clients(server: &Server) -> Result<u64> {
    Ok(server.status()?["clients"].as_u64().unwrap_or_default())
}

/// More than are introduced in one go: they come at the start and while it runs,
/// and clients come, go and knock among them.
#[test]
fn a_crowd_comes_at_once_and_none_is_forgotten() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    write_others(&server, "alice")?;
    let all = u64::from(OTHERS) + 1;
    until("they are taken up", LONG, || Ok(clients(&server)? == all))?;
    site.grant(&server, &alice, &["--source", "10.0.0.51"])?;
    // With a record that cannot be used, a change is still looked at alone.
    let broken = server.dir().join("keys/clients/other7.toml");
    fs::write(&broken, "garbage")?;
    until("it is gone", LONG, || Ok(clients(&server)? == all - 1))?;
    let bob = site.client(&server, "bob")?;
    site.open(&server, &bob, &[])?;
    for (name, restarts) in [("carol", false), ("dora", true)] {
        if restarts {
            server.restart()?;
        } else {
            server.spad(&["reload"])?.ok()?;
        }
        until("it listens", LONG, || Ok(server.status()?["capture"]["in_force"] == true))?;
        assert_eq!(clients(&server)?, all, "bob in place of the broken one");
        let fresh = site.client(&server, name)?;
        site.open(&server, &fresh, &[])?;
        server.keys(&["revoke", name])?.ok()?;
        until("she is gone", LONG, || Ok(clients(&server)? == all))?;
        site.refused(&server, &fresh, &[], "unknown-client")?;
        site.grant(&server, &alice, &["--source", "10.0.0.52"])?;
    }
    fs::remove_file(&broken)?;
    let broken =
        || -> Result<_> { Ok(server.status()?["broken_records"].as_array().map(Vec::len)) };
    until("nothing is broken", LONG, || Ok(broken()? == Some(0)))?;
    Ok(())
}
