//! The table in the kernel: made, held, found changed, put back, taken over;
//! and grants in it. Everything happens in network namespaces of the test's own.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::{Host, at, element, isolated, plan, service, ssh_only, unowned};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use spad::firewall::ruleset::{Rule, Statement};
use spad::firewall::{
    Element, Event, Firewall, FirewallError, Options, Origin, Plan, Protocol, Terms, Watch, rules,
};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

fn refusal<T>(result: Result<T, FirewallError>) -> FirewallError {
    result.err().expect("an error")
}

/// The only element's time, which has to be there.
fn left(firewall: &mut Firewall) -> Duration {
    let elements = firewall.elements().expect("elements");
    assert_eq!(elements.len(), 1, "{elements:?}");
    elements[0].1
}

fn about(time: Duration, seconds: u64) -> bool {
    let wanted = Duration::from_secs(seconds);
    // A busy machine may take its time before it looks.
    time <= wanted && time + Duration::from_secs(15) > wanted
}

#[test]
fn table_is_made_owned_and_read_back() {
    isolated("table_is_made_owned_and_read_back", || {
        let host = Host::new();
        let (firewall, installed) = host.firewall(Options::default(), &ssh_only());
        assert_eq!((installed.origin, installed.warnings), (Origin::Created, Vec::new()));
        assert!(firewall.owned());
        firewall.verify().expect("no drift");
    });
}

#[test]
fn nobody_else_can_touch_an_owned_table() {
    isolated("nobody_else_can_touch_an_owned_table", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        host.sh("nft flush ruleset");
        for command in [
            "delete table inet spad",
            "flush table inet spad",
            "flush chain inet spad guard",
            "insert rule inet spad guard accept",
            "add element inet spad window4_ssh { 192.0.2.1 timeout 1h }",
            "add table inet spad { flags dormant; }",
        ] {
            let complaint = host.try_sh(&format!("nft \"{command}\"")).expect_err(command);
            assert!(
                complaint.contains("not permitted") || complaint.contains("not supported"),
                "{command}: {complaint}"
            );
        }
        firewall.verify().expect("no drift");
        firewall.grant(&element("192.0.2.1"), MINUTE).expect("a grant after all that");
    });
}

#[test]
fn table_survives_its_owner_and_is_adopted() {
    isolated("table_survives_its_owner_and_is_adopted", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        firewall.grant(&element("192.0.2.1"), MINUTE).expect("a grant");
        drop(firewall);
        assert!(!host.listed("inet spad").is_empty());
        sleep(Duration::from_secs(1));

        let (mut firewall, installed) = host.firewall(Options::default(), &ssh_only());
        assert_eq!(installed.origin, Origin::Adopted);
        assert!(firewall.owned());
        let left = left(&mut firewall);
        assert!(about(left, 60) && left < MINUTE - Duration::from_millis(900), "{left:?}");
        host.try_sh("nft delete table inet spad").expect_err("owned again");
    });
}

#[test]
fn saved_and_restored_table_is_taken_over() {
    isolated("saved_and_restored_table_is_taken_over", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        firewall.grant(&element("192.0.2.1"), MINUTE).expect("a grant");
        firewall.grant(&element("2001:db8::1"), MINUTE).expect("a grant");
        drop(firewall);
        // nft 1.0.6 saves flags that it cannot read again.
        let saved = host.sh("nft list ruleset | grep -v -P '^\\tflags'");
        host.delete_when_free();
        host.nft(&saved);
        host.sh("nft add chain inet spad left_over; nft add element inet spad window4_ssh '{ 192.0.2.9 }'");

        let (mut firewall, installed) = host.firewall(Options::default(), &ssh_only());
        assert_eq!(installed.origin, Origin::Adopted);
        assert!(firewall.owned());
        let mut elements = firewall.elements().expect("elements");
        elements.sort();
        let sources: Vec<_> = elements.iter().map(|(e, _)| e.source_text()).collect();
        assert_eq!(sources, ["192.0.2.1", "2001:db8::1"], "that without an end is gone");
        assert!(elements.iter().all(|(_, left)| about(*left, 60)), "{elements:?}");
    });
}

#[test]
fn table_of_somebody_else_is_left_alone() {
    isolated("table_of_somebody_else_is_left_alone", || {
        for theirs in ["", "comment \"my own\"\n chain mine { }\n", "chain mine { }\n"] {
            let host = Host::new();
            host.nft(&format!("table inet spad {{\n{theirs}\n}}\n"));
            let before = host.listed("inet spad");
            let mut firewall = host.run(Firewall::open).expect("a firewall");
            let error = refusal(host.run(|| firewall.install(&ssh_only())));
            assert!(matches!(error, FirewallError::NotOurs { .. }), "{error}");
            assert_eq!(host.listed("inet spad"), before);
        }
    });
}

