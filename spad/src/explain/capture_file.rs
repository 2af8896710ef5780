//! Packets in a file: a capture (pcap or pcapng), what `spa knock --save` writes, or
//! the bytes of one datagram. Pure but for the reading; every byte is an outsider's.

use std::io::{Cursor, Read};
use std::time::Duration;

use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{
    Block, InterfaceDescriptionBlock, Linktype, PcapBlockOwned, PcapError, create_reader,
};
use serde::Deserialize;
use spa_keys::encoding;
use spa_proto::{PACKET_LEN, Timestamp};

use super::frame::{self, Found, link};

/// As much is looked at to tell what a file is: all of one that is no capture.
const HEAD: u64 = 64 * 1024;
/// Room for one block of a capture, at first and at most.
const ROOM: usize = 256 * 1024;
const MOST_ROOM: usize = 4 * 1024 * 1024;

/// One packet for the knock port.
pub(super) struct Packet<'a> {
    /// Its number among all packets of the file, from 1.
    pub(super) number: u64,
    /// When it was captured.
    pub(super) captured: Option<Timestamp>,
    pub(super) what: What<'a>,
}

/// What there is of it.
pub(super) enum What<'a> {
    /// As a capture has it.
    Captured(Found<'a>),
    /// The datagram alone, which nobody has sent yet as far as the file says.
    Alone(&'a [u8]),
}

/// What else there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rest {
    /// Packets that were not for the knock port.
    pub(super) others: u64,
    /// Packets of a kind of link that is not understood, and which.
    pub(super) strange: Option<(u64, i32)>,
}

/// Tells of each packet for the port in `input`, in order.
///
/// # Errors
/// What is wrong with the file, after telling of what came before it.
pub(super) fn each(
    mut input: impl Read + Send,
    port: u16,
    mut tell: impl FnMut(Packet<'_>),
) -> Result<Rest, String> {
    let mut head = Vec::new();
    input.by_ref().take(HEAD).read_to_end(&mut head).map_err(|error| error.to_string())?;
    if is_capture(&head) {
        let mut walk = Walk { port, interfaces: Vec::new(), number: 0, rest: Rest::default() };
        return walk.through(Cursor::new(&head).chain(input), &mut tell).map(|()| walk.rest);
    }
    let datagram = if head.len() == PACKET_LEN { head } else { saved(&head)? };
    tell(Packet { number: 1, captured: None, what: What::Alone(&datagram) });
    Ok(Rest::default())
}

/// The magic numbers of pcap, with micro- and nanoseconds, in both orders of bytes,
/// and of pcapng.
fn is_capture(head: &[u8]) -> bool {
    const MAGIC: [u32; 4] = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34, 0x0a0d_0d0a];
    let first = head.first_chunk().map(|first| u32::from_be_bytes(*first));
    first.is_some_and(|first| MAGIC.contains(&first) || MAGIC.contains(&first.swap_bytes()))
}

/// What `spa knock --save` writes; the rest of it is for whoever sends it.
#[derive(Deserialize)]
struct Saved {
    datagram: String,
}

fn saved(text: &[u8]) -> Result<Vec<u8>, String> {
    let neither = || {
        format!(
            "{} bytes that are neither a capture (pcap, pcapng), nor what `spa knock --save` writes, nor the {PACKET_LEN} bytes of a knock",
            text.len()
        )
    };
    let saved: Saved = std::str::from_utf8(text)
        .ok()
        .and_then(|text| toml::from_str(text).ok())
        .ok_or_else(neither)?;
    let bytes = encoding::from_base64::<PACKET_LEN>(&saved.datagram);
    Ok(bytes.map_err(|error| format!("datagram: {error}"))?.to_vec())
}

/// The way through a capture.
struct Walk {
    port: u16,
    /// Of the file, or of this section of it.
    interfaces: Vec<Interface>,
    number: u64,
    rest: Rest,
}

/// What is to be known of an interface to read what it has captured.
#[derive(Clone, Copy)]
struct Interface {
    link: i32,
    /// Units of time in a second.
    units: u64,
    /// Seconds to be added.
    offset: i64,
}

