//! The ruleset as text: what it is, and that it means what is sent.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::{Host, isolated, network, plan, service};
use spad::firewall::plan::{Access, KnownHelper, Labels, Managed, Mode, Source, Target};
use spad::firewall::ruleset::{Limit, Unit};
use spad::firewall::{Options, Plan, Protocol, Ruleset, rules};
use std::fs;
use std::path::Path;

fn several() -> Plan {
    Plan {
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
        labels: Labels { granted: 5, cut: 6 },
        set_size: 1000,
        ..plan()
    }
}

fn odd() -> Plan {
    Plan {
        services: vec![service("a-9", Protocol::Tcp, &[(1, 65535)])],
        trusted: vec![network("0.0.0.0", 0), network("::", 0), network("10.0.0.0", 9)],
        labels: Labels { granted: 127, cut: 0 },
        ..plan()
    }
}

/// Everything that is not in the others.
fn rich() -> Plan {
    let rate = Limit { count: 5, unit: Unit::Minute, burst: 5 };
    let public = |limit| Access::Public(limit);
    let mut nas = service("nas", Protocol::Tcp, &[(443, 443)]);
    nas.target = Some(Target {
        v4: Some([10, 0, 0, 5].into()),
        v6: "2001:db8::5".parse().ok(),
        port: Some(8443),
        source_nat: true,
    });
    let mut web = service("web", Protocol::Tcp, &[(80, 80), (8080, 8090)]);
    web.access = public(Some(rate));
    let mut dns = service("dns", Protocol::Udp, &[(53, 53)]);
    dns.access = public(None);
    Plan {
        services: vec![nas, web, dns],
        trusted: vec![network("10.0.0.0", 8)],
        destination: true,
        widths4: vec![28, 24],
        widths6: vec![],
        absolute_bans: true,
        ..plan()
    }
}

/// The whole firewall of a host on its own.
fn managed() -> Plan {
    let mut web = service("web", Protocol::Tcp, &[(80, 80), (443, 443)]);
    web.access = Access::Public(None);
    Plan {
        mode: Mode::Managed,
        services: vec![service("ssh", Protocol::Tcp, &[(22, 22)]), web],
        trusted: vec![network("192.0.2.0", 24), network("2001:db8:7::", 48)],
        ..plan()
    }
}

/// Of one that others are behind, with all that can be asked for.
fn gateway() -> Plan {
    let mut public = service("mail", Protocol::Tcp, &[(25, 25), (587, 587)]);
    public.access = Access::Public(None);
    public.target = Some(Target {
        v4: Some([10, 0, 0, 6].into()),
        v6: "2001:db8::6".parse().ok(),
        port: None,
        source_nat: false,
    });
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Plan {
        mode: Mode::Managed,
        services: [rich().services, vec![public]].concat(),
        managed: Managed {
            strict: names(&["lan0", "wan0"]),
            inside: names(&["lan0", "lan1"]),
            outside: names(&["wan0"]),
            source4: Source::Interface,
            source6: Source::Address([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into()),
            helpers: KnownHelper::ALL.into(),
        },
        ..rich()
    }
}

fn attached() -> Plan {
    let mut services = rich().services;
    services.push(service("ssh", Protocol::Tcp, &[(22, 22)]));
    let trusted = vec![network("10.0.0.0", 8), network("2001:db8:7::", 48)];
    Plan { mode: Mode::Attach, services, trusted, ..rich() }
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
    assert_golden("one_service.nft", &rules::ruleset(&plan()));
}

#[test]
fn several_services_and_trusted_networks() {
    assert_golden("several_services.nft", &rules::ruleset(&several()));
}

#[test]
fn targets_public_services_and_widths() {
    assert_golden("targets_public_services.nft", &rules::ruleset(&rich()));
}

#[test]
fn managed_host() {
    assert_golden("managed_host.nft", &rules::ruleset(&managed()));
}

#[test]
fn managed_gateway() {
    assert_golden("managed_gateway.nft", &rules::ruleset(&gateway()));
}

#[test]
fn attached_to_the_chains_of_others() {
    assert_golden("attach.nft", &rules::ruleset(&attached()));
}

#[test]
fn text_means_what_is_sent() {
    isolated("text_means_what_is_sent", || {
        for input in [plan(), several(), odd(), rich(), managed(), gateway(), attached()] {
            let ruleset = rules::ruleset(&input);
            let (sent, loaded) = (Host::new(), Host::new());
            let _firewall = sent.firewall(Options::default(), &ruleset);
            loaded.nft(&ruleset.to_string());
            assert_eq!(sent.listed("inet spad"), loaded.listed("inet spad"), "{ruleset}");
        }
    });
}
