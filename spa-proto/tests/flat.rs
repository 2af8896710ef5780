//! P11: what a datagram costs does not depend on how many clients there are.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]
#![allow(clippy::disallowed_methods, reason = "this one measures")]

mod support;

use std::time::{Duration, Instant};

use spa_proto::{Gate, Reason};
use support::parties::{Client, Clock, NOW, Server, bytes, refusal, ssh};

const CROWD: u64 = 10_000;
const DATAGRAMS: u64 = 1000;
/// No question of speed: who asks a crowd one by one takes thousands of times as long, and no busy
/// machine or cold cache takes a hundred.
const AS_LONG: u32 = 100;

/// Of a knock's length, from nobody.
fn junk(number: u64) -> Vec<u8> {
    (0..21).flat_map(|part| bytes::<16>("junk", 21 * number + part)).collect()
}

/// A knock of this client's under a wrong tag.
fn forged(client: &Client) -> Vec<u8> {
    let mut datagram = client.knock(&ssh(), Clock::at(NOW), 1).to_vec();
    datagram[304] ^= 1;
    datagram
}

/// How long a gate takes to refuse these, all for one reason.
fn time(gate: &mut Gate, datagrams: &[Vec<u8>], reason: Reason) -> Duration {
    let start = Instant::now();
    for datagram in datagrams {
        assert_eq!(refusal(gate, datagram, Clock::at(NOW)), Some(reason));
    }
    start.elapsed()
}

#[test]
fn ten_thousand_clients_cost_a_datagram_what_one_does() {
    let server = Server::new(1);
    let clients: Vec<_> = (0..CROWD).map(|number| Client::new(number, &server)).collect();
    let gate =
        |clients: &[Client]| server.gate(&clients.iter().collect::<Vec<_>>(), Clock::at(NOW));
    let (mut one, mut crowd) = (gate(&clients[..1]), gate(&clients));
    let junk: Vec<_> = (0..DATAGRAMS).map(junk).collect();
    let of = |clients: &[Client]| clients.iter().map(forged).cycle().take(1000).collect::<Vec<_>>();
    let (of_one, of_crowd) = (of(&clients[..1]), of(&clients[..1000]));
    for (name, [to_one, to_crowd], reason) in [
        ("junk", [&junk, &junk], Reason::UnknownClient),
        ("forged", [&of_one, &of_crowd], Reason::BadTag),
    ] {
        // In turns, so that what else the machine does meets both; the quickest of each.
        let rounds =
            (0..9).map(|_| (time(&mut one, to_one, reason), time(&mut crowd, to_crowd, reason)));
        let (lone, crowded): (Vec<_>, Vec<_>) = rounds.unzip();
        let (lone, crowded) = (lone.iter().min().unwrap(), crowded.iter().min().unwrap());
        println!("{name}: {lone:?} with one client, {crowded:?} with {CROWD}");
        assert!(*crowded < *lone * AS_LONG, "{name}: {lone:?}, {crowded:?} with {CROWD}");
    }
}
