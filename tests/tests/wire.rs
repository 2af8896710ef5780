//! What an eavesdropper sees: packets of one length that share nothing.

use std::collections::BTreeSet;

use spa_tests::Result;
use spa_tests::lab::Datagram;
use spa_tests::product::{KNOCK_PORT, Service, Settings, Site};

/// Length of every knock.
const LENGTH: usize = 336;

/// Knocks of all kinds: the one that enrols, plain ones, and one that asks for other things.
fn knocks_of_all_kinds() -> Result<Vec<Datagram>> {
    let site = Site::new()?;
    let web = Service { name: "web", port: 8080, ..Service::SSH };
    let server = site.spad_with(&Settings::with_services(&[Service::SSH, web]))?;
    let alice = site.client_with(&server, "alice", &["--service", "ssh,web"])?;
    let capture = site.client.capture()?;
    let kinds: [&[&str]; 4] =
        [&[], &[], &["--service", "ssh,web", "--ttl", "4m"], &["--source", "192.0.2.1"]];
    for (number, options) in (1..).zip(kinds) {
        alice.knock(options)?.ok()?;
        server.wait_for_counter("granted", number)?;
    }
    capture.wait_for_udp(KNOCK_PORT, kinds.len())
}

#[test]
fn all_knocks_have_one_length_and_share_nothing() -> Result {
    let knocks = knocks_of_all_kinds()?;
    assert_eq!(knocks.len(), 4, "one datagram each");
    let mut seen = BTreeSet::new();
    for knock in &knocks {
        assert_eq!(knock.payload.len(), LENGTH);
        for piece in knock.payload.windows(6) {
            assert!(seen.insert(piece.to_vec()), "{piece:x?} is there twice");
        }
    }
    Ok(())
}

#[test]
fn every_byte_of_a_knock_varies() -> Result {
    let knocks = knocks_of_all_kinds()?;
    let constant =
        |at: usize| knocks.iter().all(|knock| knock.payload[at] == knocks[0].payload[at]);
    let constant: Vec<_> = (0..LENGTH).filter(|at| constant(*at)).collect();
    // By chance one of four random bytes in 2^24 is the same.
    assert_eq!(constant, Vec::<usize>::new(), "positions with the same byte in every knock");
    Ok(())
}
