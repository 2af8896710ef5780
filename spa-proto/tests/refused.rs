//! Nothing but the very bytes that a client of this server made is let through
//! (P4, and protocol §6, steps 1 to 3 and 7).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use spa_proto::{Arrival, Reason};
use support::craft::{Plan, tag_again};
use support::parties::{Client, Clock, NOW, Server, admit, bytes, ip, pair, refusal, ssh};

fn clock() -> Clock {
    Clock::at(NOW)
}

#[test]
fn any_flipped_bit_is_refused() {
    let (server, client) = pair();
    let datagram = client.knock(&ssh(), clock(), 1);
    assert!(admit(&mut server.gate(&[&client], clock()), &datagram, clock()).is_ok());
    for bit in 0..8 * datagram.len() {
        let mut altered = datagram;
        altered[bit / 8] ^= 1 << (bit % 8);
        let found_by_name = bit >= 8 * 24;
        let expected = if found_by_name { Reason::BadTag } else { Reason::UnknownClient };
        let mut gate = server.gate(&[&client], clock());
        assert_eq!(refusal(&mut gate, &altered, clock()), Some(expected), "bit {bit}");
    }
}

/// Somebody who has the psk, and so can make a right tag, but not the signing key.
#[test]
fn any_flipped_bit_under_a_right_tag_is_refused() {
    let (server, client) = pair();
    let datagram = client.knock(&ssh(), clock(), 1);
    for bit in (8 * 24..8 * 64).chain((8 * 64..8 * 304).step_by(7)) {
        let mut altered = datagram;
        altered[bit / 8] ^= 1 << (bit % 8);
        tag_again(&client.sender(), &mut altered);
        let reason = refusal(&mut server.gate(&[&client], clock()), &altered, clock());
        let in_time = bit < 8 * 32;
        let expected = matches!(reason, Some(Reason::BadSeal))
            || in_time && matches!(reason, Some(Reason::EpochMismatch | Reason::Stale));
        assert!(expected, "bit {bit}: {reason:?}");
    }
}

#[test]
fn any_other_length_is_refused() {
    let (server, client) = pair();
    let mut gate = server.gate(&[&client], clock());
    let datagram = client.knock(&ssh(), clock(), 1);
    let twice = datagram.repeat(5);
    for len in (0..=1500).filter(|len| *len != datagram.len()) {
        assert_eq!(refusal(&mut gate, &twice[..len], clock()), Some(Reason::Length), "{len}");
    }
    assert_eq!(refusal(&mut gate, &datagram, clock()), None);
}

#[test]
fn a_knock_for_another_server_is_refused() {
    let (here, there) = (Server::new(1), Server { cloak: Server::new(1).cloak, ..Server::new(2) });
    let client_there = Client::new(1, &there);
    let client_here = Client { server: here.public(), ..client_there.clone() };
    let mut gate = here.gate(&[&client_here], clock());
    let datagram = client_there.knock(&ssh(), clock(), 1);
    assert_eq!(refusal(&mut gate, &datagram, clock()), Some(Reason::UnknownClient));
    let datagram = client_here.knock(&ssh(), clock(), 1);
    assert_eq!(refusal(&mut gate, &datagram, clock()), None, "same kid, psk, cloak and seed");
}

/// Even one who knows all the symmetric keys of both servers cannot carry a
/// knock from one to the other.
#[test]
fn a_knock_wrapped_again_for_another_server_is_refused() {
    let (here, there) = (Server::new(1), Server::new(2));
    let client = Client::new(1, &here);
    let mut sender = client.sender();
    sender.server = *there.public().as_bytes();
    let mut plan = Plan::new(ssh().encode().unwrap(), NOW, [3; 32]);
    let signed_for_there = sender.knock(&plan);
    plan.sig = Some(signed_for_there.sig);
    let datagram = client.sender().knock(&plan).datagram;
    let signed = admit(&mut here.gate(&[&client], clock()), &datagram, clock()).ok().unwrap();
    let verdict = here.verify(&signed, &client.verifier(), clock());
    assert_eq!(verdict.err(), Some(Reason::BadSignature));
}

#[test]
fn crossed_keys_are_refused() {
    let server = Server::new(1);
    let (one, two) = (Client::new(1, &server), Client::new(2, &server));
    let crossed = Client { psk: two.psk, ..one.clone() };
    let mut gate = server.gate(&[&one, &two], clock());
    let datagram = crossed.knock(&ssh(), clock(), 1);
    assert_eq!(refusal(&mut gate, &datagram, clock()), Some(Reason::UnknownClient));
}

/// Who has all but the pre-shared key, X25519 and Ed25519 broken, meets it three times: in the
/// pseudonym, in the tag, and in the key of the encryption. Each alone is enough to refuse.
#[test]
fn a_knock_without_the_pre_shared_key_is_refused_at_each_of_three_steps() {
    let (server, client) = pair();
    let guess = Client { psk: [9; 32], ..client.clone() };
    let mut plan = Plan::new(ssh().encode().unwrap(), NOW, [3; 32]);
    let mut gate = server.gate(&[&client], clock());
    let unnamed = guess.sender().knock(&plan).datagram;
    assert_eq!(refusal(&mut gate, &unnamed, clock()), Some(Reason::UnknownClient));

    let mut untagged = client.sender().knock(&plan).datagram;
    tag_again(&guess.sender(), &mut untagged);
    assert_eq!(refusal(&mut gate, &untagged, clock()), Some(Reason::BadTag));

    plan.salt = Some(guess.sender().keys().dh);
    let unsealed = client.sender().knock(&plan).datagram;
    assert_eq!(refusal(&mut gate, &unsealed, clock()), Some(Reason::BadSeal));

    plan.salt = None;
    // Another nonce: that of the last is known by now.
    plan.randomness = [4; 32];
    let control = client.sender().knock(&plan).datagram;
    assert_eq!(refusal(&mut gate, &control, clock()), None);
}

