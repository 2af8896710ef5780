use super::*;

use crate::explain::frame::link;
use spa_keys::{AddressRule, ClientRecord};
use spa_proto::{
    Address, ClientKeys, Cloak, Credentials, Entropy, GrantMode, Kid, Kind, Mode, PACKET_LEN, Psk,
    Request, ServerSecret, Services, SigningKey, Verifier, seal,
};
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const SEEN: [u8; 4] = [198, 51, 100, 7];
const HERE: [u8; 4] = [192, 0, 2, 1];

fn server() -> Server {
    let text = "[service.ssh]\nport = 22\n[service.db]\nport = 5432\n";
    Server {
        config: Config::parse(text).unwrap(),
        identity: ServerIdentity {
            secret: ServerSecret::from_bytes([4; 32]),
            cloak: Cloak::from_bytes([5; 16]),
            host: "fw.example".to_owned(),
            port: 62201,
            former: None,
            first: None,
        },
        records: vec![record("alice", 1), record("bob", 2)],
        revoked: 1,
        own: [IpAddr::from(HERE)].into(),
        bans: Bans::default(),
    }
}

fn record(name: &str, number: u8) -> ClientRecord {
    ClientRecord {
        name: name.parse().unwrap(),
        kid: Kid::from_bytes([number; 16]),
        psk: Psk::from_bytes([number; 32]),
        verifier: Verifier::Bound(SigningKey::from_seed(&[number; 32]).verifying_key()),
        knocked: true,
        created: Timestamp::ZERO,
        expires: None,
        disabled: None,
        policy: spa_keys::Policy { services: vec!["ssh".parse().unwrap()], ..Default::default() }
            .into(),
        person: None,
        former: None,
        former_kids: Vec::new(),
    }
}

fn asking(services: &str, address: Address) -> Request {
    let services = services.split(',').map(|service| service.parse().unwrap());
    Request {
        kind: Kind::Knock,
        mode: Mode::Default,
        address,
        width: None,
        seconds: None,
        services: Services::new(services).unwrap(),
    }
}

/// A knock of a client, as its program makes it.
fn knock(number: u8, request: &Request, time: Timestamp) -> Datagram {
    sealed(number, request, time, [5; 16])
}

fn sealed(number: u8, request: &Request, time: Timestamp, cloak: [u8; 16]) -> Datagram {
    let server = ServerSecret::from_bytes([4; 32]).public();
    let (psk, kid) = (Psk::from_bytes([number; 32]), Kid::from_bytes([number; 16]));
    let credentials = Credentials {
        server,
        kid,
        cloak: Cloak::from_bytes(cloak),
        keys: ClientKeys::derive(&psk, &server, &kid),
        signing: SigningKey::from_seed(&[number; 32]),
    };
    seal(&credentials, request, time, &Entropy::from_bytes([6; 32])).unwrap()
}

/// The IP packet that brings it.
fn packet(datagram: &[u8]) -> Vec<u8> {
    let len = |more: usize| u16::try_from(datagram.len() + more).unwrap().to_be_bytes();
    let [total, udp] = [len(28), len(8)];
    let head = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0];
    let ports = [0x30, 0x39, 0xf2, 0xf9, udp[0], udp[1], 0, 0];
    [&head[..], &SEEN, &HERE, &ports, datagram].concat()
}

/// A capture of raw IP packets, each at its time.
fn pcap(packets: &[(Timestamp, Vec<u8>)]) -> Vec<u8> {
    let link = u32::try_from(link::RAW).unwrap();
    let mut file: Vec<u8> = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 262_144, link]
        .iter()
        .flat_map(|it: &u32| it.to_le_bytes())
        .collect();
    for (time, packet) in packets {
        let [seconds, micros] = [time.as_millis() / 1000, time.as_millis() % 1000 * 1000];
        let len = packet.len() as u64;
        for number in [seconds, micros, len, len] {
            file.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        file.extend(packet);
    }
    file
}

fn options(files: usize) -> Options {
    Options {
        files: (0..files).map(|file| format!("file-{file}").into()).collect(),
        at: None,
        port: None,
        source: None,
        json: true,
        verbose: false,
    }
}

