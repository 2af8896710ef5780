//! Grants on the real kernel: how often they let in, whom, and to what.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::{
    Host, Net, PATIENCE, Probe, alive, dial, element, element_of, isolated, plan, raw, service,
    ssh_only,
};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use spa_proto::Prefix;
use spad::firewall::plan::Labels;
use spad::firewall::{Element, Firewall, Options, Plan, Protocol, Terms, rules};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// The client's address and the server's, of each family.
const ENDS: [(&str, &str); 2] = [("10.0.1.2", "10.0.1.1"), ("2001:db8:1::2", "2001:db8:1::1")];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn to(server: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(server), port)
}

fn on(terms: Terms, source: &str) -> Element {
    Element { terms, ..element(source) }
}

fn once(source: &str) -> Element {
    on(Terms::Once, source)
}

/// A grant for the prefix around a source.
fn wide(element: Element, len: u8) -> Element {
    Element { source: Prefix::of(element.source.address(), len), ..element }
}

fn give(firewall: &mut Firewall, element: &Element) {
    firewall.grant(element, 10 * MINUTE).expect("a grant");
}

/// Shuts what `plan` says on the server of `net`.
fn guarded(net: &Net, plan: &Plan) -> Firewall {
    net.server.firewall(Options::default(), &rules::ruleset(plan)).0
}

// Once

/// Both threads are here, for the time of this number.
fn meet(arrived: &AtomicUsize, time: usize) {
    arrived.fetch_add(1, Ordering::SeqCst);
    while arrived.load(Ordering::SeqCst) < 2 * time {
        thread::yield_now();
    }
}

/// SYNs from all sources at once on two processors, each source from the ports
/// of both halves of the range; how many have come through.
fn flood(
    net: &Net,
    probe: &Probe<'_>,
    sources: &[IpAddr],
    server: IpAddr,
    ports: Range<u16>,
) -> u64 {
    let before = probe.count("tcp");
    let arrived = AtomicUsize::new(0);
    let middle = ports.start.midpoint(ports.end);
    thread::scope(|scope| {
        for (cpu, ports) in [(0, ports.start..middle), (1, middle..ports.end)] {
            let arrived = &arrived;
            scope.spawn(move || net.client.run(|| send_syns(cpu, sources, server, ports, arrived)));
        }
    });
    net.send(probe, &net.client, &[]);
    probe.count("tcp") - before
}

fn send_syns(
    cpu: usize,
    sources: &[IpAddr],
    server: IpAddr,
    ports: Range<u16>,
    arrived: &AtomicUsize,
) {
    raw::stay_on(cpu);
    let sender = raw::Sender::new(server.is_ipv4());
    for (time, source) in (1..).zip(sources) {
        let syn = |port| {
            let segment = raw::tcp((*source, port), (server, 22), raw::SYN);
            raw::ip(*source, server, raw::TCP, &segment)
        };
        let packets: Vec<_> = ports.clone().map(syn).collect();
        meet(arrived, time);
        packets.iter().for_each(|packet| sender.send(packet));
    }
}

const SOURCES: usize = 50;
const ROUNDS: u16 = 40;

fn crowd(server: &str) -> Vec<IpAddr> {
    let source =
        |n| if server.contains(':') { format!("2001:db8:1::1:{n}") } else { format!("10.0.1.{n}") };
    (100..100 + SOURCES).map(|n| ip(&source(n))).collect()
}

/// Two thousand grants of each family, each asked for by eight SYNs at the same
/// moment on two processors: not one connection more than grants.
#[test]
fn once_is_exact_under_a_flood_from_two_processors() {
    isolated("once_is_exact_under_a_flood_from_two_processors", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        let probe = Probe::on(&net.server);
        for (client, server) in ENDS {
            assert!(net.client.shut_out(to(server, 22)), "{client} knows its neighbour now");
            let began = Instant::now();
            for round in 0..ROUNDS {
                let sources = crowd(server);
                sources.iter().for_each(|s| give(&mut firewall, &once(&s.to_string())));
                let first = 10_000 + 8 * round;
                let entered = flood(&net, &probe, &sources, ip(server), first..first + 8);
                assert_eq!(entered, SOURCES as u64, "round {round} from {client}");
            }
            println!(
                "{} grants, 8 SYNs each, from {client}: {:?}",
                u64::from(ROUNDS) * SOURCES as u64,
                began.elapsed()
            );
        }
    });
}

