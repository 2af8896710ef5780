//! The server's machine is suspended while grants are in force. The kernel's time for them stands
//! still in it, and theirs does not: what has ended meanwhile is shut soon after.

use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::Clock;
use spa_tests::product::health::open_sources;
use spa_tests::product::{SERVER_NAME, Server, Service, Settings, Site};
use spa_tests::wait::{SOON, until};

const TEN_MINUTES: i64 = 600;
/// How often the daemon looks, and time for it on a busy machine.
const A_TICK: Duration = Duration::from_secs(30);

/// A daemon that goes by this clock, with grants of up to an hour.
fn started_by<'site>(site: &'site Site, clock: &Clock) -> Result<Server<'site>> {
    let ssh = Service { max_ttl: "1h", ..Service::SSH };
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::with_services(&[ssh]))?;
    server.start_by(clock)?;
    Ok(server)
}

/// The longest time that the kernel has for an element, in minutes.
fn longest(server: &Server) -> Result<Option<u64>> {
    let table = server.kernel_table()?;
    let left = table.split("expires ").skip(1).filter_map(|rest| rest.split_once('m'));
    Ok(left.filter_map(|(minutes, _)| minutes.parse().ok()).max())
}

#[test]
fn what_ended_in_a_suspend_is_shut_and_what_did_not_has_the_time_that_is_left() -> Result {
    let site = Site::new()?;
    let clock = site.lab.clock()?;
    let server = started_by(&site, &clock)?;
    let alice = site.client(&server, "alice")?;
    let bob = site.client(&server, "bob")?.copy_to(&site.stranger)?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    site.open(&server, &bob, &["--ttl", "30m"])?;
    let banned = "198.51.100.7";
    server.spad(&["ban", banned, "--for", "5m"])?.ok()?;
    assert!(server.kernel_table()?.contains(banned));

    clock.sleep_through(TEN_MINUTES)?;
    let took = until("alice is shut out", A_TICK, || Ok(!site.reaches(&site.client, 22)?))?;
    println!("shut {took:?} after the suspend");
    assert_eq!(open_sources(&server)?, [site.stranger.v4()?].into());
    assert!(site.reaches(&site.stranger, 22)?, "bob's grant lasts");
    let left = longest(&server)?;
    assert!(left.is_some_and(|minutes| (15..20).contains(&minutes)), "{left:?} minutes");
    assert!(!server.kernel_table()?.contains(banned), "the ban is over as well");
    let log = server.log();
    assert!(log.contains("suspended") && !log.contains("did not make"), "{log}");
    Ok(())
}

#[test]
fn revoking_right_after_a_suspend_shuts_what_its_end_had_passed_by() -> Result {
    let site = Site::new()?;
    let clock = site.lab.clock()?;
    let server = started_by(&site, &clock)?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "5m"])?;
    clock.sleep_through(TEN_MINUTES)?;
    server.keys(&["revoke", "alice"])?.ok()?;
    until("the port is shut", SOON, || Ok(!site.reaches(&site.client, 22)?))?;
    assert_eq!(open_sources(&server)?, [].into());
    Ok(())
}
