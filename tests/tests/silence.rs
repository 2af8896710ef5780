//! What the server does not say: nothing to junk, nothing to scanners, nothing into its log.

use std::net::{IpAddr, SocketAddr};

use spa_tests::Result;
use spa_tests::lab::{Datagram, Host};
use spa_tests::product::{KNOCK_PORT, SERVER_NAME, Server, Site};
use spa_tests::wait::{SOON, until};

/// Junk of every length that fits an Ethernet frame, and a little more.
fn junk_of_every_length(to: IpAddr) -> Vec<Datagram> {
    let to = SocketAddr::new(to, KNOCK_PORT);
    (0..=1500)
        .map(|length: usize| {
            let payload = (1..=length).map(|at| (at * length).to_le_bytes()[0]).collect();
            Datagram { from: to, to, payload }
        })
        .collect()
}

/// Length of a knock. Datagrams of any other the kernel's filter keeps from the daemon.
const KNOCK_LENGTH: usize = 336;

/// Sends junk of a knock's length and waits until the daemon has counted it: by then it has dealt
/// with all that came before.
fn wait_for_the_daemon(from: &Host, to: IpAddr, server: &Server) -> Result {
    let before = server.counter("unknown-client")?;
    let to = SocketAddr::new(to, KNOCK_PORT);
    from.send_udp(&[Datagram { from: to, to, payload: vec![7; KNOCK_LENGTH] }])?;
    server.wait_for_counter("unknown-client", before + 1)?;
    Ok(())
}

/// Every file of the daemon's and its hash; not the lease, which goes with the clock.
fn kept(server: &Server) -> Result<String> {
    let dir = server.dir().display();
    let files = format!("find /run/spad {dir}/state {dir}/keys -type f ! -name lease");
    let sums = server.host().sh(&format!("{files} -exec sha256sum {{}} + | sort"))?.ok()?;
    Ok(sums.text().to_owned())
}

#[test]
fn junk_of_every_length_leaves_no_trace() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let capture = site.stranger.capture()?;
    let (entries, log) = (site.server.conntrack_count()?, server.log());
    let before = kept(&server)?;
    assert!(before.contains("journal"), "{before}");
    for address in [site.server.v4()?, site.server.v6()?] {
        for batch in junk_of_every_length(address).chunks(100) {
            site.stranger.send_udp(batch)?;
        }
        wait_for_the_daemon(&site.stranger, address, &server)?;
    }
    assert_eq!(capture.incoming()?, [], "no answer of any kind");
    assert_eq!(site.server.conntrack_count()?, entries, "no conntrack entry");
    assert_eq!(server.log(), log, "no log line");
    assert_eq!(kept(&server)?, before, "nothing is written");
    assert_eq!(server.counter("unknown-client")?, 4, "one of each family, and the last ones");
    // The gatekeeper would count them.
    for reason in ["length", "addressing"] {
        assert_eq!(server.counter(reason)?, 0, "{reason}: the kernel's filter has kept them away");
    }
    assert_eq!(server.counter("granted")?, 0);
    control_shows_what_a_closed_port_does(&site, entries)?;
    let alice = site.client(&server, "alice")?;
    let before = kept(&server)?;
    site.open(&server, &alice, &[])?;
    assert_ne!(kept(&server)?, before, "control: a knock is written down");
    Ok(())
}

/// Without this the assertions above could not fail: another closed port answers and is tracked.
fn control_shows_what_a_closed_port_does(site: &Site, entries: u64) -> Result {
    let capture = site.stranger.capture()?;
    let to = SocketAddr::new(site.server.v4()?, KNOCK_PORT + 1);
    site.stranger.send_udp(&[Datagram { from: to, to, payload: vec![0; KNOCK_LENGTH] }])?;
    until("an ICMP answer", SOON, || Ok(!capture.incoming()?.is_empty()))?;
    assert!(site.server.conntrack_count()? > entries, "conntrack is at work");
    Ok(())
}

