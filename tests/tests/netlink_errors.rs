//! The kernel refuses, or drops what it had to tell: others commit to the packet filter at the same
//! time, our table goes away under a grant, notifications overflow. What the kernel refuses is not
//! granted; what was lost is looked at anew.
//!
//! Overflowing notifications of the packet filter are in `never_open.rs`, those of connection
//! tracking in `spad/tests/firewall_flows.rs`, full sets in `scale.rs`. What no kernel can be
//! brought to say on demand, such as that it has no memory for an element, is put into its mouth;
//! see `src/lab/netlink.c`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use spa_tests::Result;
use spa_tests::lab::{LabError, Netlink, Output, Privilege, fail, not_shown};
use spa_tests::product::{
    Client, Health, KNOCK_PORT, Knocker, SERVER_NAME, Server, Settings, Site, knocker,
};
use spa_tests::wait::{SOON, until};

/// What somebody else may do to our table where it has no owner: take it, empty it, add to it what
/// keeps parts of it in use (which the kernel calls busy), let somebody in.
const FOREIGN: [&str; 6] = [
    "delete table inet spad",
    "flush table inet spad",
    "add chain inet spad mine\n\
     add map inet spad sends { type ipv4_addr : verdict; }\n\
     add element inet spad sends { 192.0.2.1 : jump mine }\n\
     add rule inet spad guard_input ip saddr vmap @sends",
    "add chain inet spad mine\n\
     add rule inet spad mine ip saddr . ip daddr @window4_ssh counter\n\
     add rule inet spad guard_input jump mine",
    "add element inet spad window4_ssh { STRANGER . SERVER timeout 1h }",
    "flush ruleset",
];

/// How often all of [`FOREIGN`] is done.
const TIMES: usize = 5;

fn unowned() -> Settings {
    let more = "[firewall]\nown-table = false\n".to_owned();
    Settings { more, ..Settings::default() }
}

/// Does all of [`FOREIGN`] some times, each at the same moment as a knock.
fn commit_while_knocking(site: &Site, alice: &Client) -> Result {
    for commands in FOREIGN.iter().cycle().take(TIMES * FOREIGN.len()) {
        let commands = commands
            .replace("STRANGER", &site.stranger.v4()?.to_string())
            .replace("SERVER", &site.server.v4()?.to_string());
        // The kernel refuses some.
        std::thread::scope(|scope| {
            let commits = scope.spawn(|| site.server.nft(&format!("{commands}\n")));
            let knocks = alice.knock(&[]).and_then(Output::ok);
            commits.join().unwrap_or_else(|_| fail("nft panicked"))?;
            knocks
        })?;
        // One that is over her budget is not judged, and would work when it is sent again.
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

#[test]
fn others_who_commit_at_the_same_time_open_nothing_and_keep_nobody_out() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&unowned())?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    let open = server.descriptors()?;
    let capture = site.client.capture()?;
    let repairs = || Ok::<_, LabError>(server.status()?["ruleset"]["repairs"].clone());
    let before = repairs()?;
    commit_while_knocking(&site, &alice)?;
    println!("repairs: {before} before, {} after", repairs()?);
    assert_ne!(repairs()?, before, "there was something to repair");
    until("all is well", SOON, || Ok(server.spad(&["status"])?.success()))?;
    until("the last knocks are dealt with", SOON, || {
        let refused = server.counter("firewall")?;
        sleep(Duration::from_millis(100));
        Ok(server.counter("firewall")? == refused)
    })?;
    println!("refused by the kernel: {}", server.counter("firewall")?);
    health.nothing_opens(&server, "after all of it")?;
    server.spad(&["revoke", "alice"])?.ok()?;
    // Granted, refused by the kernel, or granted and taken away again: none works once more.
    let knocks = capture.wait_for_udp(KNOCK_PORT, TIMES * FOREIGN.len())?;
    assert_eq!(server.counter("over-budget")?, 0, "all of them were judged");
    let granted = server.counter("granted")?;
    health.play(&server, &knocks)?;
    assert_eq!(server.counter("granted")?, granted, "of {} knocks played back", knocks.len());
    assert_eq!(server.grants()?, []);
    health.served_within(SOON, &server, &alice, "alice")?;
    health.all_is_well(&server, open, "and served again")
}

