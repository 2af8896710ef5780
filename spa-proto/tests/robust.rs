//! Nothing panics, whatever the bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use proptest::prelude::*;
use spa_proto::{Arrival, Request, SIGNED_REQUEST_LEN, Service, ServiceName, SignedRequest};
use support::craft::{BODY, Plan, tag_again};
use support::parties::{Clock, NOW, pair, refusal};

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) }
}

fn array<const N: usize>() -> impl Strategy<Value = [u8; N]> {
    prop::collection::vec(any::<u8>(), N).prop_map(|bytes| bytes.try_into().unwrap())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_datagram(bytes in prop::collection::vec(any::<u8>(), 0..=1500), now in any::<u64>()) {
        let (server, client) = pair();
        let clock = Clock::at(now);
        prop_assert!(refusal(&mut server.gate(&[&client], clock), &bytes, clock).is_some());
    }

    #[test]
    fn any_datagram_of_the_right_length(bytes in array::<336>(), now in any::<u64>()) {
        let (server, client) = pair();
        let clock = Clock::at(now);
        prop_assert!(refusal(&mut server.gate(&[&client], clock), &bytes, clock).is_some());
    }

    /// From somebody who has the psk: any header, any sealed bytes.
    #[test]
    fn anything_under_a_right_name_and_tag(sealed in array::<240>(), ephemeral in array::<32>()) {
        let (server, client) = pair();
        let mut plan = Plan::new([1; BODY], NOW, [2; 32]);
        plan.ephemeral = Some((ephemeral, [3; 32]));
        let mut datagram = client.sender().knock(&plan).datagram;
        datagram[64..304].copy_from_slice(&sealed);
        tag_again(&client.sender(), &mut datagram);
        let clock = Clock::at(NOW);
        prop_assert!(refusal(&mut server.gate(&[&client], clock), &datagram, clock).is_some());
    }

    /// From an enrolled client: any body, at any time.
    #[test]
    fn any_body_and_time(body in array::<BODY>(), ts in any::<u64>(), off in -60_000..60_000i64) {
        let (server, client) = pair();
        let plan = Plan::new(body, ts, [2; 32]);
        let datagram = client.sender().knock(&plan).datagram;
        let clock = Clock::at(ts.saturating_add_signed(off));
        prop_assert!(refusal(&mut server.gate(&[&client], clock), &datagram, clock).is_some());
    }

    #[test]
    fn any_addresses(source: std::net::IpAddr, destination: std::net::IpAddr) {
        let (server, client) = pair();
        let clock = Clock::at(NOW);
        let arrival = Arrival { source, destination };
        let mut gate = server.gate(&[&client], clock);
        let verdict = gate.admit(&[0; 336], arrival, clock.now(), clock.monotonic());
        prop_assert!(verdict.is_err());
    }

    #[test]
    fn any_bytes_between_the_processes(
        mut bytes in array::<SIGNED_REQUEST_LEN>(), family in prop_oneof![Just(4), Just(6), any::<u8>()],
    ) {
        let (server, client) = pair();
        bytes[SIGNED_REQUEST_LEN - 37] = family;
        if let Some(signed) = SignedRequest::from_bytes(&bytes) {
            prop_assert_eq!(signed.to_bytes(), bytes);
            prop_assert!(server.verify(&signed, &client.verifier(), Clock::at(NOW)).is_err());
        }
    }

    #[test]
    fn any_body(body in array::<BODY>()) {
        prop_assert!(Request::decode(&body).is_err());
    }

    #[test]
    fn any_text_for_a_service(text in ".{0,20}|(tcp|udp)/[0-9+ -]{0,7}|[a-z0-9-]{0,18}") {
        if let Ok(service) = text.parse::<Service>() {
            prop_assert_eq!(service.to_string(), text.clone());
        }
        if let Ok(name) = text.parse::<ServiceName>() {
            prop_assert_eq!(name.as_str(), text);
        }
    }
}

#[test]
fn a_gate_survives_its_own_clients_being_taken_away() {
    let (server, client) = pair();
    let clock = Clock::at(NOW);
    let mut gate = server.gate(&[], clock);
    gate.remove(&client.kid());
    gate.recall(&client.kid(), clock.now(), []);
    gate.insert(client.kid(), client.keys());
    gate.insert(client.kid(), client.keys());
    gate.remove(&client.kid());
    gate.remove(&client.kid());
    assert!(refusal(&mut gate, &[0; 336], clock).is_some());
}
