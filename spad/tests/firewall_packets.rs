//! The guard ruleset against packets: what is open, what is shut, and every way
//! around it that we could think of, between hosts of the test's own.

#![allow(clippy::expect_used)]

mod firewall_lab;
use firewall_lab::raw::{self, ACK, FIN, PSH, RST, SYN, TCP, UDP};
use firewall_lab::scene::{CLIENT, MINUTE, SERVER, arrived, ends, inner_host, ip, make_deaf};
use firewall_lab::{
    Host, KNOCK_PORT, Net, PATIENCE, Probe, SOON, alive, at, element, element_of, isolated,
    network, plan, service, ssh_only, unowned,
};
use spad::firewall::{Options, Plan, Protocol, Ruleset, Watch, rules};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[test]
fn shut_to_all_and_open_to_the_granted() {
    isolated("shut_to_all_and_open_to_the_granted", || {
        let net = Net::new();
        for to in SERVER {
            assert!(net.client.reaches(at(to)), "{to} answers without a firewall");
        }
        let mut firewall = net.server.guarded();
        for (to, source) in SERVER.into_iter().zip(CLIENT) {
            assert!(net.client.shut_out(at(to)), "{to} is shut");
            firewall.grant(&element(source), MINUTE).expect("a grant");
            let session = net.client.connect(at(to)).expect("open to the granted");
            assert!(net.stranger.shut_out(at(to)), "{to} is shut to others");
            firewall.withdraw(&[element(source)]).expect("the end of the grant");
            assert!(net.client.shut_out(at(to)), "{to} is shut again");
            assert!(alive(&session), "what was opened before lives on");
        }
        assert!(net.client.reaches(at("10.0.1.1:80")), "no business of ours");
        assert!(net.server.reaches(at("127.0.0.1:22")), "loopback");
        assert!(net.server.reaches(at("10.0.1.1:22")), "own address from inside");
    });
}

#[test]
fn grant_is_for_its_port_and_protocol_only() {
    isolated("grant_is_for_its_port_and_protocol_only", || {
        let net = Net::new();
        let both = vec![
            service("ssh", Protocol::Tcp, &[(22, 22)]),
            service("web", Protocol::Tcp, &[(80, 90)]),
            service("vpn", Protocol::Udp, &[(22, 22)]),
        ];
        let ruleset = rules::ruleset(&Plan { services: both, ..plan() });
        let (mut firewall, _) = net.server.firewall(Options::default(), &ruleset);
        firewall.grant(&element("10.0.1.2"), MINUTE).expect("a grant");
        assert!(net.client.reaches(at("10.0.1.1:22")));
        assert!(net.client.shut_out(at("10.0.1.1:80")));
        assert!(!net.client.udp_echo(0, at("10.0.1.1:22"), SOON));
        let vpn = element_of("vpn", "10.0.1.2");
        firewall.grant(&vpn, MINUTE).expect("a grant");
        assert!(net.client.udp_echo(7000, at("10.0.1.1:22"), PATIENCE));
        firewall.withdraw(&[vpn]).expect("the end of the grant");
        assert!(net.client.udp_echo(7000, at("10.0.1.1:22"), PATIENCE), "the flow goes on");
        assert!(!net.client.udp_echo(7001, at("10.0.1.1:22"), SOON), "another does not begin");
    });
}

/// A server that has entries in conntrack without our table, and a ruleset with a service of UDP.
fn with_flows_from_before() -> (Net, Ruleset) {
    let net = Net::new();
    net.server.nft("table inet theirs { chain pre { type filter hook prerouting priority 0; ct state new counter\n }\n }\n");
    let vpn = vec![service("vpn", Protocol::Udp, &[(22, 22)])];
    (net, rules::ruleset(&Plan { services: vpn, ..plan() }))
}

/// Conntrack cannot label an entry from before labels were in use.
#[test]
fn flow_from_before_can_be_granted_like_any_other() {
    isolated("flow_from_before_can_be_granted_like_any_other", || {
        let (net, ruleset) = with_flows_from_before();
        for (to, source) in SERVER.into_iter().zip(CLIENT) {
            assert!(net.client.udp_echo(7000, at(to), PATIENCE), "{to} without a firewall");
            assert!(net.client.udp_echo(7000, at(&to.replace(":22", ":80")), PATIENCE));
            let (mut firewall, installed) = net.server.firewall(Options::default(), &ruleset);
            assert_eq!(installed.warnings, Vec::<String>::new());
            assert!(!net.client.udp_echo(7000, at(to), SOON), "{to} is shut");
            let granted = element_of("vpn", source);
            firewall.grant(&granted, MINUTE).expect("a grant");
            assert!(net.client.udp_echo(7000, at(to), PATIENCE), "{to} is open");
            firewall.withdraw(&[granted]).expect("the end of the grant");
            assert!(net.client.udp_echo(7000, at(to), PATIENCE), "{to}: the flow goes on");
            drop(firewall);
            let adopted = net.server.firewall(Options::default(), &ruleset);
            assert!(net.client.udp_echo(7000, at(to), PATIENCE), "{to}: also under the next spad");
            drop(adopted);
            net.server.delete_when_free();
        }
        let others = net.server.sh("conntrack -L -p udp --dport 80 2>/dev/null");
        assert!(others.contains("dport=80"), "others are not forgotten: {others}");
    });
}