/// However many knocks are waiting to be judged: the table is put back before more than those that
/// are judged together. When it is deleted they must still be waiting: tried until they were.
#[test]
fn a_queue_of_knocks_does_not_hold_up_a_repair() -> Result {
    const ATTEMPTS: u32 = 10;
    let site = Site::new()?;
    let mut server = site.spad_with(&unowned())?;
    for attempt in 0..ATTEMPTS {
        if let Some(refused) = repaired_before_a_queue(&site, &mut server, attempt)? {
            println!("{refused} refused before the table was back, in attempt {attempt}");
            assert!(refused <= 2 * TOGETHER, "{refused} knocks came before the repair");
            assert!(!site.reaches(&site.stranger, 22)?);
            return Ok(());
        }
    }
    fail("no knocks were waiting when the table was deleted")
}

/// How many knocks are judged in one turn of the warden.
const TOGETHER: u64 = 32;

/// Deletes the table while knocks are waiting. How many of them were refused on account of that;
/// `None` where all had been judged before.
fn repaired_before_a_queue(
    site: &Site,
    server: &mut Server<'_>,
    attempt: u32,
) -> Result<Option<u64>> {
    const CLIENTS: u32 = 30;
    // Of one moment no more are remembered.
    const BURST: u32 = 16;
    let known = (attempt + 1) * CLIENTS;
    let knockers =
        (known - CLIENTS..known).map(|n| Knocker::new(server, n)).collect::<Result<Vec<_>>>()?;
    until("they are known", SOON, || Ok(server.status()?["clients"] == known))?;
    let (to, now) = (SocketAddr::new(site.address(), KNOCK_PORT), knocker::now()?);
    let each = |number: u32| {
        let source = Ipv4Addr::from(0x0b00_0001 + number);
        knockers[(number % CLIENTS) as usize].knock(source, to, now, number)
    };
    let knocks = (0..CLIENTS * BURST).map(each).collect::<Result<Vec<_>>>()?;
    let before = (server.counter("firewall")?, server.counter("granted")?);
    while_it_stands_still(server, || {
        site.client.send_udp(&knocks)?;
        sleep(Duration::from_millis(500));
        Ok(())
    })?;
    // While it works them off.
    site.server.nft("delete table inet spad\n")?.ok()?;
    let repairs = u64::from(attempt) + 1;
    until(
        "the table is back",
        SOON * 10,
        || Ok(server.status()?["ruleset"]["repairs"] == repairs),
    )?;
    let judged = || Ok::<_, LabError>(server.counter("granted")? + server.counter("firewall")?);
    let then = judged()? - before.0 - before.1;
    let all = u64::from(CLIENTS * BURST);
    until("all are judged", SOON * 10, || Ok(judged()? - before.0 - before.1 == all))?;
    let refused = server.counter("firewall")? - before.0;
    Ok((then < all).then_some(refused))
}

/// An element in one of our sets that spad has not put there is a door that somebody else has
/// opened.
#[test]
fn a_grant_that_somebody_else_makes_is_taken_out() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&unowned())?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    let open = server.descriptors()?;
    site.open(&server, &alice, &["--ttl", "1m"])?;
    let (stranger, own) = (site.stranger.v4()?, site.server.v4()?);
    let add = format!("add element inet spad window4_ssh {{ {stranger} . {own} timeout 1h }}\n");
    site.server.nft(&add)?.ok()?;
    until("it is taken out", SOON, || Ok(!site.reaches(&site.stranger, 22)?))?;
    assert!(server.log().contains("grants that spad did not make"), "{}", server.log());
    assert!(site.reaches(&site.client, 22)?, "what spad has made stays");
    health.all_is_well(&server, open, "afterwards")
}

/// Holds the daemon up while this happens, so that the kernel cannot tell it everything.
fn while_it_stands_still(server: &mut Server, happens: impl FnOnce() -> Result) -> Result {
    server.process()?.signal(Signal::SIGSTOP)?;
    let happened = happens();
    server.process()?.resume()?;
    happened
}

#[test]
fn addresses_that_came_while_notifications_were_lost_are_known() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    let open = server.descriptors()?;
    let new = IpAddr::from([10, 0, 0, 77]);
    while_it_stands_still(&mut server, || {
        let passing = (0..3000).map(|n| {
            let address = format!("10.9.{}.{}/32 dev eth0", n / 250, n % 250 + 1);
            format!("address add {address}\naddress del {address}\n")
        });
        site.server.ip(&passing.collect::<String>())?;
        let drops = site.server.sh("awk '$2 == 0 && $9 > 0' /proc/net/netlink")?.text().to_owned();
        assert!(!drops.is_empty(), "control: the kernel has dropped notifications");
        site.server.ip(&format!("address add {new}/24 dev eth0\n"))
    })?;
    site.refused(&server, &alice, &["--source", &new.to_string()], "not-grantable")?;
    health.served_at_once(&server, &alice, "alice")?;
    health.all_is_well(&server, open, "afterwards")
}

