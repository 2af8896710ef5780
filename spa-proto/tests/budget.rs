//! Who pays for what (P10): copies and junk nothing, an owner only for what is
//! its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use spa_proto::{Datagram, Gate, GateSettings, Nonce, Rate, Reason, Timestamp};
use support::parties::{Client, Clock, NOW, Server, bytes, refusal, ssh};

/// A server that lets three knocks of a client through at once, and one a second.
fn strict() -> (Server, Client) {
    let mut server = Server::new(1);
    server.settings.client_rate = Rate { burst: 3, per_second: 1 };
    let client = Client::new(1, &server);
    (server, client)
}

fn knocks(client: &Client, clock: Clock, numbers: std::ops::Range<u64>) -> Vec<Datagram> {
    numbers.map(|number| client.knock(&ssh(), clock, number)).collect()
}

/// How many of these the gate lets through.
fn admitted(gate: &mut Gate, datagrams: &[Datagram], clock: Clock) -> usize {
    datagrams.iter().filter(|datagram| refusal(gate, *datagram, clock).is_none()).count()
}

#[test]
fn copies_take_nothing_from_the_owner() {
    let (server, client) = strict();
    let clock = Clock::at(NOW);
    let mut gate = server.gate(&[&client], clock);
    let first = client.knock(&ssh(), clock, 0);
    assert_eq!(refusal(&mut gate, &first, clock), None);
    for _ in 0..1000 {
        assert_eq!(refusal(&mut gate, &first, clock), Some(Reason::Duplicate));
    }
    assert_eq!(admitted(&mut gate, &knocks(&client, clock, 1..3), clock), 2, "the whole burst");
}

#[test]
fn junk_takes_nothing_from_the_owner() {
    let (mut server, client) = strict();
    server.settings.global_rate = Rate { burst: 3, per_second: 0 };
    let clock = Clock::at(NOW);
    let mut gate = server.gate(&[&client], clock);
    let own = knocks(&client, clock, 0..3);
    for number in 0..1000u64 {
        let mut junk = own[0];
        junk[64..96].copy_from_slice(&bytes::<32>("junk", number));
        assert_eq!(refusal(&mut gate, &junk, clock), Some(Reason::BadTag));
        junk[..32].copy_from_slice(&bytes::<32>("junk", number));
        assert_eq!(refusal(&mut gate, &junk, clock), Some(Reason::UnknownClient));
    }
    assert_eq!(admitted(&mut gate, &own, clock), 3);
}

/// Late ones, early ones and those under the floor are cheap as well.
#[test]
fn what_comes_at_the_wrong_time_takes_nothing() {
    let (server, client) = strict();
    let clock = Clock::at(NOW);
    let mut gate = server.gate(&[&client], clock);
    gate.recall(&client.kid(), Timestamp::from_millis(NOW - 1000), []);
    for (number, off, reason) in
        [(1, -30_001, Reason::Stale), (2, 30_001, Reason::Stale), (3, -1000, Reason::Duplicate)]
    {
        let sent = Clock::at(NOW.saturating_add_signed(off));
        let datagram = client.knock(&ssh(), sent, number);
        for _ in 0..10 {
            assert_eq!(refusal(&mut gate, &datagram, clock), Some(reason));
        }
    }
    assert_eq!(admitted(&mut gate, &knocks(&client, clock, 10..13), clock), 3);
}

#[test]
fn a_budget_ends_and_fills_again() {
    let (server, client) = strict();
    let mut clock = Clock::at(NOW);
    let mut gate = server.gate(&[&client], clock);
    let many = knocks(&client, clock, 0..10);
    assert_eq!(admitted(&mut gate, &many, clock), 3);
    assert_eq!(refusal(&mut gate, &many[9], clock), Some(Reason::OverBudget));
    assert_eq!(refusal(&mut gate, &many[0], clock), Some(Reason::Duplicate));
    clock.pass(999);
    assert_eq!(refusal(&mut gate, &many[9], clock), Some(Reason::OverBudget));
    clock.pass(1);
    assert_eq!(refusal(&mut gate, &many[9], clock), None, "it was not remembered as attempted");
    assert_eq!(refusal(&mut gate, &many[8], clock), Some(Reason::OverBudget));
}

#[test]
fn a_clock_that_is_set_fills_no_budget() {
    let (server, client) = strict();
    let mut clock = Clock::at(NOW);
    let mut gate = server.gate(&[&client], clock);
    assert_eq!(admitted(&mut gate, &knocks(&client, clock, 0..3), clock), 3);
    for seconds in [-20, 3600, -7200] {
        clock.step(seconds * 1000);
        let datagram = client.knock(&ssh(), clock, seconds.unsigned_abs());
        assert_eq!(refusal(&mut gate, &datagram, clock), Some(Reason::OverBudget));
    }
}

#[test]
fn one_client_does_not_use_up_anothers_budget() {
    let (server, one) = strict();
    let two = Client::new(2, &server);
    let clock = Clock::at(NOW);
    let mut gate = server.gate(&[&one, &two], clock);
    assert_eq!(admitted(&mut gate, &knocks(&one, clock, 0..20), clock), 3);
    assert_eq!(admitted(&mut gate, &knocks(&two, clock, 0..20), clock), 3);
}