#[test]
fn a_hundred_thousand_junk_packets_leave_conntrack_as_it_was() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let (entries, log) = (site.server.conntrack_count()?, server.log());
    site.stranger.send_junk((site.server.v4()?, KNOCK_PORT).into(), 100_000, 7)?;
    wait_for_the_daemon(&site.stranger, site.server.v4()?, &server)?;
    println!("of 50000 shaped junk packets the daemon saw {}", server.counter("unknown-client")?);
    assert_eq!(site.server.conntrack_count()?, entries);
    assert_eq!(server.log(), log, "no log line");
    site.close(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

fn scan(from: &Host, kind: &str, port: u16, to: IpAddr) -> Result<String> {
    let (port, to) = (format!("-p{port}"), to.to_string());
    let family = if to.contains(':') { "-6" } else { "-4" };
    let scan = ["nmap", "-n", "-Pn", family, kind, &port, "--max-retries=1", &to];
    let report = from.run(scan.into_iter().filter(|word| *word != "-4"))?.ok()?;
    let line = report.stdout.lines().find(|line| line.contains("/tcp") || line.contains("/udp"));
    let state = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(state.unwrap_or_default().to_owned())
}

#[test]
fn a_scan_sees_the_service_and_the_knock_port_filtered() -> Result {
    let site = Site::new()?;
    let _server = site.spad()?;
    for address in [site.server.v4()?, site.server.v6()?] {
        assert_eq!(scan(&site.stranger, "-sS", 22, address)?, "filtered");
        assert_eq!(scan(&site.stranger, "-sA", 22, address)?, "filtered");
        assert_eq!(scan(&site.stranger, "-sU", KNOCK_PORT, address)?, "open|filtered");
        assert_eq!(scan(&site.stranger, "-sU", KNOCK_PORT + 1, address)?, "closed", "control");
    }
    Ok(())
}

/// A grant changes what a plain SYN of the one it is for meets, and nothing else that anybody sees.
#[test]
fn a_scan_during_a_grant_sees_it_only_from_the_granted_address() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    for address in [site.server.v4()?, site.server.v6()?] {
        site.client.set_name(SERVER_NAME, &[address])?;
        site.grant(&server, &alice, &["--ttl", "5m"])?;
        for (from, of_a_syn) in [(&site.stranger, "filtered"), (&site.client, "open")] {
            let who = format!("{} at {address}", from.name());
            assert_eq!(scan(from, "-sS", 22, address)?, of_a_syn, "{who}");
            assert_eq!(scan(from, "-sA", 22, address)?, "filtered", "{who}");
            for silent in ["-sF", "-sX", "-sN"] {
                assert_eq!(scan(from, silent, 22, address)?, "open|filtered", "{who}: {silent}");
            }
            assert_eq!(scan(from, "-sU", KNOCK_PORT, address)?, "open|filtered", "{who}");
        }
        assert_eq!(server.grants()?.len(), 1, "control: all of it during the grant");
        site.close(&server, "alice")?;
        assert_eq!(scan(&site.client, "-sS", 22, address)?, "filtered", "and after it");
    }
    assert_eq!(scan(&site.client, "-sF", 23, site.address())?, "closed", "control");
    Ok(())
}

#[test]
fn refused_knocks_of_a_client_have_no_answer_either() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let capture = site.client.capture()?;
    site.refused(&server, &alice.with_clock("+5m"), &[], "stale")?;
    site.refused(&server, &alice, &["--service", "web"], "unknown-service")?;
    alice.knock(&[])?.ok()?;
    server.wait_for_counter("granted", 1)?;
    assert_eq!(capture.incoming()?, [], "neither a refused nor an accepted knock is answered");
    Ok(())
}

#[test]
fn nothing_listens_on_the_knock_port() -> Result {
    let site = Site::new()?;
    let _server = site.spad()?;
    let listening = site.server.run(["ss", "-Hlnu"])?.ok()?;
    assert!(!listening.stdout.contains(&KNOCK_PORT.to_string()), "{listening}");
    Ok(())
}
