//! What is told of one knock: steps, one line, JSON, or what went wrong.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use spa_keys::date;
use spa_proto::{Address, GrantMode, Mode, Service, Timestamp};

use crate::exit::Failure;
use crate::report::{Outcome, Reporter, SentRow, deadline};
use crate::send::{Asked, Sent};
use crate::wait::{Opened, Watch};

/// What stays the same from step to step.
pub(crate) struct Story {
    pub(crate) reporter: Reporter,
    /// The server's name here.
    pub(crate) name: String,
    /// Its name or address for everybody.
    pub(crate) host: String,
    /// What is knocked for.
    pub(crate) services: Vec<Service>,
    /// See [`crate::host_file::HostEntry::token_expires`].
    pub(crate) token_expires: Option<Timestamp>,
}

/// How the wait ended.
pub(crate) struct Waited {
    /// The service's opening, if it came to that.
    pub(crate) opened: Option<Opened>,
    /// How often every address was knocked at.
    pub(crate) rounds: u32,
    /// Since before the first knock.
    pub(crate) elapsed: Duration,
}

impl Story {
    pub(crate) fn plan(&self, file: &Path, addresses: &[SocketAddr]) {
        let Self { name, host, .. } = self;
        let enrols = if self.token_expires.is_some() { "; knocks enrol this machine" } else { "" };
        self.step(|| format!("{name}: keys in {}{enrols}", file.display()));
        let addresses = || addresses.iter().map(bare).collect::<Vec<_>>().join(", ");
        self.step(|| format!("{host} resolves to {}", addresses()));
    }

    pub(crate) fn step(&self, text: impl FnOnce() -> String) {
        self.reporter.step(text);
    }

    /// Tells of the first round.
    pub(crate) fn knocked(&self, sent: &[Sent]) {
        self.round(sent);
        let count = sent.iter().filter(|sent| sent.result.is_ok()).count();
        if count > 0 {
            let (name, services) = (&self.name, listed(&self.services));
            let addresses = addresses(count, sent.len());
            self.reporter.begin_line(|| format!("{name}: knocked for {services} ({addresses})"));
        }
    }

    /// Tells of every datagram.
    pub(crate) fn round(&self, sent: &[Sent]) {
        for Sent { to, result } in sent {
            self.step(|| match result {
                Err(why) => format!("{}: not sent: {why}", bare(to)),
                Ok(trace) => format!(
                    "{}: {} bytes from {} to UDP port {}, to open {} for {}{}",
                    bare(to),
                    trace.len,
                    trace.local,
                    to.port(),
                    listed(&self.services),
                    for_whom(trace.asked),
                    how(trace.asked.mode),
                ),
            });
        }
    }

    pub(crate) fn opened(&self, open_at: SocketAddr, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        self.step(|| format!("{}: open after {seconds:.3} s", bare(&open_at)));
        self.reporter.end_line(&format!(", open after {seconds:.1} s"));
    }

    /// Without having waited, or in vain.
    pub(crate) fn end(&self) {
        self.reporter.end_line("");
    }

    pub(crate) fn outcome(&self, sent: &[Sent], waited: Option<&Waited>) -> Result<(), Failure> {
        self.reporter.outcome(|| Outcome {
            name: self.name.clone(),
            host: self.host.clone(),
            services: self.services.iter().map(ToString::to_string).collect(),
            sent: sent.iter().map(row).collect(),
            open: waited.map(|waited| waited.opened.is_some()),
            waited_ms: waited.map(|waited| millis(waited.elapsed)),
        })
    }

    pub(crate) fn not_sent(&self, sent: &[Sent]) -> Failure {
        Failure::not_sent(format!("no knock could be sent to {}{}", self.host, unsent(sent)))
    }

