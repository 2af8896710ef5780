//! A token works once (protocol §8).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use spa_proto::{
    EnrolHash, EnrolSecret, Enrolment, Kind, Reason, Request, Timestamp, VerifiedKnock, Verifier,
    VerifyingKey,
};
use support::parties::{Client, Clock, NOW, Server, admit, pair, ssh};

const SECRET: [u8; 32] = [0x5e; 32];
const EXPIRES: u64 = NOW + 10_000;

fn enrolment(client: &Client, secret: [u8; 32]) -> Request {
    let verifying_key = client.signing().verifying_key();
    let secret = EnrolSecret::from_bytes(secret);
    Request { kind: Kind::Enrol(Box::new(Enrolment { verifying_key, secret })), ..ssh() }
}

/// The record of a client whose token is out.
fn pending() -> Verifier {
    Verifier::Pending {
        secret: EnrolHash::of(&EnrolSecret::from_bytes(SECRET)),
        expires: Timestamp::from_millis(EXPIRES),
    }
}

fn judge(
    client: &Client,
    request: &Request,
    record: &Verifier,
    now: u64,
) -> Result<VerifiedKnock, Reason> {
    let server = Server::new(1);
    let clock = Clock::at(now);
    let datagram = client.knock(request, clock, 1);
    let signed = admit(&mut server.gate(&[client], clock), &datagram, clock)?;
    server.verify(&signed, record, clock)
}

/// Somebody else with the same token.
fn thief() -> Client {
    Client { seed: [0x7f; 32], ..pair().1 }
}

#[test]
fn the_first_knock_binds() {
    let (_, client) = pair();
    let request = enrolment(&client, SECRET);
    let knock = judge(&client, &request, &pending(), NOW).ok().unwrap();
    assert_eq!(knock.binds(), Some(client.signing().verifying_key()));
    assert_eq!(knock.request().encode(), request.encode(), "and asks as any other");
}

#[test]
fn the_same_key_again_is_an_ordinary_knock() {
    let (_, client) = pair();
    for (secret, now) in [(SECRET, NOW), (SECRET, EXPIRES + 1), ([0; 32], NOW)] {
        let request = enrolment(&client, secret);
        let knock = judge(&client, &request, &client.verifier(), now).ok().unwrap();
        assert_eq!(knock.binds(), None);
    }
}

#[test]
fn another_key_comes_too_late() {
    let (_, client) = pair();
    let verdict = judge(&thief(), &enrolment(&thief(), SECRET), &client.verifier(), NOW);
    assert_eq!(verdict.err(), Some(Reason::EnrolTaken));
}

#[test]
fn the_secret_decides() {
    let (_, client) = pair();
    for bit in (0..256).step_by(5) {
        let mut secret = SECRET;
        secret[bit / 8] ^= 1 << (bit % 8);
        let verdict = judge(&client, &enrolment(&client, secret), &pending(), NOW);
        assert_eq!(verdict.err(), Some(Reason::BadEnrolSecret), "bit {bit}");
    }
}

/// What the server stores is not what a client has to show (P7).
#[test]
fn the_stored_hash_is_no_secret() {
    let (_, client) = pair();
    let stored = *EnrolHash::of(&EnrolSecret::from_bytes(SECRET)).as_bytes();
    assert_ne!(stored, SECRET);
    let verdict = judge(&client, &enrolment(&client, stored), &pending(), NOW);
    assert_eq!(verdict.err(), Some(Reason::BadEnrolSecret));
}

#[test]
fn a_token_has_its_time() {
    let (_, client) = pair();
    let verdict = |now| judge(&client, &enrolment(&client, SECRET), &pending(), now).err();
    assert_eq!(verdict(EXPIRES), None);
    assert_eq!(verdict(EXPIRES + 1), Some(Reason::EnrolExpired));
}

#[test]
fn a_token_alone_does_not_knock() {
    let (_, client) = pair();
    assert_eq!(judge(&client, &ssh(), &pending(), NOW).err(), Some(Reason::NotEnrolled));
}

/// Somebody brings a key that is not his, to have its owner bound to a record.
#[test]
fn the_key_must_have_signed() {
    let (_, client) = pair();
    let verdict = judge(&thief(), &enrolment(&client, SECRET), &pending(), NOW);
    assert_eq!(verdict.err(), Some(Reason::BadSignature));
}

/// The points of small order, and encodings that are not canonical.
#[test]
fn weak_keys_are_refused() {
    let y8 = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let small = |low| std::array::from_fn(|at| if at == 0 { low } else { 0 });
    let mut keys: Vec<[u8; 32]> = vec![small(0), small(1)];
    keys.extend(y8.map(|text| <[u8; 32]>::try_from(support::case::unhex(text)).unwrap()));
    // p − 1, and p to p + 18, which are 0 to 18 once more.
    keys.extend((0xec..=0xff).map(|low| {
        let mut key = [0xff; 32];
        (key[0], key[31]) = (low, 0x7f);
        key
    }));
    let negative = keys.clone().into_iter().map(|mut key| {
        key[31] |= 0x80;
        key
    });
    for key in keys.clone().into_iter().chain(negative) {
        assert!(VerifyingKey::from_bytes(&key).is_err(), "{key:02x?}");
        let mut body = enrolment(&pair().1, SECRET).encode().unwrap();
        body[92..124].copy_from_slice(&key);
        assert!(Request::decode(&body).is_err(), "{key:02x?}");
    }
}

#[test]
fn keys_without_a_point_are_refused() {
    let refused = (0..64u64)
        .filter(|number| VerifyingKey::from_bytes(&support::parties::bytes("y", *number)).is_err())
        .count();
    assert!((16..48).contains(&refused), "about half of all y have no point: {refused} of 64");
}
