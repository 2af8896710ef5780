//! Many grants, full sets, and floods of junk.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use spa_tests::Result;
use spa_tests::lab::{Datagram, Privilege, not_shown, program};
use spa_tests::product::{
    KNOCK_PORT, Knocker, SERVER_NAME, Server, Service, Settings, Site, knocker,
};
use spa_tests::wait::{SOON, until};

/// How many grants are made, a multiple of [`BURST`]; with 50000 use `--release`.
fn many() -> u32 {
    std::env::var("SPA_MANY_GRANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// For what takes a while on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Knocks of one client that are let through without a pause.
const BURST: u32 = 20;

/// Knocks for so many addresses, and waits until all of them are granted.
fn fill(site: &Site, server: &Server, grants: u32) -> Result {
    let known = clients(server)?;
    let knockers =
        (0..grants / BURST).map(|n| Knocker::new(server, n)).collect::<Result<Vec<_>>>()?;
    until("the daemon knows them", LONG, || Ok(clients(server)? == known + knockers.len() as u64))?;
    let mut numbers = 0..;
    for knockers in knockers.chunks(25) {
        let before = server.counter("granted")?;
        let knocks = knocks(site, knockers, &mut numbers)?;
        site.client.send_udp(&knocks)?;
        let granted = before + knocks.len() as u64;
        until("they are granted", LONG, || Ok(server.counter("granted")? == granted))?;
    }
    Ok(())
}

fn clients(server: &Server) -> Result<u64> {
    Ok(server.status()?["clients"].as_u64().unwrap_or_default())
}

/// As many of each as are let through at once, each for another address.
fn knocks(
    site: &Site,
    knockers: &[Knocker],
    numbers: &mut impl Iterator<Item = u32>,
) -> Result<Vec<Datagram>> {
    let to = SocketAddr::new(site.address(), KNOCK_PORT);
    let all = knockers.iter().flat_map(|knocker| (0..BURST).map(move |later| (knocker, later)));
    let source = |number| Ipv4Addr::from(FIRST_SOURCE + number);
    let now = knocker::now()?;
    let time = |later: u32| now.plus(Duration::from_millis(later.into()));
    all.zip(numbers)
        .map(|((one, later), number)| one.knock(source(number), to, time(later), later))
        .collect()
}

/// 11.0.0.1, which nobody has here.
const FIRST_SOURCE: u32 = 0x0b00_0001;

fn an_hour(more: &str) -> Settings {
    let ssh = Service { ttl: "1h", max_ttl: "1h", ..Service::SSH };
    Settings { more: more.into(), ..Settings::with_services(&[ssh]) }
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let done = work()?;
    println!("{what}: {:?}", began.elapsed());
    Ok(done)
}

/// How long it takes to list the grants, five times, without what the lab adds.
fn listing_times(server: &Server) -> Result<String> {
    let (spad, config) = (program("spad")?, server.config_path());
    let list = format!("{} grants --json --config {}", spad.display(), config.display());
    let timed = format!(
        "for i in 1 2 3 4 5; do a=$(date +%s%N); {list} > /dev/null; b=$(date +%s%N); \
         echo $(((b - a) / 1000000)); done"
    );
    Ok(server.host().sh(&timed)?.ok()?.stdout.replace('\n', " "))
}

#[test]
fn many_grants_are_listed_and_survive_the_daemon() -> Result {
    let site = Site::new()?;
    let mut server = site.spad_with(&an_hour(""))?;
    let alice = site.client(&server, "alice")?;
    timed("the first knock, granted and used", || site.open(&server, &alice, &[]))?;
    let grants = many();
    timed(&format!("{grants} more"), || fill(&site, &server, grants))?;
    println!("spad grants --json, in milliseconds: {}", listing_times(&server)?);
    assert_eq!(server.grants()?.len() as u64, u64::from(grants) + 1);
    timed("revoking one", || server.spad(&["revoke", "alice"])?.ok())?;
    timed("one more, granted and used", || site.open(&server, &alice, &[]))?;
    server.kill9()?;
    timed("started again with all of them", || server.start())?;
    assert_eq!(server.grants()?.len() as u64, u64::from(grants) + 1);
    assert!(site.reaches(&site.client, 22)? && !site.reaches(&site.stranger, 22)?);
    Ok(())
}

#[test]
fn a_full_set_refuses_and_leaves_the_others() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&an_hour("[firewall]\nmax-grants = 2\n"))?;
    let clients = ["alice", "bob", "carol"].map(|name| site.client(&server, name));
    let [alice, bob, carol] = clients;
    let (alice, bob, carol) = (alice?, bob?, carol?);
    site.grant(&server, &alice, &["--source", "10.0.0.51"])?;
    site.grant(&server, &bob, &["--source", "10.0.0.52"])?;
    for _ in 0..3 {
        site.refused(&server, &carol, &[], "full")?;
    }
    assert!(!site.reaches(&site.client, 22)?, "refused");
    let told = server.log().lines().filter(|line| line.contains("full")).count();
    assert_eq!(told, 1, "once: {}", server.log());
    let sources: Vec<_> = server.grants()?.into_iter().map(|grant| grant.source).collect();
    assert_eq!(sources, [51, 52].map(|n| IpAddr::from([10, 0, 0, n])), "untouched");

    site.grant(&server, &alice, &["--source", "10.0.0.51"])?;
    server.spad(&["revoke", "bob"])?.ok()?;
    site.open(&server, &carol, &[])?;
    Ok(())
}