/// Nor one from while the table was gone, and labels with it.
#[test]
fn flow_from_a_gap_can_be_granted_like_any_other() {
    isolated("flow_from_a_gap_can_be_granted_like_any_other", || {
        let (net, ruleset) = with_flows_from_before();
        let (mut firewall, _) = net.server.firewall(unowned(), &ruleset);
        for (to, source) in SERVER.into_iter().zip(CLIENT) {
            let granted = element_of("vpn", source);
            firewall.grant(&granted, MINUTE).expect("a grant");
            assert!(net.client.udp_echo(7001, at(to), PATIENCE), "{to} is open");
            net.server.sh("nft delete table inet spad");
            assert!(net.client.udp_echo(7000, at(to), PATIENCE), "{to} without a table");
            let installed = firewall.install(&ruleset).expect("the same table again");
            assert_eq!(installed.warnings, Vec::<String>::new());
            assert!(net.client.udp_echo(7001, at(to), PATIENCE), "{to}: who was granted goes on");
            assert!(!net.client.udp_echo(7000, at(to), SOON), "{to} is shut");
            firewall.grant(&granted, MINUTE).expect("a grant");
            assert!(net.client.udp_echo(7000, at(to), PATIENCE), "{to} is open again");
            firewall.withdraw(&[granted]).expect("the end of the grant");
            assert!(net.client.udp_echo(7000, at(to), PATIENCE), "{to}: the flow goes on");
        }
    });
}

#[test]
fn trusted_networks_need_no_grant() {
    isolated("trusted_networks_need_no_grant", || {
        let net = Net::new();
        let trusted = vec![network("10.0.1.0", 30), network("2001:db8:1::", 47)];
        let ruleset = rules::ruleset(&Plan { trusted, ..plan() });
        let _firewall = net.server.firewall(Options::default(), &ruleset);
        for to in SERVER {
            assert!(net.client.reaches(at(to)), "{to}");
            assert!(net.stranger.shut_out(at(to)), "{to}");
        }
    });
}

#[test]
fn link_local_addresses_are_shut_too() {
    isolated("link_local_addresses_are_shut_too", || {
        let net = Net::new();
        let address = "ip -6 -o addr show dev s1 scope link | awk '{print $4}' | cut -d/ -f1";
        let index = net.client.sh("cat /proc/net/dev_snmp6/c0 | awk '/ifIndex/{print $2}'");
        let to = format!("[{}%{}]:22", net.server.sh(address).trim(), index.trim());
        assert!(net.client.reaches(at(&to)), "{to} answers without a firewall");
        let _firewall = net.server.guarded();
        assert!(net.client.shut_out(at(&to)), "{to}");
        // Behind somebody's redirect to elsewhere only the first net sees the port.
        net.server.nft("table inet nat { chain pre { type nat hook prerouting priority -100; \n tcp dport 22 redirect to :2222 \n }\n }\n");
        assert!(net.client.shut_out(at(&to)), "{to} redirected");
    });
}

#[test]
fn notrack_of_others_opens_nothing() {
    isolated("notrack_of_others_opens_nothing", || {
        for priority in [-450, -300] {
            let net = Net::new();
            net.server.nft(&format!("table inet theirs {{ chain pre {{ type filter hook prerouting priority {priority}; notrack\n }}\n chain out {{ type filter hook output priority {priority}; notrack\n }}\n }}\n"));
            assert!(net.client.reaches(at("10.0.1.1:22")));
            let probe = Probe::on(&net.server);
            let _firewall = net.server.guarded();
            let before = probe.count("tcp");
            for to in SERVER {
                assert!(net.client.shut_out(at(to)), "{to} behind notrack at {priority}");
            }
            for flags in [ACK, ACK | PSH, RST, FIN | ACK, SYN | ACK] {
                let [(client, server), _] = ends();
                let segment = raw::tcp((client, 7000), (server, 22), flags);
                net.send(&probe, &net.client, &[raw::ip(client, server, TCP, &segment)]);
            }
            assert_eq!(probe.count("tcp"), before, "notrack at {priority}");
        }
    });
}

