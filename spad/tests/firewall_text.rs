//! The ruleset as text: what it is, and that it means what is sent.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::{Host, guard_input, isolated, network, service};
use spad::firewall::{GuardInput, Options, Protocol, Ruleset, guard};
use std::fs;
use std::path::Path;

fn several() -> GuardInput {
    GuardInput {
        services: vec![
            service("ssh", Protocol::Tcp, &[(22, 22), (2200, 2210)]),
            service("vpn", Protocol::Udp, &[(500, 500), (4500, 4500)]),
        ],
        trusted: vec![
            network("192.0.2.0", 24),
            network("198.51.100.7", 32),
            network("203.0.113.64", 27),
            network("2001:db8:7::", 48),
            network("2001:db8:8::", 61),
        ],
        label_bit: 5,
        set_size: 1000,
        ..guard_input()
    }
}

fn odd() -> GuardInput {
    GuardInput {
        services: vec![service("a\"}; b\n", Protocol::Tcp, &[(1, 65535)])],
        trusted: vec![network("0.0.0.0", 0), network("::", 0), network("10.0.0.0", 9)],
        label_bit: 127,
        ..guard_input()
    }
}

/// Compares with a file; with SPAD_BLESS in the environment, writes it.
fn assert_golden(file: &str, ruleset: &Ruleset) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/firewall_golden").join(file);
    if std::env::var_os("SPAD_BLESS").is_some() {
        fs::write(&path, ruleset.to_string()).expect("writing the file");
    }
    assert_eq!(ruleset.to_string(), fs::read_to_string(path).expect("the file"));
}

#[test]
fn one_service() {
    assert_golden("one_service.nft", &guard::ruleset(&guard_input()));
}

#[test]
fn several_services_and_trusted_networks() {
    assert_golden("several_services.nft", &guard::ruleset(&several()));
}

#[test]
fn text_means_what_is_sent() {
    isolated("text_means_what_is_sent", || {
        for input in [guard_input(), several(), odd()] {
            let ruleset = guard::ruleset(&input);
            let (sent, loaded) = (Host::new(), Host::new());
            let _firewall = sent.firewall(Options::default(), &ruleset);
            loaded.nft(&ruleset.to_string());
            assert_eq!(sent.listed("inet spad"), loaded.listed("inet spad"), "{ruleset}");
        }
    });
}
