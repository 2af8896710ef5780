//! Mode managed: `spad` is all the packet filter that a host has.

use std::net::IpAddr;
use std::time::Duration;

use spa_tests::lab::{Host, SshLogin};
use spa_tests::product::{Client, SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};
use spa_tests::{Result, lab::Addressing};

/// A service for everyone, and a network behind `eth1`.
const GATEWAY: &str = "[firewall]\nmode = \"managed\"\n\
    [managed]\ninside = [\"eth1\"]\noutside = [\"eth0\"]\nmasquerade = true\n\
    [service.web]\nport = 80\npublic = true\n";
const ALONE: &str = "[firewall]\nmode = \"managed\"\n[service.web]\nport = 80\npublic = true\n";

fn settings(more: &str) -> Settings {
    Settings { more: more.to_owned(), ..Settings::default() }
}

/// TCP ports of the first thousands and some above that stand out, and how the rest looks.
fn scan(from: &Host, address: IpAddr) -> Result<(Vec<u16>, String)> {
    let family = if address.is_ipv6() { "-6" } else { "-n" };
    let (to, ports) = (address.to_string(), "-p1-2000,3306,5432,8080,60000-60100");
    let quick = ["--max-retries=1", "--min-rate=4000", "-oG", "-"];
    let scan = [&["nmap", "-n", "-Pn", family, "-sS", ports][..], &quick, &[&to]].concat();
    let report = from.run(scan)?.ok()?.stdout;
    let after = |label| report.split_once(label).map(|(_, rest)| rest).unwrap_or_default();
    let listed = after("Ports: ").lines().next().unwrap_or_default().split(", ");
    let ports = listed.filter_map(|port| port.split_once('/')?.0.trim().parse().ok()).collect();
    Ok((ports, after("Ignored State: ").split(' ').next().unwrap_or_default().to_owned()))
}

#[test]
fn a_gateway_shows_its_public_service_and_nothing_else() -> Result {
    let site = Site::without_service(Addressing::PRIVATE)?;
    let inner = site.lab.host("inner")?;
    site.lab.lan(&[&site.server, &inner])?;
    site.server.forward()?;
    inner.route_via(&site.server.interfaces()[1].addresses().next().unwrap_or(site.address()))?;
    let login = SshLogin::new(&site.client)?;
    let _sshd = site.server.sshd(&login)?;
    let _services = [site.server.echo_tcp(80)?, site.server.echo_tcp(1500)?, inner.echo_tcp(1500)?];
    let _outside = [site.stranger.echo_tcp(443)?, site.stranger.echo_udp(53)?];
    for address in [site.server.v4()?, site.server.v6()?] {
        let open = vec![22, 80, 1500];
        assert_eq!(scan(&site.stranger, address)?, (open, "closed".to_owned()), "control");
    }

    let server = site.spad_with(&settings(GATEWAY))?;
    for address in [site.server.v4()?, site.server.v6()?] {
        assert_eq!(scan(&site.stranger, address)?, (vec![80], "filtered".to_owned()));
        assert!(site.stranger.connects((address, 80))?, "{address}");
    }
    let alice = site.client(&server, "alice")?;
    assert!(!site.client.ssh(&login, SERVER_NAME, &["true"])?.success(), "no knock yet");
    site.open(&server, &alice, &[])?;
    let said = site.client.ssh(&login, SERVER_NAME, &["echo", "inside"])?.ok()?;
    assert_eq!(said.text(), "inside");
    assert!(!site.reaches(&site.stranger, 22)?, "open for the client alone");

    for from in [&site.server, &inner] {
        let to = site.stranger.v4()?;
        assert!(from.connects((to, 443))?, "{} gets out", from.name());
        let answered = from.reach_udp((to, 53))? == spa_tests::lab::Reach::Open;
        assert!(answered, "{} can ask for names", from.name());
    }
    assert!(!site.stranger.connects((inner.v4()?, 1500))?, "nobody gets in");
    assert!(!inner.connects((site.server.v4()?, 1500))?, "to be inside is not to be trusted");
    Ok(())
}

/// As people do it: the file is changed and read again, while they are logged in.
#[test]
fn changing_the_mode_cuts_nobody_off_and_opens_nothing() -> Result {
    let site = Site::without_service(Addressing::PRIVATE)?;
    let login = SshLogin::new(&site.client)?;
    let _sshd = site.server.sshd(&login)?;
    let _other = site.server.echo_tcp(1500)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "2m"])?;
    let mut session = site.client.ssh_session(&login, SERVER_NAME)?;
    let mut other = site.client.hold((site.address(), 1500))?;
    let probers =
        [site.server.v4()?, site.server.v6()?].map(|address| site.stranger.prober((address, 22)));
    for (round, (more, open)) in [(ALONE, false), ("", true), (ALONE, false)].iter().enumerate() {
        server.configure(&settings(more))?;
        server.spad(&["reload"])?.ok()?;
        assert!(session.is_alive(&format!("round {round}")), "ssh, {more:?}");
        assert!(other.is_alive(&format!("round {round}")), "another connection, {more:?}");
        assert_eq!(site.stranger.connects((site.address(), 1500))?, *open, "{more:?}");
        assert_eq!(server.grants()?.len(), 1, "the grant stays, {more:?}");
        assert!(site.reaches(&site.client, 22)?, "{more:?}");
        assert!(server.spad(&["status"])?.success(), "{more:?}");
    }
    for prober in probers {
        let (tries, open) = prober?.finish()?;
        assert_eq!(open, Vec::<String>::new(), "of {tries} tries");
        assert!(tries > 5, "{tries} tries");
    }
    Ok(())
}

