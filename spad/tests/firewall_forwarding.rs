//! A managed host that others are behind: what they reach, what reaches them,
//! and by which addresses; helpers of connection tracking.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::{
    Host, Net, PATIENCE, SOON, accept, alive, at, cable, element_of, isolated, network, plan,
    service,
};
use spad::firewall::plan::{Access, KnownHelper, Managed, Mode, Source, Target};
use spad::firewall::{Firewall, Options, Plan, Protocol, rules};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// A server with a host behind it, on 10.0.9.2 and 2001:db8:9::2.
struct Site {
    net: Net,
    inner: Host,
}

impl Site {
    fn new() -> Self {
        let (net, inner) = (Net::new(), Host::new());
        let ours = (&net.server, "s9", "10.0.9.1/24 2001:db8:9::1/64");
        cable(ours, (&inner, "c0", "10.0.9.2/24 2001:db8:9::2/64"));
        inner.sh("ip route add default via 10.0.9.1; ip -6 route add default via 2001:db8:9::1");
        net.server.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        inner.echo(&[22, 8080]);
        Self { net, inner }
    }

    fn manage(&self, plan: &Plan) -> Firewall {
        self.net.server.firewall(Options::default(), &rules::ruleset(plan)).0
    }
}

/// The inner network behind `s9`, the client's before `s1`; nobody on `s2`.
fn gateway() -> Plan {
    let managed = Managed {
        strict: vec!["s9".to_owned()],
        inside: vec!["s9".to_owned()],
        outside: vec!["s1".to_owned()],
        ..Managed::default()
    };
    Plan { mode: Mode::Managed, managed, ..plan() }
}

/// As who a host appears on a listener of another.
fn appears(from: &Host, to: &Host, address: &str) -> Option<IpAddr> {
    let listener = to.run(|| TcpListener::bind(at(address)).expect("a port"));
    let to = listener.local_addr().expect("its address");
    let connected = from.run(|| TcpStream::connect_timeout(&to, PATIENCE));
    connected.ok()?;
    Some(accept(&listener)?.peer_addr().expect("the other end").ip())
}

#[test]
fn those_inside_reach_outside_and_not_the_other_way() {
    isolated("those_inside_reach_outside_and_not_the_other_way", || {
        let site = Site::new();
        let (net, inner) = (&site.net, &site.inner);
        net.client.echo(&[80]);
        net.stranger.echo(&[80]);
        for to in ["10.0.9.2:8080", "[2001:db8:9::2]:8080"] {
            assert!(net.client.reaches(at(to)), "{to} without a firewall");
        }
        let _firewall = site.manage(&gateway());
        for to in ["10.0.1.2:80", "[2001:db8:1::2]:80"] {
            assert!(inner.reaches(at(to)) && inner.udp_echo(0, at(to), PATIENCE), "{to}");
        }
        for to in ["10.0.9.2:8080", "[2001:db8:9::2]:8080", "10.0.9.2:22"] {
            assert!(net.client.shut_out(at(to)) && net.stranger.shut_out(at(to)), "{to}");
            assert!(!net.client.udp_echo(0, at(to), SOON), "{to}: UDP");
        }
        for to in ["10.0.2.2:80", "[2001:db8:2::2]:80"] {
            assert!(inner.shut_out(at(to)), "{to} is not outside");
            assert!(net.client.shut_out(at(to)), "{to}: nobody's business");
        }
        for to in ["10.0.9.1:22", "10.0.9.1:2222", "[2001:db8:9::1]:2222", "10.0.1.1:22"] {
            assert!(inner.shut_out(at(to)), "{to}: to be inside is not to be trusted");
        }
    });
}

#[test]
fn those_inside_appear_as_it_is_written() {
    isolated("those_inside_appear_as_it_is_written", || {
        let site = Site::new();
        site.net
            .server
            .sh("ip addr add 10.0.1.77/24 dev s1; ip addr add 2001:db8:1::77/64 dev s1 nodad");
        let address = |text: &str| Source::Address(text.parse().expect("an address"));
        let mut port = 9000;
        for (source4, source6, seen4, seen6) in [
            (Source::Interface, Source::Own, "10.0.1.1", "2001:db8:9::2"),
            (Source::Own, Source::Interface, "10.0.9.2", "2001:db8:1::1"),
            (address("10.0.1.77"), address("2001:db8:1::77"), "10.0.1.77", "2001:db8:1::77"),
        ] {
            let mut plan = gateway();
            plan.managed = Managed { source4, source6, ..plan.managed };
            let _firewall = site.manage(&plan);
            for (to, seen) in [("10.0.1.2", seen4), ("[2001:db8:1::2]", seen6)] {
                port += 1;
                let found = appears(&site.inner, &site.net.client, &format!("{to}:{port}"));
                // IPv6 chooses among the addresses of an interface as it likes.
                let masqueraded6 = seen6 == "2001:db8:1::1" && to.starts_with('[');
                let ours = |found: IpAddr| found.to_string().starts_with("2001:db8:1::");
                let right = found == seen.parse().ok() || masqueraded6 && found.is_some_and(ours);
                assert!(right, "{to}: {found:?} instead of {seen}");
            }
        }
    });
}

