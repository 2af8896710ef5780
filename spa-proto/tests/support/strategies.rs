//! Arbitrary requests.

use std::net::IpAddr;
use std::num::NonZeroU32;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use spa_proto::{Address, EnrolSecret, Enrolment, Kind, Mode, Prefix, Request, SigningKey};

use super::parties::services;

/// A request that has a canonical encoding, in a form that a failing test can print.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// Seed of the verifying key, and secret.
    enrolment: Option<([u8; 32], [u8; 32])>,
    mode: Mode,
    address: Address,
    width: Option<u8>,
    seconds: u32,
    services: String,
}

impl Draft {
    pub(crate) fn request(&self) -> Request {
        Request {
            kind: self.enrolment.map_or(Kind::Knock, |(seed, secret)| kind(&seed, secret)),
            mode: self.mode,
            address: self.address,
            width: self.width,
            seconds: NonZeroU32::new(self.seconds),
            services: services(&self.services),
        }
    }
}

fn kind(seed: &[u8; 32], secret: [u8; 32]) -> Kind {
    Kind::Enrol(Box::new(Enrolment {
        verifying_key: SigningKey::from_seed(seed).verifying_key(),
        secret: EnrolSecret::from_bytes(secret),
    }))
}

/// Any request.
pub(crate) fn drafts() -> impl Strategy<Value = Draft> {
    let enrolment = prop::option::weighted(0.25, any::<([u8; 32], [u8; 32])>());
    let fields = (enrolment, modes(), addresses(), any::<u8>(), any::<u32>(), service_lists());
    fields.prop_map(|(enrolment, mode, address, width, seconds, services)| {
        let (address, width) = fit(address, width);
        Draft { enrolment, mode, address, width, seconds, services }
    })
}

/// A range of requests, the same each time.
pub(crate) fn samples(count: usize) -> Vec<Request> {
    let mut runner = TestRunner::deterministic();
    let mut draw = || drafts().new_tree(&mut runner).unwrap().current().request();
    (0..count).map(|_| draw()).collect()
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Default),
        Just(Mode::Window),
        Just(Mode::Once),
        (1..=u16::MAX).prop_map(|source_port| Mode::Bound { source_port }),
    ]
}

fn addresses() -> impl Strategy<Value = Address> {
    let within = (any::<IpAddr>(), 0..=128u8)
        .prop_map(|(address, len)| Address::SeenWithin(Prefix::of(address, len)));
    prop_oneof![Just(Address::Seen), any::<IpAddr>().prop_map(Address::Explicit), within]
}

/// A width that the family allows (0 is none), and an address without bits beyond it.
fn fit(address: Address, width: u8) -> (Address, Option<u8>) {
    let bits = match address {
        Address::Explicit(IpAddr::V4(_)) => 32,
        Address::SeenWithin(prefix) if prefix.address().is_ipv4() => 32,
        _ => 128,
    };
    let width = Some(width % bits).filter(|width| *width > 0);
    match (address, width) {
        (Address::Explicit(ip), Some(len)) => {
            (Address::Explicit(Prefix::of(ip, len).address()), width)
        }
        _ => (address, width),
    }
}

/// One to four, separated by spaces.
fn service_lists() -> impl Strategy<Value = String> {
    let ports = (prop_oneof![Just("tcp"), Just("udp")], 1..=u16::MAX)
        .prop_map(|(protocol, port)| format!("{protocol}/{port}"));
    let one = prop_oneof![
        "[a-z][a-z0-9-]{0,15}",
        ports,
        Just("ssh".to_owned()),
        Just("sixteen-letters-".to_owned())
    ];
    prop::collection::vec(one, 1..=4).prop_map(|names| names.join(" "))
}