/// The control: the same flood through a grant that is not used up.
#[test]
fn a_window_lets_the_whole_flood_in() {
    isolated("a_window_lets_the_whole_flood_in", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        let probe = Probe::on(&net.server);
        for (_, server) in ENDS {
            let sources = crowd(server);
            sources.iter().for_each(|s| give(&mut firewall, &element(&s.to_string())));
            assert_eq!(
                flood(&net, &probe, &sources, ip(server), 10_000..10_008),
                8 * SOURCES as u64
            );
        }
    });
}

#[test]
fn once_lets_in_one_connection_and_another_for_another_knock() {
    isolated("once_lets_in_one_connection_and_another_for_another_knock", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        for (client, server) in ENDS {
            let ssh = to(server, 22);
            give(&mut firewall, &once(client));
            let first = net.client.connect(ssh).expect("the one connection");
            assert!(net.client.shut_out(ssh), "used up for {client}");
            give(&mut firewall, &once(client));
            let second = net.client.connect(ssh).expect("one more");
            assert!(net.client.shut_out(ssh), "used up for {client}");
            assert!(alive(&first) && alive(&second), "they live on");
        }
    });
}

/// Loses the first answer to a SYN on the way to the client.
fn lose_one_answer(client: &Host) {
    client.nft(
        "table inet lossy { chain in { type filter hook prerouting priority 0; \n\
         tcp flags & (syn | ack) == syn | ack limit rate 1/week burst 1 packets counter drop comment \"lost\"\n }\n }\n",
    );
}

#[test]
fn a_syn_whose_answer_is_lost_is_served() {
    isolated("a_syn_whose_answer_is_lost_is_served", || {
        for (client, server) in ENDS {
            let net = Net::new();
            let mut firewall = net.server.guarded();
            lose_one_answer(&net.client);
            give(&mut firewall, &once(client));
            let _session = net.client.connect(to(server, 22)).expect("the second try");
            assert_eq!(net.client.counted("inet lossy", "lost"), 1, "{client}");
            assert!(net.client.shut_out(to(server, 22)), "used up for {client}");
        }
    });
}

#[test]
fn only_the_same_syn_passes_again() {
    isolated("only_the_same_syn_passes_again", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        let probe = Probe::on(&net.server);
        for (client, server) in ENDS {
            // Nobody has this address: no reset ends what the SYN begins.
            let source = ip(&format!("{client}0"));
            let syn = |port| {
                raw::ip(
                    source,
                    ip(server),
                    raw::TCP,
                    &raw::tcp((source, port), (ip(server), 22), raw::SYN),
                )
            };
            give(&mut firewall, &once(&source.to_string()));
            let before = probe.count("tcp");
            net.send(&probe, &net.client, &[syn(1000), syn(1000), syn(1001), syn(1000), syn(1002)]);
            assert_eq!(probe.count("tcp") - before, 3, "{client}");
        }
    });
}

#[test]
fn what_can_be_used_up_is_used_last() {
    isolated("what_can_be_used_up_is_used_last", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        for (client, server) in ENDS {
            let len = if server.contains(':') { 64 } else { 24 };
            let others =
                [element(client), on(Terms::Bound(40_000), client), wide(element(client), len)];
            for other in others {
                give(&mut firewall, &once(client));
                give(&mut firewall, &other);
                let ssh = to(server, 22);
                net.client.connect_from(40_000, ssh).expect("through the other");
                firewall.withdraw(&[other]).expect("it goes");
                net.client.connect(ssh).unwrap_or_else(|| panic!("used up beside {other:?}"));
                assert!(net.client.shut_out(ssh), "used up now");
            }
        }
    });
}

