//! The whole firewall of a host against packets: what comes in and what does
//! not, and that the host keeps its neighbours, its connections and its guard.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::raw::{self, ICMP, SYN, TCP, UDP};
use firewall_lab::{
    Host, Net, PATIENCE, Probe, SOON, alive, at, element, isolated, network, plan, service,
    ssh_only, unowned,
};
use spad::firewall::plan::{Access, KnownHelper, Managed, Mode};
use spad::firewall::{Firewall, Options, Origin, Plan, Protocol, rules};
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
const SERVER: [&str; 2] = ["10.0.1.1", "[2001:db8:1::1]"];
const CLIENT: [&str; 2] = ["10.0.1.2", "2001:db8:1::2"];
const CLIENTS_WEB: [&str; 2] = ["10.0.1.2:80", "[2001:db8:1::2]:80"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// ssh for those who knock, port 80 and UDP port 500 for everyone.
fn managed() -> Plan {
    let public = |name, protocol, port| {
        let mut service = service(name, protocol, &[(port, port)]);
        service.access = Access::Public(None);
        service
    };
    let ssh = service("ssh", Protocol::Tcp, &[(22, 22)]);
    let others = [public("web", Protocol::Tcp, 80), public("vpn", Protocol::Udp, 500)];
    Plan { mode: Mode::Managed, services: [&[ssh][..], &others].concat(), ..plan() }
}

fn manage(host: &Host, plan: &Plan) -> Firewall {
    host.firewall(Options::default(), &rules::ruleset(plan)).0
}

#[test]
fn nothing_but_what_was_named_comes_in() {
    isolated("nothing_but_what_was_named_comes_in", || {
        let net = Net::new();
        net.client.echo(&[80]);
        for to in SERVER {
            assert!(net.client.reaches(at(&format!("{to}:2222"))), "{to} without a firewall");
        }
        let mut firewall = manage(&net.server, &managed());
        for (to, source) in SERVER.into_iter().zip(CLIENT) {
            let (ssh, web, other) = (format!("{to}:22"), format!("{to}:80"), format!("{to}:2222"));
            assert!(net.client.shut_out(at(&ssh)) && net.client.shut_out(at(&other)), "{to}");
            assert!(net.client.reaches(at(&web)) && net.stranger.reaches(at(&web)), "{to}");
            firewall.grant(&element(source), MINUTE).expect("a grant");
            let session = net.client.connect(at(&ssh)).expect("open to the granted");
            assert!(net.client.shut_out(at(&other)), "{to}: a grant is for its service");
            assert!(net.stranger.shut_out(at(&ssh)), "{to}: and for its holder");
            firewall.withdraw(&[element(source)]).expect("the end of the grant");
            assert!(alive(&session) && net.client.shut_out(at(&ssh)), "{to}");
            assert!(!net.client.udp_echo(0, at(&other), SOON), "{to}: UDP");
        }
        for to in CLIENTS_WEB {
            assert!(net.server.reaches(at(to)) && net.server.udp_echo(0, at(to), PATIENCE), "{to}");
        }
        assert!(net.server.reaches(at("127.0.0.1:2222")) && net.server.reaches(at("[::1]:22")));
        assert!(net.server.reaches(at("10.0.1.1:2222")), "own address from inside");
    });
}

#[test]
fn what_is_refused_is_refused_without_a_word() {
    isolated("what_is_refused_is_refused_without_a_word", || {
        let net = Net::new();
        let probe = Probe::on(&net.server);
        net.server.nft("table inet said { chain out { type filter hook output priority 300; \n tcp flags rst counter comment \"reset\"\n }\n }\n");
        let send = || {
            for (client, server) in
                CLIENT.map(ip).into_iter().zip([ip("10.0.1.1"), ip("2001:db8:1::1")])
            {
                let segment = raw::tcp((client, 7000), (server, 9), SYN);
                let datagram = raw::udp((client, 7000), (server, 9), b"x");
                let packets = [(TCP, segment), (UDP, datagram)];
                let packets = packets.map(|(kind, data)| raw::ip(client, server, kind, &data));
                net.send(&probe, &net.client, &packets);
            }
            let unreachable = probe.count("unreachable4") + probe.count("unreachable6");
            (unreachable, net.server.counted("inet said", "reset"))
        };
        assert_eq!(send(), (2, 2), "without a firewall");
        let _firewall = manage(&net.server, &managed());
        assert_eq!(send(), (2, 2));
        let remembered = net.server.sh("conntrack -L 2>/dev/null");
        assert!(!remembered.contains("dport=9 "), "{remembered}");
    });
}

#[test]
fn trusted_networks_reach_everything() {
    isolated("trusted_networks_reach_everything", || {
        let net = Net::new();
        let trusted = vec![network("10.0.1.0", 24), network("2001:db8:1::", 64)];
        let _firewall = manage(&net.server, &Plan { trusted, ..managed() });
        for to in ["10.0.1.1:22", "10.0.1.1:2222", "[2001:db8:1::1]:22", "[2001:db8:1::1]:2222"] {
            assert!(net.client.reaches(at(to)), "{to}");
            assert!(net.stranger.shut_out(at(to)), "{to}");
        }
    });
}

#[test]
fn neighbours_find_each_other() {
    isolated("neighbours_find_each_other", || {
        let net = Net::new();
        net.client.echo(&[80]);
        let _firewall = manage(&net.server, &managed());
        for _ in 0..2 {
            for host in [&net.server, &net.client] {
                host.sh("ip -6 neigh flush all; ip neigh flush all");
            }
            assert!(net.client.reaches(at("[2001:db8:1::1]:80")), "the client asks");
            net.server.sh("ip -6 neigh flush all; ip neigh flush all");
            assert!(net.server.reaches(at("[2001:db8:1::2]:80")), "the server asks");
            net.client.sh("ping -6 -c1 -W5 2001:db8:1::1; ping -c1 -W5 10.0.1.1");
        }
    });
}

/// The question comes from no address at all.
#[test]
fn an_address_in_use_is_defended() {
    isolated("an_address_in_use_is_defended", || {
        let net = Net::new();
        let _firewall = manage(&net.server, &managed());
        net.client.sh("sysctl -qw net.ipv6.conf.c0.accept_dad=1 net.ipv6.conf.all.accept_dad=1\n\
             ip addr add 2001:db8:1::1/64 dev c0");
        let began = Instant::now();
        while !net.client.sh("ip -6 addr show dev c0").contains("dadfailed") {
            assert!(began.elapsed() < PATIENCE, "nobody has said that it is in use");
            sleep(Duration::from_millis(50));
        }
    });
}

/// A server sends them to an address that is not there yet, from one that no
/// route leads back to; for connection tracking they answer nothing.
#[test]
fn answers_of_dhcp_servers_come_in() {
    isolated("answers_of_dhcp_servers_come_in", || {
        let net = Net::new();
        net.server.echo(&[68, 546]);
        let _firewall = manage(&net.server, &managed());
        let link_local = "ip -6 -o addr show dev s1 scope link | awk '{print $4}' | cut -d/ -f1";
        let index =
            net.client.sh("cat /sys/class/net/c0/ifindex || ip -o link show c0 | cut -d: -f1");
        let link_local = net.server.sh(link_local);
        let to6 = format!("[{}%{}]:546", link_local.trim(), index.trim());
        assert!(net.client.udp_echo(67, at("10.0.1.1:68"), PATIENCE));
        assert!(net.client.udp_echo(547, at(&to6), PATIENCE), "{to6}");
        assert!(!net.client.udp_echo(7000, at("10.0.1.1:68"), SOON), "not from a server");
        assert!(!net.client.udp_echo(547, at("[2001:db8:1::1]:546"), SOON), "not from the link");
        net.server.nft("table inet seen { chain in { type filter hook input priority 300; \n udp dport 68 counter comment \"answers\"\n }\n }\n");
        let probe = Probe::on(&net.server);
        for (from, to) in [("10.0.1.2", "255.255.255.255"), ("198.51.100.1", "10.0.1.1")] {
            let answer = raw::udp((ip(from), 67), (ip(to), 68), b"x");
            net.send(&probe, &net.client, &[raw::ip(ip(from), ip(to), UDP, &answer)]);
        }
        assert_eq!(net.server.counted("inet seen", "answers"), 2);
    });
}

#[test]
fn pings_are_answered_but_no_flood_of_them() {
    isolated("pings_are_answered_but_no_flood_of_them", || {
        let net = Net::new();
        let trusted = vec![network("10.0.2.0", 24)];
        let _firewall = manage(&net.server, &Plan { trusted, ..managed() });
        let answered = |host: &Host, to: &str| {
            let text = host.sh(&format!("ping -q -c 300 -i 0.002 -W 2 {to} || true"));
            let words: Vec<_> = text.split_whitespace().collect();
            let at = words.iter().position(|word| *word == "received,").expect("a summary");
            words[at - 1].parse::<u32>().expect("a number")
        };
        for to in ["10.0.1.1", "2001:db8:1::1"] {
            let flood = answered(&net.client, to);
            assert!((20..250).contains(&flood), "{to}: {flood} of 300");
        }
        assert_eq!(answered(&net.stranger, "10.0.2.1"), 300, "trusted, right behind the flood");
    });
}

#[test]
fn path_mtu_is_learnt() {
    isolated("path_mtu_is_learnt", || {
        let net = Net::new();
        net.client.echo(&[80]);
        let _firewall = manage(&net.server, &managed());
        let probe = Probe::on(&net.server);
        let session = net.server.connect(at("10.0.1.2:80")).expect("a connection outwards");
        let (from, to) = (session.local_addr().expect("an end"), ip("10.0.1.2"));
        let segment = raw::tcp((from.ip(), from.port()), (to, 80), raw::ACK);
        let too_big = raw::icmp_too_big(&raw::ip(from.ip(), to, TCP, &segment), 1300);
        net.send(&probe, &net.client, &[raw::ip(to, from.ip(), ICMP, &too_big)]);
        assert_eq!(probe.count("icmp"), 1);
        // What quotes a connection that is not there belongs to nothing.
        let segment = raw::tcp((from.ip(), 9), (to, 9), raw::ACK);
        let lie = raw::icmp_too_big(&raw::ip(from.ip(), to, TCP, &segment), 1300);
        net.send(&probe, &net.client, &[raw::ip(to, from.ip(), ICMP, &lie)]);
        assert_eq!(probe.count("icmp"), 1);
    });
}

#[test]
fn sources_that_lie_are_dropped() {
    isolated("sources_that_lie_are_dropped", || {
        for strict in [false, true] {
            let net = Net::new();
            let names = if strict { vec!["s2".to_owned()] } else { Vec::new() };
            let managed =
                Plan { managed: Managed { strict: names, ..Managed::default() }, ..managed() };
            // Without a default route no way leads back to anybody else.
            let _firewall = manage(&net.server, &managed);
            let probe = Probe::on(&net.server);
            net.server.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.s2.rp_filter=0");
            let arrives = |from: &str, to: &str| {
                let (from, to) = (ip(from), ip(to));
                let before = probe.count("udp");
                let datagram = raw::udp((from, 7000), (to, 500), b"x");
                net.send(&probe, &net.stranger, &[raw::ip(from, to, UDP, &datagram)]);
                probe.count("udp") > before
            };
            for (own, neighbours, to, elsewhere) in [
                ("10.0.2.2", CLIENT[0], "10.0.2.1", "198.51.100.1"),
                ("2001:db8:2::2", CLIENT[1], "2001:db8:2::1", "2001:db8:99::1"),
            ] {
                assert!(arrives(own, to), "{own}");
                assert_eq!(arrives(neighbours, to), !strict, "{neighbours} by another cable");
                assert!(!arrives(elsewhere, to), "{elsewhere}: there is no way back");
                assert!(!arrives(to, to), "{to}: our own");
            }
        }
    });
}

#[test]
fn broadcasts_come_in_for_public_services_only() {
    isolated("broadcasts_come_in_for_public_services_only", || {
        let net = Net::new();
        let probe = Probe::on(&net.server);
        let plan = managed();
        let _firewall = manage(&net.server, &plan);
        let arrived = |port: u16| {
            let before = probe.count("udp");
            for to in ["10.0.1.255", "255.255.255.255", "224.0.0.1", "ff02::1"] {
                let from = ip(CLIENT[usize::from(to.contains(':'))]);
                let datagram = raw::udp((from, 7000), (ip(to), port), b"x");
                net.send(&probe, &net.client, &[raw::ip(from, ip(to), UDP, &datagram)]);
            }
            probe.count("udp") - before
        };
        assert_eq!((arrived(500), arrived(22)), (4, 0));
    });
}

#[test]
fn connections_from_before_the_first_start_live_on() {
    isolated("connections_from_before_the_first_start_live_on", || {
        let net = Net::new();
        net.client.echo(&[80]);
        let mut sessions = Vec::new();
        for to in SERVER {
            sessions
                .extend([22, 80, 2222].map(|port| net.client.connect(at(&format!("{to}:{port}")))));
        }
        sessions.extend(CLIENTS_WEB.map(|to| net.server.connect(at(to))));
        let sessions: Vec<TcpStream> = sessions.into_iter().flatten().collect();
        assert_eq!(sessions.len(), 8);
        // As where something lets nothing be picked up midway.
        net.server.sh("sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0");
        let (firewall, installed) =
            net.server.firewall(Options::default(), &rules::ruleset(&managed()));
        assert_eq!(installed.existing, 8);
        assert!(sessions.iter().all(alive));
        drop(firewall);
        let _next = manage(&net.server, &managed());
        assert!(sessions.iter().all(alive), "also under the next spad");
        for to in SERVER {
            assert!(net.client.shut_out(at(&format!("{to}:2222"))), "{to}: a new one");
        }
    });
}

#[test]
fn connections_outlive_a_change_of_mode_and_nothing_slips_in() {
    isolated("connections_outlive_a_change_of_mode_and_nothing_slips_in", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        let mut sessions = Vec::new();
        for (to, source) in SERVER.into_iter().zip(CLIENT) {
            firewall.grant(&element(source), MINUTE).expect("a grant");
            sessions.push(net.client.connect(at(&format!("{to}:22"))).expect("granted"));
            firewall.withdraw(&[element(source)]).expect("the end of the grant");
            sessions.push(net.client.connect(at(&format!("{to}:2222"))).expect("not ours"));
        }
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let knocking = SERVER.map(|to| {
                let (net, over) = (&net, &over);
                scope.spawn(move || attempts(&net.stranger, &format!("{to}:22"), over))
            });
            for round in 0..10 {
                let next = if round % 2 == 0 { rules::ruleset(&managed()) } else { ssh_only() };
                let installed = net.server.run(|| firewall.install(&next)).expect("the other mode");
                assert_eq!(installed.origin, Origin::Reloaded);
                assert!(sessions.iter().all(alive), "round {round}");
                let other = net.client.shut_out(at("10.0.1.1:2222"));
                assert_eq!(other, round % 2 == 0, "round {round}");
            }
            over.store(true, Ordering::Relaxed);
            for (tries, open) in knocking.map(|thread| thread.join().expect("its end")) {
                assert!(tries > 10 && open == 0, "{open} of {tries} attempts came in");
            }
        });
    });
}

