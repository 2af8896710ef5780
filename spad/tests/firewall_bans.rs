//! Bans in the kernel: what the sets of intervals hold, and what becomes of
//! packets. Everything happens in network namespaces of the test's own.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::{
    Host, LABELS, Net, PATIENCE, SOON, alive, at, element, isolated, plan, service, unowned,
};
use spa_proto::Protocol;
use spad::firewall::{Firewall, Flows, Interval, Options, Origin, Plan, rules};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
const CLIENT: [&str; 2] = ["10.0.1.2", "2001:db8:1::2"];

fn interval(first: &str, last: &str, seconds: u64) -> Interval {
    let left = (seconds > 0).then_some(Duration::from_secs(seconds));
    let address = |text: &str| text.parse().expect("an address");
    Interval { first: address(first), last: address(last), left }
}

fn single(address: &str) -> Interval {
    interval(address, address, 0)
}

fn both() -> Vec<Interval> {
    CLIENT.map(single).to_vec()
}

/// This port of whatever address leads there.
fn from_port(port: u16, to: SocketAddr) -> SocketAddr {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    SocketAddr::new(any, port)
}

/// Without the time, of which some has passed.
fn ranges(firewall: &Firewall) -> Vec<(IpAddr, IpAddr, bool)> {
    let banned = firewall.banned().expect("bans").into_iter();
    banned.map(|i| (i.first, i.last, i.left.is_some())).collect()
}

fn of(intervals: &[Interval]) -> Vec<(IpAddr, IpAddr, bool)> {
    intervals.iter().map(|i| (i.first, i.last, i.left.is_some())).collect()
}

/// Ends, neighbours of different lengths, both families.
fn several() -> Vec<Interval> {
    vec![
        interval("0.0.0.0", "9.255.255.255", 0),
        interval("10.0.0.0", "10.0.0.255", 60),
        interval("10.0.1.0", "10.0.1.0", 0),
        interval("10.0.1.1", "10.0.1.255", 120),
        interval("240.0.0.0", "255.255.255.255", 0),
        interval("2001:db8::", "2001:db8::ffff", 60),
        interval("2001:db8::1:0", "2001:db8::1:0", 0),
        interval("ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0),
    ]
}

#[test]
fn what_is_banned_is_what_was_said_last() {
    isolated("what_is_banned_is_what_was_said_last", || {
        let mut firewall = Host::new().guarded();
        assert_eq!(firewall.banned().expect("bans"), []);
        let less: Vec<_> = several().into_iter().step_by(2).collect();
        let wider = [interval("10.0.0.0", "10.0.7.255", 30)];
        for said in [several(), less, several(), wider.to_vec(), Vec::new()] {
            firewall.set_banned(&said).expect("bans");
            assert_eq!(ranges(&firewall), of(&said));
        }
        firewall.verify().expect("elements are no drift");
    });
}

#[test]
fn a_ban_between_two_others_ends_alone() {
    isolated("a_ban_between_two_others_ends_alone", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        let neighbours = |seconds| {
            let middle = Duration::from_millis(seconds);
            let v4 = ["10.0.0.0", "10.0.0.7", "10.0.0.8", "10.0.0.8", "10.0.0.9", "10.0.0.255"];
            let v6 = ["fd00::", "fd00::7", "fd00::8", "fd00::8", "fd00::9", "fd00::ff"];
            let mut three: Vec<_> =
                [v4, v6].concat().chunks(2).map(|ends| interval(ends[0], ends[1], 0)).collect();
            three[1].left = Some(middle);
            three[4].left = Some(middle);
            three
        };
        firewall.set_banned(&neighbours(1000)).expect("bans");
        let left = of(&[0, 2, 3, 5].map(|n| neighbours(1)[n]));
        let began = Instant::now();
        while ranges(&firewall) != left {
            assert!(began.elapsed() < PATIENCE, "{:?}", firewall.banned());
            sleep(Duration::from_millis(50));
        }
        assert!(began.elapsed() > Duration::from_millis(900));
        // Not only listed so: what remains is what matches, also after the kernel has cleaned up.
        sleep(Duration::from_secs(2));
        for (address, banned) in [("10.0.0.7", true), ("10.0.0.8", false), ("10.0.0.9", true)] {
            let found = host.try_sh(&format!("nft get element inet spad bans4 '{{ {address} }}'"));
            assert_eq!(found.is_ok(), banned, "{address}: {found:?}");
        }
        firewall.set_banned(&neighbours(60_000)).expect("the same again");
        assert_eq!(ranges(&firewall), of(&neighbours(60_000)));
    });
}