/// Devices that come and go may hide the one event that says "this machine was restored": where
/// events are lost, it is taken for said, and the stated wait begins.
#[test]
fn lost_news_of_the_machine_is_treated_as_bad_news() -> Result {
    let site = Site::new()?;
    let clock = site.lab.clock()?;
    let settings = Settings { tolerance: "10s", ..Settings::default() };
    let mut server = Server::new(&site.server, SERVER_NAME, &settings)?;
    server.start_by(&clock)?;
    let alice = site.client(&server, "alice")?.by(&clock);
    let bob = site.client(&server, "bob")?.by(&clock);
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    let open = server.descriptors()?;
    site.grant(&server, &alice, &["--ttl", "5m"])?;
    let events = "for i in $(seq 5000); do echo change > /sys/class/net/lo/uevent; done";
    let mut told = true;
    while_it_stands_still(&mut server, || {
        // In a user namespace, or where /sys is masked, there are no such events.
        told = site.server.sh(events)?.success() && site.lab.privilege() == Privilege::Root;
        Ok(())
    })?;
    if told {
        let why = "the machine was restored from a snapshot";
        until("it fears the worst", SOON, || Ok(server.log().contains(why)))?;
        assert!(server.grants()?.is_empty(), "their addresses may be of long ago");
        assert!(server.log().contains("machine restored"), "{}", server.log());
        site.refused(&server, &alice, &[], "before-start")?;
        // That he has never knocked may have been rolled back too.
        site.refused(&server, &bob, &[], "before-start")?;
        clock.set(120)?;
    } else {
        not_shown("this user gets no news of devices")?;
    }
    health.nothing_opens(&server, "afterwards")?;
    health.served_at_once(&server, &alice, "alice")?;
    health.served_at_once(&server, &bob, "bob")?;
    health.all_is_well(&server, open, "served again")
}

/// What the kernel says of a commit that it has not done; and the last, with which it says nothing
/// of one that it has done.
const ERRORS: [Errno; 4] = [Errno::EBUSY, Errno::ENOSPC, Errno::ENOMEM, Errno::ENOBUFS];

/// A daemon whose kernel refuses when it is told to, and a client that has knocked before.
fn refusable(site: &Site) -> Result<(Server<'_>, Netlink, Client<'_>, Health<'_>)> {
    let kernel = site.lab.netlink()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    server.start_on(&kernel)?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(site)?;
    health.served_at_once(&server, &alice, "alice")?;
    Ok((server, kernel, alice, health))
}

/// Whether the daemon has found something in the kernel that it does not know of, since it had
/// written so much.
fn found_strange(server: &Server, before: usize) -> bool {
    server.log()[before..].contains("grants that spad did not make: taken out")
}

#[test]
fn a_knock_that_the_kernel_does_not_take_opens_nothing_and_the_next_is_served() -> Result {
    let site = Site::new()?;
    let (server, kernel, alice, health) = refusable(&site)?;
    for (round, error) in (1..).zip(ERRORS) {
        let (refused, granted) = (server.counter("firewall")?, server.counter("granted")?);
        let said = server.log().len();
        let knock = site.fresh_knock(&alice, &["--ttl", "5m"])?;
        kernel.fail_next(1, error)?;
        site.client.send_udp(std::slice::from_ref(&knock))?;
        server.wait_for_counter("firewall", refused + 1)?;
        assert_eq!(kernel.failed()?, round, "control: {error} came");
        assert!(server.log()[said..].contains("did not take a grant"), "{error}: {}", server.log());
        assert_eq!(server.grants()?, [], "{error}");
        health.play(&server, &[knock])?;
        // Lists and kernel are compared first, with time for a repair.
        health.nothing_opens(&server, &error.to_string())?;
        assert_eq!(server.counter("granted")?, granted, "{error}: a copy opens nothing");
        assert!(!site.reaches(&site.client, 22)?, "{error}");
        let lost = error == Errno::ENOBUFS;
        assert_eq!(found_strange(&server, said), lost, "{error}: control: what was lost was done");
        let served = health.served_within(SOON, &server, &alice, "alice")?;
        println!("{error}: refused, nothing open, served again {served}");
        assert_eq!(served.knocks, 1, "{error}: the next knock, not a later one");
    }
    health.is_quiet(&server, "afterwards")
}