#[test]
fn second_owner_is_refused() {
    isolated("second_owner_is_refused", || {
        let host = Host::new();
        let first = host.guarded();
        let mut second = host.run(Firewall::open).expect("a firewall");
        let error = refusal(host.run(|| second.install(&ssh_only())));
        assert!(matches!(error, FirewallError::OwnedByOther { .. }), "{error}");
        first.verify().expect("no drift");
        drop(first);
        host.install_when_free(&mut second, &ssh_only());
    });
}

#[test]
fn reload_changes_rules_and_keeps_elements() {
    isolated("reload_changes_rules_and_keeps_elements", || {
        for options in [Options::default(), unowned()] {
            let host = Host::new();
            let (mut firewall, _) = host.firewall(options, &ssh_only());
            firewall.grant(&element("192.0.2.1"), MINUTE).expect("a grant");
            let more = Plan {
                services: vec![
                    service("ssh", Protocol::Tcp, &[(22, 22)]),
                    service("vpn", Protocol::Udp, &[(500, 510)]),
                ],
                ..plan()
            };
            // Another size makes sets that have to be made anew.
            for set_size in [65536, 1000, 1000] {
                let ruleset = rules::ruleset(&Plan { set_size, ..more.clone() });
                let installed = host.run(|| firewall.install(&ruleset)).expect("a reload");
                assert_eq!(installed.origin, Origin::Reloaded);
                assert!(about(left(&mut firewall), 60));
                let expected = host
                    .sh("nft list set inet spad window4_ssh")
                    .contains(&format!("size {set_size}"));
                assert!(expected, "size {set_size}");
            }
        }
    });
}

#[test]
fn refused_ruleset_changes_nothing_and_is_named() {
    isolated("refused_ruleset_changes_nothing_and_is_named", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        let before = host.listed("inet spad");
        let mut broken = ssh_only();
        let nowhere = Statement::Jump("nowhere".to_owned());
        broken.chains.iter_mut().filter(|c| c.name == "guard").for_each(|c| {
            c.rules.push(Rule { statements: vec![nowhere.clone()], comment: String::new() })
        });
        let error = refusal(host.run(|| firewall.install(&broken))).to_string();
        assert!(error.contains("'guard'") && error.contains("jump nowhere"), "{error}");
        assert_eq!(host.listed("inet spad"), before);
        firewall.verify().expect("the old ruleset is in force");
        firewall.grant(&element("192.0.2.1"), MINUTE).expect("no answer is left over");
    });
}

#[test]
fn foreign_changes_are_reported_and_own_ones_are_not() {
    isolated("foreign_changes_are_reported_and_own_ones_are_not", || {
        let host = Host::new();
        let mut firewall = host.run(|| Firewall::open_with(unowned())).expect("a firewall");
        let mut watch = host.run(|| Watch::open(&firewall)).expect("a watch");
        host.run(|| firewall.install(&ssh_only())).expect("a ruleset");
        firewall.grant(&element("192.0.2.1"), MINUTE).expect("a grant");
        host.nft("table inet theirs { chain spad { }\n set spad { type ipv4_addr; }\n }\ntable ip spad { }\n");
        assert_eq!(events(&mut watch), [], "ours, and theirs elsewhere");
        for (change, reported) in [
            ("add element inet spad window4_ssh '{ 192.0.2.9 timeout 1h }'", Event::Elements),
            ("delete element inet spad window4_ssh '{ 192.0.2.1 }'", Event::Elements),
            ("insert rule inet spad guard accept", Event::Ruleset),
            ("add chain inet spad theirs", Event::Ruleset),
            ("add table inet spad '{ flags dormant; }'", Event::Ruleset),
            ("flush ruleset", Event::Ruleset),
        ] {
            host.sh(&format!("nft {change}"));
            assert!(events(&mut watch).contains(&reported), "{change}");
        }
    });
}

#[test]
fn own_changes_do_not_wake_the_watch() {
    isolated("own_changes_do_not_wake_the_watch", || {
        let host = Host::new();
        let (mut firewall, _) = host.firewall(unowned(), &ssh_only());
        let watch = host.run(|| Watch::open(&firewall)).expect("a watch");
        let readable = || {
            let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(100_u8)).expect("poll") > 0
        };
        firewall.grant(&element("192.0.2.1"), MINUTE).expect("a grant");
        firewall.withdraw(&[element("192.0.2.1")]).expect("taken back");
        host.run(|| firewall.install(&ssh_only())).expect("a ruleset");
        assert!(!readable(), "ours");
        host.nft("add element inet spad window4_ssh { 192.0.2.9 timeout 1h }");
        assert!(readable(), "theirs");
    });
}

/// What is reported until nothing has come for a moment.
fn events(watch: &mut Watch) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(100_u8)).expect("poll") == 0 {
            return events;
        }
        events.extend(watch.events().expect("events"));
    }
}