/// Connects without pause; how often, and how often it came through.
fn attempts(from: &Host, to: &str, over: &AtomicBool) -> (u32, u32) {
    from.run(|| {
        let (mut tries, mut open) = (0, 0);
        while !over.load(Ordering::Relaxed) {
            let tried = TcpStream::connect_timeout(&at(to), Duration::from_millis(20));
            tries += 1;
            open += u32::from(tried.is_ok());
        }
        (tries, open)
    })
}

#[test]
fn helpers_come_and_go_with_the_ruleset() {
    isolated("helpers_come_and_go_with_the_ruleset", || {
        let host = Host::new();
        let with = |helpers: &[KnownHelper]| {
            let managed = Managed { helpers: helpers.into(), ..Managed::default() };
            rules::ruleset(&Plan { managed, ..self::managed() })
        };
        let [ftp, irc, ..] = KnownHelper::ALL;
        let listed = || host.sh("nft list table inet spad");
        let (mut firewall, _) = host.firewall(unowned(), &with(&[ftp, irc]));
        assert!(listed().contains("ct helper ftp") && listed().contains("ct helper irc"));
        let reload = |firewall: &mut Firewall, helpers: &[KnownHelper]| {
            host.run(|| firewall.install(&with(helpers))).expect("a reload");
        };
        reload(&mut firewall, &[irc]);
        assert!(!listed().contains("ct helper ftp") && listed().contains("ct helper irc"));
        host.nft("add counter inet spad theirs");
        host.nft("add ct helper inet spad tftp { type \"tftp\" protocol udp; }");
        let drift = firewall.verify().expect_err("somebody's objects").to_string();
        assert!(drift.contains("'theirs of kind 1' was added"), "{drift}");
        assert!(drift.contains("'tftp' was added"), "{drift}");
        drop(firewall);
        let (firewall, _) = host.firewall(unowned(), &with(&[ftp]));
        assert!(firewall.verify().is_ok());
        assert!(!host.sh("nft list table inet spad").contains("theirs"));
    });
}
