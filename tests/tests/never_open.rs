//! Thousands of attempts a second, over IPv4 and IPv6: none succeeds, whatever becomes of the
//! daemon and whatever others do to its table. Where the table has no owner there is a gap, which
//! is measured; who slips in does not stay.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use spa_tests::Result;
use spa_tests::lab::{Stormed, fail, not_shown};
use spa_tests::product::{Server, Service, Settings, Site};
use spa_tests::wait::{SOON, until};

/// What others may do at any time.
const FOREIGN: [&str; 4] = [
    "flush ruleset",
    "delete table inet spad",
    "flush ruleset\n\
     add table inet filter\n\
     add chain inet filter input { type filter hook input priority 0; policy accept; }\n\
     add rule inet filter input tcp dport 22 accept",
    "add table inet foreign\n\
     add chain inet foreign raw { type filter hook prerouting priority -400; }\n\
     add rule inet foreign raw tcp dport 22 notrack",
];

fn unowned() -> Settings {
    let more = "[firewall]\nown-table = false\n".to_owned();
    Settings { more, ..Settings::default() }
}

/// What came of the storms of both families while this happened.
fn stormed_while(site: &Site, happens: impl FnOnce() -> Result) -> Result<Vec<Stormed>> {
    let addresses = [site.server.v4()?, site.server.v6()?];
    let storms: Vec<_> = addresses
        .into_iter()
        .map(|address| site.stranger.storm((address, 22)))
        .collect::<Result<_>>()?;
    happens()?;
    let stormed = storms.into_iter().map(|storm| storm.finish()).collect::<Result<Vec<_>>>()?;
    println!("{stormed:?}");
    Ok(stormed)
}

fn nothing_slips_in_while(site: &Site, happens: impl FnOnce() -> Result) -> Result {
    let before = site.server.passive_opens()?;
    let start = Instant::now();
    for stormed in stormed_while(site, happens)? {
        assert_eq!(stormed.open, 0, "{stormed:?}");
        assert!(stormed.tries > 1000, "{stormed:?}");
        println!("{} tries in {:?}", stormed.tries, start.elapsed());
    }
    assert_eq!(site.server.passive_opens()?, before, "the server's own count");
    Ok(())
}

/// The control for all that follows: the storm finds an open port, and its connections live.
#[test]
fn the_storm_finds_an_open_port() -> Result {
    let site = Site::new()?;
    let stormed = stormed_while(&site, || {
        sleep(Duration::from_millis(300));
        Ok(())
    })?;
    assert!(stormed.iter().all(|s| s.open > 0 && s.alive > 0), "{stormed:?}");
    Ok(())
}

#[test]
fn never_open_while_the_daemon_comes_and_goes() -> Result {
    for settings in [Settings::default(), unowned()] {
        let site = Site::new()?;
        let mut server = site.spad_with(&settings)?;
        nothing_slips_in_while(&site, || {
            server.spad(&["reload"])?.ok()?;
            server.spad(&["stop"])?.ok()?;
            server.start()?;
            server.kill9()?;
            server.spad(&["close"])?.ok()?;
            server.start()?;
            server.restart()?;
            server.spad(&["reload"])?.ok()?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn never_open_while_the_configuration_changes() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let web = Service { name: "web", port: 8080, ..Service::SSH };
    let with = |more: &str| Settings { more: more.to_owned(), ..Settings::default() };
    nothing_slips_in_while(&site, || {
        for settings in [
            Settings::with_services(&[Service::SSH, web]),
            with("[firewall]\nmax-grants = 100\n"),
            with("[firewall]\nmode = \"managed\"\n"),
            with("[firewall]\nwidths-ipv4 = [28, 20]\ngrant-destination = \"any\"\n"),
            with("[service.all]\nports = [\"1000-2000\", \"3000\"]\n"),
            Settings::default(),
        ] {
            server.configure(&settings)?;
            server.spad(&["reload"])?.ok()?;
            server.write_config("nonsense")?;
            assert!(!server.spad(&["reload"])?.success());
        }
        Ok(())
    })
}

#[test]
fn never_open_whatever_others_do_to_a_table_with_an_owner() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    if !server.status()?["ruleset"]["owned"].as_bool().unwrap_or_default() {
        return not_shown("this kernel knows no owners that persist");
    }
    nothing_slips_in_while(&site, || {
        for commands in FOREIGN.iter().cycle().take(20) {
            // The kernel refuses some.
            site.server.nft(&format!("{commands}\n"))?;
        }
        Ok(())
    })?;
    assert_eq!(server.status()?["ruleset"]["repairs"], 0, "there was nothing to repair");
    Ok(())
}

/// Waits until the kernel has this many grants, and gives the time since then.
fn until_back(site: &Site, grants: usize, since: Instant) -> Result<Duration> {
    until("the grants are back", SOON, || {
        let table = site.server.run(["nft", "list", "table", "inet", "spad"])?;
        Ok(table.stdout.matches("expires").count() >= grants)
    })?;
    Ok(since.elapsed())
}

#[test]
fn without_an_owner_the_gap_is_short_and_nobody_who_slipped_in_stays() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&unowned())?;
    let alice = site.client(&server, "alice")?;
    let before = site.open(&server, &alice, &["--ttl", "2m"])?;
    let mut session = site.client.hold((site.address(), 22))?;
    let mut worst = Duration::ZERO;
    let stormed = stormed_while(&site, || {
        for commands in FOREIGN.iter().cycle().take(12) {
            let start = Instant::now();
            site.server.nft(&format!("{commands}\n"))?.ok()?;
            worst = worst.max(until_back(&site, 1, start)?);
            sleep(Duration::from_millis(50));
        }
        Ok(())
    })?;
    // As long as somebody's notrack is there, sessions stand still.
    site.server.nft("delete table inet foreign\n")?.ok()?;
    let repairs = server.status()?["ruleset"]["repairs"].as_u64().unwrap_or_default();
    println!("table and grant back within {worst:?} at worst, in {repairs} repairs");
    assert!(repairs >= 9 && worst < Duration::from_secs(1), "{repairs} repairs, {worst:?}");
    for stormed in &stormed {
        assert_eq!(stormed.alive, 0, "who slipped in is out again: {stormed:?}");
    }
    let after = server.grants()?;
    assert_eq!(after.len(), 1);
    assert!(after[0].expires_in < before.expires_in, "with the time that was left");
    let status = server.status()?;
    assert_eq!(status["ruleset"]["in_force"], true, "{status}");
    assert!(session.is_alive("still"), "through a grant");
    assert!(site.reaches(&site.client, 22)? && !site.reaches(&site.stranger, 22)?);
    Ok(())
}