#[test]
fn lost_notifications_are_reported() {
    isolated("lost_notifications_are_reported", || {
        let host = Host::new();
        let (firewall, _) = host.firewall(unowned(), &ssh_only());
        let mut watch = host.run(|| Watch::open(&firewall)).expect("a watch");
        let sets: String =
            (0..500).map(|n| format!("add set inet flood s{n} {{ type ipv4_addr; }}\n")).collect();
        for _ in 0..20 {
            host.nft(&format!("table inet flood {{ }}\n{sets}delete table inet flood\n"));
        }
        assert!(events(&mut watch).contains(&Event::Lost));
        host.sh("nft flush ruleset");
        assert_eq!(events(&mut watch), [Event::Ruleset], "and it goes on");
    });
}

#[test]
fn several_grants_are_added_together_or_not_at_all() {
    isolated("several_grants_are_added_together_or_not_at_all", || {
        let host = Host::new();
        let small = rules::ruleset(&Plan { set_size: 1500, ..plan() });
        let (mut firewall, _) = host.firewall(Options::default(), &small);
        let grant = |n: u32| (element(&Ipv4Addr::from(0x0b00_0000 + n).to_string()), MINUTE);
        let all: Vec<_> = (0..1600).map(grant).collect();
        let count = |firewall: &mut Firewall| firewall.elements().expect("elements").len();
        let refused = refusal(firewall.grant_all(&all));
        assert!(matches!(refused, FirewallError::SetFull { .. }), "{refused}");
        assert_eq!(count(&mut firewall), 0, "none of them");
        firewall.grant_all(&all[..1500]).expect("as many as there is room for");
        assert_eq!(count(&mut firewall), 1500);
        firewall.grant_all(&all[700..1500]).expect("extended, though it is full");
        let others =
            [element("2001:db8::1"), Element { terms: Terms::Once, ..element("192.0.2.1") }];
        firewall.grant_all(&others.map(|other| (other, MINUTE))).expect("other sets");
        assert_eq!(count(&mut firewall), 1502);
        let late = [(all[0].0, MINUTE), (all[1].0, Duration::ZERO)];
        assert!(firewall.grant_all(&late).is_err(), "the time of one is over");
    });
}

#[test]
fn new_grants_are_added_alone_and_extend_what_is_there() {
    isolated("new_grants_are_added_alone_and_extend_what_is_there", || {
        let host = Host::new();
        let small = rules::ruleset(&Plan { set_size: 2, ..plan() });
        let (mut firewall, _) = host.firewall(Options::default(), &small);
        let grant = |source: &str, seconds| (element(source), Duration::from_secs(seconds));
        firewall.grant_new(&[grant("192.0.2.1", 20)]).expect("a new one");
        assert!(about(left(&mut firewall), 20));
        firewall.grant_new(&[grant("192.0.2.1", 90)]).expect("it was there");
        assert!(about(left(&mut firewall), 90));
        let both = [grant("192.0.2.1", 10), grant("192.0.2.2", 10)];
        firewall.grant_new(&both).expect("one of them was there");
        assert!(firewall.elements().expect("elements").iter().all(|(_, left)| about(*left, 10)));
        let refused = refusal(firewall.grant_new(&[grant("192.0.2.3", 10)]));
        assert!(matches!(refused, FirewallError::SetFull { .. }), "{refused}");
        assert!(firewall.grant_new(&[grant("192.0.2.1", 0)]).is_err(), "its time is over");
        firewall.grant_new(&[grant("2001:db8::1", 1)]).expect("a new one");
        sleep(Duration::from_millis(1100));
        firewall.grant_new(&[grant("2001:db8::1", 1)]).expect("that has ended by itself");
    });
}

#[test]
fn grant_is_added_extended_shortened_withdrawn() {
    isolated("grant_is_added_extended_shortened_withdrawn", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        for source in ["192.0.2.1", "2001:db8::1"] {
            let element = element(source);
            for seconds in [20, 90, 10] {
                firewall.grant(&element, Duration::from_secs(seconds)).expect("a grant");
                assert!(about(left(&mut firewall), seconds), "{source} {seconds}");
            }
            let other = Element { terms: Terms::Once, ..element };
            firewall.withdraw(&[other, element, element]).expect("the one that is there goes");
            firewall.withdraw(&[element]).expect("nothing to do");
            assert_eq!(firewall.elements().expect("elements"), []);
        }
        firewall.withdraw(&[]).expect("nothing to do");
        let error = refusal(firewall.grant(&element("192.0.2.1"), Duration::from_micros(900)));
        assert!(matches!(error, FirewallError::BadElement(_)), "{error}");
    });
}