/// As long as conntrack remembers a connection, it takes a new one on the same
/// ports for a part of it: after a reset by the server, for ten seconds.
#[test]
fn a_connection_that_is_over_lets_no_other_in_on_its_ports() {
    isolated("a_connection_that_is_over_lets_no_other_in_on_its_ports", || {
        let net = Net::new();
        let plan = Plan { services: vec![service("x", Protocol::Tcp, &[(4000, 4000)])], ..plan() };
        let (mut firewall, _) = net.server.firewall(Options::default(), &rules::ruleset(&plan));
        let listener = net.server.run(|| TcpListener::bind("[::]:4000").expect("a port"));
        for (client, server) in ENDS {
            let x = to(server, 4000);
            let from = SocketAddr::new(ip(client), 40_000);
            give(&mut firewall, &Element { terms: Terms::Once, ..element_of("x", client) });
            let session = net.client.run(|| dial(from, x, PATIENCE)).expect("through the grant");
            let reset = linger { l_onoff: 1, l_linger: 0 };
            let end = firewall_lab::accept(&listener).expect("a connection");
            setsockopt(&end, sockopt::Linger, &reset).expect("an option");
            drop(end);
            drop(session);
            assert!(net.client.shut_out_from(from, x), "{server}: a second one");
        }
    });
}

#[test]
fn a_corrected_time_does_not_make_it_usable_again() {
    isolated("a_corrected_time_does_not_make_it_usable_again", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        for (client, server) in ENDS {
            let ssh = to(server, 22);
            give(&mut firewall, &once(client));
            firewall.retime(&once(client), MINUTE / 2).expect("unused");
            let (_, left) = firewall.elements().expect("elements")[0];
            assert!(left <= MINUTE / 2, "{left:?}");
            net.client.connect(ssh).expect("still unused");
            firewall.retime(&once(client), MINUTE / 3).expect("used up");
            assert!(net.client.shut_out(ssh), "used up for {client}");
            firewall.withdraw(&[once(client)]).expect("it goes");
            firewall.retime(&once(client), MINUTE).expect("it is not there");
            firewall.retime(&element(client), MINUTE).expect("nor is this");
            assert_eq!(firewall.elements().expect("elements").len(), 1, "but it comes back");
            firewall.withdraw(&[element(client)]).expect("it goes");
        }
    });
}

#[test]
fn a_set_that_is_made_anew_makes_nothing_usable_again() {
    isolated("a_set_that_is_made_anew_makes_nothing_usable_again", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        for (client, server) in ENDS {
            let ssh = to(server, 22);
            give(&mut firewall, &once(client));
            net.client.connect(ssh).expect("the one connection");
            let larger =
                Plan { set_size: plan().set_size + u32::from(client.contains(':')) + 1, ..plan() };
            for ruleset in [ssh_only(), rules::ruleset(&larger)] {
                net.server.run(|| firewall.install(&ruleset)).expect("a reload");
                assert!(net.client.shut_out(ssh), "used up for {client}");
            }
        }
    });
}

// Bound

const ABORT: linger = linger { l_onoff: 1, l_linger: 0 };

#[test]
fn bound_lets_in_from_its_port_as_often_as_you_like() {
    isolated("bound_lets_in_from_its_port_as_often_as_you_like", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        for (client, server) in ENDS {
            let ssh = to(server, 22);
            give(&mut firewall, &on(Terms::Bound(40_000), client));
            for _ in 0..2 {
                let stream = net.client.connect_from(40_000, ssh).expect("from its port");
                // Frees the port at once.
                setsockopt(&stream, sockopt::Linger, &ABORT).expect("an abort");
            }
            for port in [39_999, 40_001] {
                assert!(
                    net.client.shut_out_from(SocketAddr::new(ip(client), port), ssh),
                    "{port} of {client}"
                );
            }
        }
    });
}

// From where, to where

/// Two more addresses for a host's end of the cable.
fn more_addresses(host: &Host, device: &str, addresses: &str) {
    for address in addresses.split(' ') {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        host.sh(&format!("ip addr add {address} dev {device} {nodad}"));
    }
}

