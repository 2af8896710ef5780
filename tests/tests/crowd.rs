//! Many at once.

use std::collections::BTreeSet;
use std::thread;

use spa_tests::Result;
use spa_tests::lab::{Host, Lab, Output, fail};
use spa_tests::product::{Client, SERVER_NAME, Server, Settings};

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
