//! A table beyond the process that made it: shut from what was kept, taken out,
//! put back where nobody owned it, and never a way in for those who came while
//! it was gone.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::{Host, Net, alive, at, element, isolated, plan, ssh_only, unowned};
use nix::libc::{AF_NETLINK, EPROTONOSUPPORT, NETLINK_NETFILTER};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use spad::firewall::{Drift, Firewall, FirewallError, Options, Origin, Plan, Saved, rules};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const SERVER: [&str; 2] = ["10.0.1.1:22", "[2001:db8:1::1]:22"];

fn saved(options: Options) -> Saved {
    let saved = Saved::of(&ssh_only(), options).expect("a ruleset");
    // The way that it goes in life.
    Saved::from_bytes(&saved.to_bytes()).expect("sound")
}

/// As `spad close` does: a process that comes, shuts, and goes.
fn close(host: &Host, options: Options) {
    let saved = saved(options);
    let mut firewall = host.run(|| Firewall::open_with(saved.options())).expect("a firewall");
    let began = std::time::Instant::now();
    while let Err(error) = host.run(|| firewall.install_saved(&saved)) {
        let free_soon = matches!(error, FirewallError::OwnedByOther { .. });
        assert!(free_soon && began.elapsed() < firewall_lab::PATIENCE, "{error}");
    }
}

fn start(host: &Host, options: Options) -> (Firewall, Origin, usize) {
    let (firewall, installed) = host.firewall(options, &ssh_only());
    (firewall, installed.origin, installed.existing)
}

#[test]
fn what_was_kept_is_what_was_installed() {
    isolated("what_was_kept_is_what_was_installed", || {
        for options in [Options::default(), unowned()] {
            let (one, other) = (Host::new(), Host::new());
            let _firewall = one.firewall(options, &ssh_only());
            close(&other, options);
            assert_eq!(other.listed("inet spad"), one.listed("inet spad"));
        }
    });
}

#[test]
fn what_was_kept_shuts_and_lets_nothing_existing_in() {
    isolated("what_was_kept_shuts_and_lets_nothing_existing_in", || {
        for options in [Options::default(), unowned()] {
            let net = Net::new();
            let sessions = SERVER.map(|to| net.client.connect(at(to)).expect("open"));
            close(&net.server, options);
            assert!(SERVER.iter().all(|to| net.client.shut_out(at(to))));

            let (mut firewall, origin, existing) = start(&net.server, options);
            assert_eq!((origin, existing), (Origin::Adopted, 0));
            assert!(sessions.iter().all(|session| !is_alive(session)), "not the first start");
            firewall.grant(&element("10.0.1.2"), MINUTE).expect("a grant");
            assert!(net.client.reaches(at(SERVER[0])) && net.client.shut_out(at(SERVER[1])));
        }
    });
}

/// Whether something comes back soon.
fn is_alive(mut stream: &std::net::TcpStream) -> bool {
    use std::io::{Read, Write};
    stream.set_read_timeout(Some(firewall_lab::SOON)).expect("a timeout");
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut [0; 5]).is_ok()
}

/// As after a boot at which somebody has loaded a saved `nft list ruleset`.
#[test]
fn grants_in_a_table_that_was_left_go() {
    isolated("grants_in_a_table_that_was_left_go", || {
        let host = Host::new();
        let (mut firewall, ..) = start(&host, Options::default());
        firewall.grant(&element("192.0.2.1"), MINUTE).expect("a grant");
        drop(firewall);
        close(&host, Options::default());
        let (mut firewall, origin, _) = start(&host, Options::default());
        assert_eq!(origin, Origin::Adopted);
        assert_eq!(firewall.elements().expect("elements"), []);
    });
}

#[test]
fn what_was_kept_does_not_touch_the_table_of_somebody_else() {
    isolated("what_was_kept_does_not_touch_the_table_of_somebody_else", || {
        let host = Host::new();
        host.nft("table inet spad {\nchain mine { }\n}\n");
        let before = host.listed("inet spad");
        let mut firewall = host.run(Firewall::open).expect("a firewall");
        let saved = saved(Options::default());
        let error = host.run(|| firewall.install_saved(&saved)).expect_err("not ours");
        assert!(matches!(error, FirewallError::NotOurs { .. }), "{error}");
        let error = host.run(|| firewall.remove()).expect_err("not ours");
        assert!(matches!(error, FirewallError::NotOurs { .. }), "{error}");
        assert_eq!(host.listed("inet spad"), before);
    });
}

#[test]
fn nothing_slips_in_while_what_was_kept_replaces_what_was_left() {
    isolated("nothing_slips_in_while_what_was_kept_replaces_what_was_left", || {
        let net = Net::new();
        drop(start(&net.server, unowned()));
        let probe = firewall_lab::Probe::on(&net.server);
        let [client, server] = ["10.0.1.2", "10.0.1.1"].map(|ip| ip.parse().expect("an address"));
        let syns: Vec<_> = (2000..2500)
            .map(|port| {
                let syn = firewall_lab::raw::tcp((client, port), (server, 22), 0x02);
                firewall_lab::raw::ip(client, server, 6, &syn)
            })
            .collect();
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| (0..50).for_each(|_| close(&net.server, unowned())));
            while !closing.is_finished() {
                net.send(&probe, &net.client, &syns);
            }
        });
        assert_eq!(probe.count("tcp"), 0);
    });
}