fn to_inner(access: Access) -> spad::firewall::plan::Service {
    let mut service = service("nas", Protocol::Tcp, &[(443, 443)]);
    service.access = access;
    service.target = Some(Target {
        v4: "10.0.9.2".parse().ok(),
        v6: "2001:db8:9::2".parse().ok(),
        port: Some(8080),
        source_nat: false,
    });
    service
}

const NAS: [&str; 2] = ["10.0.1.1:443", "[2001:db8:1::1]:443"];

#[test]
fn public_service_of_an_inner_host_is_open_to_everyone() {
    isolated("public_service_of_an_inner_host_is_open_to_everyone", || {
        for mode in [Mode::Guard, Mode::Managed] {
            let site = Site::new();
            let services =
                vec![service("ssh", Protocol::Tcp, &[(22, 22)]), to_inner(Access::Public(None))];
            let _firewall = site.manage(&Plan { mode, services, ..gateway() });
            for to in NAS {
                assert!(site.net.client.reaches(at(to)), "{mode:?}: {to}");
                let ssh = to.replace(":443", ":22");
                assert!(site.net.client.shut_out(at(&ssh)), "{mode:?}: {ssh}");
            }
            assert!(site.net.stranger.reaches(at("10.0.2.1:443")), "{mode:?}");
            let direct = site.net.client.shut_out(at("10.0.9.2:8080"));
            assert_eq!(direct, mode == Mode::Managed, "{mode:?}: only by the port of the service");
        }
    });
}

#[test]
fn service_of_an_inner_host_is_open_to_the_granted_and_trusted() {
    isolated("service_of_an_inner_host_is_open_to_the_granted_and_trusted", || {
        let site = Site::new();
        let net = &site.net;
        let trusted = vec![network("10.0.2.0", 24), network("2001:db8:2::", 64)];
        let plan = Plan { services: vec![to_inner(Access::Knock)], trusted, ..gateway() };
        let mut firewall = site.manage(&plan);
        for (to, source) in NAS.into_iter().zip(["10.0.1.2", "2001:db8:1::2"]) {
            assert!(net.client.shut_out(at(to)), "{to}");
            let grant = element_of("nas", source);
            firewall.grant(&grant, MINUTE).expect("a grant");
            let session = net.client.connect(at(to)).expect("open to the granted");
            firewall.withdraw(&[grant]).expect("the end of the grant");
            assert!(alive(&session) && net.client.shut_out(at(to)), "{to}");
        }
        for to in ["10.0.2.1:443", "[2001:db8:2::1]:443"] {
            assert!(net.stranger.reaches(at(to)), "{to}: trusted");
        }
        // Somebody else's way there, past the port of the service.
        net.server.nft("table inet theirs { chain pre { type nat hook prerouting priority -100; \n meta nfproto ipv4 tcp dport 4433 dnat ip to 10.0.9.2:8080 \n }\n }\n");
        assert!(net.client.shut_out(at("10.0.1.1:4433")));
    });
}

/// A part of an FTP server: greets, answers each command with `answer` and
/// tells what it has heard.
fn ftp_server(host: &Host, answer: String) -> Receiver<String> {
    let listener = host.run(|| TcpListener::bind("[::]:21").expect("port 21"));
    let (heard, commands) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, heard) = (answer.clone(), heard.clone());
            std::thread::spawn(move || converse(&stream, &answer, &heard));
        }
    });
    commands
}

fn converse(stream: &TcpStream, answer: &str, heard: &Sender<String>) {
    let mut writing = stream;
    let _ = writing.write_all(b"220 ready\r\n");
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let _ = writing.write_all(answer.as_bytes());
        let _ = heard.send(line);
    }
}

