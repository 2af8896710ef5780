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
use super::{Job, micros, wire};

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
    /// For each try, in order; `None` where there was no answer.
    pub(crate) tries: Vec<Option<Opened>>,
    /// The flood.
    pub(crate) flood: Option<Sent>,
}

impl Probed {
    /// Of those that were let in.
    pub(crate) fn opened(&self) -> impl Iterator<Item = Opened> {
        self.tries.iter().copied().flatten()
    }
}

/// How long it took to be let in, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// From the moment the knock was on the wire to the moment the answer was: see [`wire`].
    pub(crate) wire_us: f64,
    /// From before the call that sends the knock, or from the renaming before it, to the moment
    /// the prober has the answer and looks at its clock.
    pub(crate) seen_us: f64,
}

impl Job for Probe {
    const NAME: &'static str = "probe";
    type Outcome = Probed;

    fn work(self) -> Result<Probed> {
        let _stamping = wire::keep_stamping()?;
        let flood = self.flood.as_ref();
        let flood = flood.map(|(kind, rate)| Source::new(kind, self.knock, *rate)).transpose()?;
        let mut prober = Prober { job: &self, flood, random: Random::new() };
        prober.pause(Duration::from_millis(self.lead_ms))?;
        let tries = self.tries.iter().map(|one| prober.attempt(one)).collect::<Result<_>>()?;
        Ok(Probed { tries, flood: prober.flood.map(|flood| flood.sent()) })
    }
}

struct Prober<'a> {
    job: &'a Probe,
    flood: Option<Source>,
    random: Random,
}

impl Prober<'_> {
    fn attempt(&mut self, one: &Try) -> Result<Option<Opened>> {
        let (low, high) = self.job.pause_ms;
        let pause = Duration::from_millis(low)
            + Duration::from_micros(self.random.between(0, (high - low) * 1000));
        self.pause(pause)?;
        let mut syn = Syn::new(one.from, self.job.service)?;
        let knock = Knock::new(one, self.job)?;
        self.expect_shut(&mut syn, one)?;
        if let Some((from, to)) = &self.job.rename {
            std::fs::rename(from, to).doing(format!("renaming to {}", to.display()))?;
        }
        self.ask(&knock, &mut syn)
    }

    fn expect_shut(&mut self, syn: &mut Syn, one: &Try) -> Result {
        for _ in 0..2 {
            syn.ask()?;
            self.pause(Duration::from_micros(300))?;
        }
        match syn.answered()? {
            Some(_) => fail(format!("open already for {}", one.from)),
            None => Ok(()),
        }
    }

    /// Knocks, and asks until there is an answer.
    fn ask(&mut self, knock: &Knock, syn: &mut Syn) -> Result<Option<Opened>> {
        let patience = Duration::from_millis(self.job.patience_ms);
        let again = self.job.repeat_us.map(Duration::from_micros);
        let begun = Instant::now();
        knock.send()?;
        let (mut sent, mut asked) = (begun, begun);
        syn.ask()?;
        loop {
            self.flood()?;
            let now = Instant::now();
            if let Some(answered) = syn.answered()? {
                let seen_us = micros(begun.elapsed());
                // Backwards where somebody sets the clock meanwhile, which nobody does in a run.
                let wire_us = micros(answered.saturating_sub(knock.left()?));
                return Ok(Some(Opened { wire_us, seen_us }));
            }
            if now - begun > patience {
                return Ok(None);
            }
            if again.is_some_and(|again| now - sent > again) {
                knock.send()?;
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
        wire::stamp(&socket, true)?;
        Ok(Self { socket, payload: Datagram::unhex(&one.payload)?, to: job.knock })
    }

    fn send(&self) -> Result {
        self.socket.send_to(&self.payload, self.to).doing("sending a knock")?;
        Ok(())
    }

    /// When the first one left, since 1970.
    fn left(&self) -> Result<Duration> {
        wire::sent_at(&self.socket)
    }
}