fn told(server: Server, options: &Options, inputs: &[Vec<u8>]) -> Vec<serde_json::Value> {
    let mut out = Vec::new();
    explain(server, options, inputs.iter().map(Vec::as_slice).collect(), &mut out).unwrap();
    let lines = std::str::from_utf8(&out).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Of one datagram that was captured at [`NOW`].
fn one(server: Server, datagram: &[u8]) -> serde_json::Value {
    told(server, &options(1), &[pcap(&[(NOW, packet(datagram))])]).remove(0)
}

fn alice(change: impl FnOnce(&mut ClientRecord)) -> Server {
    let mut server = server();
    change(&mut server.records[0]);
    server
}

const SEEN_ADDRESS: Address = Address::Seen;

#[test]
fn what_would_be_granted_and_to_whom() {
    let told = one(server(), &knock(1, &asking("ssh", SEEN_ADDRESS), NOW));
    assert_eq!(
        (told["verdict"].as_str(), told["client"].as_str()),
        (Some("granted"), Some("alice"))
    );
    assert_eq!(
        (told["source"].as_str(), told["proven"].as_bool()),
        (Some("198.51.100.7"), Some(true))
    );
    assert_eq!(told["asks"]["services"], serde_json::json!(["ssh"]));
    assert_eq!(
        (told["time"].as_str(), told["clock_off_ms"].as_i64()),
        (Some("2027-01-15T08:00:00Z"), Some(0))
    );
}

#[test]
fn what_the_record_refuses_is_said_with_what_it_allows() {
    let ssh = asking("ssh", SEEN_ADDRESS);
    type Change = fn(&mut ClientRecord);
    let cases: [(Change, Request, &str, &str); 10] = [
        (|_| {}, asking("db,ssh", SEEN_ADDRESS), "service-not-allowed", "not allow db: only ssh"),
        (|_| {}, asking("web", SEEN_ADDRESS), "unknown-service", "here: web"),
        (|it| it.expires = Some(Timestamp::ZERO), ssh.clone(), "client-expired", "1970-01-01"),
        (|it| it.disabled = Some(NOW), ssh.clone(), "client-disabled", "shut out for a while"),
        (
            |it| {
                Arc::make_mut(&mut it.policy).sources =
                    vec![spa_keys::cidr::parse("203.0.113.0/24").unwrap()]
            },
            ssh.clone(),
            "source-not-allowed",
            "198.51.100.7: only 203.0.113.0/24",
        ),
        (
            |it| Arc::make_mut(&mut it.policy).address = AddressRule::This,
            ssh.clone(),
            "address-kind",
            "addresses that it names",
        ),
        (
            |it| Arc::make_mut(&mut it.policy).modes = [GrantMode::Once].into_iter().collect(),
            Request { mode: Mode::Window, ..ssh.clone() },
            "mode-not-allowed",
            "modes once",
        ),
        (|_| {}, Request { width: Some(24), ..ssh.clone() }, "width-not-allowed", "from /32"),
        (
            |_| {},
            asking("ssh", Address::Explicit(HERE.into())),
            "not-grantable",
            "192.0.2.1 is never",
        ),
        (
            |it| it.verifier = Verifier::Bound(SigningKey::from_seed(&[9; 32]).verifying_key()),
            ssh.clone(),
            "bad-signature",
            "not signed with the key",
        ),
    ];
    for (change, request, verdict, part) in cases {
        let told = one(alice(change), &knock(1, &request, NOW));
        assert_eq!(
            (told["verdict"].as_str(), told["client"].as_str()),
            (Some(verdict), Some("alice"))
        );
        assert!(told["why"].as_str().unwrap().contains(part), "{verdict}: {told}");
    }
}

#[test]
fn a_wrong_clock_is_measured_and_the_rest_is_looked_at_all_the_same() {
    let day = Duration::from_secs(24 * 3600);
    for (time, services, verdict, otherwise, part) in [
        (NOW.minus(Duration::from_secs(95)), "ssh", "stale", "granted", "95 s behind"),
        (NOW.plus(Duration::from_secs(95)), "ssh", "stale", "granted", "95 s ahead"),
        (NOW.minus(Duration::from_secs(95)), "db", "stale", "service-not-allowed", "not allow db"),
        (NOW.plus(day), "ssh", "unknown-client", "granted", "24 h ahead"),
        (Timestamp::from_millis(1), "ssh", "unknown-client", "granted", "days behind"),
    ] {
        let told = one(server(), &knock(2, &asking(services, SEEN_ADDRESS), time));
        let found = [&told["verdict"], &told["otherwise"], &told["client"]].map(|it| it.as_str());
        assert_eq!(found, [Some(verdict), Some(otherwise), Some("bob")]);
        assert!(told["why"].as_str().unwrap().contains(part), "{told}");
    }
}

#[test]
fn who_is_nobodys_and_what_was_altered() {
    let request = asking("ssh", SEEN_ADDRESS);
    let stranger = one(server(), &knock(3, &request, NOW));
    assert_eq!(
        (stranger["verdict"].as_str(), &stranger["client"]),
        (Some("unknown-client"), &serde_json::Value::Null)
    );
    assert!(stranger["why"].as_str().unwrap().contains("the client that was revoked"));
    let other_cloak = one(server(), &sealed(1, &request, NOW, [6; 16]));
    assert_eq!(other_cloak["client"].as_str(), Some("alice"));
    assert!(other_cloak["why"].as_str().unwrap().contains("cloak"), "{other_cloak}");
    let mut altered = knock(1, &request, NOW);
    altered[300] ^= 1;
    let told = one(server(), &altered);
    assert_eq!(
        (told["verdict"].as_str(), told["client"].as_str(), told["proven"].as_bool()),
        (Some("bad-tag"), Some("alice"), Some(false))
    );
}

#[test]
fn copies_are_told_across_files_and_budgets_count_in_captures_alone() {
    let knocks: Vec<_> = (0..40)
        .map(|seconds| {
            let seconds = std::num::NonZeroU32::new(seconds + 1);
            knock(1, &Request { seconds, ..asking("ssh", SEEN_ADDRESS) }, NOW).to_vec()
        })
        .collect();
    let all = |verdicts: &[serde_json::Value], verdict: &str| {
        verdicts.iter().filter(|told| told["verdict"] == verdict).count()
    };
    let captured: Vec<_> = knocks.iter().map(|knock| (NOW, packet(knock))).collect();
    let again = told(server(), &options(2), &[pcap(&captured[..2]), pcap(&captured[1..3])]);
    assert_eq!((all(&again, "granted"), all(&again, "duplicate")), (3, 1));
    assert!(
        again[2]["why"]
            .as_str()
            .unwrap()
            .ends_with("the same as file-0 packet 2; apart from that it would be granted")
    );
    assert_eq!(all(&told(server(), &options(1), &[pcap(&captured)]), "over-budget"), 20);
    let at = Options { at: Some(NOW), source: Some(SEEN.into()), ..options(40) };
    assert_eq!(all(&told(server(), &at, &knocks), "granted"), 40);
}

#[test]
fn a_knock_alone_needs_its_address_only_where_it_is_for_that() {
    let explicit = |address: &str| {
        knock(1, &asking("ssh", Address::Explicit(address.parse().unwrap())), NOW).to_vec()
    };
    let seen = knock(1, &asking("ssh", SEEN_ADDRESS), NOW).to_vec();
    let now = Options { at: Some(NOW), ..options(1) };
    let verdict = |options: &Options, file: Vec<u8>| {
        told(server(), options, &[file])[0]["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict(&now, explicit("198.51.100.9")), "granted");
    assert_eq!(verdict(&now, explicit("2001:db8:1::9")), "granted");
    assert_eq!(verdict(&now, explicit("127.0.0.1")), "not-grantable");
    assert_eq!(verdict(&now, seen.clone()), "depends");
    let known = Options { source: Some(SEEN.into()), ..now };
    assert_eq!(verdict(&known, seen.clone()), "granted");
    let text = format!("host = \"h\"\ndatagram = \"{}\"\n", *spa_keys::encoding::to_base64(&seen));
    assert_eq!(verdict(&known, text.into_bytes()), "granted", "as spa knock --save writes it");
    let (mut lines, odd) = (Vec::new(), PathBuf::from("odd\u{1b}[2J"));
    let verbose = Options { files: vec![odd.clone(), odd], verbose: true, json: false, ..known };
    explain(server(), &verbose, vec![&seen[..]], &mut lines).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    assert!(!lines.contains("0.0.0.0") && !lines.contains('\u{1b}'), "{lines}");
}

#[test]
fn absolute_bans_hold() {
    let mut server = server();
    server.config.firewall.absolute_bans = true;
    server.bans.put(crate::bans::Ban {
        network: spa_keys::cidr::parse("198.51.100.0/24").unwrap(),
        since: NOW,
        lasts: None,
        why: String::new(),
        by: None,
    });
    let told = one(server, &knock(1, &asking("ssh", SEEN_ADDRESS), NOW));
    assert_eq!(told["verdict"].as_str(), Some("source-not-allowed"));
    assert!(told["why"].as_str().unwrap().contains("banned"), "{told}");
}

#[test]
fn people_get_one_line_or_a_block_and_no_secret() {
    let file = pcap(&[
        (NOW, packet(&knock(1, &asking("db", SEEN_ADDRESS), NOW))),
        (NOW, packet(&[7; 30])),
    ]);
    let text = |verbose| {
        let (mut out, options) = (Vec::new(), Options { json: false, verbose, ..options(1) });
        explain(server(), &options, vec![file.as_slice()], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let lines = text(false);
    let start =
        "packet 1 2027-01-15T08:00:00Z 198.51.100.7: alice: refused (service-not-allowed) for db: ";
    assert!(lines.starts_with(start) && lines.lines().count() == 2, "{lines}");
    assert!(
        lines.contains("packet 2") && lines.contains("not heard: its 30 bytes are no knock"),
        "{lines}"
    );
    assert!(text(true).contains("\n  verdict  refused (service-not-allowed)\n"), "{}", text(true));
}

#[test]
fn what_is_no_capture_and_what_is_cut_off_is_said() {
    let whole = pcap(&[(NOW, packet(&[7; PACKET_LEN]))]);
    let fault =
        |file: &[u8]| explain(server(), &options(1), vec![file], &mut Vec::new()).unwrap_err();
    assert!(fault(&[7; PACKET_LEN - 1]).contains("neither a capture"));
    assert!(fault(b"datagram = \"AAAA\"\n").contains("336 bytes in base64"));
    assert_eq!(
        fault(&whole[..whole.len() - 1]),
        "file-0: the capture ends within a packet, after 0 packets"
    );
    for len in (0..whole.len()).filter(|len| *len != 24) {
        fault(&whole[..len]);
    }
    let mut damaged = whole.clone();
    damaged[24 + 8..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(fault(&damaged).contains("within a packet"), "{}", fault(&damaged));
}
