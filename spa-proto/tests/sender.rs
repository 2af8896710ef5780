//! Who a datagram is of, for whoever looks at it afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use spa_proto::{Cloak, Datagram, Sender};
use support::parties::{Client, Clock, EPOCH_MS, NOW, Server, pair, ssh};

fn of(server: &Server, client: &Client, datagram: &Datagram) -> Option<Sender> {
    let cloak = Cloak::from_bytes(server.cloak);
    Sender::of(datagram, (&client.kid(), &client.keys()), server.public(), &cloak)
}

#[test]
fn whoever_made_it_is_known_however_wrong_its_clock_is() {
    let (server, client) = pair();
    for sent in [NOW, NOW - 95_000, NOW + 40 * EPOCH_MS, 0] {
        let datagram = client.knock(&ssh(), Clock::at(sent), 1);
        let sender = of(&server, &client, &datagram).unwrap();
        assert_eq!((sender.time, sender.named), (Clock::at(sent).now(), true), "{sent}");
    }
}

#[test]
fn nobody_else_is_taken_for_it_and_nothing_altered_for_its_work() {
    let (server, client) = pair();
    let datagram = client.knock(&ssh(), Clock::at(NOW), 1);
    let other = Client::new(2, &server);
    assert_eq!(of(&server, &other, &datagram), None);
    for byte in 0..datagram.len() {
        let mut altered = datagram;
        altered[byte] ^= 1;
        assert_eq!(of(&server, &client, &altered), None, "byte {byte}");
    }
}

#[test]
fn another_cloak_shows() {
    let (server, client) = pair();
    let former = Server { cloak: [7; 16], ..Server::new(1) };
    let datagram = client.knock(&ssh(), Clock::at(NOW), 1);
    let sender = of(&former, &client, &datagram).unwrap();
    assert!(!sender.named && of(&server, &client, &datagram).unwrap().named);
}

#[test]
fn a_claim_is_no_proof_and_is_of_the_epochs_around() {
    let (server, client) = pair();
    let cloak = Cloak::from_bytes(server.cloak);
    let mut datagram = client.knock(&ssh(), Clock::at(NOW), 1);
    datagram[300] ^= 1;
    assert_eq!(of(&server, &client, &datagram), None);
    for (now, claimed) in [
        (NOW, true),
        (NOW - EPOCH_MS, true),
        (NOW + EPOCH_MS, true),
        (NOW - 2 * EPOCH_MS, false),
        (NOW + 2 * EPOCH_MS, false),
    ] {
        let now = Clock::at(now).now();
        assert_eq!(Sender::is_claimed(&datagram, &client.keys(), &cloak, now), claimed);
    }
}
