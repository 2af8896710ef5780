//! A packet off the network, as the packet socket hands it over, decoded and
//! judged by a gate. Nothing that the fuzzer can write is signed, so nothing
//! may pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use spa_proto::{
    Arrival, ClientKeys, Cloak, Gate, GateSettings, Kid, Monotonic, Psk, Reason, ServerSecret,
    Timestamp,
};
use spad::capture::{Family, decode};

const PORT: u16 = 62201;
const CLOCK: Monotonic = Monotonic::new(Duration::ZERO);
const KID: Kid = Kid::from_bytes([3; 16]);

/// First byte: the family; the rest is the packet. Through: it is a datagram
/// for the port.
pub fn run(input: &[u8]) -> bool {
    let Some((first, packet)) = input.split_first() else { return false };
    let family = Family::BOTH[usize::from(first & 1)];
    let found = decode::knock(packet, family, PORT);
    assert_eq!(found, read_again(packet, family), "two readings of one packet");
    let Some((arrival, payload)) = found else { return false };
    let trailed = [packet, &[0xff; 64]].concat();
    assert_eq!(decode::knock(&trailed, family, PORT), found, "a trailer changes the reading");
    let verdict = gate().admit(payload, arrival, Timestamp::from_millis(0), CLOCK);
    let Err(reason) = verdict else { panic!("forged") };
    let early = [Reason::Length, Reason::Addressing, Reason::UnknownClient, Reason::BadTag];
    assert!(early.contains(&reason), "{reason:?} is said before the tag");
    true
}

fn gate() -> Gate {
    let secret = ServerSecret::from_bytes([1; 32]);
    let keys = ClientKeys::derive(&Psk::from_bytes([2; 32]), &secret.public(), &KID);
    let settings = GateSettings::default();
    let mut gate = Gate::new(secret, Cloak::from_bytes([4; 16]), settings, CLOCK);
    gate.insert(KID, keys);
    gate
}

/// The same from RFC 791, 8200 and 768 alone.
fn read_again(packet: &[u8], family: Family) -> Option<(Arrival, &[u8])> {
    let number = |bytes: &[u8], at: usize| {
        Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])))
    };
    let version = packet.first()? >> 4;
    let (arrival, udp) = match family {
        Family::V4 => {
            let address = |at| {
                Some(IpAddr::from(Ipv4Addr::from(*packet.get(at..at + 4)?.first_chunk::<4>()?)))
            };
            let (header, total) = (usize::from(packet.first()? & 15) * 4, number(packet, 2)?);
            let fragment = number(packet, 6)? & 0x3fff != 0;
            if version != 4 || header < 20 || fragment || *packet.get(9)? != 17 {
                return None;
            }
            let arrival = Arrival { source: address(12)?, destination: address(16)? };
            (arrival, packet.get(header..total)?)
        }
        Family::V6 => {
            let address = |at| {
                Some(IpAddr::from(Ipv6Addr::from(*packet.get(at..at + 16)?.first_chunk::<16>()?)))
            };
            if version != 6 || *packet.get(6)? != 17 {
                return None;
            }
            let arrival = Arrival { source: address(8)?, destination: address(24)? };
            (arrival, packet.get(40..40 + number(packet, 4)?)?)
        }
    };
    let payload = udp.get(8..number(udp, 4)?)?;
    (number(udp, 2)? == usize::from(PORT)).then_some((arrival, payload))
}
