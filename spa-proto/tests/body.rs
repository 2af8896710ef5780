//! One encoding for each request, and one request for each encoding
//! (protocol §5.3).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use proptest::prelude::*;
use spa_proto::{Address, Mode, Request};
use support::parties::{ip, services, ssh};
use support::strategies::drafts;

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_written_is_read(draft in drafts()) {
        let request = draft.request();
        let body = request.encode().unwrap();
        let read = Request::decode(&body).unwrap();
        prop_assert_eq!(read.encode().unwrap(), body);
        prop_assert_eq!(read.mode, request.mode);
        prop_assert_eq!(read.address, request.address);
        prop_assert_eq!(read.width, request.width);
        prop_assert_eq!(read.seconds, request.seconds);
        prop_assert_eq!(read.services, request.services);
    }

    /// Whatever is read at all is written the same.
    #[test]
    fn what_is_read_is_canonical(draft in drafts(), changes in changes()) {
        let mut body = draft.request().encode().unwrap();
        for (at, value) in changes {
            body[at] = value;
        }
        if let Ok(request) = Request::decode(&body) {
            prop_assert_eq!(request.encode().unwrap(), body);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(start in any::<[u8; 32]>(), rest in any::<u8>()) {
        let mut body = [rest; 160];
        body[..32].copy_from_slice(&start);
        for version in [start[0], 1] {
            body[0] = version;
            if let Ok(request) = Request::decode(&body) {
                prop_assert_eq!(request.encode().unwrap(), body);
            }
        }
    }
}

/// One to three bytes, most of them where the fields are, with values near the edges.
fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let places = prop_oneof![0..28usize, 28..92usize, 92..160usize];
    let values = prop_oneof![Just(0), 1..8u8, Just(b'/'), b'0'..=b'9', any::<u8>()];
    prop::collection::vec((places, values), 1..=3)
}

#[test]
fn the_layout_is_that_of_the_document() {
    let mut request = ssh();
    request.mode = Mode::Bound { source_port: 0x1234 };
    request.address = Address::Explicit(ip("192.0.2.128"));
    request.width = Some(25);
    request.seconds = std::num::NonZeroU32::new(0x0a0b_0c0d);
    request.services = services("tcp/22 ssh");
    let mut expected = [0; 160];
    expected[..16]
        .copy_from_slice(&[1, 0, 3, 1, 4, 0, 0x12, 0x34, 0x0a, 0x0b, 0x0c, 0x0d, 192, 0, 2, 128]);
    expected[28..31].copy_from_slice(b"ssh");
    expected[44..50].copy_from_slice(b"tcp/22");
    expected[156] = 25;
    assert_eq!(request.encode(), Ok(expected));
}

#[test]
fn contradictions_have_no_encoding() {
    let refused = |change: fn(&mut Request)| {
        let mut request = ssh();
        change(&mut request);
        request.encode().is_err()
    };
    assert!(refused(|request| request.mode = Mode::Bound { source_port: 0 }));
    assert!(refused(|request| request.width = Some(128)), "seen");
    assert!(!refused(|request| request.width = Some(127)), "seen");
    assert!(refused(|request| {
        request.address = Address::Explicit(ip("192.0.2.1"));
        request.width = Some(24);
    }));
    assert!(refused(|request| {
        request.address = Address::Explicit(ip("2001:db8::"));
        request.width = Some(128);
    }));
}
