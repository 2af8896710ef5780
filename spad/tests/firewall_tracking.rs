//! The guard ruleset and connections: what conntrack remembers, or has forgotten, lets nobody in
//! who was not granted, and cuts off nobody who was there before.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::raw::{self, ACK, FIN, RST, SYN, TCP, UDP};
use firewall_lab::scene::{CLIENT, MINUTE, SERVER, arrived, ends, ip};
use firewall_lab::{
    Net, PATIENCE, Probe, SOON, accept, alive, at, element_of, isolated, plan, service, ssh_only,
};
use spad::firewall::{Options, Plan, Protocol, rules};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

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
                settled(&probe);
                assert_same_tuple_opens_nothing(&net, &probe, session);
            }
            assert!(SERVER.iter().all(|to| net.client.shut_out(at(to))));
            drop(firewall);
            let _adopted = net.server.guarded();
            assert!(sessions.iter().all(alive), "also under the next spad");
        }
    });
}

/// Waits until nothing more comes of what was said before, such as an acknowledgement, which is
/// put off for 40 ms.
fn settled(probe: &Probe<'_>) {
    loop {
        let before = probe.count("tcp");
        sleep(Duration::from_millis(100));
        if probe.count("tcp") == before {
            return;
        }
    }
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