/// The gap of a single removal, seen by who tries to get in.
#[test]
fn the_gap_of_one_removal_is_measured() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&unowned())?;
    let mut gaps = Vec::new();
    for round in 1..=5 {
        let stormed = stormed_while(&site, || {
            sleep(Duration::from_millis(100));
            site.server.nft("delete table inet spad\n")?.ok()?;
            until("it is put back", SOON, || Ok(server.status()?["ruleset"]["repairs"] == round))?;
            Ok(())
        })?;
        gaps.extend(stormed);
    }
    let longest = gaps.iter().map(|stormed| stormed.gap).max().unwrap_or_default();
    let open: Vec<_> = gaps.iter().map(|stormed| stormed.open).collect();
    println!("slipped in, for each removal and family: {open:?}; longest gap {longest:?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(gaps.iter().all(|stormed| stormed.alive == 0), "{gaps:?}");
    Ok(())
}

/// The daemon is held up while others change so much that the kernel drops its notifications.
#[test]
fn lost_notifications_are_made_up_for() -> Result {
    let site = Site::new()?;
    let mut server = site.spad_with(&unowned())?;
    let alice = site.client(&server, "alice")?;
    let before = site.open(&server, &alice, &["--ttl", "2m"])?;
    server.process()?.signal(Signal::SIGSTOP)?;
    let sets = (0..500).map(|n| format!("add set inet flood s{n} {{ type ipv4_addr; }}\n"));
    let flood =
        format!("table inet flood {{ }}\n{}delete table inet flood\n", sets.collect::<String>());
    for _ in 0..20 {
        site.server.nft(&flood)?.ok()?;
    }
    site.server.nft("delete table inet spad\n")?.ok()?;
    let mut slipped = site.stranger.hold((site.address(), 22))?;
    assert!(slipped.is_alive("in"), "control");
    let start = Instant::now();
    server.process()?.resume()?;
    let took = until_back(&site, 1, start)?;
    println!("back {took:?} after it could see again");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(server.log().contains("faster than we read"), "it was so: {}", server.log());
    assert!(!slipped.is_alive("out"));
    let after = server.grants()?;
    assert!(after.len() == 1 && after[0].expires_in < before.expires_in, "{after:?}");
    assert!(!site.reaches(&site.stranger, 22)?);
    Ok(())
}

/// The kernel lets everybody flush a table whose owner has died. The next start shuts the port,
/// and whoever has come in meanwhile is out.
#[test]
fn who_came_in_after_an_orphaned_table_was_flushed_is_out_at_the_next_start() -> Result {
    for settings in [Settings::default(), unowned()] {
        let site = Site::new()?;
        let mut server = site.spad_with(&settings)?;
        let alice = site.client(&server, "alice")?;
        site.open(&server, &alice, &["--ttl", "2m"])?;
        let mut granted = site.client.hold((site.address(), 22))?;
        server.kill9()?;
        site.server.nft("flush ruleset\n")?.ok()?;
        let mut slipped = site.stranger.hold((site.address(), 22))?;
        assert!(slipped.is_alive("in"), "control: nobody is there to put it back");
        server.start()?;
        assert!(!slipped.is_alive("out"));
        assert!(granted.is_alive("still"), "through a grant");
        assert!(!site.reaches(&site.stranger, 22)?);
        assert!(server.log().contains("somebody has removed our table"), "{}", server.log());
        assert_consistent(&site, &server)?;
    }
    Ok(())
}

/// What is listed is what is open.
fn assert_consistent(site: &Site, server: &Server) -> Result {
    let listed = !server.grants()?.is_empty();
    if site.reaches(&site.client, 22)? == listed { Ok(()) } else { fail("listed is not open") }
}
