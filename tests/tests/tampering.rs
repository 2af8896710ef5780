//! Packets that somebody changed on the way, or carried to another server.

use spa_tests::Result;
use spa_tests::lab::{Addressing, Datagram};
use spa_tests::product::{Client, KNOCK_PORT, SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

/// How many changed packets are sent before the daemon is asked whether it has seen them: fewer
/// than its socket can hold.
const BATCH: usize = 64;

/// All datagrams that the daemon has counted.
fn counted(server: &Server) -> Result<u64> {
    let status = server.status()?;
    let counters = status["counters"].as_object().cloned().unwrap_or_default();
    Ok(counters.values().filter_map(serde_json::Value::as_u64).sum())
}

/// Sends packets that must all be refused, and waits until each has been counted.
fn send_all_refused(site: &Site, server: &Server, packets: &[Datagram]) -> Result {
    let granted = server.counter("granted")?;
    for batch in packets.chunks(BATCH) {
        let goal = counted(server)? + u64::try_from(batch.len())?;
        site.client.send_forged(batch)?;
        until("every packet is counted", SOON, || Ok(counted(server)? >= goal))?;
    }
    assert_eq!(server.counter("granted")?, granted, "nothing was granted");
    site.assert_shut(server, &site.client, "changed packets")
}

/// A client that has enrolled, without a grant.
fn enrolled<'site>(site: &'site Site, server: &Server) -> Result<Client<'site>> {
    let alice = site.client(server, "alice")?;
    site.open(server, &alice, &[])?;
    site.close(server, "alice")?;
    Ok(alice)
}

#[test]
fn a_knock_with_any_bit_flipped_opens_nothing_and_the_untouched_one_does() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let fresh = site.fresh_knock(&enrolled(&site, &server)?, &[])?;
    let bits = (0..fresh.payload.len() * 8).step_by(7);
    let flipped: Vec<_> = bits.map(|bit| fresh.with_bit_flipped(bit)).collect();
    send_all_refused(&site, &server, &flipped)?;

    let granted = server.counter("granted")?;
    site.client.send_forged(&[fresh])?;
    server.wait_for_counter("granted", granted + 1)?;
    assert!(site.reaches(&site.client, 22)?, "the untouched one opens");
    Ok(())
}

#[test]
fn an_enrolment_with_any_bit_flipped_binds_nothing() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let fresh = site.fresh_knock(&site.client(&server, "alice")?, &[])?;
    let bits = (0..fresh.payload.len() * 8).step_by(29);
    let flipped: Vec<_> = bits.map(|bit| fresh.with_bit_flipped(bit)).collect();
    send_all_refused(&site, &server, &flipped)?;
    site.client.send_forged(&[fresh])?;
    server.wait_for_counter("granted", 1)?;
    Ok(())
}

#[test]
fn a_knock_cut_short_or_made_longer_opens_nothing() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let fresh = site.fresh_knock(&enrolled(&site, &server)?, &[])?;
    let length = fresh.payload.len();
    let resized = [0, 1, 16, length / 2, length - 1, length + 1, length * 2].map(|length| {
        let mut resized = fresh.clone();
        resized.payload.resize(length, 0);
        resized
    });
    let granted = server.counter("granted")?;
    site.client.send_forged(&resized)?;
    site.client.send_forged(&[fresh])?;
    server.wait_for_counter("granted", granted + 1)?;
    assert_eq!(server.counter("granted")?, granted + 1, "the untouched one alone");
    Ok(())
}

#[test]
fn halves_of_two_knocks_make_none() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = enrolled(&site, &server)?;
    let (one, other) = (site.fresh_knock(&alice, &[])?, site.fresh_knock(&alice, &[])?);
    // The borders of the packet's parts: nonce, pseudonym, header, sealed body, tag.
    let spliced: Vec<_> = [16, 24, 64, 304]
        .map(|at| {
            let mut spliced = one.clone();
            spliced.payload[at..].copy_from_slice(&other.payload[at..]);
            spliced
        })
        .to_vec();
    send_all_refused(&site, &server, &spliced)
}

#[test]
fn a_knock_for_one_server_is_refused_by_another_that_knows_the_client() -> Result {
    let site = Site::new()?;
    let second_host = &site.stranger;
    let _echo = second_host.echo_tcp(22)?;
    let first = site.spad()?;
    let mut second = Server::new(second_host, "second.example", &Settings::default())?;
    second.start()?;
    site.client.set_name("second.example", &[second_host.v4()?])?;

    let alice = site.client(&first, "alice")?;
    alice.enroll(&second.add("alice", &["--service", "ssh"])?)?.ok()?;
    for (server, name) in [(&first, SERVER_NAME), (&second, "second.example")] {
        alice.spa(&["knock", name])?.ok()?;
        server.wait_for_counter("granted", 1)?;
        server.spad(&["revoke", "alice"])?.ok()?;
    }

    let fresh = site.fresh_knock(&alice, &[])?;
    let before = counted(&second)?;
    site.client.send_forged(&[fresh.to((second_host.v4()?, KNOCK_PORT).into())])?;
    until("the second server counts it", SOON, || Ok(counted(&second)? > before))?;
    assert_eq!(second.counter("granted")?, 1, "refused by the second");
    assert_eq!(second.grants()?, []);
    assert!(!site.client.connects((second_host.v4()?, 22))?);

    site.client.send_forged(&[fresh])?;
    first.wait_for_counter("granted", 2)?;
    assert!(site.reaches(&site.client, 22)?, "and still good for the first");
    Ok(())
}

#[test]
fn a_knock_changed_on_ipv6_opens_nothing() -> Result {
    let site = Site::with(Addressing::V6_ONLY)?;
    let server = site.spad()?;
    let fresh = site.fresh_knock(&enrolled(&site, &server)?, &[])?;
    let bits = (0..fresh.payload.len() * 8).step_by(101);
    let flipped: Vec<_> = bits.map(|bit| fresh.with_bit_flipped(bit)).collect();
    send_all_refused(&site, &server, &flipped)
}
