//! To an outsider a knock is noise (P2), and two knocks are strangers (P3).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use std::collections::HashSet;

use spa_proto::Datagram;
use support::parties::{Clock, EPOCH_MS, NOW, pair, ssh};

/// Knocks of one client for one thing at one time, as alike as they can be.
fn alike(count: u64) -> Vec<Datagram> {
    let (_, client) = pair();
    (0..count).map(|number| client.knock(&ssh(), Clock::at(NOW), number)).collect()
}

#[test]
fn bytes_are_uniform() {
    let knocks = alike(400);
    let mut counts = [0u32; 256];
    knocks.iter().flatten().for_each(|byte| counts[usize::from(*byte)] += 1);
    let expected = f64::from(400 * 336) / 256.0;
    let chi_square: f64 =
        counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
    // 255 degrees of freedom: mean 255, standard deviation 22.6. Seven of them.
    assert!((97.0..413.0).contains(&chi_square), "{chi_square}");
}

#[test]
fn every_bit_is_a_coin() {
    let knocks = alike(400);
    for bit in 0..8 * 336 {
        let ones = knocks.iter().filter(|knock| knock[bit / 8] >> (bit % 8) & 1 == 1).count();
        // Mean 200, standard deviation 10. Six of them.
        assert!((140..=260).contains(&ones), "bit {bit}: {ones} of 400");
    }
}

#[test]
fn two_knocks_share_nothing_where_it_stands() {
    let mut seen = HashSet::new();
    for knock in alike(300) {
        for (at, window) in knock.windows(4).enumerate() {
            let new = seen.insert((at, <[u8; 4]>::try_from(window).unwrap()));
            assert!(new, "bytes {at} to {} of two knocks are the same", at + 3);
        }
    }
}

#[test]
fn two_knocks_share_nothing_anywhere() {
    let mut seen = HashSet::new();
    for knock in alike(40) {
        let windows: HashSet<[u8; 4]> =
            knock.windows(4).map(|window| window.try_into().unwrap()).collect();
        assert!(seen.is_disjoint(&windows));
        seen.extend(windows);
    }
}

#[test]
fn a_failing_generator_still_gives_strangers() {
    let (_, client) = pair();
    let mut other = ssh();
    other.seconds = std::num::NonZeroU32::new(1);
    let (now, later) = (Clock::at(NOW), Clock::at(NOW + 1));
    let knocks = [
        client.knock(&ssh(), now, 0),
        client.knock(&ssh(), later, 0),
        client.knock(&other, now, 0),
    ];
    assert_eq!(knocks[0], client.knock(&ssh(), now, 0), "the same is a copy");
    for (at, knock) in knocks.iter().enumerate() {
        let others = knocks.iter().skip(at + 1);
        for other in others {
            let same = knock.windows(4).zip(other.windows(4)).any(|(one, two)| one == two);
            assert!(!same);
        }
    }
}

/// Who knows the cloak, an enrolled client, can link within an epoch and not beyond.
#[test]
fn a_pseudonym_lives_for_one_epoch() {
    let (_, client) = pair();
    let name = |wall, number| {
        let plan = support::craft::Plan::new(
            ssh().encode().unwrap(),
            wall,
            support::parties::bytes("name", number),
        );
        client.sender().knock(&plan).pid
    };
    assert_eq!(name(NOW, 1), name(NOW + 1000, 2));
    assert_ne!(name(NOW, 1), name(NOW + EPOCH_MS, 1));
}
