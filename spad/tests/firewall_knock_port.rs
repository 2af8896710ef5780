//! The guard ruleset and the port of knocks: it answers nobody, and what is ours from there or is
//! translated to it still works.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::raw::{self, UDP};
use firewall_lab::scene::{CLIENT, SERVER, ends, inner_host, ip};
use firewall_lab::{KNOCK_PORT, Net, PATIENCE, Probe, at, isolated};
use std::net::IpAddr;

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
