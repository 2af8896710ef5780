//! Fresh or refused (P6), and pseudonyms where one epoch becomes the next.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use std::time::Duration;

use spa_proto::{Gate, Reason, Tolerance};
use support::craft::Plan;
use support::parties::{
    BORDER, Client, Clock, EPOCH_MS, NOW, Server, admit, bytes, pair, refusal, ssh,
};

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

/// As where a machine without a clock of its own starts in 1970, and is told later.
#[test]
fn who_comes_or_goes_while_the_clock_is_far_off_is_known_or_not_when_it_is_right_again() {
    for (epoch, wrong) in (0..3).flat_map(|epoch| [0, EPOCH_MS, u64::MAX].map(|it| (epoch, it))) {
        let (server, client) = pair();
        let other = Client::new(2, &server);
        let (right, wrong) = (Clock::at(NOW + epoch * EPOCH_MS), Clock::at(wrong));
        let mut gate = server.gate(&[&client], right);
        assert_eq!(refusal(&mut gate, &client.knock(&ssh(), right, 1), right), None);
        assert!(refusal(&mut gate, &[0; 336], wrong).is_some());
        gate.remove(&client.kid());
        gate.insert(other.kid(), other.keys());
        let verdict =
            |gate: &mut Gate, who: &Client| refusal(gate, &who.knock(&ssh(), right, 2), right);
        assert_eq!(verdict(&mut gate, &other), None, "{epoch}, {wrong:?}");
        assert_eq!(verdict(&mut gate, &client), Some(Reason::UnknownClient), "{epoch}, {wrong:?}");
    }
}

#[test]
fn a_client_that_comes_or_goes_in_a_later_epoch_is_known_or_not() {
    let (server, client) = pair();
    let other = Client::new(2, &server);
    let mut gate = server.gate(&[&client], Clock::at(BORDER));
    let later = Clock::at(BORDER + 40 * EPOCH_MS);
    assert_eq!(refusal(&mut gate, &client.knock(&ssh(), later, 1), later), None);
    gate.insert(other.kid(), other.keys());
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

/// Many clients: those of a far epoch are named little by little.
#[test]
fn an_epoch_turns_while_all_who_knock_are_known() {
    let server = Server::new(1);
    let clients: Vec<_> = (0..300).map(|number| Client::new(number, &server)).collect();
    let (some, last) = (clients.iter().collect::<Vec<_>>(), &clients[299]);
    let mut gate = server.gate(&some, Clock::at(NOW));
    assert_eq!(refusal(&mut gate, &last.knock(&ssh(), Clock::at(NOW), 0), Clock::at(NOW)), None);
    let reason = |gate: &mut Gate, client: &Client, sent, now, number| {
        refusal(gate, &client.knock(&ssh(), Clock::at(sent), number), Clock::at(now))
    };
    for (number, client) in (1..).zip(&clients) {
        let now = BORDER + EPOCH_MS + number;
        for sent in [now, BORDER + EPOCH_MS - 1] {
            assert_eq!(reason(&mut gate, client, sent, now, number), None, "{number}: {sent}");
        }
    }
    // By now everybody has the names of the next epoch, whose time has not come.
    let now = BORDER + EPOCH_MS + 1000;
    for client in &clients {
        let early = reason(&mut gate, client, BORDER + 2 * EPOCH_MS, now, 1000);
        assert_eq!(early, Some(Reason::Stale));
    }
}

/// A machine that slept into the end of an epoch meets the next at once.
#[test]
fn what_is_near_is_known_at_once() {
    let server = Server::new(1);
    let clients: Vec<_> = (0..300).map(|number| Client::new(number, &server)).collect();
    let mut gate = server.gate(&clients.iter().collect::<Vec<_>>(), Clock::at(NOW));
    assert_eq!(refusal(&mut gate, &[0; 336], Clock::at(NOW)), Some(Reason::UnknownClient));
    for (number, now) in
        (1..).zip([BORDER + 2 * EPOCH_MS - 1, BORDER + EPOCH_MS, BORDER + 40 * EPOCH_MS])
    {
        for sent in [now - 1, now, now + 1] {
            let knock = clients[299].knock(&ssh(), Clock::at(sent), number);
            assert_eq!(refusal(&mut gate, &knock, Clock::at(now)), None, "{sent} at {now}");
        }
    }
}