/// Packets to the service that are not what they should be, each with a name.
type Odd = (String, Vec<Vec<u8>>);

/// Every combination of TCP flags that `which` picks.
fn flags(client: IpAddr, server: IpAddr, which: impl Fn(u8) -> bool) -> Vec<Vec<u8>> {
    let packet = |flags: u8| {
        let segment = raw::tcp((client, 8000 + u16::from(flags)), (server, 22), flags);
        raw::ip(client, server, TCP, &segment)
    };
    (0..=255).filter(|flags| which(*flags)).map(packet).collect()
}

fn long_syn(client: IpAddr, server: IpAddr) -> Vec<u8> {
    [&raw::tcp((client, 8300), (server, 22), SYN)[..], &[0; 12]].concat()
}

fn fragments(client: IpAddr, server: IpAddr) -> Vec<Odd> {
    let mut odd = Vec::new();
    for cut in [8, 16, 24] {
        let mut pieces = raw::fragments(client, server, TCP, &long_syn(client, server), cut);
        odd.push((format!("fragments cut at {cut}"), pieces.clone()));
        pieces.reverse();
        odd.push((format!("fragments cut at {cut}, last first"), pieces));
    }
    odd
}

fn behind_extension_headers(client: IpAddr, server: IpAddr) -> Vec<Odd> {
    let syn = long_syn(client, server);
    let options = [&[TCP, 0, 1, 4, 0, 0, 0, 0][..], &syn].concat();
    let whole = [&[TCP, 0, 0, 0, 0, 0, 0, 9][..], &syn].concat();
    let packet = |kind, payload: &[u8]| vec![raw::ip(client, server, kind, payload)];
    let cut = |at| raw::fragments(client, server, raw::DESTINATION_OPTIONS, &options, at);
    vec![
        ("hop-by-hop options".into(), packet(raw::HOP_BY_HOP, &options)),
        ("destination options".into(), packet(raw::DESTINATION_OPTIONS, &options)),
        ("one fragment of everything".into(), packet(raw::FRAGMENT, &whole)),
        ("options, cut within TCP".into(), cut(16)),
        ("options, cut before TCP".into(), cut(8)),
    ]
}

#[test]
fn odd_packets_do_not_get_in() {
    isolated("odd_packets_do_not_get_in", || {
        let net = Net::new();
        make_deaf(&net.client);
        let probe = Probe::on(&net.server);
        let mut odd = Vec::new();
        for (client, server) in ends() {
            odd.push(("any flags".into(), flags(client, server, |_| true)));
            odd.extend(fragments(client, server));
        }
        let [_, (client, server)] = ends();
        odd.extend(behind_extension_headers(client, server));
        for (name, packets) in &odd {
            let arrived = arrived(&net, &probe, packets);
            match name.as_str() {
                "any flags" => assert_eq!(arrived, 256),
                // Not even without a firewall: RFC 7112.
                "options, cut before TCP" => assert_eq!(arrived, 0),
                _ => assert!(arrived > 0, "{name}"),
            }
        }
        let _firewall = net.server.guarded();
        for (name, packets) in &odd {
            assert_eq!(arrived(&net, &probe, packets), 0, "{name}");
        }
        // Defragmentation is somebody's notrack away from not happening.
        net.server.nft("table inet theirs { chain pre { type filter hook prerouting priority -450; notrack\n }\n }\n");
        for (name, packets) in &odd {
            assert_eq!(arrived(&net, &probe, packets), 0, "{name}, not tracked");
        }
    });
}

#[test]
fn source_addresses_that_lie_do_not_get_in() {
    isolated("source_addresses_that_lie_do_not_get_in", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        let probe = Probe::on(&net.server);
        firewall.grant(&element("10.0.1.2"), MINUTE).expect("a grant");
        for source in ["10.0.1.1", "10.0.2.1", "127.0.0.1", "10.0.1.255"] {
            let (source, server) = (ip(source), ip("10.0.1.1"));
            let segment = raw::tcp((source, 7000), (server, 22), SYN);
            assert!(
                arrived(&net, &probe, &[raw::ip(source, server, TCP, &segment)]) == 0,
                "{source}"
            );
        }
        for source in ["2001:db8:1::1", "::1", "::", "::ffff:10.0.1.2", "fe80::1"] {
            let (source, server) = (ip(source), ip("2001:db8:1::1"));
            let segment = raw::tcp((source, 7000), (server, 22), SYN);
            assert!(
                arrived(&net, &probe, &[raw::ip(source, server, TCP, &segment)]) == 0,
                "{source}"
            );
        }
    });
}

