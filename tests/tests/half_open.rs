//! Whoever knows a granted address can begin connections in its owner's name, and never ends up
//! with one: that leaves no trace, and stands in nobody's way.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;
use spa_tests::lab::{Addressing, Datagram, Hold};
use spa_tests::product::{Client, Server, Settings, Site};
use spa_tests::wait::{SOON, until};
use spa_tests::{LabError, Result};

/// Both families, one after the other: the server's first address is of that family.
const FAMILIES: [Addressing; 2] = [Addressing::PRIVATE, Addressing::V6_ONLY];

fn sessions(server: &Server) -> Result<usize> {
    let said = server.spad(&["sessions", "--json"])?.ok()?;
    Ok(serde_json::from_str::<Vec<Value>>(&said.stdout)?.len())
}

fn lines(server: &Server) -> Vec<String> {
    let log = server.log();
    log.lines().filter(|line| line.contains("session ")).map(str::to_owned).collect()
}

/// What is in the journal, in short.
fn journal(site: &Site) -> Result<String> {
    Ok(site.server.run(["sh", "-ec", "sha256sum /run/spad/journal-*"])?.ok()?.stdout)
}

/// Alice's grant, and a connection of hers; nothing else is open, or about to be told.
fn connected(site: &Site, server: &Server, alice: &Client) -> Result<Hold> {
    site.open(server, alice, &["--ttl", "5m"])?;
    let held = site.client.hold((site.address(), 22))?;
    until("hers is the only one", SOON, || Ok(sessions(server)? == 1 && lines(server).len() == 3))?;
    Ok(held)
}

/// How many connections the kernel has from this address, made through a grant or begun so.
fn tracked(site: &Site, of: IpAddr) -> Result<usize> {
    let family = if of.is_ipv4() { "ipv4" } else { "ipv6" };
    let list = ["conntrack", "-L", "-f", family, "-p", "tcp", "--orig-src", &of.to_string()];
    Ok(site.server.run(list)?.ok()?.stdout.lines().count())
}

#[test]
fn a_first_packet_in_the_name_of_a_granted_address_leaves_no_trace() -> Result {
    for family in FAMILIES {
        let site = Site::with(family)?;
        let server = site.spad()?;
        let alice = site.client(&server, "alice")?;
        let mut held = connected(&site, &server, &alice)?;
        let (before, told) = (journal(&site)?, lines(&server));

        let (hers, ssh) = (site.client.addresses()[0], (site.address(), 22).into());
        site.stranger.send_forged_syns(hers, ssh, 2_000..5_000)?;
        until("they have come", SOON, || Ok(tracked(&site, hers)? > 2_000))?;
        assert_eq!(sessions(&server)?, 1, "hers");
        assert_eq!(lines(&server), told, "no line");
        assert_eq!(journal(&site)?, before, "nothing in the journal");
        assert!(held.is_alive("still"));

        let began = Instant::now();
        server.keys(&["revoke", "alice"])?.ok()?;
        until("hers is cut", SOON, || Ok(sessions(&server)? == 0))?;
        println!("revoked beside 3000 others within {:?}", began.elapsed());
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert!(!held.is_alive("after"));
        assert_eq!(lines(&server).len(), told.len() + 1, "hers has ended: {:?}", lines(&server));
    }
    Ok(())
}

/// Slower than the forgeries come: also where their notifications are lost.
#[test]
fn a_flood_of_first_packets_delays_no_revocation() -> Result {
    let site = Site::with(Addressing::V4_ONLY)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let mut held = connected(&site, &server, &alice)?;
    let told = lines(&server).len();
    let (hers, ssh) = (site.client.addresses()[0], SocketAddr::from((site.address(), 22)));
    // Nobody says there that it has begun none: these stay half open.
    site.client.nft(
        "table inet mute { chain out { type filter hook output priority 0; \
         tcp flags & rst == rst drop; }; }\n",
    )?;
    let took = std::thread::scope(|scope| -> Result<Duration> {
        let flood = scope.spawn(|| -> std::result::Result<(), String> {
            site.stranger
                .send_forged_syns(hers, ssh, 1_024..60_000)
                .map_err(|error| error.to_string())
        });
        until("it is a flood", SOON, || Ok(tracked(&site, hers)? > 5_000))?;
        let began = Instant::now();
        server.keys(&["revoke", "alice"])?.ok()?;
        let own = ["ss", "-Htn", "state", "established", "dport", "=", ":22"];
        until("she is cut", SOON * 5, || Ok(site.client.run(own)?.ok()?.stdout.is_empty()))?;
        let took = began.elapsed();
        let flooded = flood.join().map_err(|_| LabError::new("the flood"))?;
        flooded.map_err(LabError::new)?;
        Ok(took)
    })?;
    println!("revoked within {took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(!held.is_alive("after"));
    until("that is told", SOON * 10, || Ok(sessions(&server)? == 0))?;
    assert_eq!(lines(&server).len(), told + 1, "of hers alone: {:?}", lines(&server));
    Ok(())
}

#[test]
fn a_connection_that_is_idle_is_listed_and_one_that_is_over_at_once_is_audited() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    // `open` connects, and hangs up.
    let _idle = connected(&site, &server, &alice)?;
    let lines = lines(&server);
    assert!(lines[0].contains("began") && lines.iter().any(|line| line.contains("ended")));
    Ok(())
}

/// Over UDP whoever answers to everyone is asked in anybody's name; who does not is not.
#[test]
fn a_datagram_is_a_session_once_it_is_answered() -> Result {
    let site = Site::new()?;
    let more = "[service.echo]\nports = [\"udp/7\"]\n".to_owned();
    let server = site.spad_with(&Settings { more, ..Settings::default() })?;
    let alice = site.client_with(&server, "alice", &["--service", "echo"])?;
    site.grant(&server, &alice, &["--service", "echo", "--ttl", "5m"])?;
    // The port is not bound, and says nothing: the stranger's forgeries are all there is.
    site.server.nft(
        "table inet mute { chain out { type filter hook output priority 0; \
         icmp type destination-unreachable drop; }; }\n",
    )?;
    let (hers, echo) = (site.client.addresses()[0], SocketAddr::from((site.address(), 7)));
    let datagram = |port| Datagram { from: (hers, port).into(), to: echo, payload: vec![1] };
    site.stranger.send_forged(&(2_000..2_100).map(datagram).collect::<Vec<_>>())?;
    assert_eq!((sessions(&server)?, lines(&server)), (0, Vec::new()));

    let _echo = site.server.echo_udp(7)?;
    assert_eq!(site.client.reach_udp(echo)?, spa_tests::lab::Reach::Open);
    until("hers is one", SOON, || Ok(sessions(&server)? == 1 && lines(&server).len() == 1))?;
    Ok(())
}
