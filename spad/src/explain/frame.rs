//! From what was captured on some link to a knock, or to why the kernel's filter
//! would have left it out. Every byte is an outsider's.

use std::net::IpAddr;

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use spa_proto::{Arrival, PACKET_LEN};

use crate::capture::{Family, decode};

/// What is on the knock port, of what was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A datagram of a knock's length.
    Datagram(Arrival, &'a [u8]),
    /// What no spad ever hears, and why.
    Unheard(Arrival, String),
}

/// Link types that are understood (<https://www.tcpdump.org/linktypes.html>).
pub(super) mod link {
    pub(in super::super) const NULL: i32 = 0;
    pub(in super::super) const ETHERNET: i32 = 1;
    /// What some systems write for [`RAW`].
    pub(in super::super) const RAW_OLD: i32 = 12;
    pub(in super::super) const RAW: i32 = 101;
    pub(in super::super) const LOOP: i32 = 108;
    pub(in super::super) const LINUX_SLL: i32 = 113;
    pub(in super::super) const IPV4: i32 = 228;
    pub(in super::super) const IPV6: i32 = 229;
    pub(in super::super) const LINUX_SLL2: i32 = 276;
    pub(in super::super) const ALL: [i32; 9] =
        [NULL, ETHERNET, RAW_OLD, RAW, LOOP, LINUX_SLL, IPV4, IPV6, LINUX_SLL2];
}

/// Ethertypes of VLAN tags: IEEE 802.1Q, 802.1ad, and what came before it.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// More tags, or more extension headers, are nobody's knock.
const MOST: usize = 8;

/// The IP packet within a frame; `None` where there is none.
pub(super) fn ip(link: i32, frame: &[u8]) -> Option<(Family, &[u8])> {
    match link {
        link::ETHERNET => by_ethertype(frame, 12),
        link::LINUX_SLL => by_ethertype(frame, 14),
        // The protocol comes first, the rest of the 20 bytes after it.
        link::LINUX_SLL2 => tagged(number(frame, 0)?, frame.get(20..)?),
        link::NULL | link::LOOP => by_version(frame.get(4..)?),
        link::RAW | link::RAW_OLD | link::IPV4 | link::IPV6 => by_version(frame),
        _ => None,
    }
}

/// The ethertype is at the end of the link's header.
fn by_ethertype(frame: &[u8], at: usize) -> Option<(Family, &[u8])> {
    tagged(number(frame, at)?, frame.get(at + 2..)?)
}

fn tagged(mut ethertype: u16, mut rest: &[u8]) -> Option<(Family, &[u8])> {
    for _ in 0..MOST {
        match ethertype {
            0x0800 => return Some((Family::V4, rest)),
            0x86dd => return Some((Family::V6, rest)),
            tag if TAGS.contains(&tag) => {
                (ethertype, rest) = (number(rest, 2)?, rest.get(4..)?);
            }
            _ => return None,
        }
    }
    None
}

fn by_version(packet: &[u8]) -> Option<(Family, &[u8])> {
    match packet.first()? >> 4 {
        4 => Some((Family::V4, packet)),
        6 => Some((Family::V6, packet)),
        _ => None,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Looks at one IP packet, of which `missing` bytes were not captured; `None` where
/// it is for another port.
pub(super) fn look(family: Family, packet: &[u8], port: u16, missing: usize) -> Option<Found<'_>> {
    if let Some((arrival, payload)) = decode::knock(packet, family, port) {
        return Some(match payload.len() {
            PACKET_LEN => Found::Datagram(arrival, payload),
            len => Found::Unheard(
                arrival,
                format!("its {len} bytes are no knock, which has {PACKET_LEN}"),
            ),
        });
    }
    let (arrival, udp, odd) = match family {
        Family::V4 => udp4(packet)?,
        Family::V6 => udp6(packet)?,
    };
    let why = match odd {
        _ if number(udp, 2)? != port => return None,
        Some(odd) => odd.to_owned(),
        None if missing > 0 => {
            format!(
                "the capture is cut off, {missing} bytes are missing: capture whole packets (tcpdump -s 0)"
            )
        }
        None => "its lengths contradict each other".to_owned(),
    };
    Some(Found::Unheard(arrival, why))
}

const FRAGMENT: &str = "it is the first of several fragments, and a knock is never taken from fragments: \
     something on the way has a very small MTU, or somebody tries it on";
const EXTENDED: &str =
    "there are IPv6 extension headers before the datagram, which a knock never has";

/// From where to where, the datagram, and what is odd about its packet.
type Udp<'a> = (Arrival, &'a [u8], Option<&'static str>);

fn udp4(packet: &[u8]) -> Option<Udp<'_>> {
    let ip = Ipv4Packet::new(packet)?;
    let first = ip.get_fragment_offset() == 0;
    let udp = ip.get_version() == 4 && ip.get_next_level_protocol() == IpNextHeaderProtocols::Udp;
    let rest = packet.get(usize::from(ip.get_header_length()) * 4..)?;
    let odd = (ip.get_flags() & 1 != 0).then_some(FRAGMENT);
    (first && udp).then_some((arrival(ip.get_source(), ip.get_destination()), rest, odd))
}

