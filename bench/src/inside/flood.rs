//! Packets that open nothing, as fast as they can be sent or at a rate.

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};
use spa_proto::PACKET_LEN;
use spa_tests::Result;
use spa_tests::lab::{Datagram, Doing, fail};

use super::Job;
use super::receive::{STAMP, nanoseconds};

/// What a flood is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Random bytes of a knock's length.
    Junk,
    /// Random bytes of any other length.
    OtherLengths,
    /// One captured datagram, again and again (hexadecimal).
    Replay(String),
    /// The same with another tag each time, so that its pseudonym is still that of a client.
    WrongTag(String),
    /// Random characters of base64, as long as a knock of fwknop.
    Base64,
    /// Random bytes of a knock's length, in which the time of sending stands.
    Stamped,
}

/// A flood on its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flood {
    /// What it is made of.
    pub(crate) kind: Kind,
    /// Where it goes.
    pub(crate) to: SocketAddr,
    /// Datagrams a second; as fast as it can if there is none.
    pub(crate) rate: Option<u32>,
    /// How many.
    pub(crate) count: u64,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Datagrams.
    pub(crate) count: u64,
    /// From the first to the last.
    pub(crate) seconds: f64,
}

impl Sent {
    /// Datagrams a second.
    pub(crate) fn rate(self) -> f64 {
        self.count as f64 / self.seconds.max(1e-9)
    }
}

impl Job for Flood {
    const NAME: &'static str = "flood";
    type Outcome = Sent;

    fn work(self) -> Result<Sent> {
        let mut source = Source::new(&self.kind, self.to, self.rate)?;
        while source.sent().count < self.count {
            let left = self.count - source.sent().count;
            if source.send(left.min(WIDEST as u64))? == 0 {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        Ok(source.sent())
    }
}

/// Datagrams in one system call at most.
pub(crate) const WIDEST: usize = 64;
/// Length of a knock of fwknop, in characters.
const FWKNOP_LEN: usize = 225;
/// Different datagrams that are prepared; bytes of each change whenever it is sent.
const PREPARED: usize = WIDEST;

/// A flood that goes on between other things.
pub(crate) struct Source {
    socket: UdpSocket,
    kind: Kind,
    datagrams: Vec<Vec<u8>>,
    headers: MultiHeaders<SockaddrStorage>,
    random: Random,
    rate: Option<f64>,
    begun: Instant,
    count: u64,
}

impl Source {
    /// A source that sends from an ordinary socket; it begins now.
    pub(crate) fn new(kind: &Kind, to: SocketAddr, rate: Option<u32>) -> Result<Self> {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to).doing(format!("a socket to {to}"))?;
        let mut random = Random::new();
        Ok(Self {
            socket,
            datagrams: prepare(kind, &mut random)?,
            kind: kind.clone(),
            headers: MultiHeaders::preallocate(WIDEST, None),
            random,
            rate: rate.map(f64::from),
            begun: Instant::now(),
            count: 0,
        })
    }

    /// Sends what is due, but no more than `most`, and says how many that were.
    pub(crate) fn send(&mut self, most: u64) -> Result<u64> {
        let most = usize::try_from(self.due().min(most))?.min(WIDEST);
        if most == 0 {
            return Ok(0);
        }
        self.datagrams
            .iter_mut()
            .take(most)
            .for_each(|one| vary(one, &self.kind, &mut self.random));
        let slices: Vec<_> =
            self.datagrams.iter().take(most).map(|one| [IoSlice::new(one)]).collect();
        let fd = self.socket.as_raw_fd();
        let to = [None; WIDEST];
        let sent = sendmmsg(fd, &mut self.headers, &slices, to, [], MsgFlags::empty());
        let sent = match sent {
            Ok(sent) => sent.count() as u64,
            // An answer to an earlier one, or a full queue: none of this batch has left.
            Err(Errno::ECONNREFUSED | Errno::ENOBUFS | Errno::EAGAIN | Errno::EPERM) => 0,
            Err(error) => return fail(format!("sending a flood: {error}")),
        };
        self.count += sent;
        Ok(sent)
    }

    fn due(&self) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        let due = (self.begun.elapsed().as_secs_f64() * rate).floor() - self.count as f64;
        Duration::try_from_secs_f64(due).map_or(0, |due| due.as_secs())
    }

