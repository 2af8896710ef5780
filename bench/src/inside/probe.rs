//! Knocks one after the other, and asks after each until the port is open; with a flood between
//! the questions if there is to be one. It is one thread, so that the flood does not pause while
//! a knock waits for its answer.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use spa_tests::Result;
use spa_tests::lab::{Datagram, Doing, fail};

use super::flood::{Kind, Random, Sent, Source};
use super::syn::Syn;
use super::{Job, micros};

/// How often a port is asked, without a flood.
const STEP: Duration = Duration::from_micros(20);
/// Datagrams of a flood between two questions: some two hundred microseconds.
const BETWEEN: u64 = 32;

/// Tries of one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// Where knocks go.
    pub(crate) knock: SocketAddr,
    /// What is to be opened.
    pub(crate) service: SocketAddr,
    /// One after the other.
    pub(crate) tries: Vec<Try>,
    /// Between two of them, in milliseconds: at least, and less than.
    pub(crate) pause_ms: (u64, u64),
    /// How long one may take, in milliseconds.
    pub(crate) patience_ms: u64,
    /// Sent all the time.
    pub(crate) flood: Option<Beside>,
    /// How long the flood goes on before the first try, in milliseconds.
    pub(crate) lead_ms: u64,
    /// The same knock is sent again after so many microseconds, and again.
    pub(crate) repeat_us: Option<u64>,
    /// The port is open to everybody, and nobody knocks: what asking takes by itself.
    pub(crate) open: bool,
    /// A file that is renamed when a try begins: from, to.
    pub(crate) rename: Option<(PathBuf, PathBuf)>,
}

/// What is sent beside the knocks, and how many a second at most.
pub(crate) type Beside = (Kind, Option<u32>);

/// A knock that is still to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Try {
    /// The address that knocks and then connects.
    pub(crate) from: IpAddr,
    /// What is sent, hexadecimal.
    pub(crate) payload: String,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Probed {
    /// Microseconds from the knock to the answer, for each try; `None` where there was none.
    pub(crate) opened_us: Vec<Option<f64>>,
    /// The flood.
    pub(crate) flood: Option<Sent>,
}

impl Job for Probe {
    const NAME: &'static str = "probe";
    type Outcome = Probed;

    fn work(self) -> Result<Probed> {
        let flood = self.flood.as_ref();
        let flood = flood.map(|(kind, rate)| Source::new(kind, self.knock, *rate)).transpose()?;
        let mut prober = Prober { job: &self, flood, random: Random::new() };
        prober.pause(Duration::from_millis(self.lead_ms))?;
        let opened_us = self.tries.iter().map(|one| prober.attempt(one)).collect::<Result<_>>()?;
        Ok(Probed { opened_us, flood: prober.flood.map(|flood| flood.sent()) })
    }
}

struct Prober<'a> {
    job: &'a Probe,
    flood: Option<Source>,
    random: Random,
}

impl Prober<'_> {
    fn attempt(&mut self, one: &Try) -> Result<Option<f64>> {
        let (low, high) = self.job.pause_ms;
        let pause = Duration::from_millis(low)
            + Duration::from_micros(self.random.between(0, (high - low) * 1000));
        self.pause(pause)?;
        let mut syn = Syn::new(one.from, self.job.service)?;
        if self.job.open {
            return self.ask(None, &mut syn);
        }
        let knock = Knock::new(one, self.job)?;
        self.expect_shut(&mut syn, one)?;
        if let Some((from, to)) = &self.job.rename {
            std::fs::rename(from, to).doing(format!("renaming to {}", to.display()))?;
        }
        self.ask(Some(&knock), &mut syn)
    }

    fn expect_shut(&mut self, syn: &mut Syn, one: &Try) -> Result {
        for _ in 0..2 {
            syn.ask()?;
            self.pause(Duration::from_micros(300))?;
        }
        if syn.is_answered() { fail(format!("open already for {}", one.from)) } else { Ok(()) }
    }

    /// Knocks, and asks until there is an answer.
    fn ask(&mut self, knock: Option<&Knock>, syn: &mut Syn) -> Result<Option<f64>> {
        let patience = Duration::from_millis(self.job.patience_ms);
        let again = self.job.repeat_us.map(Duration::from_micros);
        let begun = Instant::now();
        knock.map_or(Ok(()), Knock::send)?;
        let (mut sent, mut asked) = (begun, begun);
        syn.ask()?;
        loop {
            self.flood()?;
            let now = Instant::now();
            if syn.is_answered() {
                return Ok(Some(micros(begun.elapsed())));
            }
            if now - begun > patience {
                return Ok(None);
            }
            if again.is_some_and(|again| now - sent > again) {
                knock.map_or(Ok(()), Knock::send)?;
                sent = now;
            }
            if now - asked >= STEP {
                syn.ask()?;
                asked = now;
            }
        }
    }

    fn flood(&mut self) -> Result {
        if let Some(flood) = &mut self.flood {
            flood.send(BETWEEN)?;
        }
        Ok(())
    }

    /// Waits, while the flood goes on.
    fn pause(&mut self, time: Duration) -> Result {
        let begun = Instant::now();
        if self.flood.is_none() {
            thread::sleep(time);
        }
        while begun.elapsed() < time {
            self.flood()?;
        }
        Ok(())
    }
}

struct Knock {
    socket: UdpSocket,
    payload: Vec<u8>,
    to: SocketAddr,
}

impl Knock {
    fn new(one: &Try, job: &Probe) -> Result<Self> {
        let socket = UdpSocket::bind((one.from, 0)).doing(format!("being {}", one.from))?;
        Ok(Self { socket, payload: Datagram::unhex(&one.payload)?, to: job.knock })
    }

    fn send(&self) -> Result {
        self.socket.send_to(&self.payload, self.to).doing("sending a knock")?;
        Ok(())
    }
}