#[test]
fn all_together_have_a_cap() {
    let (mut server, _) = strict();
    server.settings.global_rate = Rate { burst: 5, per_second: 2 };
    let clients: Vec<_> = (1..=4).map(|number| Client::new(number, &server)).collect();
    let mut clock = Clock::at(NOW);
    let mut gate = server.gate(&clients.iter().collect::<Vec<_>>(), clock);
    let first: Vec<_> = clients.iter().flat_map(|client| knocks(client, clock, 0..2)).collect();
    assert_eq!(admitted(&mut gate, &first, clock), 5);
    for _ in 0..10 {
        let reason = refusal(&mut gate, &first[7], clock);
        assert_eq!(reason, Some(Reason::OverCap), "and its owner pays nothing");
    }
    clock.pass(500);
    assert_eq!(refusal(&mut gate, &first[7], clock), None);
}

/// A gate that was made anew is told what was used, so that copies stay free.
#[test]
fn what_is_recalled_is_a_copy() {
    let (server, client) = strict();
    let clock = Clock::at(NOW);
    let mut gate = server.gate(&[&client], clock);
    let used = client.knock(&ssh(), clock, 0);
    let nonce = Nonce::from_bytes(used[..16].try_into().unwrap());
    gate.recall(&client.kid(), Timestamp::ZERO, [(clock.now(), nonce)]);
    for _ in 0..10 {
        assert_eq!(refusal(&mut gate, &used, clock), Some(Reason::Duplicate));
    }
    assert_eq!(admitted(&mut gate, &knocks(&client, clock, 1..4), clock), 3);
}

/// Whatever comes within a window is remembered as long as the window lasts.
#[test]
fn a_busy_client_is_remembered_for_a_whole_window() {
    let (mut server, client) = strict();
    server.settings =
        GateSettings { client_rate: Rate { burst: 20, per_second: 5 }, ..GateSettings::default() };
    let mut clock = Clock::at(NOW);
    let mut gate = server.gate(&[&client], clock);
    // As far ahead as may be, so that the copy is good for a whole minute.
    let early = client.knock(&ssh(), Clock::at(NOW + 30_000), 0);
    assert_eq!(refusal(&mut gate, &early, clock), None);
    for number in 1..400 {
        let _ = refusal(&mut gate, &client.knock(&ssh(), clock, number), clock);
        clock.pass(150);
    }
    assert_eq!(clock.now(), Timestamp::from_millis(NOW + 59_850));
    assert_eq!(refusal(&mut gate, &early, clock), Some(Reason::Duplicate));
}

/// A reload gives nobody a fresh burst, and makes no copy new again.
#[test]
fn a_gate_takes_over_what_was_spent() {
    let (server, client) = strict();
    let (clock, gone) = (Clock::at(NOW), Client::new(2, &server));
    let new = Client::new(3, &server);
    let mut former = server.gate(&[&gone, &client], clock);
    let sent = knocks(&client, clock, 0..10);
    assert_eq!(admitted(&mut former, &sent[..2], clock), 2);
    assert_eq!(admitted(&mut former, &knocks(&gone, clock, 0..3), clock), 3);

    let mut gate = server.gate(&[&new, &client], clock);
    gate.recall(&client.kid(), Timestamp::from_millis(NOW - 2000), []);
    gate.succeed(former);
    for copy in &sent[..2] {
        assert_eq!(refusal(&mut gate, copy, clock), Some(Reason::Duplicate));
    }
    assert_eq!(admitted(&mut gate, &sent[2..], clock), 1, "what was left");
    assert_eq!(admitted(&mut gate, &knocks(&new, clock, 0..10), clock), 3);
    let under = client.knock(&ssh(), Clock::at(NOW - 2000), 20);
    assert_eq!(refusal(&mut gate, &under, clock), Some(Reason::Duplicate), "what was recalled");
    assert_eq!(
        refusal(&mut gate, &gone.knock(&ssh(), clock, 4), clock),
        Some(Reason::UnknownClient)
    );
}

#[test]
fn the_common_budget_is_taken_over_as_well() {
    let (mut server, client) = strict();
    server.settings.global_rate = Rate { burst: 2, per_second: 0 };
    let clock = Clock::at(NOW);
    let mut former = server.gate(&[&client], clock);
    let sent = knocks(&client, clock, 0..3);
    assert_eq!(admitted(&mut former, &sent[..1], clock), 1);
    let mut gate = server.gate(&[&client], clock);
    gate.succeed(former);
    assert_eq!(admitted(&mut gate, &sent[1..], clock), 1);
    assert_eq!(refusal(&mut gate, &sent[2], clock), Some(Reason::OverCap));
}

/// A copy that has grown old is refused as what it is.
#[test]
fn a_copy_is_a_duplicate_until_it_is_stale() {
    let (server, client) = strict();
    let mut clock = Clock::at(NOW);
    let mut gate = server.gate(&[&client], clock);
    let first = client.knock(&ssh(), clock, 0);
    assert_eq!(refusal(&mut gate, &first, clock), None);
    clock.pass(30_000);
    assert_eq!(refusal(&mut gate, &first, clock), Some(Reason::Duplicate));
    clock.pass(1);
    assert_eq!(refusal(&mut gate, &first, clock), Some(Reason::Stale));
}