    /// What was sent so far.
    pub(crate) fn sent(&self) -> Sent {
        Sent { count: self.count, seconds: self.begun.elapsed().as_secs_f64() }
    }
}

fn prepare(kind: &Kind, random: &mut Random) -> Result<Vec<Vec<u8>>> {
    let captured = match kind {
        Kind::Replay(hex) | Kind::WrongTag(hex) => Datagram::unhex(hex)?,
        Kind::Junk | Kind::OtherLengths | Kind::Base64 | Kind::Stamped => vec![],
    };
    let one = |number: usize| match kind {
        Kind::Junk | Kind::Stamped => random.bytes(PACKET_LEN),
        // Around a knock's length, never that itself.
        Kind::OtherLengths => random.bytes(PACKET_LEN - 32 + number + usize::from(number > 31)),
        Kind::Replay(_) | Kind::WrongTag(_) => captured.clone(),
        Kind::Base64 => random.bytes(FWKNOP_LEN).into_iter().map(letter).collect(),
    };
    Ok((0..PREPARED).map(one).collect())
}

/// Changes what makes a datagram another one: what would be the pseudonym, or its last eight bytes, which are of the tag.
fn vary(datagram: &mut [u8], kind: &Kind, random: &mut Random) {
    let fresh = match kind {
        Kind::Stamped => nanoseconds(ClockId::Monotonic).to_be_bytes(),
        _ => random.next().to_be_bytes(),
    };
    let place = match kind {
        Kind::Replay(_) => return,
        Kind::WrongTag(_) => datagram.len() - 8,
        Kind::Junk | Kind::OtherLengths | Kind::Base64 | Kind::Stamped => STAMP,
    };
    for (byte, fresh) in datagram.iter_mut().skip(place).zip(fresh) {
        *byte = if *kind == Kind::Base64 { letter(fresh) } else { fresh };
    }
}

fn letter(byte: u8) -> u8 {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    LETTERS[usize::from(byte & 63)]
}

/// Random enough for junk (Vigna's SplitMix64), another one in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(1, |since| u64::from(since.subsec_nanos()) ^ (since.as_secs() << 30)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_be_bytes()[0]).collect()
    }

    /// A number from `low` up to, but not, `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % high.saturating_sub(low).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(kind: &Kind) -> Vec<usize> {
        prepare(kind, &mut Random(1)).unwrap().iter().map(Vec::len).collect()
    }

    #[test]
    fn junk_has_a_knocks_length_or_any_other() {
        assert_eq!(lengths(&Kind::Junk), [PACKET_LEN; PREPARED]);
        assert!(!lengths(&Kind::OtherLengths).contains(&PACKET_LEN));
    }

    #[test]
    fn a_wrong_tag_leaves_all_else_as_it_was() {
        let captured: Vec<u8> = (0..=u8::MAX).cycle().take(PACKET_LEN).collect();
        let kind = Kind::WrongTag(super::super::hex(&captured));
        let mut one = prepare(&kind, &mut Random(1)).unwrap().remove(0);
        vary(&mut one, &kind, &mut Random(1));
        assert_eq!(one[..PACKET_LEN - 8], captured[..PACKET_LEN - 8]);
        assert_ne!(one, captured);
    }

    #[test]
    fn a_rate_is_kept() {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = to.local_addr().unwrap();
        let flood = Flood { kind: Kind::Junk, to, rate: Some(10_000), count: 1000 };
        let sent = flood.work().unwrap();
        assert_eq!(sent.count, 1000);
        assert!(sent.seconds >= 0.099, "{sent:?}");
    }
}
