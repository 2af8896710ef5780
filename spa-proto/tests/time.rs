//! Fresh or refused (P6), and pseudonyms where one epoch becomes the next.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use std::time::Duration;

use spa_proto::{Reason, Tolerance};
use support::craft::Plan;
use support::parties::{BORDER, Clock, EPOCH_MS, NOW, admit, bytes, pair, refusal, ssh};

/// Both halves' verdict on a knock made at `sent`.
fn judged(sent: u64, gate_now: u64, warden_now: u64, tolerance: u64) -> Result<(), Reason> {
    let (mut server, client) = pair();
    server.settings.tolerance = Tolerance::new(Duration::from_millis(tolerance));
    let datagram = client.knock(&ssh(), Clock::at(sent), 1);
    let clock = Clock::at(gate_now);
    let signed = admit(&mut server.gate(&[&client], clock), &datagram, clock)?;
    server.verify(&signed, &client.verifier(), Clock::at(warden_now)).map(|_| ())
}

#[test]
fn the_window_ends_where_it_should() {
    for tolerance in [0, 1, 1000, 30_000, 120_000] {
        for (off, inside) in [(tolerance, true), (tolerance + 1, false)] {
            let expected = if inside { Ok(()) } else { Err(Reason::Stale) };
            let (before, after) = (NOW - off, NOW + off);
            assert_eq!(judged(before, NOW, NOW, tolerance), expected, "-{off} of {tolerance}");
            assert_eq!(judged(after, NOW, NOW, tolerance), expected, "+{off} of {tolerance}");
        }
    }
    for off in [29_999, 30_000] {
        assert_eq!(judged(NOW - off, NOW, NOW, 30_000), Ok(()), "one inside");
    }
}

#[test]
fn the_warden_looks_at_its_own_clock() {
    assert_eq!(judged(NOW, NOW, NOW + 30_000, 30_000), Ok(()));
    assert_eq!(judged(NOW, NOW, NOW + 30_001, 30_000), Err(Reason::Stale));
    assert_eq!(judged(NOW, NOW, NOW - 30_001, 30_000), Err(Reason::Stale));
}

#[test]
fn the_ends_of_time_are_times() {
    for sent in [1, u64::MAX] {
        assert!(judged(sent, NOW, NOW, 30_000).is_err(), "{sent}");
        assert_eq!(judged(sent, sent, sent, 30_000), Ok(()), "{sent}");
    }
    assert_eq!(judged(0, 0, 0, 30_000), Err(Reason::Duplicate), "every floor is at least 0");
}

#[test]
fn neighbouring_epochs_are_known_and_no_others() {
    let far = EPOCH_MS * 3;
    let verdict = |sent, now| judged(sent, now, now, far).err();
    for sent in [BORDER, BORDER + EPOCH_MS - 1] {
        for now in [BORDER - EPOCH_MS, BORDER - 1, BORDER, BORDER + 2 * EPOCH_MS - 1] {
            assert_eq!(verdict(sent, now), None, "{sent} at {now}");
        }
        for now in [BORDER - EPOCH_MS - 1, BORDER + 2 * EPOCH_MS] {
            assert_eq!(verdict(sent, now), Some(Reason::UnknownClient), "{sent} at {now}");
        }
    }
}

#[test]
fn a_gate_turns_with_the_epochs_and_back() {
    let (server, client) = pair();
    let mut gate = server.gate(&[&client], Clock::at(BORDER));
    let times = [-1, 0, 1, 5, 4, 0, -1, -3]
        .map(|epochs: i64| BORDER.saturating_add_signed(epochs * EPOCH_MS.cast_signed()) + 7);
    for (number, wall) in (0..).zip(times) {
        let clock = Clock::at(wall);
        let datagram = client.knock(&ssh(), clock, number);
        assert_eq!(refusal(&mut gate, &datagram, clock), None, "{wall}");
    }
}

#[test]
fn a_client_that_comes_or_goes_in_a_later_epoch_is_known_or_not() {
    let (server, client) = pair();
    let other = support::parties::Client::new(2, &server);
    let mut gate = server.gate(&[&client], Clock::at(BORDER));
    let later = Clock::at(BORDER + 40 * EPOCH_MS);
    assert_eq!(refusal(&mut gate, &client.knock(&ssh(), later, 1), later), None);
    gate.insert(other.kid(), other.keys(), later.monotonic());
    assert_eq!(refusal(&mut gate, &other.knock(&ssh(), later, 2), later), None);
    gate.remove(&client.kid());
    let reason = refusal(&mut gate, &client.knock(&ssh(), later, 3), later);
    assert_eq!(reason, Some(Reason::UnknownClient));
}

#[test]
fn a_pseudonym_of_another_epoch_is_refused() {
    let (server, client) = pair();
    let clock = Clock::at(BORDER);
    for epoch in [BORDER / EPOCH_MS - 1, BORDER / EPOCH_MS + 1] {
        let mut plan = Plan::new(ssh().encode().unwrap(), BORDER, bytes("epoch", epoch));
        plan.epoch = Some(epoch);
        let datagram = client.sender().knock(&plan).datagram;
        let reason = refusal(&mut server.gate(&[&client], clock), &datagram, clock);
        assert_eq!(reason, Some(Reason::EpochMismatch));
    }
}
