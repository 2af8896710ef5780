//! From a captured packet to a datagram and the addresses it travelled between.
//!
//! The filter has looked at lengths and ports already; this does not rely on
//! it, and treats every byte as an outsider's.

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::udp::UdpPacket;
use spa_proto::Arrival;

use super::Family;

/// The payload of a UDP datagram to `port`, and where it came from. `None` for
/// anything else. UDP checksums are not looked at: on virtual links they are
/// filled in later, and the HMAC is the better one.
#[must_use]
pub fn knock(packet: &[u8], family: Family, port: u16) -> Option<(Arrival, &[u8])> {
    let (arrival, udp) = match family {
        Family::V4 => v4(packet)?,
        Family::V6 => v6(packet)?,
    };
    let header = UdpPacket::new(udp)?;
    let payload = udp.get(UdpPacket::minimum_packet_size()..usize::from(header.get_length()))?;
    (header.get_destination() == port).then_some((arrival, payload))
}

fn v4(packet: &[u8]) -> Option<(Arrival, &[u8])> {
    let ip = Ipv4Packet::new(packet)?;
    let start = usize::from(ip.get_header_length()) * 4;
    let whole = ip.get_flags() & 1 == 0 && ip.get_fragment_offset() == 0;
    let udp = ip.get_next_level_protocol() == IpNextHeaderProtocols::Udp;
    let arrival =
        Arrival { source: ip.get_source().into(), destination: ip.get_destination().into() };
    let right = ip.get_version() == 4 && start >= Ipv4Packet::minimum_packet_size() && whole && udp;
    let payload = packet.get(start..usize::from(ip.get_total_length()))?;
    right.then_some((arrival, payload))
}

fn v6(packet: &[u8]) -> Option<(Arrival, &[u8])> {
    let ip = Ipv6Packet::new(packet)?;
    let start = Ipv6Packet::minimum_packet_size();
    let udp = ip.get_next_header() == IpNextHeaderProtocols::Udp;
    let arrival =
        Arrival { source: ip.get_source().into(), destination: ip.get_destination().into() };
    let payload = packet.get(start..start + usize::from(ip.get_payload_length()))?;
    (ip.get_version() == 6 && udp).then_some((arrival, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4_packet(payload: &[u8]) -> Vec<u8> {
        let udp = 8 + payload.len();
        let mut packet =
            vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        packet[2..4].copy_from_slice(&u16::try_from(20 + udp).unwrap().to_be_bytes());
        packet.extend([0, 9, 0xf2, 0xf9]);
        packet.extend(u16::try_from(udp).unwrap().to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        packet
    }

    fn v6_packet(payload: &[u8]) -> Vec<u8> {
        let udp = v4_packet(payload)[20..].to_vec();
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
        packet[4..6].copy_from_slice(&u16::try_from(udp.len()).unwrap().to_be_bytes());
        packet.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend("2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend(udp);
        packet
    }

    #[test]
    fn finds_the_payload() {
        let (arrival, payload) =
            knock(&v4_packet(b"abc"), Family::V4, 62201).map(|(a, p)| (a, p.to_vec())).unwrap();
        assert_eq!(
            (arrival.source.to_string().as_str(), payload.as_slice()),
            ("192.0.2.1", &b"abc"[..])
        );
        let packet = v6_packet(b"abc");
        let (arrival, payload) = knock(&packet, Family::V6, 62201).unwrap();
        assert_eq!(
            (arrival.destination.to_string().as_str(), payload),
            ("2001:db8::2", &b"abc"[..])
        );
    }

    #[test]
    fn a_trailer_of_the_link_is_not_payload() {
        let mut packet = v4_packet(b"abc");
        packet.extend([0; 20]);
        assert_eq!(knock(&packet, Family::V4, 62201).unwrap().1, b"abc");
    }

    #[test]
    fn every_prefix_and_every_changed_byte_is_survived() {
        for (family, packet) in
            [(Family::V4, v4_packet(&[7; 40])), (Family::V6, v6_packet(&[7; 40]))]
        {
            for len in 0..packet.len() {
                assert!(knock(&packet[..len], family, 62201).is_none(), "cut to {len}");
            }
            for at in 0..packet.len() {
                for value in 0..=255 {
                    let mut other = packet.clone();
                    other[at] = value;
                    let payload = knock(&other, family, 62201).map(|(_, payload)| payload.len());
                    assert!(payload.unwrap_or(0) <= 48, "byte {at} = {value}");
                }
            }
        }
    }
}