impl Interface {
    /// The resolution is a power of ten, or with the highest bit of two (pcapng §4.2).
    fn of(block: &InterfaceDescriptionBlock<'_>) -> Self {
        let power = u32::from(block.if_tsresol & 0x7f);
        let base = if block.if_tsresol & 0x80 == 0 { 10_u64 } else { 2 };
        let Linktype(link) = block.linktype;
        Self { link, units: base.checked_pow(power).unwrap_or(u64::MAX), offset: block.if_tsoffset }
    }

    fn time(self, units: u64) -> Timestamp {
        let millis = u128::from(units) * 1000 / u128::from(self.units.max(1));
        let since = Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
        let offset = Duration::from_secs(self.offset.unsigned_abs());
        if self.offset < 0 { since.minus(offset) } else { since.plus(offset) }
    }
}

impl Walk {
    fn through(
        &mut self,
        input: impl Read + Send,
        tell: &mut impl FnMut(Packet<'_>),
    ) -> Result<(), String> {
        let mut reader = create_reader(ROOM, input).map_err(|error| self.fault(&error))?;
        let mut room = ROOM;
        loop {
            let done = match reader.next() {
                Ok((len, block)) => {
                    self.block(&block, tell);
                    len
                }
                Err(PcapError::Eof) => return Ok(()),
                Err(PcapError::Incomplete(_)) => 0,
                Err(PcapError::BufferTooSmall) if room < MOST_ROOM => {
                    room *= 2;
                    reader.grow(room);
                    0
                }
                Err(error) => return Err(self.fault(&error)),
            };
            let (before, ended) = (reader.data().len(), reader.reader_exhausted());
            reader.consume(done);
            if done == 0 {
                reader.refill().map_err(|error| self.fault(&error))?;
                let stuck = reader.data().len() == before && ended;
                if stuck {
                    return Err(self.fault(&PcapError::UnexpectedEof));
                }
            }
        }
    }

    /// Never with the bytes at fault.
    fn fault(&self, error: &PcapError<&[u8]>) -> String {
        let after = format!("after {} packets", self.number);
        match error {
            PcapError::UnexpectedEof | PcapError::Incomplete(_) => {
                format!("the capture ends within a packet, {after}")
            }
            PcapError::ReadError => format!("cannot be read any further, {after}"),
            PcapError::BufferTooSmall => {
                format!("a block of more than {MOST_ROOM} bytes, {after}: the capture is damaged")
            }
            _ => format!("the capture is damaged, {after}"),
        }
    }

    fn block(&mut self, block: &PcapBlockOwned<'_>, tell: &mut impl FnMut(Packet<'_>)) {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let units =
                    if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
                // Above the type may be the length of a checksum (pcap §4).
                let Linktype(link) = header.network;
                self.interfaces = vec![Interface { link: link & 0xffff, units, offset: 0 }];
            }
            PcapBlockOwned::Legacy(packet) => {
                let units = self.interfaces.first().map_or(1, |interface| interface.units);
                let time = u64::from(packet.ts_sec) * units + u64::from(packet.ts_usec);
                self.packet(0, Some(time), packet.data, packet.origlen, tell);
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => self.interfaces.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
                self.interfaces.push(Interface::of(block));
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let data = packet.packet_data();
                self.packet(packet.if_id, Some(time), data, packet.origlen, tell);
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                self.packet(0, None, packet.packet_data(), packet.origlen, tell);
            }
            PcapBlockOwned::NG(_) => {}
        }
    }

    fn packet(
        &mut self,
        interface: u32,
        time: Option<u64>,
        data: &[u8],
        whole: u32,
        tell: &mut impl FnMut(Packet<'_>),
    ) {
        self.number += 1;
        let at = usize::try_from(interface).unwrap_or(usize::MAX);
        let Some(interface) = self.interfaces.get(at).copied() else {
            self.rest.others += 1;
            return;
        };
        if !link::ALL.contains(&interface.link) {
            let (count, _) = self.rest.strange.unwrap_or_default();
            self.rest.strange = Some((count + 1, interface.link));
            return;
        }
        let missing = usize::try_from(whole).unwrap_or(usize::MAX).saturating_sub(data.len());
        let found = frame::ip(interface.link, data)
            .and_then(|(family, ip)| frame::look(family, ip, self.port, missing));
        let Some(found) = found else {
            self.rest.others += 1;
            return;
        };
        let captured = time.map(|time| interface.time(time));
        tell(Packet { number: self.number, captured, what: What::Captured(found) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 62201;

    /// A knock over IPv4, on no link.
    fn knock() -> Vec<u8> {
        let head = [0x45, 0, 1, 108, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        [&head[..], &[0, 9, 0xf2, 0xf9, 1, 88, 0, 0], &[7; PACKET_LEN]].concat()
    }

    /// Numbers and times of the packets, and what else there was.
    fn packets(file: &[u8]) -> (Vec<(u64, Option<u64>)>, Rest) {
        let mut all = Vec::new();
        let rest = each(file, PORT, |packet| {
            assert!(matches!(packet.what, What::Captured(Found::Datagram(..))));
            all.push((packet.number, packet.captured.map(Timestamp::as_millis)));
        });
        (all, rest.unwrap())
    }

    #[test]
    fn pcap_of_either_order_and_resolution() {
        let numbers = |write: fn(u32) -> [u8; 4], numbers: &[u32]| {
            numbers.iter().flat_map(|number| write(*number)).collect::<Vec<_>>()
        };
        for write in [u32::to_le_bytes, u32::to_be_bytes] {
            for (magic, fraction) in [(0xa1b2_c3d4, 250_000), (0xa1b2_3c4d, 250_000_000)] {
                let version = if write(1)[0] == 1 { 2 | 4 << 16 } else { 2 << 16 | 4 };
                let mut file = numbers(write, &[magic, version, 0, 0, 65_535, 101]);
                for (seconds, len) in [(1_800_000_000, 364), (1_800_000_001, 1)] {
                    file.extend(numbers(write, &[seconds, fraction, len, len]));
                    file.extend(knock().get(..len as usize).unwrap());
                }
                let rest = Rest { others: 1, strange: None };
                assert_eq!(packets(&file), (vec![(1, Some(1_800_000_000_250))], rest));
            }
        }
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let body = [body, &vec![0; body.len().next_multiple_of(4) - body.len()]].concat();
        let len = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &len, &body, &len].concat()
    }

    fn interface(link: u16, resolution: u8) -> Vec<u8> {
        let resolution = [9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0];
        block(1, &[&link.to_le_bytes()[..], &[0; 6], &resolution].concat())
    }

    fn captured(interface: u32, time: u64, packet: &[u8]) -> Vec<u8> {
        let high = u32::try_from(time >> 32).unwrap();
        let low = u32::try_from(time & u64::from(u32::MAX)).unwrap();
        let len = u32::try_from(packet.len()).unwrap();
        let head: Vec<_> =
            [interface, high, low, len, len].iter().flat_map(|it| it.to_le_bytes()).collect();
        block(6, &[&head, packet].concat())
    }

    #[test]
    fn pcapng_with_interfaces_of_all_kinds() {
        let start = [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
        let section = block(0x0a0d_0d0a, &[&start[..], &[0xff; 8]].concat());
        let linked = [&[0; 12][..], &[8, 0], &knock()].concat();
        let file = [
            section.clone(),
            interface(101, 9),
            // In units of 2^-10 s; and one that nobody understands.
            interface(1, 0x8a),
            interface(147, 6),
            captured(0, 1_800_000_000_250_000_000, &knock()),
            block(5, &[0; 12]),
            captured(1, 1_800_000_000 * 1024 + 512, &linked),
            captured(2, 0, &knock()),
            captured(3, 0, &knock()),
            block(3, &[&364_u32.to_le_bytes()[..], &knock()].concat()),
            // A new section begins with no interfaces.
            section,
            captured(0, 0, &knock()),
        ]
        .concat();
        let times = vec![(1, Some(1_800_000_000_250)), (2, Some(1_800_000_000_500)), (5, None)];
        assert_eq!(packets(&file), (times, Rest { others: 2, strange: Some((1, 147)) }));
    }

    #[test]
    fn no_capture_makes_it_panic() {
        let header = |link: u16| [&interface(link, 6)[..], &captured(0, 0, &knock())].concat();
        let section =
            block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let whole = [section, header(101)].concat();
        for at in 0..whole.len().min(100) {
            for value in [0, 3, 0xff] {
                let mut altered = whole.clone();
                altered[at] = value;
                let _ = each(altered.as_slice(), PORT, |_| {});
                let _ = each(&altered[..at], PORT, |_| {});
            }
        }
    }
}
