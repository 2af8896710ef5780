use super::*;
use crate::audit::{Event, Kind};
use crate::control::report::ForeignChain;
use std::collections::BTreeMap;

fn grant(client: &str, source: &str, left: u64, lasts: u64) -> Grant {
    Grant {
        id: 1,
        client: client.into(),
        service: "ssh".into(),
        source: source.into(),
        destination: None,
        ports: vec!["tcp/22".into()],
        mode: "window".into(),
        source_port: None,
        expires_in_ms: left * 1000,
        lasts_ms: lasts * 1000,
    }
}

fn process(role: &str, uid: u32, capabilities: usize) -> Process {
    Process {
        role: role.into(),
        pid: 812 + uid,
        uid,
        restarts: 0,
        capabilities: Some(vec!["CAP_NET_ADMIN".into(); capabilities]),
        seccomp: Some(uid != 0),
        resident_bytes: Some(6_300_000),
    }
}

fn knock(client: &str, reason: Option<&str>) -> Event {
    Event {
        unix_ms: 1_800_000_000_000,
        event: if reason.is_some() { Kind::KnockRefused } else { Kind::KnockAccepted },
        client: Some(client.into()),
        service: Some("ssh".into()),
        source: Some("203.0.113.7".into()),
        seen: Some("203.0.113.7".into()),
        seconds: Some(30),
        reason: reason.map(str::to_owned),
        ..Event::default()
    }
}

fn status() -> Status {
    let counters = [
        ("granted", 14),
        ("lost", 0),
        ("duplicate", 31),
        ("unknown-client", 12_345),
        ("bad-tag", 7),
        ("stale", 2),
        ("over-budget", 11),
        ("client-expired", 2),
        ("service-not-allowed", 5),
    ];
    Status {
        version: "0.1.0".into(),
        mode: "guard".into(),
        capture: Capture {
            in_force: true,
            port: 62201,
            interfaces: vec!["any".into()],
            missing: vec![],
        },
        ruleset: Ruleset {
            in_force: true,
            owned: true,
            fault: None,
            repairs: 0,
            opens_in_ms: None,
        },
        foreign: Foreign { chains: vec![], notices: vec![] },
        grants: 12,
        clients: 23,
        broken_records: vec![],
        counters: counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        journal: Journal { durable: true, on_tmpfs: true, lease_ms: 84_000, fault: None },
        first_knocks: FirstKnocks::default(),
        clock: Clock {
            unix_ms: 1_800_000_000_000,
            tolerance_ms: 30_000,
            synchronised: Some(true),
            max_error_ms: Some(12),
            fault: None,
        },
        processes: vec![process("warden", 0, 5), process("gatekeeper", 998, 0)],
        uptime_ms: 3 * 86_400_000,
        sessions: 1,
        bans: 0,
        next_to_end: vec![
            grant("alice", "203.0.113.7", 18, 30),
            grant("bob-laptop", "2001:db8:1234:5678:9abc:def0:1234:5678", 250, 300),
        ],
        last_knocks: vec![knock("alice", None), knock("mallory", Some("client-expired"))],
        audit: Audit { to: vec!["journal".into()], lost: 0, fault: None },
        old_keys_until_unix_ms: None,
        faults: vec![],
    }
}

/// The clock's time is told where the reader is.
fn here(text: &str) -> String {
    text.replace(&date::local(Timestamp::from_millis(1_800_000_000_000)), "2027-01-15 08:00:00")
}