#[test]
fn a_grant_is_for_one_address_of_the_server() {
    isolated("a_grant_is_for_one_address_of_the_server", || {
        let net = Net::new();
        more_addresses(&net.server, "s1", "10.0.1.9/24 2001:db8:1::9/64");
        let addresses = [["10.0.1.1", "10.0.1.9"], ["2001:db8:1::1", "2001:db8:1::9"]];
        let mut firewall = guarded(&net, &Plan { destination: true, ..plan() });
        for ((client, _), [one, other]) in ENDS.into_iter().zip(addresses) {
            let terms = [Terms::Window, Terms::Once, Terms::Bound(40_000)];
            for terms in terms {
                let element = Element { destination: Some(ip(one)), ..on(terms, client) };
                give(&mut firewall, &element);
                let from = SocketAddr::new(ip(client), 40_000);
                assert!(net.client.shut_out_from(from, to(other, 22)), "{other} for {terms:?}");
                net.client.connect_from(40_000, to(one, 22)).expect("the address knocked at");
                firewall.withdraw(&[element]).expect("it goes");
            }
        }
    });
}

#[test]
fn a_prefix_is_for_all_its_addresses_and_no_other() {
    isolated("a_prefix_is_for_all_its_addresses_and_no_other", || {
        let net = Net::new();
        more_addresses(
            &net.client,
            "c0",
            "10.0.1.200/24 10.0.2.200/32 2001:db8:1::abcd/64 2001:db8:1:1::2/128",
        );
        net.server.sh("ip route add 10.0.2.200 dev s1; ip -6 route add 2001:db8:1:1::2 dev s1");
        let mut firewall = net.server.guarded();
        for ((client, server), (len, inside, outside)) in ENDS
            .into_iter()
            .zip([(24, "10.0.1.200", "10.0.2.200"), (64, "2001:db8:1::abcd", "2001:db8:1:1::2")])
        {
            let ssh = to(server, 22);
            let connects = |from: &str| net.client.connect_as(SocketAddr::new(ip(from), 0), ssh);
            let shut = |from: &str| net.client.shut_out_from(SocketAddr::new(ip(from), 0), ssh);
            give(&mut firewall, &wide(element(client), len));
            assert!(connects(client).is_some() && connects(inside).is_some(), "/{len}");
            assert!(shut(outside), "{outside} is not in it");
            firewall.withdraw(&[wide(element(client), len)]).expect("it goes");

            give(&mut firewall, &wide(once(client), len));
            connects(inside).expect("once for all of them");
            assert!(shut(client) && shut(inside), "used up by one of them");
        }
    });
}

#[test]
fn a_grant_opens_all_ports_of_its_service_and_nothing_beside() {
    isolated("a_grant_opens_all_ports_of_its_service_and_nothing_beside", || {
        let net = Net::new();
        let mut many = service("many", Protocol::Tcp, &[(22, 22), (5000, 5100)]);
        many.ports.extend(service("u", Protocol::Udp, &[(60_000, 60_010)]).ports);
        let beside =
            service("beside", Protocol::Tcp, &[(4999, 4999), (5101, 5101), (60_000, 60_000)]);
        let mut datagrams =
            service("datagrams", Protocol::Udp, &[(22, 22), (59_999, 59_999), (60_011, 60_011)]);
        datagrams.ports.extend(service("t", Protocol::Tcp, &[(80, 80)]).ports);
        net.server.echo(&[4999, 5000, 5050, 5100, 5101, 59_999, 60_000, 60_010, 60_011]);
        let mut firewall =
            guarded(&net, &Plan { services: vec![beside, datagrams, many], ..plan() });
        for (client, server) in ENDS {
            let open = Element { service: "many".parse().expect("a name"), ..element(client) };
            let udp = |port| {
                net.client.udp_echo(
                    0,
                    to(server, port),
                    Duration::from_millis(if matches!(port, 60_000..=60_010) {
                        10_000
                    } else {
                        300
                    }),
                )
            };
            assert!(net.client.shut_out(to(server, 5050)), "no grant yet");
            give(&mut firewall, &open);
            for port in [22, 5000, 5050, 5100] {
                assert!(net.client.reaches(to(server, port)), "tcp/{port} at {server}");
            }
            assert!(udp(60_000) && udp(60_010), "udp at {server}");
            for port in [4999, 5101, 60_000, 80] {
                assert!(net.client.shut_out(to(server, port)), "tcp/{port} at {server}");
            }
            for port in [22, 59_999, 60_011] {
                assert!(!udp(port), "udp/{port} at {server}");
            }
        }
    });
}