#[test]
fn a_grant_whose_kernel_does_not_take_more_time_ends_when_it_would_have() -> Result {
    let site = Site::new()?;
    let (server, kernel, alice, health) = refusable(&site)?;
    for error in ERRORS {
        site.grant(&server, &alice, &["--ttl", "50s"])?;
        let refused = server.counter("firewall")?;
        kernel.fail_next(1, error)?;
        alice.knock(&["--ttl", "5m"])?.ok()?;
        server.wait_for_counter("firewall", refused + 1)?;
        let grants = server.grants()?;
        assert!(grants.len() == 1 && grants[0].expires_in.as_secs() < 51, "{error}: {grants:?}");
        // In minutes it would be the time that she was not given.
        let ends = |table: &str| table.contains(" expires ") && !table.contains(" expires 4m");
        until(&format!("{error}: it ends in time"), SOON, || Ok(ends(&server.kernel_table()?)))?;
        assert!(site.reaches(&site.client, 22)?, "{error}: what was granted before stays");
        site.close(&server, "alice")?;
    }
    health.nothing_opens(&server, "after all of it")
}

#[test]
fn a_grant_that_the_kernel_does_not_take_out_is_tried_again_and_goes() -> Result {
    let site = Site::new()?;
    let (server, kernel, alice, health) = refusable(&site)?;
    for error in ERRORS {
        site.open(&server, &alice, &["--ttl", "5m"])?;
        // Also the first attempts to put that right.
        kernel.fail_next(3, error)?;
        let before = kernel.failed()?;
        site.close(&server, "alice")?;
        let what = format!("{error}: it is taken out");
        let took = until(&what, SOON, || Ok(!site.reaches(&site.client, 22)?))?;
        println!("{error}: out after {took:?}");
        assert!(kernel.failed()? > before, "control: {error} came");
        health.nothing_opens(&server, &error.to_string())?;
        kernel.fail_next(0, error)?;
        until("all is well", SOON, || Ok(server.spad(&["status"])?.success()))?;
    }
    health.served_at_once(&server, &alice, "alice")?;
    health.is_quiet(&server, "afterwards")
}

/// What knocks open that are judged together is one commit; where that is refused, each has its
/// own. How many come together, the moment says: with more than one none is refused.
#[test]
fn one_commit_that_the_kernel_does_not_take_keeps_out_one_knock_at_most() -> Result {
    const CLIENTS: u32 = 4;
    let site = Site::new()?;
    let (mut server, kernel, _, health) = refusable(&site)?;
    let knockers = (0..CLIENTS).map(|n| Knocker::new(&server, n)).collect::<Result<Vec<_>>>()?;
    until("they are known", SOON, || Ok(server.status()?["clients"] == CLIENTS + 1))?;
    for (round, error) in (0..).zip(ERRORS) {
        let (to, now) = (SocketAddr::new(site.address(), KNOCK_PORT), knocker::now()?);
        let source = |n: u32| Ipv4Addr::from(0x0b00_0001 + round * CLIENTS + n);
        let knocks = (0..).zip(&knockers);
        let knocks = knocks.map(|(n, knocker)| knocker.knock(source(n), to, now, round * 4 + n));
        let knocks = knocks.collect::<Result<Vec<_>>>()?;
        let (granted, refused) = (server.counter("granted")?, server.counter("firewall")?);
        let listed = server.grants()?.len();
        kernel.fail_next(1, error)?;
        while_it_stands_still(&mut server, || {
            site.client.send_udp(&knocks)?;
            sleep(Duration::from_millis(300));
            Ok(())
        })?;
        let all = u64::from(CLIENTS);
        let counted = || {
            let granted = server.counter("granted")? - granted;
            Ok::<_, LabError>((granted, server.counter("firewall")? - refused))
        };
        until("all are judged", SOON, || counted().map(|(some, others)| some + others == all))?;
        let (granted, refused) = counted()?;
        println!("{error}: {refused} of {all} refused");
        assert!(refused <= 1, "{error}: {refused} refused");
        assert_eq!(server.grants()?.len(), listed + usize::try_from(granted)?, "{error}");
        health.nothing_opens(&server, &error.to_string())?;
    }
    Ok(())
}