#[test]
fn a_page_of_eighty_columns_without_anything_special() {
    let expected = "\
capture    listening on any for udp/62201
ruleset    guard, in force (the kernel keeps others out)
journal    durable
clock      2027-01-15 08:00:00, synchronised to 12 ms; tolerance 30 s
audit      journal
clients    23
warden     pid 812, uid 0, 5 capabilities, 6.3 MB
gatekeeper pid 1810, uid 998, no capabilities, seccomp, 6.3 MB
running    version 0.1.0, for 72 h
knocks     granted 14
  refused  service-not-allowed 5, client-expired 2
  ignored  unknown-client 12345, duplicate 31, over-budget 11, bad-tag 7,
           stale 2
grants     12 in force, 1 open connections, 0 bans
  alice       ssh  203.0.113.7                             18 s left of 30 s
  bob-laptop  ssh  2001:db8:1234:5678:9abc:def0:1234:5678  250 s left of 300 s
  and 10 that end later: spad grants
last knocks
  2027-01-15 08:00:00  knock accepted alice        ssh  203.0.113.7  30s
  2027-01-15 08:00:00  knock refused  mallory      client-expired  203.0.113.7
";
    let text = here(&text(&status(), &Style::PLAIN));
    assert_eq!(text, expected);
    assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 80));
}

#[test]
fn bars_on_a_terminal_that_has_room_for_them() {
    let rows = |utf8, width| {
        let style = Style { width, terminal: true, colour: false, utf8 };
        grants(&status().next_to_end[..1], &style).join("")
    };
    assert_eq!(rows(false, 80), "alice  ssh  203.0.113.7  18 s left of 30 s  ############........");
    assert_eq!(rows(true, 80), "alice  ssh  203.0.113.7  18 s left of 30 s  ████████████░░░░░░░░");
    assert_eq!(rows(true, 54), "alice  ssh  203.0.113.7  18 s left of 30 s  █████░░░");
    assert_eq!(rows(true, 40), "alice  ssh  203.0.113.7  18 s left of 30 s");
}

#[test]
fn on_a_terminal_every_row_fits() {
    for width in [40, 60, 80, 200] {
        let style = Style { width, terminal: true, colour: false, utf8: true };
        let page = text(&status(), &style);
        let rows = page.lines().filter(|line| line.starts_with("  "));
        assert!(rows.clone().count() > 5);
        rows.for_each(|row| assert!(row.chars().count() <= width, "{width}: {row}"));
    }
}

#[test]
fn what_is_wrong_stands_out() {
    let mut status = status();
    status.capture = Capture { in_force: false, missing: vec!["wg0".into()], ..status.capture };
    status.ruleset.fault = Some("the table is gone".into());
    status.journal.fault = Some("cannot write /var/lib/spad/lease".into());
    status.clock.fault = Some("nothing keeps this host's clock right".into());
    status.old_keys_until_unix_ms = Some(1_800_000_000_000);
    status.audit = Audit { fault: Some("cannot write /a: full".into()), lost: 3, ..status.audit };
    status.broken_records = vec!["bob.toml:3: no key".into()];
    status.first_knocks = FirstKnocks { waiting: 2, oldest_ms: 12_000 };
    status.processes[1].restarts = 2;
    status.foreign.chains = vec![ForeignChain {
        chain: "ip filter INPUT".into(),
        hook: "input".into(),
        priority: 0,
        policy: "drop".into(),
        services: vec!["ssh".into()],
    }];
    status.counters = BTreeMap::new();
    let style = Style { colour: true, ..Style::PLAIN };
    let text = here(&text(&status, &style));
    for line in [
        "\x1b[1;31mNOT LISTENING on any for udp/62201; not there: wg0\x1b[0m",
        "\x1b[1;31mguard, NOT IN FORCE: the table is gone (the kernel keeps others out)\x1b[0m",
        "\x1b[33mchain 'ip filter INPUT'",
        "\x1b[1;31mNOT DURABLE, nothing is granted: cannot write /var/lib/spad/lease\x1b[0m",
        "\x1b[33m2027-01-15 08:00:00, NOT SYNCHRONISED: nothing keeps this host's clock right; ",
        "\x1b[33mthe server's old ones too until 2027-01-15 08:00:00: spa-keys rotate --status\x1b[0m",
        "\x1b[1;31mjournal; 3 events lost: cannot write /a: full\x1b[0m",
        "\x1b[1;31mNOT USED: bob.toml:3: no key\x1b[0m",
        "\x1b[33m2 first knocks wait for the disk of the keys, for 12 s\x1b[0m",
        "started again 2 times",
        "none yet",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
}
