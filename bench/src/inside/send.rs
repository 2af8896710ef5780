//! Knocks made beforehand, sent at a rate or all at once.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use serde::{Deserialize, Serialize};
use spa_proto::PACKET_LEN;
use spa_tests::Result;
use spa_tests::lab::Doing;

use super::Job;
use super::flood::{Sent, WIDEST};

/// What is to be sent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Send {
    /// Where to.
    pub(crate) to: SocketAddr,
    /// A file with nothing but datagrams, each of a knock's length.
    pub(crate) file: PathBuf,
    /// How many a second; all at once if there is none.
    pub(crate) rate: Option<u32>,
}

/// Between two looks at the clock: short, but the processor is left to others meanwhile.
const STEP: Duration = Duration::from_micros(200);

impl Job for Send {
    const NAME: &'static str = "send";
    type Outcome = Sent;

    fn work(self) -> Result<Sent> {
        let bytes = std::fs::read(&self.file).doing(self.file.display())?;
        let datagrams: Vec<_> = bytes.chunks(PACKET_LEN).map(|one| [IoSlice::new(one)]).collect();
        let unspecified = if self.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(unspecified)?;
        socket.connect(self.to)?;
        let (begun, mut sent) = (Instant::now(), 0);
        while sent < datagrams.len() {
            let due = self.due(begun.elapsed(), datagrams.len());
            if due == sent {
                std::thread::sleep(STEP);
                continue;
            }
            let batch = &datagrams[sent..due.min(sent + WIDEST)];
            // Made anew: it lives as long as what was sent with it.
            let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(WIDEST, None);
            let to = [None; WIDEST];
            sent += sendmmsg(socket.as_raw_fd(), &mut headers, batch, to, [], MsgFlags::empty())
                .doing("sending knocks")?
                .count();
        }
        Ok(Sent { count: sent as u64, seconds: begun.elapsed().as_secs_f64() })
    }
}

impl Send {
    /// How many should have left by now.
    fn due(&self, elapsed: Duration, all: usize) -> usize {
        let Some(rate) = self.rate else { return all };
        let due = elapsed.as_micros() * u128::from(rate) / 1_000_000;
        usize::try_from(due).unwrap_or(all).min(all)
    }
}