#[test]
fn a_burst_fills_a_set_to_the_last_place_and_no_further() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&an_hour("[firewall]\nmax-grants = 33\n"))?;
    let knockers = [Knocker::new(&server, 1)?, Knocker::new(&server, 2)?];
    until("the daemon knows them", LONG, || Ok(clients(&server)? == 2))?;
    // Twice each source: what is there already is extended, whatever is full.
    let knocks = knocks(&site, &knockers, &mut (0..20).chain(0..20))?;
    site.client.send_udp(&knocks)?;
    until("they are granted", LONG, || Ok(server.counter("granted")? == 40))?;
    let rest = self::knocks(&site, &[Knocker::new(&server, 3)?], &mut (20..40))?;
    until("the daemon knows it", LONG, || Ok(clients(&server)? == 3))?;
    site.client.send_udp(&rest)?;
    until("all have their verdict", LONG, || {
        Ok(server.counter("granted")? + server.counter("full")? == 60)
    })?;
    assert_eq!(server.counter("granted")?, 40 + 13, "one does not stand in another's way");
    let grants = server.grants()?;
    let sources: BTreeSet<_> = grants.iter().map(|g| g.source).collect();
    assert_eq!((grants.len(), sources.len()), (40 + 13, 33));
    Ok(())
}

/// Counts what could be an answer.
const ANSWERS: &str = "table inet answers { chain in { type filter hook input priority 0;
    icmp type destination-unreachable counter
    icmpv6 type destination-unreachable counter
    udp sport 1-65535 counter
}
}
";

#[test]
fn junk_and_knocks_leave_no_entry_and_get_no_answer() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    for host in [&site.stranger, &site.client] {
        host.nft(ANSWERS)?.ok()?;
    }
    let before = site.server.conntrack_count()?;
    for (seed, address) in (1..).zip([site.server.v4()?, site.server.v6()?]) {
        site.stranger.send_junk((address, KNOCK_PORT).into(), 50_000, seed)?;
        site.client.set_name(SERVER_NAME, &[address])?;
        site.grant(&server, &alice, &[])?;
        site.refused(&server, &alice, &["--service", "web"], "unknown-service")?;
    }
    assert_eq!(site.server.conntrack_count()?, before, "no entry");
    for host in [&site.stranger, &site.client] {
        let counters = host.run(["nft", "list", "table", "inet", "answers"])?.ok()?.stdout;
        assert_eq!(counters.matches("packets 0 bytes 0").count(), 3, "{counters}");
    }
    println!("knock-sized junk that the daemon saw: {}", server.counter("unknown-client")?);

    // The control: a port that nobody drops.
    site.stranger.send_junk((site.server.v4()?, KNOCK_PORT + 1).into(), 10, 1)?;
    assert!(site.server.conntrack_count()? > before, "conntrack is at work");
    Ok(())
}

/// How much junk to send: every other is as long as a knock, and a few more by chance.
fn with_the_right_length(count: u32) -> u32 {
    2 * count
}

/// Lets this come while the gatekeeper is held up.
fn while_held_up(server: &Server, come: impl FnOnce() -> Result) -> Result {
    let pid = server.status()?["processes"][1]["pid"].clone();
    server.host().sh(&format!("kill -STOP {pid}"))?.ok()?;
    let came = come();
    server.host().sh(&format!("kill -CONT {pid}"))?.ok()?;
    came
}

#[test]
fn of_ten_thousand_packets_in_a_burst_none_is_lost() -> Result {
    const JUNK: u32 = 9_900;
    let site = Site::new()?;
    if site.lab.privilege() != Privilege::Root {
        return not_shown("only who is root on the host itself may let so many wait");
    }
    let server = site.spad_with(&an_hour(""))?;
    let knockers =
        (0..5).map(|number| Knocker::new(&server, number)).collect::<Result<Vec<_>>>()?;
    until("the daemon knows them", LONG, || Ok(clients(&server)? == knockers.len() as u64))?;
    let knocks = knocks(&site, &knockers, &mut (0..))?;
    let to = SocketAddr::new(site.address(), KNOCK_PORT);
    while_held_up(&server, || {
        site.stranger.send_junk(to, with_the_right_length(JUNK), 1)?;
        site.client.send_udp(&knocks)
    })?;
    until(
        "all knocks are granted",
        LONG,
        || Ok(server.counter("granted")? == knocks.len() as u64),
    )?;
    assert!(server.counter("unknown-client")? >= u64::from(JUNK), "all the junk before them");
    assert_eq!(server.counter("lost")?, 0);
    Ok(())
}

#[test]
fn what_finds_no_room_is_counted() -> Result {
    const JUNK: u32 = 40_000;
    let site = Site::new()?;
    let server = site.spad()?;
    let to = SocketAddr::new(site.address(), KNOCK_PORT);
    while_held_up(&server, || site.stranger.send_junk(to, with_the_right_length(JUNK), 2))?;
    let counted = |reason| server.counter(reason);
    until("all have come to an end", SOON, || {
        Ok(counted("lost")? + counted("unknown-client")? >= u64::from(JUNK))
    })?;
    let lost = counted("lost")?;
    println!("{lost} of {JUNK} lost");
    assert!(lost > 0);
    let status = server.spad(&["status"])?.ok()?;
    assert!(status.stdout.contains(&format!("lost {lost}")), "{status}");
    assert_eq!(counted("lost")?, lost, "counted once");
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}