#[test]
fn the_administrator_who_starts_it_stays_logged_in() -> Result {
    let site = Site::without_service(Addressing::PRIVATE)?;
    let login = SshLogin::new(&site.client)?;
    let _sshd = site.server.sshd(&login)?;
    let _other = site.server.echo_tcp(1500)?;
    let mut sessions = Vec::new();
    for address in [site.server.v4()?, site.server.v6()?] {
        sessions.push(site.client.ssh_session(&login, &address.to_string())?);
    }
    let mut other = site.client.hold((site.address(), 1500))?;
    let mut server = Server::new(&site.server, SERVER_NAME, &settings(ALONE))?;
    for round in ["started", "restarted"] {
        if round == "started" {
            server.start()?
        } else {
            server.restart()?
        }
        for session in &mut sessions {
            assert!(session.is_alive(round), "ssh, {round}");
        }
        assert!(other.is_alive(round), "another connection, {round}");
        assert!(!site.reaches(&site.client, 22)? && !site.reaches(&site.client, 1500)?);
    }
    Ok(())
}

#[test]
fn an_interface_that_is_not_there_yet_stops_nothing() -> Result {
    let site = Site::new()?;
    let server = site.spad_with(&settings(GATEWAY))?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    alice.enroll(&server.add("alice", &["--service", "ssh"])?)?.ok()?;
    site.open(&server, &alice, &[])?;
    assert!(!site.reaches(&site.stranger, 22)?);
    Ok(())
}

/// What `dhclient` is to do with what it hears.
const SCRIPT: &str = "#!/bin/sh\n\
    case $reason in\n\
    BOUND|RENEW|REBIND|REBOOT) ip addr replace $new_ip_address/24 dev $interface ;;\n\
    BOUND6|RENEW6|REBIND6) ip addr replace $new_ip6_address/128 dev $interface nodad ;;\n\
    esac\n";

/// How long a lease and an advertised address are good for, the shortest that dnsmasq gives.
const LEASE: &str = "2m";

/// Gives addresses by DHCP and DHCPv6, and lets hosts choose one by router advertisements.
fn router(host: &Host) -> Result<spa_tests::lab::Running> {
    let leases = format!("--dhcp-leasefile={}", host.dir().join("leases").display());
    let range4 = format!("--dhcp-range=10.0.0.100,10.0.0.120,{LEASE}");
    let range6 = format!("--dhcp-range=fd00::100,fd00::120,slaac,64,{LEASE}");
    let fixed = ["--conf-file=/dev/null", "--port=0", "--no-ping", "--dhcp-authoritative"];
    let advertise = ["--enable-ra", "--ra-param=eth0,4,600", "--interface=eth0"];
    let ours = [leases.as_str(), &range4, &range6];
    let words = [&["dnsmasq", "--no-daemon"][..], &fixed, &advertise, &ours].concat();
    host.spawn(words)
}

fn dhcp(host: &Host, family: &str) -> Result<spa_tests::lab::Running> {
    let file = |name: &str| host.dir().join(format!("dhcp{family}-{name}")).display().to_string();
    let (script, leases, pid) = (file("script"), file("leases"), file("pid"));
    std::fs::write(&script, SCRIPT)?;
    host.run(["chmod", "755", &script])?.ok()?;
    host.spawn(["dhclient", family, "-d", "-lf", &leases, "-pf", &pid, "-sf", &script, "eth0"])
}

/// Addresses on `eth0` that begin like this, with the seconds that each is good for.
fn addresses(host: &Host, begins: &str) -> Result<Vec<(String, u32)>> {
    let shown = host.run(["ip", "-o", "addr", "show", "dev", "eth0"])?.ok()?.stdout;
    let found = shown.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let lifetime = words.iter().skip_while(|word| **word != "valid_lft").nth(1)?;
        let seconds = lifetime.trim_end_matches("sec").parse().unwrap_or(u32::MAX);
        words[3].starts_with(begins).then(|| (words[3].to_owned(), seconds))
    });
    Ok(found.collect())
}

/// For how long the host's own choice by router advertisement is good.
fn chosen(host: &Host) -> Result<Option<u32>> {
    let found = addresses(host, "fd00:")?.into_iter().filter(|(a, _)| a.ends_with("/64"));
    Ok(found.map(|(_, seconds)| seconds).max())
}

/// Nothing but `spad` was there before the first packet came.
#[test]
fn a_host_gets_and_keeps_the_addresses_that_others_give_it() -> Result {
    let lab = spa_tests::lab::Lab::new()?;
    let (router_host, host) = (lab.host("router")?, lab.host("host")?);
    lab.lan(&[&router_host, &host])?;
    host.ip("address flush dev eth0 scope global\n")?;
    host.sysctl("net.ipv6.conf.eth0.accept_ra", "1")?;
    let mut server = Server::new(&host, SERVER_NAME, &settings(ALONE))?;
    server.start()?;
    let _router = router(&router_host)?;
    let patience = SOON * 10;

    until("an address by router advertisement", patience, || Ok(chosen(&host)?.is_some()))?;
    let _clients = [dhcp(&host, "-4")?, dhcp(&host, "-6")?];
    until("an address by DHCP", patience, || Ok(addresses(&host, "10.0.0.1")?.len() == 1))?;
    until("an address by DHCPv6", patience, || {
        Ok(addresses(&host, "fd00::1")?.iter().any(|found| found.0.ends_with("/128")))
    })?;

    let mut before = chosen(&host)?;
    until("the chosen address is good for longer again", patience, || {
        std::thread::sleep(Duration::from_millis(300));
        let now = chosen(&host)?;
        Ok(now > std::mem::replace(&mut before, now))
    })?;
    assert!(host.run(["ping", "-c1", "-W5", "fd00::1"])?.success());
    Ok(())
}
