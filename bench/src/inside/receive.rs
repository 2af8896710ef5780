//! Packets heard in one of several ways: what that costs, and how late they are.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use spa_tests::Result;
use spa_tests::lab::{Doing, fail};
use spad::capture::{Family, socket};

use super::Job;

#[cfg(feature = "captures")]
mod library;

/// The ways, the first of which is the gatekeeper's.
#[cfg(feature = "captures")]
pub(crate) const METHODS: [&str; 5] =
    [RECV, RECVMMSG, library::PNET, library::PCAP_V3, library::PCAP_IMMEDIATE];
/// The ways that need no library.
#[cfg(not(feature = "captures"))]
pub(crate) const METHODS: [&str; 2] = [RECV, RECVMMSG];

const RECV: &str = "packet socket, recv";
const RECVMMSG: &str = "packet socket, recvmmsg";

/// Where a stamped datagram has its time.
pub(crate) const STAMP: usize = 16;
/// Headers before a datagram's payload, of IPv4 and UDP.
const HEADERS: usize = 28;
/// It is over when nothing has come for so long.
const SILENCE: Duration = Duration::from_secs(2);
/// Packets in one system call at most, as the gatekeeper takes them.
const BATCH: usize = 64;
const LARGEST: usize = 512;

/// Hears until there is silence.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Receive {
    /// One of [`METHODS`].
    pub(crate) method: String,
    /// UDP port of what is heard.
    pub(crate) port: u16,
    /// Whether datagrams are stamped.
    pub(crate) timed: bool,
}

/// What was heard.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Heard {
    /// How many.
    pub(crate) packets: u64,
    /// Processor time of all of it.
    pub(crate) cpu_ns: u64,
    /// From the sender to here, in microseconds.
    pub(crate) delays_us: Vec<f64>,
}

impl Job for Receive {
    const NAME: &'static str = "receive";
    type Outcome = Heard;

    fn work(self) -> Result<Heard> {
        let mut ear = Ear { timed: self.timed, heard: Heard::default(), last: Instant::now() };
        let before = nanoseconds(ClockId::ProcessCPUTime);
        match self.method.as_str() {
            RECV => ear.recv(&socket::open(Family::V4, self.port, None)?)?,
            RECVMMSG => ear.recvmmsg(&socket::open(Family::V4, self.port, None)?)?,
            #[cfg(feature = "captures")]
            method => library::hear(&mut ear, method, self.port)?,
            #[cfg(not(feature = "captures"))]
            method => return fail(format!("built without {method}")),
        }
        ear.heard.cpu_ns = nanoseconds(ClockId::ProcessCPUTime) - before;
        Ok(ear.heard)
    }
}

/// The time of a clock that all hosts of a lab share.
pub(crate) fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

struct Ear {
    timed: bool,
    heard: Heard,
    last: Instant,
}

impl Ear {
    /// One packet, whose IP header begins at `ip`.
    fn note(&mut self, packet: &[u8], ip: usize) {
        self.heard.packets += 1;
        let place = ip + HEADERS + STAMP;
        let stamp = packet.get(place..place + 8).and_then(|bytes| bytes.try_into().ok());
        if let (true, Some(stamp)) = (self.timed, stamp) {
            let ns = nanoseconds(ClockId::Monotonic).saturating_sub(u64::from_be_bytes(stamp));
            self.heard.delays_us.push(ns as f64 / 1e3);
        }
    }

    /// Whether it is silent by now; asked only when there was nothing for a while.
    fn is_over(&self) -> bool {
        self.last.elapsed() > SILENCE
    }

    /// Sleeps until there is something; false where it is over.
    fn wait(&mut self, socket: impl AsFd) -> Result<bool> {
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        loop {
            let mut fds = [PollFd::new(&socket, PollFlags::IN)];
            if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&second)))? > 0 {
                self.last = Instant::now();
                return Ok(true);
            }
            if self.is_over() {
                return Ok(false);
            }
        }
    }

    fn recv(&mut self, socket: &OwnedFd) -> Result {
        let mut packet = [0; LARGEST];
        while self.wait(socket)? {
            loop {
                match rustix::net::recv(socket, &mut packet, RecvFlags::TRUNC) {
                    Ok((_, len)) => self.note(packet.get(..len).unwrap_or_default(), 0),
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Err(error).doing("receiving"),
                }
            }
        }
        Ok(())
    }

    fn recvmmsg(&mut self, socket: &OwnedFd) -> Result {
        use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};
        use std::io::IoSliceMut;
        use std::os::fd::AsRawFd;
        let mut space = vec![[0; LARGEST]; BATCH];
        let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
        while self.wait(socket)? {
            loop {
                let mut slices: Vec<_> =
                    space.iter_mut().map(|packet| [IoSliceMut::new(packet)]).collect();
                let fd = socket.as_raw_fd();
                let got =
                    recvmmsg(fd, &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None);
                let lens: Vec<_> = match got {
                    Ok(messages) => messages.map(|message| message.bytes).collect(),
                    Err(nix::errno::Errno::EAGAIN) => break,
                    Err(error) => return fail(format!("receiving: {error}")),
                };
                for (packet, len) in space.iter().zip(lens) {
                    self.note(packet.get(..len).unwrap_or_default(), 0);
                }
            }
        }
        Ok(())
    }
}