#[test]
fn only_a_plain_syn_uses_a_grant() {
    isolated("only_a_plain_syn_uses_a_grant", || {
        let net = Net::new();
        make_deaf(&net.client);
        let mut firewall = net.server.guarded();
        let probe = Probe::on(&net.server);
        for (client, server) in ends() {
            firewall.grant(&element(&client.to_string()), MINUTE).expect("a grant");
            let plain = |flags: u8| flags & (FIN | SYN | RST | ACK) == SYN;
            let others = flags(client, server, |flags| !plain(flags));
            assert_eq!(arrived(&net, &probe, &others), 0);
            let plain = flags(client, server, plain);
            assert_eq!(arrived(&net, &probe, &plain), 16);
        }
    });
}

#[test]
fn broadcast_and_multicast_are_shut_too() {
    isolated("broadcast_and_multicast_are_shut_too", || {
        let net = Net::new();
        let probe = Probe::on(&net.server);
        let vpn = vec![service("vpn", Protocol::Udp, &[(500, 500)])];
        let ruleset = rules::ruleset(&Plan { services: vpn, ..plan() });
        let send = |to: &str| {
            let (from, to) = (ip(if to.contains(':') { CLIENT[1] } else { CLIENT[0] }), ip(to));
            let datagrams = [500, KNOCK_PORT].map(|port| raw::udp((from, 7000), (to, port), b"x"));
            net.send(&probe, &net.client, &datagrams.map(|d| raw::ip(from, to, UDP, &d)));
            probe.count("udp")
        };
        let groups =
            ["10.0.1.1", "10.0.1.255", "255.255.255.255", "224.0.0.1", "2001:db8:1::1", "ff02::1"];
        assert_eq!(groups.map(send), [2, 4, 6, 8, 10, 12], "without a firewall all arrive");
        let _firewall = net.server.firewall(Options::default(), &ruleset);
        assert_eq!(groups.map(send), [12; 6]);
    });
}

#[test]
fn redirects_of_others_open_nothing() {
    isolated("redirects_of_others_open_nothing", || {
        for (rule, port) in
            [("tcp dport 22 redirect to :2222", 22), ("tcp dport 2200 redirect to :22", 2200)]
        {
            let net = Net::new();
            net.server.nft(&format!("table inet nat {{ chain pre {{ type nat hook prerouting priority -100; \n {rule} \n }}\n }}\n"));
            let to = [format!("10.0.1.1:{port}"), format!("[2001:db8:1::1]:{port}")];
            let before: Vec<_> =
                to.iter().map(|to| net.client.connect(at(to)).expect("open")).collect();
            let mut firewall = net.server.guarded();
            assert!(before.iter().all(alive), "{rule}: what was there lives on");
            for (to, source) in to.iter().zip(CLIENT) {
                assert!(net.client.shut_out(at(to)), "{rule}: {to}");
                firewall.grant(&element(source), MINUTE).expect("a grant");
                let session = net.client.connect(at(to)).expect("open to the granted");
                firewall.withdraw(&[element(source)]).expect("the end of the grant");
                assert!(alive(&session) && net.client.shut_out(at(to)), "{rule}: {to}");
            }
        }
    });
}

#[test]
fn published_port_of_an_inner_host_is_shut() {
    isolated("published_port_of_an_inner_host_is_shut", || {
        let net = Net::new();
        let inner = inner_host(&net);
        inner.echo(&[80]);
        net.server.nft("table inet nat { chain pre { type nat hook prerouting priority -100; \n meta nfproto ipv4 tcp dport 22 fib daddr type local dnat ip to 10.0.9.2:80 \n meta nfproto ipv6 tcp dport 22 fib daddr type local dnat ip6 to [2001:db8:9::2]:80 \n }\n }\n");
        let before: Vec<_> = SERVER.map(|to| net.client.connect(at(to)).expect("published")).into();
        let mut firewall = net.server.guarded();
        assert!(before.iter().all(alive), "what was there lives on");
        for (to, source) in SERVER.into_iter().zip(CLIENT) {
            assert!(net.client.shut_out(at(to)), "{to}");
            firewall.grant(&element(source), MINUTE).expect("a grant");
            let session = net.client.connect(at(to)).expect("open to the granted");
            assert!(net.stranger.shut_out(at(to)), "{to}");
            firewall.withdraw(&[element(source)]).expect("the end of the grant");
            assert!(alive(&session) && net.client.shut_out(at(to)), "{to}");
        }
    });
}

