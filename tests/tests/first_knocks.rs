//! The first knock of each client waits until its record says so on the disk; nobody else does.

use nix::sys::signal::Signal;

use spa_tests::Result;
use spa_tests::lab::{Disk, Host, Privilege, not_shown};
use spa_tests::product::{Client, SERVER_NAME, Server, Service, Settings, Site};
use spa_tests::wait::{SOON, until};

/// A server whose keys are on a disk of their own; `None` where this user cannot mount one.
fn on_a_disk<'site>(
    site: &'site Site,
    settings: &Settings,
) -> Result<Option<(Server<'site>, Disk<'site>)>> {
    let mut server = Server::new(&site.server, SERVER_NAME, settings)?;
    let Some(disk) = site.server.disk(&server.dir().join("keys"))? else {
        not_shown("this user cannot mount a disk")?;
        return Ok(None);
    };
    server.start()?;
    Ok(Some((server, disk)))
}

fn enrolled<'host>(host: &'host Host, name: &str, token: &str) -> Result<Client<'host>> {
    let client = Client::new(host, name, SERVER_NAME);
    client.enroll(token)?.ok()?;
    Ok(client)
}

fn holders(server: &Server) -> Result<Vec<String>> {
    Ok(server.grants()?.into_iter().map(|grant| grant.client).collect())
}

/// Until that many knocks wait for their records.
fn waits(server: &Server, knocks: u64) -> Result {
    let what = format!("{knocks} first knocks wait");
    let count = || -> Result<_> { Ok(server.status()?["first_knocks"]["waiting"].as_u64()) };
    until(&what, SOON, || Ok(count()? == Some(knocks)))?;
    Ok(())
}

#[test]
fn a_disk_that_hangs_holds_up_first_knocks_alone() -> Result {
    let site = Site::new()?;
    let Some((server, disk)) = on_a_disk(&site, &Settings::default())? else { return Ok(()) };
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    let token = server.add("bob", &["--service", "ssh"])?;
    let [bob, thief] = ["bob", "thief"].map(|name| enrolled(&site.client, name, &token));
    let (bob, thief) = (bob?, thief?);

    let granted = server.counter("granted")?;
    let frozen = disk.freeze()?;
    for first in [&bob, &bob, &thief] {
        first.knock(&[])?.ok()?;
    }
    site.open(&server, &alice, &[])?;
    assert_eq!(holders(&server)?, ["alice"], "bob's waits for the disk");
    waits(&server, 3)?;
    let slow = "first knocks wait for the disk of the keys";
    until("it says so", SOON * 5, || Ok(server.log().contains(slow)))?;
    let status = server.spad(&["status"])?.text().to_owned();
    assert!(status.contains("3 first knocks wait for the disk of the keys, for "), "{status}");
    drop(frozen);
    server.wait_for_counter("granted", granted + 3)?;
    server.wait_for_counter("enrol-taken", 1)?;
    waits(&server, 0)?;
    assert_eq!(server.log().matches(slow).count(), 1, "once");
    let mut holders = holders(&server)?;
    holders.dedup();
    assert_eq!(holders, ["alice", "bob"]);
    let taken = server.counter("enrol-taken")?;
    thief.knock(&[])?.ok()?;
    server.wait_for_counter("enrol-taken", taken + 1)?;
    site.open(&server, &bob, &[])?;
    Ok(())
}

#[test]
fn what_has_changed_while_it_waited_counts() -> Result {
    let site = Site::new()?;
    let Some((server, disk)) = on_a_disk(&site, &Settings::default())? else { return Ok(()) };
    let bob = site.client(&server, "bob")?;
    let frozen = disk.freeze()?;
    bob.knock(&[])?.ok()?;
    waits(&server, 1)?;
    server.configure(&Settings::with_services(&[Service {
        name: "web",
        port: 80,
        ..Service::SSH
    }]))?;
    server.spad(&["reload"])?.ok()?;
    drop(frozen);
    server.wait_for_counter("unknown-service", 1)?;
    // His key is bound all the same.
    let enrolled = |line: &str| line.contains("enrolled") && line.contains("client=bob");
    until("it is in the audit", SOON, || Ok(server.log().lines().any(enrolled)))?;
    assert_eq!(holders(&server)?, [] as [String; 0]);
    assert_eq!(server.counter("granted")?, 0);
    Ok(())
}

/// A snapshot may have been taken while it waited, and the knock been granted after that.
#[test]
fn what_waits_while_the_machine_is_restored_is_not_granted() -> Result {
    let site = Site::new()?;
    let Some((mut server, disk)) = on_a_disk(&site, &Settings::default())? else { return Ok(()) };
    let bob = site.client(&server, "bob")?;
    let frozen = disk.freeze()?;
    bob.knock(&[])?.ok()?;
    waits(&server, 1)?;
    // What tells of it is lost with other news of devices: in a user namespace, or where /sys
    // is masked, there are none.
    server.process()?.signal(Signal::SIGSTOP)?;
    let events = "for i in $(seq 5000); do echo change > /sys/class/net/lo/uevent; done";
    let told = site.server.sh(events);
    server.process()?.resume()?;
    if !told?.success() || site.lab.privilege() != Privilege::Root {
        return not_shown("this user gets no news of devices");
    }
    let why = "the machine was restored from a snapshot";
    until("it knows", SOON, || Ok(server.log().contains(why)))?;
    drop(frozen);
    server.wait_for_counter("before-start", 1)?;
    assert_eq!(server.counter("granted")?, 0);
    assert_eq!(holders(&server)?, [] as [String; 0]);
    Ok(())
}
