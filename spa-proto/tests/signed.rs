//! What the gate hands on proves nothing until the client's own signature over
//! all of it has been verified (protocol §6, steps 8 and 9; P4, P7).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use spa_proto::{Address, Arrival, Generation, Reason, Request, SIGNED_REQUEST_LEN, SignedRequest};
use support::parties::{Client, Clock, NOW, Server, admit, arrival, ip, pair, services, ssh};

/// Where the arrival begins in the serialised form: it is not signed.
const ARRIVAL: usize = SIGNED_REQUEST_LEN - 37;
const KID: std::ops::Range<usize> = 0..16;
const TIME: std::ops::Range<usize> = 32..40;
const BODY: std::ops::Range<usize> = 72..232;
const SIGNATURE: std::ops::Range<usize> = 232..296;

fn clock() -> Clock {
    Clock::at(NOW)
}

fn signed(server: &Server, client: &Client, request: &Request) -> SignedRequest {
    let datagram = client.knock(request, clock(), 1);
    admit(&mut server.gate(&[client], clock()), &datagram, clock()).ok().unwrap()
}

#[test]
fn the_bytes_are_the_request() {
    let (server, client) = pair();
    let request = signed(&server, &client, &ssh());
    let bytes = request.to_bytes();
    let read = SignedRequest::from_bytes(&bytes).unwrap();
    assert_eq!(read.to_bytes(), bytes);
    assert_eq!((read.kid(), read.arrival()), (client.kid(), arrival()));
    let knock = server.verify(&read, &client.verifier(), clock()).ok().unwrap();
    assert_eq!((knock.kid(), knock.time()), (client.kid(), clock().now()));
    assert_eq!(knock.request().encode(), ssh().encode());
    assert_eq!(knock.binds(), None);
}

#[test]
fn any_altered_byte_is_refused() {
    let (server, client) = pair();
    let bytes = signed(&server, &client, &ssh()).to_bytes();
    for at in 0..ARRIVAL {
        for mask in [0x01, 0x80] {
            let mut altered = bytes;
            altered[at] ^= mask;
            let read = SignedRequest::from_bytes(&altered).unwrap();
            let verdict = server.verify(&read, &client.verifier(), clock()).err().unwrap();
            let expected = match at {
                _ if TIME.contains(&at) => [Reason::Stale, Reason::BadSignature],
                _ if BODY.contains(&at) => [Reason::NotCanonical, Reason::BadSignature],
                _ => [Reason::BadSignature; 2],
            };
            let enrols = at == 73 && verdict == Reason::EnrolTaken;
            assert!(expected.contains(&verdict) || enrols, "byte {at}: {verdict:?}");
        }
    }
}

/// The gatekeeper can lie about the addresses, and about nothing else.
#[test]
fn the_arrival_is_not_signed() {
    let (server, client) = pair();
    let mut bytes = signed(&server, &client, &ssh()).to_bytes();
    bytes[ARRIVAL + 4] ^= 1;
    let read = SignedRequest::from_bytes(&bytes).unwrap();
    let other = Arrival { source: ip("198.51.100.6"), ..arrival() };
    assert_eq!(read.arrival(), other);
    assert!(server.verify(&read, &client.verifier(), clock()).is_ok());
}

/// Nor for which keys it was made: the warden verifies it with those of its own that
/// have this number.
#[test]
fn the_generation_is_not_signed() {
    let (server, client) = pair();
    let mut bytes = signed(&server, &client, &ssh()).to_bytes();
    assert_eq!(SignedRequest::from_bytes(&bytes).unwrap().generation(), Generation::default());
    bytes[SIGNED_REQUEST_LEN - 4..].copy_from_slice(&[1, 2, 3, 4]);
    let read = SignedRequest::from_bytes(&bytes).unwrap();
    assert_eq!(read.generation(), Generation::new(0x0102_0304));
    assert!(server.verify(&read, &client.verifier(), clock()).is_ok());
}

#[test]
fn an_arrival_has_one_form() {
    let (server, client) = pair();
    let bytes = signed(&server, &client, &ssh()).to_bytes();
    for family in (0..=255).filter(|family| ![4, 6].contains(family)) {
        let mut altered = bytes;
        altered[ARRIVAL] = family;
        assert!(SignedRequest::from_bytes(&altered).is_none(), "family {family}");
    }
    for tail in (ARRIVAL + 5..ARRIVAL + 17).chain(ARRIVAL + 21..ARRIVAL + 33) {
        let mut altered = bytes;
        altered[tail] = 1;
        assert!(SignedRequest::from_bytes(&altered).is_none(), "byte {tail}");
    }
}

#[test]
fn parts_of_two_knocks_do_not_mix() {
    let (server, client) = pair();
    let mut other = ssh();
    other.services = services("web");
    other.address = Address::Explicit(ip("192.0.2.7"));
    let mut gate = server.gate(&[&client], clock());
    let mut bytes = |request: &Request, number| {
        let datagram = client.knock(request, clock(), number);
        admit(&mut gate, &datagram, clock()).ok().unwrap().to_bytes()
    };
    let (one, two) = (bytes(&ssh(), 1), bytes(&other, 2));
    let header = 0..72;
    for part in [16..32, 40..72, BODY, SIGNATURE, header, BODY.start..SIGNATURE.end] {
        let mut mixed = one;
        mixed[part.clone()].copy_from_slice(&two[part.clone()]);
        let read = SignedRequest::from_bytes(&mixed).unwrap();
        let verdict = server.verify(&read, &client.verifier(), clock()).err();
        assert_eq!(verdict, Some(Reason::BadSignature), "{part:?}");
    }
}

#[test]
fn a_signature_is_for_one_client_and_one_server() {
    let (server, client) = pair();
    let request = signed(&server, &client, &ssh());
    let other = Client::new(2, &server);
    let verdict = server.verify(&request, &other.verifier(), clock()).err();
    assert_eq!(verdict, Some(Reason::BadSignature), "another's key");
    let verdict = Server::new(2).verify(&request, &client.verifier(), clock()).err();
    assert_eq!(verdict, Some(Reason::BadSignature), "another server");
    let mut bytes = request.to_bytes();
    bytes[KID].copy_from_slice(&other.kid);
    let twin = SignedRequest::from_bytes(&bytes).unwrap();
    let verdict = server.verify(&twin, &client.verifier(), clock()).err();
    assert_eq!(verdict, Some(Reason::BadSignature), "another record with the same key");
}