fn udp6(packet: &[u8]) -> Option<Udp<'_>> {
    let ip = Ipv6Packet::new(packet)?;
    let (mut kind, mut at) = (ip.get_next_header().0, Ipv6Packet::minimum_packet_size());
    let mut odd = None;
    for _ in 0..MOST {
        let here = packet.get(at..)?;
        match kind {
            17 => return Some((arrival(ip.get_source(), ip.get_destination()), here, odd)),
            // Hop by hop, routing, destination options (RFC 8200 §4).
            0 | 43 | 60 => {
                odd = odd.or(Some(EXTENDED));
                (kind, at) = (*here.first()?, at + (usize::from(*here.get(1)?) + 1) * 8);
            }
            // A fragment, of which only the first says where it goes.
            44 if number(here, 2)? >> 3 == 0 => {
                odd = Some(FRAGMENT);
                (kind, at) = (*here.first()?, at + 8);
            }
            _ => return None,
        }
    }
    None
}

fn arrival(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Arrival {
    Arrival { source: source.into(), destination: destination.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 62201;

    fn v4(flags: u8) -> Vec<u8> {
        let head = [0x45, 0, 1, 108, 0, 0, flags, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        [&head[..], &[0, 9, 0xf2, 0xf9, 1, 88, 0, 0], &[7; PACKET_LEN]].concat()
    }

    /// With these extension headers before the datagram.
    fn v6(first: u8, headers: &[u8]) -> Vec<u8> {
        let len = u16::try_from(headers.len() + 8 + PACKET_LEN).unwrap().to_be_bytes();
        let head = [0x60, 0, 0, 0, len[0], len[1], first, 64];
        let udp = v4(0)[20..].to_vec();
        [&head[..], &[0x20; 32], headers, &udp].concat()
    }

    fn heard(family: Family, packet: &[u8], missing: usize) -> Option<Result<usize, String>> {
        Some(match look(family, packet, PORT, missing)? {
            Found::Datagram(_, bytes) => Ok(bytes.len()),
            Found::Unheard(_, why) => Err(why),
        })
    }

    #[test]
    fn every_link_is_unpacked() {
        let (v4, v6) = (v4(0), v6(17, &[]));
        let with = |head: &[u8], packet: &[u8]| [head, packet].concat();
        let tagged = [&[0; 12][..], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x86, 0xdd]].concat();
        for (link, frame) in [
            (link::RAW, v4.clone()),
            (link::RAW_OLD, v6.clone()),
            (link::IPV4, v4.clone()),
            (link::IPV6, v6.clone()),
            (link::NULL, with(&[2, 0, 0, 0], &v4)),
            (link::LOOP, with(&[0, 0, 0, 30], &v6)),
            (link::ETHERNET, with(&[&[0; 12][..], &[8, 0]].concat(), &v4)),
            (link::ETHERNET, with(&tagged, &v6)),
            (link::LINUX_SLL, with(&[&[0; 14][..], &[0x86, 0xdd]].concat(), &v6)),
            (link::LINUX_SLL2, with(&[&[8, 0][..], &[0; 18]].concat(), &v4)),
        ] {
            let (family, packet) = ip(link, &frame).unwrap();
            assert_eq!(heard(family, packet, 0), Some(Ok(PACKET_LEN)), "link {link}");
            for len in 0..frame.len() {
                let cut = ip(link, &frame[..len]).and_then(|(family, it)| heard(family, it, 1));
                assert!(!matches!(cut, Some(Ok(_))), "link {link} cut to {len}");
            }
        }
        assert_eq!(ip(link::ETHERNET, &[0; 60]), None);
        assert_eq!(ip(9, &v4), None);
    }

    #[test]
    fn what_the_filter_leaves_out_is_named() {
        let why =
            |family, packet: &[u8], missing| heard(family, packet, missing).unwrap().unwrap_err();
        assert!(why(Family::V4, &v4(0x20), 0).contains("fragments"));
        assert!(why(Family::V6, &v6(44, &[17, 0, 0, 1, 0, 0, 0, 9]), 0).contains("fragments"));
        assert!(why(Family::V6, &v6(60, &[17, 0, 1, 4, 0, 0, 0, 0]), 0).contains("extension"));
        assert!(why(Family::V4, &v4(0)[..100], 264).contains("264 bytes are missing"));
        let mut long = v4(0);
        (long[3], long[25]) = (109, 89);
        assert!(why(Family::V4, &[&long[..], &[0]].concat(), 0).contains("337 bytes"));
        assert!(
            why(Family::V4, &[&v4(0)[..24], &[255, 255, 0, 0]].concat(), 0).contains("contradict")
        );
    }

    #[test]
    fn what_is_for_others_is_nothing() {
        let mut other = v4(0);
        other[23] += 1;
        assert_eq!(heard(Family::V4, &other, 0), None);
        assert_eq!(heard(Family::V4, &[&v4(0)[..9], &[6], &v4(0)[10..]].concat(), 0), None);
        // A later fragment says no port.
        assert_eq!(heard(Family::V6, &v6(44, &[17, 0, 0, 8, 0, 0, 0, 9]), 0), None);
        assert_eq!(heard(Family::V4, &[&v4(0)[..7], &[5], &v4(0)[8..]].concat(), 0), None);
    }
}