    pub(crate) fn not_open(&self, sent: &[Sent], watch: &Watch, waited: &Waited) -> Failure {
        let (host, port) = (&self.host, watch.port());
        let seen = if watch.refused() {
            "it answers that nothing listens there: is that the right port?"
        } else {
            "it stays silent"
        };
        Failure::not_open(format!(
            "{host}: knocked {}, but TCP port {port} did not open within {} s: {seen}{}{}{}\n  \
             look at: this machine's clock, now {} (servers allow 30 s unless told otherwise);\n  \
             whether the server grants {} to this client; the log of spad there, which says why",
            times(waited.rounds),
            waited.elapsed.as_secs(),
            unsent(sent),
            self.late_token(),
            renumbered(sent),
            date::format(date::now()),
            listed(&self.services),
        ))
    }

    /// An old token that may never have been used.
    fn late_token(&self) -> String {
        let late = self.token_expires.filter(|expires| *expires < date::now());
        let hint =
            |expires| format!("\n  the token's first use was due before {}", deadline(expires));
        late.map(hint).unwrap_or_default()
    }
}

/// Which addresses got no datagram, and why; a line each.
fn unsent(sent: &[Sent]) -> String {
    let line = |Sent { to, result }: &Sent| {
        result.as_ref().err().map(|why| format!("\n  not sent to {}: {why}", bare(to)))
    };
    sent.iter().filter_map(line).collect()
}

fn row(Sent { to, result }: &Sent) -> SentRow {
    let asked = result.as_ref().ok().map(|trace| trace.asked);
    SentRow {
        address: bare(to),
        port: to.port(),
        source_requested: asked.map(|asked| source(asked.address)),
        mode: asked.and_then(|asked| asked.mode.named()).map(GrantMode::name),
        source_port: asked.and_then(|asked| source_port(asked.mode)),
        width: asked.and_then(|asked| asked.width),
        error: result.as_ref().err().cloned(),
    }
}

const fn source_port(mode: Mode) -> Option<u16> {
    match mode {
        Mode::Bound { source_port } => Some(source_port),
        Mode::Default | Mode::Window | Mode::Once => None,
    }
}

/// Mode bound has a way to fail that the others have not.
fn renumbered(sent: &[Sent]) -> &'static str {
    let bound = |Sent { result, .. }: &Sent| {
        result.as_ref().is_ok_and(|trace| source_port(trace.asked.mode).is_some())
    };
    if sent.iter().any(bound) {
        "\n  look at: a router on the way that changes source ports: try --mode once"
    } else {
        ""
    }
}

/// Without the port, with the interface.
fn bare(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => address.ip().to_string(),
    }
}

fn for_whom(Asked { address, width, .. }: Asked) -> String {
    let whom = match address {
        Address::Explicit(address) => address.to_string(),
        Address::Seen | Address::SeenWithin(_) => "the address that the server sees".into(),
    };
    width.map_or(whom.clone(), |width| format!("{whom}/{width}"))
}

fn how(mode: Mode) -> String {
    match mode {
        Mode::Default => String::new(),
        Mode::Window => ", for any number of connections".into(),
        Mode::Once => ", for one connection".into(),
        Mode::Bound { source_port } => format!(", from its TCP port {source_port}"),
    }
}

/// As programs read it.
fn source(address: Address) -> String {
    match address {
        Address::Explicit(address) => address.to_string(),
        Address::Seen => "seen".into(),
        Address::SeenWithin(prefix) => format!("seen within {prefix}"),
    }
}

/// As people list them.
pub(crate) fn listed(services: &[Service]) -> String {
    services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn addresses(count: usize, all: usize) -> String {
    let noun = if all == 1 { "address" } else { "addresses" };
    if count == all { format!("{all} {noun}") } else { format!("{count} of {all} {noun}") }
}

fn times(count: u32) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_addresses() {
        assert_eq!(addresses(1, 1), "1 address");
        assert_eq!(addresses(2, 2), "2 addresses");
        assert_eq!(addresses(1, 2), "1 of 2 addresses");
    }

    #[test]
    fn interfaces_are_part_of_an_address() {
        assert_eq!(bare(&"[fe80::1%3]:22".parse().unwrap()), "fe80::1%3");
        assert_eq!(bare(&"[2001:db8::1]:22".parse().unwrap()), "2001:db8::1");
    }
}