#[test]
fn removing_leaves_the_kernel_as_it_was() {
    isolated("removing_leaves_the_kernel_as_it_was", || {
        for options in [Options::default(), unowned()] {
            let net = Net::new();
            net.server
                .nft("table inet theirs { chain c { type filter hook input priority 0\n }\n }\n");
            let before = net.server.sh("nft list ruleset");
            let (mut firewall, ..) = start(&net.server, options);
            firewall.grant(&element("192.0.2.1"), MINUTE).expect("a grant");
            assert!(net.client.shut_out(at(SERVER[0])));
            assert!(net.server.run(|| firewall.remove()).expect("out"));
            assert_eq!(net.server.sh("nft list ruleset"), before);
            assert!(net.client.reaches(at(SERVER[0])));
            assert!(matches!(firewall.verify(), Err(Drift::Unreadable(_))), "nothing to repair");
            assert!(!net.server.run(|| firewall.remove()).expect("nothing left to do"));
        }
    });
}

/// A table that nobody owns any more goes with `nft flush ruleset`.
#[test]
fn those_who_came_while_the_table_was_gone_go_when_it_is_back() {
    isolated("those_who_came_while_the_table_was_gone_go_when_it_is_back", || {
        for (running, keep) in [(true, true), (false, false), (false, true)] {
            let net = Net::new();
            let (mut firewall, ..) = start(&net.server, unowned());
            net.server.sh("nft flush ruleset");
            let came = SERVER.map(|to| net.client.connect(at(to)).expect("open"));
            if running {
                let installed = net.server.run(|| firewall.install(&ssh_only())).expect("back");
                assert_eq!((installed.origin, installed.existing), (Origin::Restored, 0));
            } else {
                drop(firewall);
                let options = Options { existing: keep, ..unowned() };
                (firewall, ..) = start(&net.server, options);
            }
            // A first start keeps what is there: the control.
            let lives = !running && keep;
            assert!(came.iter().all(|session| is_alive(session) == lives), "{running} {keep}");
            assert!(SERVER.iter().all(|to| net.client.shut_out(at(to))));
            drop(firewall);
        }
    });
}

#[test]
fn connections_through_a_grant_outlive_the_table() {
    isolated("connections_through_a_grant_outlive_the_table", || {
        let net = Net::new();
        let (mut firewall, ..) = start(&net.server, unowned());
        firewall.grant(&element("10.0.1.2"), MINUTE).expect("a grant");
        let session = net.client.connect(at(SERVER[0])).expect("granted");
        drop(firewall);
        net.server.sh("nft flush ruleset");
        close(&net.server, unowned());
        assert!(alive(&session), "its label is the connection's, not the table's");
        assert!(net.client.shut_out(at(SERVER[0])), "the grant is gone");
    });
}

/// One that the kernel of today refuses, as after a downgrade.
#[test]
fn what_the_kernel_refuses_changes_nothing() {
    isolated("what_the_kernel_refuses_changes_nothing", || {
        let host = Host::new();
        let services =
            vec![firewall_lab::service("web", spad::firewall::Protocol::Tcp, &[(80, 80)])];
        drop(host.firewall(unowned(), &rules::ruleset(&Plan { services, ..plan() })));
        let before = host.listed("inet spad");
        let mut ruleset = ssh_only();
        let jump = spad::firewall::ruleset::Statement::Jump("nowhere".to_owned());
        ruleset.chains[0].rules[0].statements.push(jump);
        let broken = Saved::of(&ruleset, unowned()).expect("it can be written");
        let mut firewall = host.run(|| Firewall::open_with(unowned())).expect("a firewall");
        let error = host.run(|| firewall.install_saved(&broken)).expect_err("no such chain");
        assert!(error.to_string().contains("of the ruleset that was kept"), "{error}");
        assert_eq!(host.listed("inet spad"), before);
    });
}

/// The answer of a kernel that was built without netfilter's netlink.
#[test]
fn kernel_without_nf_tables_is_named() {
    let error = std::thread::spawn(|| {
        refuse_netfilter();
        Firewall::open().err().expect("an error")
    });
    let error = error.join().expect("a thread");
    assert!(matches!(error, FirewallError::NoNfTables(_)), "{error}");
    assert!(error.to_string().contains("CONFIG_NF_TABLES"), "{error}");
}

/// For this thread, `socket(AF_NETLINK, _, NETLINK_NETFILTER)` is not supported.
fn refuse_netfilter() {
    let is = |argument, value: i32| {
        let value = u64::try_from(value).expect("a number");
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    };
    let conditions = [is(0, AF_NETLINK), is(2, NETLINK_NETFILTER)];
    let conditions = conditions.into_iter().collect::<Result<_, _>>().expect("conditions");
    let rule = SeccompRule::new(conditions).expect("a rule");
    let filter = SeccompFilter::new(
        [(nix::libc::SYS_socket, vec![rule])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(EPROTONOSUPPORT.unsigned_abs()),
        std::env::consts::ARCH.try_into().expect("a known machine"),
    );
    let program: seccompiler::BpfProgram = filter.expect("a filter").try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("in force");
}
