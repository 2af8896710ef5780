//! Services of inner hosts on the real kernel: who is sent on, and where to.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::{
    Host, Net, PATIENCE, SOON, alive, cable, element_of, isolated, network, plan, service,
};
use spad::firewall::plan::{Service, Target};
use spad::firewall::{Element, Firewall, Options, Plan, Protocol, Terms, rules};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Client, gateway on the client's side, inner host, of each family.
const ENDS: [[&str; 3]; 2] =
    [["10.0.1.2", "10.0.1.1", "10.0.9.5"], ["2001:db8:1::2", "2001:db8:1::1", "2001:db8:9::5"]];

fn to(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

fn grant(source: &str) -> Element {
    element_of("nas", source)
}

/// A gateway between client, stranger and an inner host with echoes.
fn gateway() -> (Net, Host) {
    let net = Net::new();
    let inner = Host::new();
    let outer_end = (&net.server, "n0", "10.0.9.1/24 2001:db8:9::1/64");
    cable(outer_end, (&inner, "c0", "10.0.9.5/24 2001:db8:9::5/64"));
    net.server.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    inner.sh("ip route add default via 10.0.9.1; ip -6 route add default via 2001:db8:9::1");
    inner.echo(&[443, 8443, 5001, 5009]);
    (net, inner)
}

/// These ports, sent on to the inner host.
fn nas(ports: &[(u16, u16)], port: Option<u16>) -> Service {
    let inner = |at: usize| ENDS[at][2].parse::<IpAddr>().expect("an address");
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (inner(0), inner(1)) else { panic!("two families") };
    let target = Target { v4: Some(v4), v6: Some(v6), port, source_nat: false };
    Service { target: Some(target), ..service("nas", Protocol::Tcp, ports) }
}

fn with_source_nat(service: Service) -> Service {
    let target = service.target.map(|target| Target { source_nat: true, ..target });
    Service { target, ..service }
}

fn behind(net: &Net, service: Service) -> Firewall {
    let plan = Plan { services: vec![service], ..plan() };
    net.server.firewall(Options::default(), &rules::ruleset(&plan)).0
}

fn give(firewall: &mut Firewall, element: &Element) {
    firewall.grant(element, MINUTE).expect("a grant");
}

/// Counts what arrives to open a connection.
fn count_connections(inner: &Host, port: u16) {
    inner.nft(&format!(
        "table inet seen {{ chain in {{ type filter hook input priority 0; \n\
         tcp dport {port} tcp flags & (syn | ack) == syn counter comment \"syn\"\n }}\n }}\n"
    ));
}

#[test]
fn the_granted_are_sent_on_and_nobody_else() {
    isolated("the_granted_are_sent_on_and_nobody_else", || {
        for port in [None, Some(8443)] {
            let (net, inner) = gateway();
            count_connections(&inner, port.unwrap_or(443));
            let mut firewall = behind(&net, nas(&[(443, 443)], port));
            for [client, gateway, _] in ENDS {
                let before = inner.counted("inet seen", "syn");
                assert!(net.client.shut_out(to(gateway, 443)), "no grant yet");
                give(&mut firewall, &grant(client));
                let session = net.client.connect(to(gateway, 443)).expect("sent on");
                let stranger = gateway.replacen(":1:", ":2:", 1).replacen(".1.", ".2.", 1);
                assert!(net.stranger.shut_out(to(&stranger, 443)), "a stranger at {stranger}");
                assert_eq!(inner.counted("inet seen", "syn"), before + 1, "port {port:?}");
                firewall.withdraw(&[grant(client)]).expect("it goes");
                assert!(alive(&session), "lives on after its grant");
                assert!(net.client.shut_out(to(gateway, 443)), "but nothing new");
            }
        }
    });
}

#[test]
fn the_terms_are_those_of_any_grant() {
    isolated("the_terms_are_those_of_any_grant", || {
        let (net, _inner) = gateway();
        let mut firewall = behind(&net, nas(&[(443, 443)], Some(8443)));
        for [client, gateway, _] in ENDS {
            give(&mut firewall, &Element { terms: Terms::Once, ..grant(client) });
            net.client.connect(to(gateway, 443)).expect("once");
            assert!(net.client.shut_out(to(gateway, 443)), "used up");
            give(&mut firewall, &Element { terms: Terms::Bound(40_000), ..grant(client) });
            assert!(net.client.shut_out(to(gateway, 443)), "another port");
            net.client.connect_from(40_000, to(gateway, 443)).expect("its own port");
        }
    });
}

#[test]
fn ports_of_a_range_are_kept() {
    isolated("ports_of_a_range_are_kept", || {
        let (net, _inner) = gateway();
        let mut firewall = behind(&net, nas(&[(443, 443), (5000, 5009)], None));
        for [client, gateway, _] in ENDS {
            give(&mut firewall, &grant(client));
            for port in [443, 5001, 5009] {
                assert!(net.client.reaches(to(gateway, port)), "{port} at {gateway}");
            }
        }
    });
}

#[test]
fn datagrams_are_sent_on_too() {
    isolated("datagrams_are_sent_on_too", || {
        let (net, _inner) = gateway();
        let mut service = nas(&[(443, 443)], Some(8443));
        service.ports[0].protocol = Protocol::Udp;
        let mut firewall = behind(&net, service);
        for [client, gateway, _] in ENDS {
            let echoed = |within| net.client.udp_echo(0, to(gateway, 443), within);
            assert!(!echoed(SOON), "no grant yet");
            give(&mut firewall, &grant(client));
            assert!(echoed(PATIENCE), "sent on");
        }
    });
}

/// The inner host knows no way back to the client.
#[test]
fn source_nat_brings_the_answers_back() {
    isolated("source_nat_brings_the_answers_back", || {
        for (service, comes_back) in [
            (nas(&[(443, 443)], Some(8443)), false),
            (with_source_nat(nas(&[(443, 443)], Some(8443))), true),
            (with_source_nat(nas(&[(443, 443), (5000, 5009)], None)), true),
        ] {
            let (net, inner) = gateway();
            inner.sh("ip route del default; ip -6 route del default");
            let mut firewall = behind(&net, service);
            for [client, gateway, _] in ENDS {
                give(&mut firewall, &grant(client));
                assert_eq!(!net.client.shut_out(to(gateway, 443)), comes_back, "{gateway}");
            }
        }
    });
}

/// Somebody else publishes the same port, or another one that leads to it.
#[test]
fn foreign_translation_sends_nobody_on() {
    isolated("foreign_translation_sends_nobody_on", || {
        for priority in [-190, -110, -90] {
            let (net, _inner) = gateway();
            net.server.nft(&format!(
                "table inet docker {{ chain pre {{ type nat hook prerouting priority {priority}; \n\
                 meta nfproto ipv4 tcp dport 443 dnat ip to 10.0.9.5:8443\n\
                 meta nfproto ipv6 tcp dport 443 dnat ip6 to [2001:db8:9::5]:8443\n }}\n }}\n"
            ));
            let mut firewall = behind(&net, nas(&[(443, 443)], Some(8443)));
            for [client, gateway, _] in ENDS {
                assert!(net.client.shut_out(to(gateway, 443)), "{gateway} at {priority}");
                give(&mut firewall, &grant(client));
                assert!(net.client.reaches(to(gateway, 443)), "{gateway} at {priority}");
            }
        }
    });
}

/// Where forwarding was shut before, only what was translated needs to pass.
#[test]
fn the_inner_address_stays_shut_where_forwarding_is() {
    isolated("the_inner_address_stays_shut_where_forwarding_is", || {
        let (net, _inner) = gateway();
        net.server.nft(
            "table inet own { chain forward { type filter hook forward priority 0; policy drop; \n\
             ct status dnat accept\n meta l4proto icmpv6 accept\n }\n }\n",
        );
        let mut firewall = behind(&net, nas(&[(443, 443)], Some(8443)));
        for [client, gateway, inner] in ENDS {
            give(&mut firewall, &grant(client));
            assert!(net.client.reaches(to(gateway, 443)), "by the gateway's address");
            for host in [&net.client, &net.stranger] {
                assert!(host.shut_out(to(inner, 8443)), "by its own");
            }
        }
    });
}

#[test]
fn trusted_networks_are_sent_on_without_a_grant() {
    isolated("trusted_networks_are_sent_on_without_a_grant", || {
        let (net, inner) = gateway();
        count_connections(&inner, 8443);
        let trusted = vec![network("10.0.1.0", 24), network("2001:db8:1::", 64)];
        let plan = Plan { services: vec![nas(&[(443, 443)], Some(8443))], trusted, ..plan() };
        let _firewall = net.server.firewall(Options::default(), &rules::ruleset(&plan)).0;
        net.stranger.echo(&[443]);
        for ([_, gateway, _], stranger) in ENDS.into_iter().zip(["10.0.2.2", "2001:db8:2::2"]) {
            assert!(net.client.reaches(to(gateway, 443)), "trusted");
            let sent_on = inner.counted("inet seen", "syn");
            // Somebody else's port 443 is nobody's business, also on the way through.
            assert!(net.client.reaches(to(stranger, 443)), "left alone");
            assert_eq!(inner.counted("inet seen", "syn"), sent_on);
            let gateway = gateway.replacen(":1:", ":2:", 1).replacen(".1.", ".2.", 1);
            assert!(net.stranger.shut_out(to(&gateway, 443)), "not trusted");
        }
    });
}

#[test]
fn a_target_of_one_family_says_nothing_about_the_other() {
    isolated("a_target_of_one_family_says_nothing_about_the_other", || {
        let (net, _inner) = gateway();
        let mut service = nas(&[(80, 80)], Some(8443));
        service.target = service.target.map(|target| Target { v6: None, ..target });
        let mut firewall = behind(&net, service);
        let [[client, gateway, _], [_, gateway6, _]] = ENDS;
        give(&mut firewall, &grant(client));
        assert!(net.client.reaches(to(gateway, 80)));
        assert!(net.client.shut_out(to(gateway6, 80)), "shut, although this host serves it");
    });
}