/// A control connection, on which this command has been answered.
fn ftp_client(from: &Host, to: &str, command: &str) -> TcpStream {
    let mut control = from.run(|| TcpStream::connect_timeout(&at(to), PATIENCE)).expect("port 21");
    control.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut answers = BufReader::new(control.try_clone().expect("a second handle")).lines();
    // The helper listens from the second line on, in both directions.
    for line in ["USER anybody", "NOOP", command] {
        answers.next().expect("an answer").expect("a line");
        control.write_all(format!("{line}\r\n").as_bytes()).expect("a command");
    }
    answers.next().expect("an answer").expect("a line");
    control
}

fn ftp_plan(helpers: &[KnownHelper]) -> Plan {
    let mut ftp = service("ftp", Protocol::Tcp, &[(21, 21)]);
    ftp.access = Access::Public(None);
    let ssh = service("ssh", Protocol::Tcp, &[(22, 22)]);
    let managed = Managed { helpers: helpers.into(), ..gateway().managed };
    Plan { services: vec![ssh, ftp], managed, ..gateway() }
}

/// Without and with it, and whether what is announced comes through.
const HELPERS: [(&[KnownHelper], bool); 2] = [(&[], false), (&[KnownHelper::ALL[0]], true)];

fn passive(port: u16) -> String {
    format!("227 Entering Passive Mode (10,0,1,1,{},{}).\r\n", port >> 8, port & 0xff)
}

#[test]
fn ftp_data_comes_in_only_with_the_helper() {
    isolated("ftp_data_comes_in_only_with_the_helper", || {
        for (answer, command, to) in [
            (passive(2222), "PASV", "10.0.1.1"),
            ("229 Extended (|||2222|)\r\n".to_owned(), "EPSV", "[2001:db8:1::1]"),
        ] {
            for (helpers, comes) in HELPERS {
                let site = Site::new();
                let (client, data) = (&site.net.client, at(&format!("{to}:2222")));
                ftp_server(&site.net.server, answer.clone());
                let _firewall = site.manage(&ftp_plan(helpers));
                assert!(client.shut_out(data), "{to} before it was announced");
                let _control = ftp_client(client, &format!("{to}:21"), command);
                assert!(site.net.stranger.shut_out(data), "{to} for others");
                assert_eq!(!client.shut_out(data), comes, "{to}: helpers {helpers:?}");
            }
        }
    });
}

#[test]
fn no_helper_opens_a_protected_service() {
    isolated("no_helper_opens_a_protected_service", || {
        let site = Site::new();
        ftp_server(&site.net.server, passive(22));
        let _firewall = site.manage(&ftp_plan(HELPERS[1].0));
        let _control = ftp_client(&site.net.client, "10.0.1.1:21", "PASV");
        let expected = site.net.server.sh("conntrack -L expect 2>/dev/null");
        assert!(expected.contains("dport=22 "), "the kernel expects it: {expected}");
        assert!(site.net.client.shut_out(at("10.0.1.1:22")));
    });
}

/// An FTP client offers a port, and the server outside connects to what it
/// hears: of the managed host itself, or what the masquerade has made of it.
#[test]
fn active_ftp_reaches_a_client_inside_and_here() {
    isolated("active_ftp_reaches_a_client_inside_and_here", || {
        for (helpers, comes) in HELPERS {
            let site = Site::new();
            let mut plan = ftp_plan(helpers);
            plan.managed.source4 = Source::Interface;
            let _firewall = site.manage(&plan);
            let heard = ftp_server(&site.net.client, "200 fine\r\n".to_owned());
            let offer = |from: &Host, offer: &str| {
                let control = ftp_client(from, "10.0.1.2:21", &format!("PORT {offer}"));
                let lines =
                    heard.iter().find_map(|line| Some(line.strip_prefix("PORT ")?.to_owned()));
                (control, announced(&lines.expect("an offer")))
            };
            let (_control, inside) = offer(&site.inner, "10,0,9,2,31,144");
            assert_eq!(inside.ip().to_string() == "10.0.1.1", comes, "{inside}");
            assert_eq!(!site.net.client.shut_out(inside), comes, "{inside}");
            let (_control, here) = offer(&site.net.server, "10,0,1,1,8,174");
            assert_eq!(!site.net.client.shut_out(here), comes, "{here}");
        }
    });
}

/// The address in a PORT command.
fn announced(offer: &str) -> SocketAddr {
    let numbers: Vec<u8> = offer.split(',').map(|n| n.parse().expect("a byte")).collect();
    let [a, b, c, d, high, low] = numbers[..] else { panic!("{offer}") };
    SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))
}
