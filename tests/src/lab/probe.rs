//! Whether a port can be reached: asked once, asked without pause, and by a connection that stays.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::error::{Doing, Result};
use super::host::Host;
use super::process::Running;

/// How long an attempt waits for an answer. In a lab one comes within a millisecond.
const PATIENCE: &str = "700";

/// What came of an attempt to reach a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// A connection, or an answer.
    Open,
    /// No answer at all.
    Filtered,
    /// A clear refusal.
    Refused,
    /// Something else, such as no route.
    Unreachable(String),
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Filtered => f.write_str("filtered"),
            Self::Refused => f.write_str("refused"),
            Self::Unreachable(why) => f.write_str(why),
        }
    }
}

impl From<&str> for Reach {
    fn from(text: &str) -> Self {
        match text {
            "open" => Self::Open,
            "filtered" => Self::Filtered,
            "refused" => Self::Refused,
            why => Self::Unreachable(why.to_owned()),
        }
    }
}

/// A connection to an echo service that stays open.
pub struct Hold(Running);

impl Hold {
    /// Sends a word and says whether it came back in time.
    pub fn is_alive(&mut self, word: &str) -> bool {
        self.0.write_line(word).is_ok() && self.0.wait_for(word, Duration::from_secs(3)).is_ok()
    }
}

/// How long a program may take to end, on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// Attempts to connect, one after the other without pause.
pub struct Prober(Running);

impl Prober {
    /// Ends it and gives how many attempts were made, and what those that came through printed.
    pub fn finish(mut self) -> Result<(u64, Vec<String>)> {
        self.0.close_input();
        self.0.wait_for("tries ", LONG)?;
        self.0.wait(LONG)?;
        let text = self.0.stdout();
        let tries = text.lines().find_map(|line| line.strip_prefix("tries "));
        let open = text.lines().filter(|line| line.starts_with("open")).map(str::to_owned);
        Ok((tries.unwrap_or_default().parse().doing("number of tries")?, open.collect()))
    }
}

/// Thousands of attempts to connect a second.
pub struct Storm(Running);

/// What came of a [`Storm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stormed {
    /// Connections begun.
    pub tries: u64,
    /// Those that came through.
    pub open: u64,
    /// Time between the first and the last of these.
    pub gap: Duration,
    /// Those of them that still gave an echo at the end.
    pub alive: u64,
}

impl Storm {
    /// Ends it.
    pub fn finish(mut self) -> Result<Stormed> {
        self.0.close_input();
        self.0.wait_for("alive ", Duration::from_secs(20))?;
        self.0.wait(Duration::from_secs(5))?;
        let text = self.0.stdout();
        let number = |name: &str| {
            let mut words = text.split_whitespace().skip_while(|word| *word != name);
            words.nth(1).unwrap_or_default().parse().doing(format!("{name} of {text}"))
        };
        let gap = Duration::from_millis(number("gap")?);
        Ok(Stormed { tries: number("tries")?, open: number("open")?, gap, alive: number("alive")? })
    }
}

impl Host {
    /// Tries to connect by TCP.
    pub fn reach(&self, to: impl Into<SocketAddr>) -> Result<Reach> {
        self.ask(&["connect", &to.into().to_string(), PATIENCE])
    }

    /// Whether a TCP connection can be made.
    pub fn connects(&self, to: impl Into<SocketAddr>) -> Result<bool> {
        Ok(self.reach(to)? == Reach::Open)
    }

    /// Sends a datagram to an echo service and waits for the answer.
    pub fn reach_udp(&self, to: impl Into<SocketAddr>) -> Result<Reach> {
        self.ask(&["ask-udp", &to.into().to_string(), PATIENCE, "0"])
    }

    /// As [`Host::reach_udp`], from this local port.
    pub fn reach_udp_from(&self, port: u16, to: SocketAddr) -> Result<Reach> {
        self.ask(&["ask-udp", &to.to_string(), PATIENCE, &port.to_string()])
    }

    fn ask(&self, words: &[&str]) -> Result<Reach> {
        Ok(self.helper(words, "")?.text().into())
    }

    /// Starts a TCP service that gives back what it gets.
    pub fn echo_tcp(&self, port: u16) -> Result<Running> {
        self.start_helper(&["listen", "tcp", &port.to_string()], "ready")
    }

    /// Starts a UDP service that gives back what it gets.
    pub fn echo_udp(&self, port: u16) -> Result<Running> {
        self.start_helper(&["listen", "udp", &port.to_string()], "ready")
    }

    /// Connects to an echo service and stays.
    pub fn hold(&self, to: impl Into<SocketAddr>) -> Result<Hold> {
        Ok(Hold(self.start_helper(&["hold", &to.into().to_string()], "connected")?))
    }

    /// Starts to connect thousands of times a second.
    pub fn storm(&self, to: impl Into<SocketAddr>) -> Result<Storm> {
        Ok(Storm(self.start_helper(&["storm", &to.into().to_string()], "ready")?))
    }

    /// How many TCP connections this host has let in since it was made: the kernel's own count.
    pub fn passive_opens(&self) -> Result<u64> {
        let snmp = self.run(["cat", "/proc/net/snmp"])?.ok()?.stdout;
        let mut tcp = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (tcp.next().unwrap_or_default(), tcp.next().unwrap_or_default());
        let mut both = names.split(' ').zip(values.split(' '));
        let found = both.find(|(name, _)| *name == "PassiveOpens");
        found.map_or("", |(_, value)| value).parse().doing("PassiveOpens of /proc/net/snmp")
    }

    /// Starts to connect without pause.
    pub fn prober(&self, to: impl Into<SocketAddr>) -> Result<Prober> {
        Ok(Prober(self.start_helper(&["hammer", &to.into().to_string()], "ready")?))
    }
}
