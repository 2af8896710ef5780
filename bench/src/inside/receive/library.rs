//! The ways of libraries: libpcap's, in its two modes, and pnet's.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use pcap::{Capture, Error};
use pnet_datalink::{Channel, Config, interfaces};
use spa_tests::Result;
use spa_tests::lab::{Doing, LabError, fail};

use super::Ear;

/// TPACKET_V3, as libpcap is used by default: packets come in blocks.
pub(super) const PCAP_V3: &str = "libpcap, blocks (TPACKET_V3, 8 ms)";
/// TPACKET_V2: each packet as it comes.
pub(super) const PCAP_IMMEDIATE: &str = "libpcap, immediate (TPACKET_V2)";
pub(super) const PNET: &str = "pnet_datalink";

const INTERFACE: &str = "eth0";
/// Before the IP header.
const ETHERNET: usize = 14;

pub(super) fn hear(ear: &mut Ear, method: &str, port: u16) -> Result {
    match method {
        PCAP_V3 => pcap(ear, port, false),
        PCAP_IMMEDIATE => pcap(ear, port, true),
        PNET => pnet(ear),
        _ => fail(format!("no method named {method}")),
    }
}

fn pcap(ear: &mut Ear, port: u16, immediate: bool) -> Result {
    let capture = Capture::from_device(INTERFACE)?.promisc(false).snaplen(512).timeout(8);
    let capture = capture.buffer_size(4 << 20).immediate_mode(immediate).open()?;
    // With poll, since libpcap itself would wait for ever.
    let mut capture = capture.setnonblock()?;
    capture.filter(&format!("udp dst port {port}"), true)?;
    while ear.wait(&capture)? {
        loop {
            match capture.next_packet() {
                Ok(packet) => ear.note(packet.data, ETHERNET),
                Err(Error::TimeoutExpired) => break,
                Err(error) => return Err(error).doing("libpcap"),
            }
        }
    }
    Ok(())
}

fn pnet(ear: &mut Ear) -> Result {
    let all = interfaces();
    let interface = all.iter().find(|interface| interface.name == INTERFACE);
    let interface = interface.ok_or_else(|| LabError::new("no eth0"))?;
    let read_timeout = Some(Duration::from_secs(1));
    let config = Config { read_timeout, promiscuous: false, ..Config::default() };
    let Channel::Ethernet(_, mut receiver) = pnet_datalink::channel(interface, config)? else {
        return fail("pnet gave no Ethernet channel");
    };
    loop {
        match receiver.next() {
            Ok(packet) => {
                ear.note(packet, ETHERNET);
                ear.last = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::TimedOut && ear.is_over() => return Ok(()),
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => return Err(error).doing("pnet"),
        }
    }
}