/// One client's name, another's HMAC: what an enrolled client can try, which
/// knows the cloak and, for six hours, another's pseudonym.
#[test]
fn another_clients_name_is_refused() {
    let server = Server::new(1);
    let (one, two) = (Client::new(1, &server), Client::new(2, &server));
    let mut datagram = one.knock(&ssh(), clock(), 1);
    tag_again(&two.sender(), &mut datagram);
    let mut gate = server.gate(&[&one, &two], clock());
    assert_eq!(refusal(&mut gate, &datagram, clock()), Some(Reason::BadTag));
}

#[test]
fn a_removed_client_is_unknown() {
    let server = Server::new(1);
    let (one, two) = (Client::new(1, &server), Client::new(2, &server));
    let mut gate = server.gate(&[&one, &two], clock());
    assert_eq!(refusal(&mut gate, &one.knock(&ssh(), clock(), 1), clock()), None);
    gate.remove(&one.kid());
    let reason = refusal(&mut gate, &one.knock(&ssh(), clock(), 2), clock());
    assert_eq!(reason, Some(Reason::UnknownClient));
    assert_eq!(refusal(&mut gate, &two.knock(&ssh(), clock(), 3), clock()), None, "not the other");

    let three = Client::new(3, &server);
    gate.insert(three.kid(), three.keys());
    assert_eq!(refusal(&mut gate, &three.knock(&ssh(), clock(), 4), clock()), None, "its place");
    let reason = refusal(&mut gate, &one.knock(&ssh(), clock(), 5), clock());
    assert_eq!(reason, Some(Reason::UnknownClient), "still");
}

#[test]
fn new_keys_replace_old_ones() {
    let (server, old) = pair();
    let new = Client { psk: [9; 32], ..old.clone() };
    let mut gate = server.gate(&[&old, &new], clock());
    let reason = refusal(&mut gate, &old.knock(&ssh(), clock(), 1), clock());
    assert_eq!(reason, Some(Reason::UnknownClient));
    assert_eq!(refusal(&mut gate, &new.knock(&ssh(), clock(), 2), clock()), None);
}

#[test]
fn low_order_ephemeral_keys_are_refused() {
    let (server, client) = pair();
    for key in low_order() {
        let mut plan = Plan::new(ssh().encode().unwrap(), NOW, bytes("low", key[0].into()));
        plan.ephemeral = Some((key, [0; 32]));
        let datagram = client.sender().knock(&plan).datagram;
        let reason = refusal(&mut server.gate(&[&client], clock()), &datagram, clock());
        assert_eq!(reason, Some(Reason::BadEphemeral), "{key:02x?}");
    }
}

/// Every encoding that X25519 takes to zero: 0, 1, p − 1, two of order 8, and
/// the same numbers beyond p and with the top bit set.
fn low_order() -> Vec<[u8; 32]> {
    let small = |low| std::array::from_fn(|at| if at == 0 { low } else { 0 });
    let beyond = |low| {
        std::array::from_fn(|at| match at {
            0 => low,
            31 => 0x7f,
            _ => 0xff,
        })
    };
    let order_8 = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ];
    let order_8 = order_8.map(|text| support::case::unhex(text).try_into().unwrap());
    let plain =
        [small(0), small(1), beyond(0xec), beyond(0xed), beyond(0xee), order_8[0], order_8[1]];
    let with_top_bit = plain.map(|mut key: [u8; 32]| {
        key[31] |= 0x80;
        key
    });
    [plain, with_top_bit].concat()
}

#[test]
fn sources_that_nobody_can_answer_are_refused() {
    let (server, client) = pair();
    let datagram = client.knock(&ssh(), clock(), 1);
    let judge = |source: &str, destination: &str| {
        let arrival = Arrival { source: ip(source), destination: ip(destination) };
        let mut gate = server.gate(&[&client], clock());
        gate.admit(&datagram, arrival, clock().now(), clock().monotonic()).err()
    };
    let v6 = "2001:db8:2::1";
    let here = "203.0.113.1";
    for source in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "239.255.255.255"] {
        assert_eq!(judge(source, here), Some(Reason::Addressing), "{source}");
    }
    for source in ["::", "ff02::1", "::ffff:198.51.100.7", "::ffff:0:0"] {
        assert_eq!(judge(source, v6), Some(Reason::Addressing), "{source}");
    }
    assert_eq!(judge("198.51.100.7", "224.0.0.1"), Some(Reason::Addressing));
    assert_eq!(judge("2001:db8::7", "ff02::1"), Some(Reason::Addressing));
    for (source, destination) in [("127.0.0.1", "127.0.0.1"), ("fe80::1", "fe80::2")] {
        assert_eq!(judge(source, destination), None, "policy's business: {source}");
    }
}

#[test]
fn a_gate_without_clients_knows_nobody() {
    let (server, client) = pair();
    let datagram = client.knock(&ssh(), clock(), 1);
    let reason = refusal(&mut server.gate(&[], clock()), &datagram, clock());
    assert_eq!(reason, Some(Reason::UnknownClient));
}
