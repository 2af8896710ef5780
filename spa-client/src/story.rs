//! What is told of one knock: steps, one line, JSON, or what went wrong.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use spa_keys::{date, duration};
use spa_proto::{Address, GrantMode, Mode, Service, Timestamp, millis};

use crate::answer::Answer;
use crate::exit::Failure;
use crate::report::deadline;
use crate::reporter::{Reporter, SentRow};
use crate::send::{Asked, Sent};
use crate::wait::{Opened, Watch};

/// What stays the same from step to step.
pub(crate) struct Story<'a> {
    pub(crate) reporter: &'a Reporter,
    /// The server's name here.
    pub(crate) name: String,
    /// Its name or address for everybody.
    pub(crate) host: String,
    /// What is knocked for.
    pub(crate) services: Vec<Service>,
    /// For how many seconds, if not for as long as the server says.
    pub(crate) asked: Option<NonZeroU32>,
    /// For how many at most that is, as it was when this machine was enrolled.
    pub(crate) as_enrolled: Option<NonZeroU32>,
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

impl Story<'_> {
    pub(crate) fn plan(&self, file: &Path, addresses: &[SocketAddr]) {
        let Self { name, host, .. } = self;
        self.reporter.record(|outcome| {
            outcome.name = name.clone();
            outcome.host = Some(host.clone());
            outcome.services = self.services.iter().map(ToString::to_string).collect();
            outcome.ttl_s = self.asked.or(self.as_enrolled).map(NonZeroU32::get);
        });
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
        self.reporter.record(|outcome| outcome.sent = sent.iter().map(row).collect());
        let all: BTreeSet<_> = sent.iter().map(|sent| sent.to).collect();
        let reached = reached(sent).len();
        if reached > 0 {
            let (name, services) = (&self.name, listed(&self.services));
            let addresses = addresses(reached, all.len());
            self.reporter.line(|| format!("{name}: knocked for {services} ({addresses})"));
        }
    }

    /// How long the opening lasts. Nobody answers, so it is known only as far as it was asked for,
    /// or told in the token; the server may say otherwise by now.
    fn lasting(&self) -> String {
        let text =
            |seconds: NonZeroU32| duration::format(Duration::from_secs(seconds.get().into()));
        match (self.asked, self.as_enrolled) {
            (Some(asked), _) => format!("for {} at most", text(asked)),
            (None, Some(known)) => format!("up to {} as of enrolment", text(known)),
            (None, None) => "for as long as the server says".into(),
        }
    }

    /// Tells of every datagram.
    pub(crate) fn round(&self, sent: &[Sent]) {
        let would = if self.reporter.dry_run() { "would send " } else { "" };
        for Sent { to, services, result } in sent {
            self.step(|| match result {
                Err(why) => format!("{}: not sent: {why}", bare(to)),
                Ok(trace) => format!(
                    "{}: {would}{} bytes from {} to UDP port {}, to open {} for {}{}",
                    bare(to),
                    trace.len,
                    trace.local,
                    to.port(),
                    listed(&services.iter().collect::<Vec<_>>()),
                    for_whom(trace.asked),
                    how(trace.asked.mode),
                ),
            });
        }
    }

    pub(crate) fn opened(&self, open_at: SocketAddr, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        self.step(|| format!("{}: open after {seconds:.3} s", bare(&open_at)));
        self.reporter.end_line(|| format!(", open after {seconds:.1} s, {}", self.lasting()));
    }

    /// Without having waited.
    pub(crate) fn end(&self) {
        self.reporter.end_line(|| format!(", {}", self.lasting()));
    }

    /// How the wait ended.
    pub(crate) fn waited(&self, waited: &Waited) {
        self.reporter.record(|outcome| {
            outcome.open = Some(waited.opened.is_some());
            outcome.waited_ms = Some(millis(waited.elapsed));
        });
        if waited.opened.is_none() {
            self.reporter.end_line(String::new);
        }
    }

    pub(crate) fn not_sent(&self, sent: &[Sent]) -> Failure {
        Failure::not_sent(format!("no knock could be sent to {}{}", self.host, unsent(sent)))
    }

    pub(crate) fn not_open(&self, sent: &[Sent], watch: &Watch, waited: &Waited) -> Failure {
        let (host, port) = (&self.host, watch.port());
        let seen = match watch.answer() {
            Answer::None => "it stays silent",
            Answer::Refused => "it answers that nothing listens there: is that the right port?",
            Answer::Unreachable => {
                "an answer says that it cannot be reached: it is switched off, or has another \
                 address, or a firewall rejects what has no grant there"
            }
        };
        Failure::not_open(format!(
            "{host}: knocked {}, but TCP port {port} did not open within {} s: {seen}{}{}{}\n  \
             look at: this machine's clock, now {} (servers allow 30 s unless told otherwise);\n  \
             whether the server grants {} to this client; spad status there, which counts why",
            times(waited.rounds),
            waited.elapsed.as_secs(),
            unsent(sent),
            self.token(),
            look_at(sent),
            date::format(date::now()),
            listed(&self.services),
        ))
    }

    /// A token that may never have been used.
    fn token(&self) -> String {
        match self.token_expires {
            None => String::new(),
            Some(expires) if expires < date::now() => {
                format!("\n  the token's first use was due before {}", deadline(expires))
            }
            Some(_) => "\n  whether the token still works: one that was used elsewhere, withdrawn \
                        or renewed does not"
                .to_owned(),
        }
    }
}

/// Which addresses got no datagram, and why; a line each.
fn unsent(sent: &[Sent]) -> String {
    let line = |Sent { to, result, .. }: &Sent| {
        result.as_ref().err().map(|why| format!("\n  not sent to {}: {why}", bare(to)))
    };
    let lines: BTreeSet<_> = sent.iter().filter_map(line).collect();
    lines.into_iter().collect()
}

/// The addresses that a datagram left for.
pub(crate) fn reached(sent: &[Sent]) -> Vec<SocketAddr> {
    let mut reached: Vec<_> =
        sent.iter().filter(|sent| sent.result.is_ok()).map(|sent| sent.to).collect();
    reached.dedup();
    reached
}

fn row(Sent { to, services, result }: &Sent) -> SentRow {
    let asked = result.as_ref().ok().map(|trace| trace.asked);
    SentRow {
        address: bare(to),
        port: to.port(),
        services: services.iter().map(|service| service.to_string()).collect(),
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

/// In what ways the mode that was asked for can fail, and others cannot.
fn look_at(sent: &[Sent]) -> &'static str {
    let mode = |sent: &Sent| sent.result.as_ref().ok().map(|trace| trace.asked.mode);
    match sent.iter().find_map(mode) {
        Some(Mode::Bound { .. }) => {
            "\n  look at: a router on the way that changes source ports: try --mode once"
        }
        Some(Mode::Window) => {
            "\n  look at: a server that lets in one connection for each knock: then let spa connect \
             (spa proxy; spa ssh-config --proxy), or knock with --mode once, and without --wait"
        }
        Some(Mode::Default | Mode::Once) | None => "",
    }
}

/// Without the port, with the interface.
pub(crate) fn bare(address: &SocketAddr) -> String {
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