#[test]
fn a_banned_source_gets_nothing_in_and_nothing_out() {
    isolated("a_banned_source_gets_nothing_in_and_nothing_out", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        for (client, server) in CLIENT.into_iter().zip(["10.0.1.1", "2001:db8:1::1"]) {
            let web = std::net::SocketAddr::new(server.parse().expect("an address"), 80);
            let before = net.client.connect(web).expect("port 80 is nobody's business");
            assert!(net.client.udp_echo(7000, web, PATIENCE));
            firewall.set_banned(&both()).expect("bans");
            assert!(is_cut(&before), "what was open carries nothing more");
            assert!(net.client.shut_out(web), "{web}");
            assert!(!net.client.udp_echo(7000, web, SOON), "{web}");
            assert!(!net.client.udp_echo(7001, web, SOON), "{web}");
            net.client.try_sh(&format!("ping -c1 -W1 {server}")).expect_err("a ping");
            net.server.try_sh(&format!("ping -c1 -W1 {client}")).expect_err("a ping outward");
            firewall.set_banned(&[]).expect("no bans");
            assert!(net.client.reaches(web), "{web} after the ban");
        }
        firewall.set_banned(&both()).expect("bans");
        assert!(net.stranger.reaches(at("10.0.2.1:80")), "another source");
    });
}

/// Whether nothing comes back, and nothing that the server says arrives.
fn is_cut(stream: &TcpStream) -> bool {
    let mut stream = stream;
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    let _ = stream.write_all(b"hello");
    // A reset is told once; then there is the end of the stream.
    !matches!(stream.read(&mut [0; 8]), Ok(1..))
}

#[test]
fn what_the_server_sends_does_not_arrive() {
    isolated("what_the_server_sends_does_not_arrive", || {
        let net = Net::new();
        let listener = net.server.run(|| TcpListener::bind(("::", 90)).expect("a port"));
        let mut firewall = net.server.guarded();
        let near = net.client.spawn(|| TcpStream::connect(at("10.0.1.1:90")).expect("connected"));
        let mut far = firewall_lab::accept(&listener).expect("a connection");
        let mut near = near.join().expect("a stream");
        firewall.set_banned(&both()).expect("bans");
        near.set_read_timeout(Some(SOON)).expect("a timeout");
        far.write_all(b"still there?").expect("into the buffer");
        assert!(near.read(&mut [0; 16]).is_err(), "nothing to a banned address");
        firewall.set_banned(&[]).expect("no bans");
        near.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        assert_eq!(near.read(&mut [0; 16]).expect("it was only held up"), 12);
    });
}

/// Answers alone would say little: they go out, and are dropped there too.
#[test]
fn what_a_banned_source_sends_does_not_arrive() {
    isolated("what_a_banned_source_sends_does_not_arrive", || {
        let net = Net::new();
        let socket = net.server.run(|| UdpSocket::bind(("::", 9000)).expect("a port"));
        let mut firewall = net.server.guarded();
        firewall.set_banned(&both()).expect("bans");
        let send = |host: &Host, to: &str| {
            let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            host.run(|| UdpSocket::bind(any).and_then(|s| s.send_to(b"hello", to)).expect("sent"));
        };
        for (banned, other) in
            [("10.0.1.1:9000", "10.0.2.1:9000"), ("[2001:db8:1::1]:9000", "[2001:db8:2::1]:9000")]
        {
            send(&net.client, banned);
            send(&net.stranger, other);
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let (_, from) = socket.recv_from(&mut [0; 8]).expect("the other's");
            let from = from.ip().to_canonical().to_string();
            assert!(from == "10.0.2.2" || from == "2001:db8:2::2", "from {from}");
            socket.set_read_timeout(Some(SOON)).expect("a timeout");
            assert!(socket.recv_from(&mut [0; 8]).is_err(), "{banned}");
        }
    });
}

#[test]
fn a_grant_after_the_ban_is_served() {
    isolated("a_grant_after_the_ban_is_served", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        firewall.set_banned(&both()).expect("bans");
        for (client, to) in CLIENT.into_iter().zip(["10.0.1.1:22", "[2001:db8:1::1]:22"]) {
            assert!(net.client.shut_out(at(to)));
            firewall.grant(&element(client), MINUTE).expect("a grant");
            net.server.sh("ip neigh flush all");
            let session = net.client.connect(at(to)).expect("served");
            firewall.withdraw(&[element(client)]).expect("the end of the grant");
            assert!(alive(&session) && net.client.shut_out(at(to)), "{to}");
            assert!(net.client.shut_out(at(&to.replace(":22", ":80"))), "{to}: nothing else");
        }
    });
}