#[test]
fn what_is_routed_to_others_is_left_alone() {
    isolated("what_is_routed_to_others_is_left_alone", || {
        let net = Net::new();
        net.server.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        net.stranger.echo(&[22, KNOCK_PORT]);
        let _firewall = net.server.guarded();
        for to in ["10.0.2.2", "[2001:db8:2::2]"] {
            assert!(net.client.reaches(at(&format!("{to}:22"))), "{to}");
            assert!(net.client.udp_echo(0, at(&format!("{to}:{KNOCK_PORT}")), PATIENCE), "{to}");
        }
        for to in ["10.0.2.1:22", "[2001:db8:2::1]:22"] {
            assert!(net.client.shut_out(at(to)), "{to} is ours, by another cable");
        }
    });
}

#[test]
fn icmp_is_left_alone() {
    isolated("icmp_is_left_alone", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        let probe = Probe::on(&net.server);
        firewall.grant(&element(CLIENT[0]), MINUTE).expect("a grant");
        let session = net.client.connect(at(SERVER[0])).expect("open");
        let (from, to) =
            (session.local_addr().expect("an end"), session.peer_addr().expect("an end"));
        let sent = raw::ip(
            to.ip(),
            from.ip(),
            TCP,
            &raw::tcp((to.ip(), 22), (from.ip(), from.port()), ACK),
        );
        let too_big = raw::icmp_too_big(&sent, 1300);
        net.send(&probe, &net.client, &[raw::ip(from.ip(), to.ip(), raw::ICMP, &too_big)]);
        assert_eq!(probe.count("icmp"), 1);
        assert!(alive(&session));
    });
}

#[test]
fn nothing_slips_in_while_the_ruleset_is_replaced() {
    isolated("nothing_slips_in_while_the_ruleset_is_replaced", || {
        for options in [Options::default(), unowned()] {
            let net = Net::new();
            let (mut firewall, _) = net.server.firewall(options, &ssh_only());
            let probe = Probe::on(&net.server);
            let flood = Flood::start(&net.client);
            let began = Instant::now();
            let mut replaced = 0;
            while began.elapsed() < Duration::from_secs(3) || replaced <= 20 {
                let set_size = 1000 + replaced % 3;
                let ruleset = rules::ruleset(&Plan { set_size, ..plan() });
                net.server.run(|| firewall.install(&ruleset)).expect("a reload");
                replaced += 1;
                if replaced % 10 == 0 {
                    drop(firewall);
                    (firewall, _) = net.server.firewall(options, &ruleset);
                }
            }
            let sent = flood.stop();
            println!("{replaced} replacements under {sent} packets");
            assert_eq!(probe.count("tcp"), 0);
            assert!(sent > 1000, "{sent}");
        }
    });
}

#[test]
fn gap_after_a_foreign_flush_is_short() {
    isolated("gap_after_a_foreign_flush_is_short", || {
        let net = Net::new();
        let (mut firewall, _) = net.server.firewall(unowned(), &ssh_only());
        let mut watch = net.server.run(|| Watch::open(&firewall)).expect("a watch");
        let done = AtomicBool::new(false);
        let gaps = std::thread::scope(|scope| {
            let repairing = scope.spawn(|| {
                let mut gaps = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let noticed = Instant::now();
                    if !watch.events().expect("events").is_empty() {
                        net.server.run(|| firewall.install(&ssh_only())).expect("a repair");
                        gaps.push(noticed.elapsed());
                    }
                }
                gaps
            });
            let shut_again = (0..5).all(|_| {
                net.server.sh("nft flush ruleset");
                sleep(Duration::from_millis(300));
                net.client.shut_out(at(SERVER[0]))
            });
            done.store(true, Ordering::Relaxed);
            assert!(shut_again);
            repairing.join().expect("repairs")
        });
        println!("put back within {gaps:?}");
        assert!(gaps.len() >= 5 && gaps.iter().all(|gap| *gap < Duration::from_secs(1)));
    });
}

/// SYNs without pause.
struct Flood {
    stop: std::sync::Arc<AtomicBool>,
    sender: std::thread::JoinHandle<u64>,
}

impl Flood {
    fn start(from: &Host) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let [(client, server), _] = ends();
        let packets: Vec<_> = (2000..2500)
            .map(|port| raw::ip(client, server, TCP, &raw::tcp((client, port), (server, 22), SYN)))
            .collect();
        let sender = from.spawn(move || {
            let sender = raw::Sender::new(true);
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                packets.iter().for_each(|packet| sender.send(packet));
                sent += 500;
            }
            sent
        });
        Self { stop, sender }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().expect("the sender")
    }
}