#[test]
fn grant_ends_by_itself() {
    isolated("grant_ends_by_itself", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        firewall.grant(&element("192.0.2.1"), Duration::from_millis(300)).expect("a grant");
        drop(firewall);
        sleep(Duration::from_millis(400));
        let (mut firewall, _) = host.firewall(Options::default(), &ssh_only());
        assert_eq!(firewall.elements().expect("elements"), []);
    });
}

#[test]
fn full_set_refuses_and_keeps_what_it_has() {
    isolated("full_set_refuses_and_keeps_what_it_has", || {
        let host = Host::new();
        let small = rules::ruleset(&Plan { set_size: 2, ..plan() });
        let (mut firewall, _) = host.firewall(Options::default(), &small);
        for source in ["192.0.2.1", "192.0.2.2"] {
            firewall.grant(&element(source), MINUTE).expect("room");
        }
        let error = refusal(firewall.grant(&element("192.0.2.3"), MINUTE));
        assert!(
            matches!(&error, FirewallError::SetFull { set } if set == "window4_ssh"),
            "{error}"
        );
        assert_eq!(firewall.elements().expect("elements").len(), 2);
        firewall.grant(&element("192.0.2.2"), 2 * MINUTE).expect("extending needs no room");
        firewall.grant(&element("2001:db8::1"), MINUTE).expect("the other family has its own");
        firewall.withdraw(&["192.0.2.9", "192.0.2.1"].map(element)).expect("room again");
        firewall.grant(&element("192.0.2.3"), MINUTE).expect("room again");
    });
}

/// Grants for the first so many addresses of a network.
fn fill(firewall: &mut Firewall, grants: u32) {
    for n in 0..grants {
        let element = element(&Ipv4Addr::from(0x0a00_0000 + n).to_string());
        firewall.grant(&element, 10 * MINUTE).expect("a grant");
    }
}

#[test]
fn twenty_thousand_grants_are_listed_and_survive() {
    isolated("twenty_thousand_grants_are_listed_and_survive", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        fill(&mut firewall, 20_000);
        let began = Instant::now();
        let elements = firewall.elements().expect("elements");
        println!("20000 elements listed in {:?}", began.elapsed());
        assert_eq!(elements.len(), 20_000);
        assert!(elements.iter().all(|(_, left)| about(*left, 600) || *left > 9 * MINUTE));
        drop(firewall);
        let (mut firewall, _) = host.firewall(Options::default(), &ssh_only());
        assert_eq!(firewall.elements().expect("elements").len(), 20_000);
    });
}

#[test]
fn many_grants_move_to_a_set_of_another_size() {
    isolated("many_grants_move_to_a_set_of_another_size", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        fill(&mut firewall, 3000);
        let larger = rules::ruleset(&Plan { set_size: 70_000, ..plan() });
        host.run(|| firewall.install(&larger)).expect("a reload");
        assert_eq!(firewall.elements().expect("elements").len(), 3000);
    });
}

#[test]
fn without_the_privilege_opening_says_so() {
    const INNER: &str = "SPAD_TEST_WITHOUT_PRIVILEGE";
    if std::env::var_os(INNER).is_some() {
        let error = refusal(Firewall::open());
        assert!(matches!(error, FirewallError::NoPermission), "{error}");
        return;
    }
    // A new user namespace has no privilege over the network that it began in.
    let status = Command::new("unshare")
        .arg("--user")
        .arg(std::env::current_exe().expect("own path"))
        .args(["--exact", "without_the_privilege_opening_says_so"])
        .env(INNER, "1")
        .status();
    assert!(status.expect("unshare").success());
}

#[test]
fn connections_from_before_are_found_once() {
    isolated("connections_from_before_are_found_once", || {
        let host = Host::new();
        host.echo(&[22, 80]);
        let sessions = ["127.0.0.1:22", "[::1]:22", "127.0.0.1:80"].map(|to| host.connect(at(to)));
        assert!(sessions.iter().all(Option::is_some));
        let (mut firewall, installed) = host.firewall(unowned(), &ssh_only());
        assert_eq!((installed.existing, &installed.warnings), (2, &Vec::new()));
        let in_kernel =
            || host.sh("nft list set inet spad existing4; nft list set inet spad existing6");
        assert!(
            in_kernel().contains("127.0.0.1 . 22 expires")
                && in_kernel().contains("::1 . 22 expires"),
            "{}",
            in_kernel()
        );

        // Somebody gets in while the table is gone: not kept. Those of the start are.
        host.sh("nft flush ruleset");
        let late = host.connect(at("127.0.0.1:22"));
        assert!(late.is_some());
        let installed = host.run(|| firewall.install(&ssh_only())).expect("a repair");
        assert_eq!((installed.origin, installed.existing), (Origin::Restored, 2));
        assert_eq!(in_kernel().matches("expires").count(), 2);
    });
}