#[test]
fn an_absolute_ban_holds_against_a_grant() {
    isolated("an_absolute_ban_holds_against_a_grant", || {
        let net = Net::new();
        let services = vec![service("ssh", Protocol::Tcp, &[(22, 22), (2200, 2200)])];
        let ruleset = rules::ruleset(&Plan { services, absolute_bans: true, ..plan() });
        let (mut firewall, _) = net.server.firewall(Options::default(), &ruleset);
        for (client, to) in CLIENT.into_iter().zip(["10.0.1.1:22", "[2001:db8:1::1]:22"]) {
            firewall.grant(&element(client), MINUTE).expect("a grant");
            let session = net.client.connect(at(to)).expect("served");
            firewall.set_banned(&both()).expect("bans");
            assert!(is_cut(&session), "{to}");
            assert!(net.client.shut_out(at(to)), "{to}");
            firewall.set_banned(&[]).expect("no bans");
        }
        let listener = net.server.run(|| TcpListener::bind(("::", 2200)).expect("a port"));
        let near = net.client.spawn(|| TcpStream::connect(at("10.0.1.1:2200")).expect("granted"));
        let mut far = firewall_lab::accept(&listener).expect("a connection");
        let mut near = near.join().expect("a stream");
        firewall.set_banned(&both()).expect("bans");
        near.write_all(b"hello").expect("into the buffer");
        far.set_read_timeout(Some(SOON)).expect("a timeout");
        assert!(far.read(&mut [0; 8]).is_err(), "nothing arrives either");
    });
}

#[test]
fn connections_through_a_grant_are_cut_for_good() {
    isolated("connections_through_a_grant_are_cut_for_good", || {
        let net = Net::new();
        let mut firewall = net.server.guarded();
        for (client, to) in CLIENT.into_iter().zip(["10.0.1.1:22", "[2001:db8:1::1]:22"]) {
            let address: IpAddr = client.parse().expect("an address");
            firewall.grant(&element(client), MINUTE).expect("a grant");
            let through = net.client.connect(at(to)).expect("through the grant");
            let beside = net.client.connect(at(&to.replace(":22", ":80"))).expect("beside it");
            let stranger = net.stranger.connect(at("10.0.2.1:80")).expect("another's");
            firewall.withdraw(&[element(client)]).expect("the end of the grant");
            firewall.set_banned(&both()).expect("bans");
            assert!(alive(&through), "{to}: the rules alone leave it");
            let cut = net.server.run(|| {
                Flows::open(LABELS).and_then(|mut flows| flows.cut_peers(|end| end == address))
            });
            assert_eq!(cut.expect("cut"), 2, "{to}");
            assert!(is_cut(&through) && is_cut(&beside), "{to}");
            // Lifting the ban does not bring them back, but lets new ones begin.
            firewall.set_banned(&[]).expect("no bans");
            assert!(is_cut(&through) && is_cut(&beside), "{to}");
            assert!(alive(&stranger) && net.client.reaches(at(&to.replace(":22", ":80"))), "{to}");
        }
    });
}

/// Source NAT may put a forwarded connection on a protected port.
#[test]
fn answers_to_what_is_forwarded_are_no_exception() {
    isolated("answers_to_what_is_forwarded_are_no_exception", || {
        let net = Net::new();
        net.server.sh("sysctl -qw net.ipv4.ip_forward=1");
        net.server.nft("table inet theirs { chain post { type nat hook postrouting priority 100; oifname s2 meta l4proto tcp masquerade to :22\n }\n }\n");
        let mut firewall = net.server.guarded();
        let listener = net.stranger.run(|| TcpListener::bind(("::", 90)).expect("a port"));
        let near = net.client.spawn(|| TcpStream::connect(at("10.0.2.2:90")).expect("connected"));
        let mut far = firewall_lab::accept(&listener).expect("a connection");
        let mut near = near.join().expect("a stream");
        assert_eq!(far.peer_addr().expect("its peer").port(), 22);
        near.set_read_timeout(Some(SOON)).expect("a timeout");
        far.write_all(b"before").expect("into the buffer");
        assert_eq!(near.read(&mut [0; 16]).expect("forwarded"), 6);
        firewall.set_banned(&[single("10.0.2.2")]).expect("bans");
        far.write_all(b"after").expect("into the buffer");
        assert!(near.read(&mut [0; 16]).is_err(), "nothing from a banned address");
    });
}

