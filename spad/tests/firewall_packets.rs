//! The guard ruleset against packets: what is open, what is shut, and every way
//! around it that we could think of, between hosts of the test's own.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::raw::{self, ACK, FIN, PSH, RST, SYN, TCP, UDP};
use firewall_lab::{
    Host, KNOCK_PORT, Net, PATIENCE, Probe, SOON, accept, alive, at, cable, element, element_of,
    isolated, network, plan, service, ssh_only, unowned,
};
use spad::firewall::{Options, Plan, Protocol, Watch, rules};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
const SERVER: [&str; 2] = ["10.0.1.1:22", "[2001:db8:1::1]:22"];
const CLIENT: [&str; 2] = ["10.0.1.2", "2001:db8:1::2"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The client and the server, by family.
fn ends() -> [(IpAddr, IpAddr); 2] {
    [(ip("10.0.1.2"), ip("10.0.1.1")), (ip("2001:db8:1::2"), ip("2001:db8:1::1"))]
}

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

/// Conntrack cannot label an entry from before labels were in use.
#[test]
fn flow_from_before_can_be_granted_like_any_other() {
    isolated("flow_from_before_can_be_granted_like_any_other", || {
        let net = Net::new();
        net.server.nft("table inet theirs { chain pre { type filter hook prerouting priority 0; ct state new counter\n }\n }\n");
        let vpn = vec![service("vpn", Protocol::Udp, &[(22, 22)])];
        let ruleset = rules::ruleset(&Plan { services: vpn, ..plan() });
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

/// So that the client's kernel does not answer the answers.
fn make_deaf(host: &Host) {
    host.nft("table inet deaf { chain pre { type filter hook prerouting priority -400; \n tcp sport 22 drop \n }\n }\n");
}

/// How many of the packets that the client sends get past the server's rules.
fn arrived(net: &Net, probe: &Probe<'_>, packets: &[Vec<u8>]) -> u64 {
    let before = probe.count("tcp");
    net.send(probe, &net.client, packets);
    probe.count("tcp") - before
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

/// A host behind the server, which routes for it.
fn inner_host(net: &Net) -> Host {
    let inner = Host::new();
    let addresses = ["10.0.9.1/24 2001:db8:9::1/64", "10.0.9.2/24 2001:db8:9::2/64"];
    cable((&net.server, "s9", addresses[0]), (&inner, "c0", addresses[1]));
    inner.sh("ip route add default via 10.0.9.1; ip -6 route add default via 2001:db8:9::1");
    net.server.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    inner
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
fn answers_to_own_connections_from_protected_ports_come_in() {
    isolated("answers_to_own_connections_from_protected_ports_come_in", || {
        let net = Net::new();
        net.client.echo(&[80]);
        let services = vec![
            service("a", Protocol::Tcp, &[(4000, 4001)]),
            service("b", Protocol::Udp, &[(4000, 4001)]),
        ];
        let ruleset = rules::ruleset(&Plan { services, ..plan() });
        let _firewall = net.server.firewall(Options::default(), &ruleset);
        for (to, port) in [("10.0.1.2:80", 4000), ("[2001:db8:1::2]:80", 4001)] {
            assert!(net.server.connect_from(port, at(to)).is_some(), "{to}");
            // Over UDP they are not told from what a client sends that was cut,
            // where the server goes on: who is called from there is trusted, or knocks.
            assert!(!net.server.udp_echo(port, at(to), SOON), "{to}");
        }
        // Nor a packet from there that answers nothing.
        let [(client, server), _] = ends();
        let datagram = raw::udp((client, 81), (server, 4000), b"x");
        let arrived = net.server.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:4000").expect("the port");
            socket.set_read_timeout(Some(SOON)).expect("a timeout");
            raw::send(&net.client, &[raw::ip(client, server, UDP, &datagram)]);
            socket.recv_from(&mut [0; 9]).is_ok()
        });
        assert!(!arrived);
    });
}

/// Whoever sends in the server's own name, through the server, makes conntrack
/// believe that the server has begun a connection from its protected port.
#[test]
fn own_address_from_outside_begins_no_flow_of_ours() {
    isolated("own_address_from_outside_begins_no_flow_of_ours", || {
        let net = Net::new();
        net.server.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.s1.rp_filter=0 net.ipv4.conf.s1.accept_local=1");
        let services = [Protocol::Tcp, Protocol::Udp].map(|p| service("ssh", p, &[(22, 22)]));
        let ruleset = rules::ruleset(&Plan { services: services.into(), ..plan() });
        for masquerade in [false, true] {
            let _firewall = net.server.firewall(Options::default(), &ruleset);
            if masquerade {
                net.server.nft("table inet nat { chain post { type nat hook postrouting priority 100; \n masquerade \n }\n }\n");
            }
            let probe = Probe::on(&net.server);
            net.server.nft("table inet seen { chain post { type filter hook postrouting priority 300; \n th sport 22 counter comment \"left\" \n }\n }\n");
            for (own, accomplice) in [("10.0.1.1", "10.0.2.2"), ("2001:db8:1::1", "2001:db8:2::2")]
            {
                let (own, accomplice) = (ip(own), ip(accomplice));
                let tcp = |from, to| {
                    raw::ip(
                        from,
                        to,
                        TCP,
                        &raw::tcp(
                            (from, if from == own { 22 } else { 7000 }),
                            (to, if to == own { 22 } else { 7000 }),
                            SYN,
                        ),
                    )
                };
                let udp = |from, to| {
                    raw::ip(
                        from,
                        to,
                        UDP,
                        &raw::udp(
                            (from, if from == own { 22 } else { 7000 }),
                            (to, if to == own { 22 } else { 7000 }),
                            b"x",
                        ),
                    )
                };
                net.send(&probe, &net.client, &[tcp(own, accomplice), udp(own, accomplice)]);
                net.send(&probe, &net.stranger, &[tcp(accomplice, own), udp(accomplice, own)]);
            }
            assert!(net.server.counted("inet seen", "left") >= 2, "they were forwarded");
            assert_eq!(
                (probe.count("tcp"), probe.count("udp")),
                (0, 0),
                "masquerade: {masquerade}"
            );
            net.server.sh("nft flush ruleset");
        }
    });
}

#[test]
fn connections_from_before_live_on_and_no_others() {
    isolated("connections_from_before_live_on_and_no_others", || {
        for tracked in [false, true] {
            let net = Net::new();
            if tracked {
                net.server.nft("table inet theirs { chain pre { type filter hook prerouting priority 0; ct state new counter\n }\n }\n");
            }
            let sessions: Vec<_> =
                SERVER.map(|to| net.client.connect(at(to)).expect("open")).into();
            let (firewall, installed) = net.server.firewall(Options::default(), &ssh_only());
            assert_eq!(installed.existing, 2);
            let probe = Probe::on(&net.server);
            for session in &sessions {
                assert!(alive(session), "tracked before: {tracked}");
                assert_same_tuple_opens_nothing(&net, &probe, session);
            }
            assert!(SERVER.iter().all(|to| net.client.shut_out(at(to))));
            drop(firewall);
            let _adopted = net.server.guarded();
            assert!(sessions.iter().all(alive), "also under the next spad");
        }
    });
}

fn assert_same_tuple_opens_nothing(net: &Net, probe: &Probe<'_>, session: &TcpStream) {
    let (from, to) = (session.local_addr().expect("an end"), session.peer_addr().expect("an end"));
    for flags in [SYN, SYN | ACK, SYN | FIN, SYN | RST] {
        let segment = raw::tcp((from.ip(), from.port()), (to.ip(), to.port()), flags);
        let packet = raw::ip(from.ip(), to.ip(), TCP, &segment);
        assert!(arrived(net, probe, &[packet]) == 0, "flags {flags:#x} on the tuple of {from}");
    }
    let segment = raw::tcp((from.ip(), from.port() ^ 1), (to.ip(), to.port()), ACK);
    assert!(
        arrived(net, probe, &[raw::ip(from.ip(), to.ip(), TCP, &segment)]) == 0,
        "beside {from}"
    );
}

/// With conntrack's entry gone, a segment of the server's makes a new one that
/// looks as if the server had begun the connection.
#[test]
fn forgotten_connection_is_not_brought_back_by_the_server() {
    isolated("forgotten_connection_is_not_brought_back_by_the_server", || {
        let net = Net::new();
        let services = vec![service("x", Protocol::Tcp, &[(4000, 4000)])];
        let ruleset = rules::ruleset(&Plan { services, ..plan() });
        let (mut firewall, _) = net.server.firewall(Options::default(), &ruleset);
        let granted = element_of("x", CLIENT[0]);
        firewall.grant(&granted, MINUTE).expect("a grant");
        let listener = net.server.run(|| TcpListener::bind("10.0.1.1:4000").expect("a port"));
        let mut client = net
            .client
            .run(|| TcpStream::connect_timeout(&at("10.0.1.1:4000"), PATIENCE).expect("open"));
        let mut server = accept(&listener).expect("a connection");
        server.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        firewall.withdraw(&[granted]).expect("the end of the grant");
        let heard = client.write_all(b"one").and_then(|()| server.read_exact(&mut [0; 3]));
        heard.expect("it lives on");

        net.server.sh("conntrack -F 2>/dev/null");
        server.set_read_timeout(Some(SOON)).expect("a timeout");
        server.write_all(b"still here").expect("the server talks");
        sleep(SOON / 4);
        client.write_all(b"two").expect("the client too");
        assert!(server.read_exact(&mut [0; 3]).is_err(), "but it is not heard");
    });
}

#[test]
fn silent_connections_from_before_are_kept_while_they_talk() {
    isolated("silent_connections_from_before_are_kept_while_they_talk", || {
        let net = Net::new();
        let session = net.client.connect(at(SERVER[0])).expect("open");
        let mut ruleset = ssh_only();
        for set in ruleset.sets.iter_mut().filter(|set| set.name == "existing4") {
            set.timeout = Some(Duration::from_secs(2));
        }
        let _firewall = net.server.firewall(Options::default(), &ruleset);
        for _ in 0..4 {
            sleep(Duration::from_secs(1));
            assert!(alive(&session), "talking renews its time");
        }
        sleep(Duration::from_secs(3));
        assert!(!net.server.sh("nft list set inet spad existing4").contains("expires"));
    });
}

#[test]
fn related_connections_need_a_grant_too() {
    isolated("related_connections_need_a_grant_too", || {
        let net = Net::new();
        net.server.echo(&[21]);
        // The echo says what an FTP server says: "connect to my port 22".
        net.server.nft(
            "table inet theirs { ct helper ftp { type \"ftp\" protocol tcp; }\n\
             chain pre { type filter hook prerouting priority -160; \n\
             tcp dport 21 ct helper set \"ftp\"\n\
             tcp dport 22 ct state related counter comment \"related\"\n }\n }\n",
        );
        let mut control = net.client.connect(at("10.0.1.1:21")).expect("a control connection");
        let mut say = |line: &str| {
            let echo = control.write_all(line.as_bytes());
            echo.and_then(|()| control.read_exact(&mut vec![0; line.len()])).expect("an echo");
        };
        say("\r\n");
        let _firewall = net.server.guarded();
        say("227 Entering Passive Mode (10,0,1,1,0,22).\r\n");
        assert!(net.client.shut_out(at(SERVER[0])));
        assert!(net.server.counted("inet theirs", "related") > 0, "it was related");
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
fn knock_port_is_silent_and_leaves_no_trace() {
    isolated("knock_port_is_silent_and_leaves_no_trace", || {
        let net = Net::new();
        let probe = Probe::on(&net.server);
        net.server.nft("table inet seen { chain pre { type filter hook prerouting priority -250; \n udp dport 62201 counter comment \"early\" \n }\n }\n");
        let knock = || {
            for (client, server) in ends() {
                let datagram = raw::udp((client, 7000), (server, KNOCK_PORT), &[7; 336]);
                net.send(&probe, &net.client, &[raw::ip(client, server, UDP, &datagram)]);
            }
            let unreachable = probe.count("unreachable4") + probe.count("unreachable6");
            [net.server.counted("inet seen", "early"), probe.count("udp"), unreachable]
        };
        assert_eq!(knock(), [2, 2, 2], "without a firewall");
        let _firewall = net.server.guarded();
        assert_eq!(knock(), [2, 2, 2], "no more than before, not even at conntrack");
        let tracked = net.server.sh("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
        assert!(!tracked.contains("62201"), "{tracked}");
    });
}

/// With `br_netfilter` the rules see a packet before the bridge's own listeners
/// do: dropped there, a knock would never be heard.
#[test]
fn knock_is_heard_on_a_bridge_and_still_not_answered() {
    isolated("knock_is_heard_on_a_bridge_and_still_not_answered", || {
        let net = Net::new();
        net.server.sh("ip link add br0 type bridge; ip link set br0 up; ip addr flush dev s1; ip link set s1 master br0; ip addr add 10.0.1.1/24 dev br0; sysctl -qw net.bridge.bridge-nf-call-iptables=1");
        let probe = Probe::on(&net.server);
        let _firewall = net.server.guarded();
        assert!(net.client.reaches(at("10.0.1.1:80")), "the bridge works");
        assert!(net.client.shut_out(at(SERVER[0])), "and is guarded");
        net.server.nft("table netdev heard { chain in { type filter hook ingress device br0 priority 0; \n udp dport 62201 counter comment \"knock\" \n }\n }\ntable inet seen { chain pre { type filter hook prerouting priority -160; \n udp dport 62201 ct state != untracked counter comment \"tracked\" \n }\n }\n");
        let [(client, server), _] = ends();
        let datagram = raw::udp((client, 7000), (server, KNOCK_PORT), &[7; 336]);
        net.send(&probe, &net.client, &[raw::ip(client, server, UDP, &datagram)]);
        assert_eq!(net.server.counted("netdev heard", "knock"), 1, "it reaches the bridge");
        assert_eq!(net.server.counted("inet seen", "tracked"), 0);
        assert_eq!((probe.count("udp"), probe.count("unreachable4")), (0, 0));
        assert!(!net.server.sh("conntrack -L 2>/dev/null").contains("62201"));
    });
}

#[test]
fn answers_to_own_flows_from_the_knock_port_come_in() {
    isolated("answers_to_own_flows_from_the_knock_port_come_in", || {
        let net = Net::new();
        net.client.echo(&[80]);
        let _firewall = net.server.guarded();
        let probe = Probe::on(&net.server);
        for to in ["10.0.1.2:80", "[2001:db8:1::2]:80"] {
            assert!(net.server.udp_echo(KNOCK_PORT, at(to), PATIENCE), "{to}");
        }
        let answered = probe.count("udp");
        assert_eq!(answered, 2);
        // Others, and other ports of the same peer, are not let in by that.
        for (client, server) in ends() {
            let datagram = raw::udp((client, 81), (server, KNOCK_PORT), b"x");
            net.send(&probe, &net.client, &[raw::ip(client, server, UDP, &datagram)]);
        }
        assert_eq!(probe.count("udp"), answered);
        // Nor is the peer itself when the flow is forgotten.
        net.server.sh("conntrack -F 2>/dev/null; conntrack -F -f ipv6 2>/dev/null");
        for (client, server) in ends() {
            let datagram = raw::udp((client, 80), (server, KNOCK_PORT), b"x");
            net.send(&probe, &net.client, &[raw::ip(client, server, UDP, &datagram)]);
        }
        assert_eq!(probe.count("udp"), answered);
        assert_eq!(probe.count("unreachable4") + probe.count("unreachable6"), 0);
    });
}

#[test]
fn answers_to_translated_flows_on_our_ports_come_in() {
    isolated("answers_to_translated_flows_on_our_ports_come_in", || {
        let net = Net::new();
        net.client.echo(&[80]);
        let inner = inner_host(&net);
        net.server.nft("table inet nat { chain post { type nat hook postrouting priority 100; \n oif s1 masquerade \n }\n }\n");
        let _firewall = net.server.guarded();
        for to in ["10.0.1.2:80", "[2001:db8:1::2]:80"] {
            assert!(inner.udp_echo(KNOCK_PORT, at(to), PATIENCE), "{to}");
            assert!(inner.connect_from(22, at(to)).is_some(), "{to}, from the service's port");
        }
        let peers = net
            .server
            .sh("nft list set inet spad knock_peers4; nft list set inet spad knock_peers6");
        assert!(
            peers.contains("10.0.1.2 . 80 ") && peers.contains("2001:db8:1::2 . 80 "),
            "{peers}"
        );
    });
}

#[test]
fn outsiders_cannot_add_peers_of_the_knock_port() {
    isolated("outsiders_cannot_add_peers_of_the_knock_port", || {
        let net = Net::new();
        net.server.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.s1.rp_filter=0 net.ipv4.conf.s1.accept_local=1");
        let _firewall = net.server.guarded();
        let probe = Probe::on(&net.server);
        net.server.nft("table inet seen { chain post { type filter hook postrouting priority 200; \n udp sport 62201 counter comment \"left\" \n }\n }\n");
        let send = |source: &str| {
            let v6 = source.contains(':');
            let through = ip(if v6 { "2001:db8:2::2" } else { "10.0.2.2" });
            let server = ip(if v6 { "2001:db8:1::1" } else { "10.0.1.1" });
            let packet = |to: IpAddr, port| {
                let datagram = raw::udp((ip(source), KNOCK_PORT), (to, port), b"x");
                raw::ip(ip(source), to, UDP, &datagram)
            };
            // Through the server; to its echo; to a port where nobody listens.
            net.send(
                &probe,
                &net.client,
                &[packet(through, 9), packet(server, 80), packet(server, 9)],
            );
        };
        let peers = || {
            net.server
                .sh("nft list set inet spad knock_peers4; nft list set inet spad knock_peers6")
        };
        let own = ["10.0.1.1", "10.0.2.1", "2001:db8:1::1", "2001:db8:2::1"];
        CLIENT.into_iter().chain(own).for_each(send);
        assert!(net.server.counted("inet seen", "left") >= 2, "some were forwarded");
        assert!(!peers().contains("expires"), "{}", peers());
        // With source NAT those count that it is made for, but never our own name.
        net.server.nft("table inet nat { chain post { type nat hook postrouting priority 100; \n masquerade \n }\n }\n");
        let forget = "conntrack -F 2>/dev/null; conntrack -F -f ipv6 2>/dev/null";
        net.server.sh(forget);
        own.into_iter().for_each(send);
        assert!(!peers().contains("expires"), "{}", peers());
        net.server.sh(forget);
        CLIENT.into_iter().for_each(send);
        assert!(peers().contains("2001:db8:2::2 . 9 "), "{}", peers());
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