// Bits of the conntrack label

/// Somebody else's rules, which set one bit and count the packets that have it.
fn label_of_others(host: &Host, bit: u8) {
    host.nft(&format!(
        "table inet other {{ chain in {{ type filter hook prerouting priority 10; \n\
         tcp dport {{ 22, 80 }} ct state new ct label set {bit}\n\
         tcp dport {{ 22, 80 }} ct label {bit} counter comment \"theirs\"\n }}\n }}\n"
    ));
}

#[test]
fn labels_of_others_stay_and_say_nothing_to_us() {
    isolated("labels_of_others_stay_and_say_nothing_to_us", || {
        for labels in [firewall_lab::LABELS, Labels { granted: 0, cut: 127 }] {
            let net = Net::new();
            label_of_others(&net.server, 7);
            let mut firewall = guarded(&net, &Plan { labels, ..plan() });
            let theirs = || net.server.counted("inet other", "theirs");
            for (client, server) in ENDS {
                assert!(net.client.shut_out(to(server, 22)), "their bit opens nothing");
                give(&mut firewall, &element(client));
                let session = net.client.connect(to(server, 22)).expect("a connection");
                let before = theirs();
                assert!(alive(&session), "accepted by our bit");
                assert!(theirs() > before, "which left theirs as it was");
                firewall.withdraw(&[element(client)]).expect("it goes");
                assert!(alive(&session), "and stays");
            }
        }
    });
}

#[test]
fn our_bits_are_the_configured_ones() {
    isolated("our_bits_are_the_configured_ones", || {
        let net = Net::new();
        // Somebody else uses the bits that are ours by default.
        label_of_others(&net.server, 95);
        let mut firewall = guarded(&net, &Plan { labels: Labels { granted: 3, cut: 4 }, ..plan() });
        for (client, server) in ENDS {
            assert!(net.client.reaches(to(server, 80)));
            assert!(net.client.shut_out(to(server, 22)));
            give(&mut firewall, &element(client));
            assert!(net.client.reaches(to(server, 22)));
        }
    });
}

// Many

const MANY: u32 = 50_000;
/// How many are timed.
const SAMPLE: u32 = 2000;

fn source(number: u32) -> Element {
    element(&Ipv4Addr::from(0x0b00_0000 + number).to_string())
}

/// What adding one grant costs as a rule: the median over some.
fn median_cost(firewall: &mut Firewall, first: u32) -> Duration {
    let cost = |number| {
        let began = Instant::now();
        give(firewall, &source(number));
        began.elapsed()
    };
    let mut costs: Vec<_> = (first..first + SAMPLE).map(cost).collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

#[test]
fn a_grant_costs_the_same_among_fifty_thousand() {
    isolated("a_grant_costs_the_same_among_fifty_thousand", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        let alone = median_cost(&mut firewall, 0);
        (SAMPLE..MANY).for_each(|number| give(&mut firewall, &source(number)));
        let among = median_cost(&mut firewall, MANY);
        let began = Instant::now();
        let listed = firewall.elements().expect("elements").len();
        println!(
            "one more: {alone:?} with none, {among:?} with {MANY}; listed in {:?}",
            began.elapsed()
        );
        assert_eq!(listed, (MANY + SAMPLE) as usize);
        assert!(among < 2 * alone, "{among:?} against {alone:?}");
    });
}