#[test]
fn this_host_begins_nothing_to_a_banned_address() {
    isolated("this_host_begins_nothing_to_a_banned_address", || {
        let net = Net::new();
        net.client.echo(&[443]);
        let services = vec![service("ssh", Protocol::Tcp, &[(2200, 2200)])];
        let ruleset = rules::ruleset(&Plan { services, ..plan() });
        let (mut firewall, _) = net.server.firewall(Options::default(), &ruleset);
        for client in ["10.0.1.2:443", "[2001:db8:1::2]:443"] {
            assert!(net.server.connect_from(2200, at(client)).is_some(), "{client}");
            firewall.set_banned(&both()).expect("bans");
            assert!(net.server.shut_out(at(client)), "{client}");
            assert!(
                net.server.shut_out_from(from_port(2200, at(client)), at(client)),
                "{client} from a protected port"
            );
            firewall.set_banned(&[]).expect("no bans");
        }
    });
}

#[test]
fn notrack_of_others_lifts_no_ban() {
    isolated("notrack_of_others_lifts_no_ban", || {
        let net = Net::new();
        net.server.nft("table inet theirs { chain pre { type filter hook prerouting priority -450; notrack\n }\n chain out { type filter hook output priority -450; notrack\n }\n }\n");
        let mut firewall = net.server.guarded();
        firewall.set_banned(&both()).expect("bans");
        assert!(net.stranger.reaches(at("10.0.2.1:80")));
        assert!(net.client.shut_out(at("10.0.1.1:80")));
        assert!(net.client.shut_out(at("[2001:db8:1::1]:80")));
        assert!(!net.client.udp_echo(7000, at("10.0.1.1:80"), SOON));
    });
}

#[test]
fn bans_come_with_the_ruleset_and_stay_with_the_table() {
    isolated("bans_come_with_the_ruleset_and_stay_with_the_table", || {
        for options in [Options::default(), unowned()] {
            let host = Host::new();
            let ruleset = rules::ruleset(&plan());
            let mut firewall = host.run(|| Firewall::open_with(options)).expect("a firewall");
            firewall.stage_banned(several());
            host.run(|| firewall.install(&ruleset)).expect("a ruleset");
            assert_eq!(ranges(&firewall), of(&several()), "with the first ruleset");
            host.run(|| firewall.install(&ruleset)).expect("a ruleset");
            assert_eq!(ranges(&firewall), of(&several()), "reloaded");
            drop(firewall);
            // Changed persistence means another table.
            for next in [Options::default(), unowned()] {
                let (firewall, installed) = host.firewall(next, &ruleset);
                assert_eq!(installed.origin, Origin::Adopted);
                assert_eq!(ranges(&firewall), of(&several()), "adopted");
                drop(firewall);
            }
            host.delete_when_free();
        }
    });
}

#[test]
fn a_source_that_was_carried_over_is_not_shut_out_of_a_rated_service() {
    use spad::firewall::plan::Access;
    use spad::firewall::ruleset::{Limit, Unit};
    isolated("a_source_that_was_carried_over_is_not_shut_out_of_a_rated_service", || {
        let net = Net::new();
        let with = |unit| {
            let mut web = service("web", Protocol::Tcp, &[(80, 80)]);
            web.access = Access::Public(Some(Limit { count: 3, unit, burst: 3 }));
            rules::ruleset(&Plan { services: vec![web], ..plan() })
        };
        let (mut firewall, _) = net.server.firewall(Options::default(), &with(Unit::Minute));
        (0..3).for_each(|_| assert!(net.client.reaches(at("10.0.1.1:80"))));
        assert!(net.client.shut_out(at("10.0.1.1:80")), "the fourth");
        net.server.run(|| firewall.install(&with(Unit::Hour))).expect("another rate");
        assert!(net.client.reaches(at("10.0.1.1:80")), "counted anew");
    });
}

/// Prints figures; what they may be is for a human to say.
#[test]
fn ten_thousand_bans() {
    isolated("ten_thousand_bans", || {
        let host = Host::new();
        let mut firewall = host.guarded();
        let slab = || {
            let text = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
            let line = text.lines().find(|l| l.starts_with("Slab:")).expect("Slab");
            line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("kB")
        };
        let many: Vec<_> = (0..10_000_u32)
            .map(|n| IpAddr::from((0x0b00_0000 + 2 * n).to_be_bytes()))
            .map(|address| Interval { first: address, last: address, left: Some(MINUTE * 60) })
            .collect();
        let before = slab();
        for round in 0..3 {
            let began = Instant::now();
            firewall.set_banned(&many).expect("bans");
            println!(
                "round {round}: 10000 bans set in {:?}, slab {} kB",
                began.elapsed(),
                slab().saturating_sub(before)
            );
            let began = Instant::now();
            assert_eq!(firewall.banned().expect("bans").len(), 10_000);
            println!("  listed in {:?}", began.elapsed());
        }
    });
}
