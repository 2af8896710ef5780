//! `spa knock`.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use spa_keys::date;
use spa_proto::{Address, Mode, Request, Service, Services, Timestamp};

use crate::alias::Alias;
use crate::cli::KnockOptions;
use crate::config::ConfigDir;
use crate::exit::{Exit, Failure};
use crate::host_file::HostEntry;
use crate::ports;
use crate::report::{self, Reporter};
use crate::resolve::resolve;
use crate::send::{Knocker, Sent};
use crate::story::{Story, Waited, listed};
use crate::wait::Watch;

/// How long to wait before knocking again: well within what a server allows
/// one client (protocol §6, step 6).
const AGAIN: Duration = Duration::from_secs(2);
/// 2025-01-01: a clock that shows less was never set.
const EARLIEST: Timestamp = Timestamp::from_millis(1_735_689_600_000);

/// One run of the command, once its arguments are known to be right.
struct Knock<'a> {
    config: &'a ConfigDir,
    alias: Alias,
    entry: HostEntry,
    addresses: Vec<SocketAddr>,
    knocker: Knocker,
    story: Story,
}

/// Knocks, and waits if that was asked for.
pub(crate) fn run(config: &ConfigDir, options: &KnockOptions) -> Result<Exit, Failure> {
    warn_of_clock(date::now());
    let alias = config.find(&options.host)?;
    let entry = config.load(&alias)?;
    let services = choose_services(options, &entry)?;
    let wait = choose_wait(options, &services)?;
    let knocker = knocker(options, &entry, &services)?;
    let port = options.port.unwrap_or(entry.port());
    let addresses = resolve(entry.host(), port.get(), options.family())?;
    let story = story(options, &alias, &entry, services);
    story.plan(&config.host_path(&alias), &addresses);
    let knock = Knock { config, alias, entry, addresses, knocker, story };
    match wait {
        None => knock.once(),
        Some((limit, port)) => knock.until_open(limit, Watch::new(port)),
    }
}

fn warn_of_clock(now: Timestamp) {
    if now < EARLIEST {
        let now = date::format(now);
        report::note(&format!("spa: this machine's clock says {now}: the knock will be refused"));
    }
}

/// In the order given: waiting looks at the first.
fn choose_services(options: &KnockOptions, entry: &HostEntry) -> Result<Vec<Service>, Failure> {
    if !options.service.is_empty() {
        return Ok(options.service.clone());
    }
    let default = entry.services().first().copied().map(Service::Named);
    let default = default.ok_or_else(|| Failure::usage("the token names no service: --service"))?;
    Ok(vec![default])
}

/// How long to wait, and at which port.
fn choose_wait(
    options: &KnockOptions,
    services: &[Service],
) -> Result<Option<(Duration, NonZeroU16)>, Failure> {
    let Some(limit) = options.wait() else { return Ok(None) };
    let known = || services.first().copied().and_then(ports::tcp_port);
    let port = options.wait_port.or_else(known).ok_or_else(|| {
        Failure::usage(format!(
            "cannot tell at which TCP port to wait for {}: say --wait-port N",
            listed(services)
        ))
    })?;
    Ok(Some((limit, port)))
}

fn knocker(
    options: &KnockOptions,
    entry: &HostEntry,
    services: &[Service],
) -> Result<Knocker, Failure> {
    let services = Services::new(services.iter().copied()).ok_or_else(|| {
        Failure::usage(format!("one knock asks for at most {} services", Services::MAX))
    })?;
    let request = Request {
        kind: entry.knock_kind(),
        mode: Mode::Default,
        address: Address::Seen,
        width: None,
        seconds: options.ttl,
        services,
    };
    let source = options.source.unwrap_or_default();
    Ok(Knocker { credentials: entry.credentials(), request, source })
}

fn story(
    options: &KnockOptions,
    alias: &Alias,
    entry: &HostEntry,
    services: Vec<Service>,
) -> Story {
    Story {
        reporter: Reporter::new(options.verbose, options.json),
        name: alias.to_string(),
        host: entry.host().to_owned(),
        services,
        token_expires: entry.token_expires(),
    }
}

impl Knock<'_> {
    fn once(&self) -> Result<Exit, Failure> {
        let sent = self.first_round()?;
        self.story.outcome(&sent, None)?;
        self.story.end();
        Ok(Exit::Done)
    }

    fn until_open(&self, limit: Duration, mut watch: Watch) -> Result<Exit, Failure> {
        let silent = self.silent_before(&watch);
        let start = Instant::now();
        let sent = self.first_round()?;
        let waited = self.wait(start, limit, &mut watch, &sent)?;
        self.story.outcome(&sent, Some(&waited))?;
        let Some(open_at) = waited.open_at else {
            self.story.end();
            return Err(self.story.not_open(&sent, &watch, &waited));
        };
        self.story.opened(open_at, waited.elapsed);
        if silent.contains(&open_at) {
            self.confirm();
        }
        Ok(Exit::Done)
    }

    /// The round that has to reach at least one address.
    fn first_round(&self) -> Result<Vec<Sent>, Failure> {
        let sent = self.knocker.knock(&self.addresses)?;
        self.story.knocked(&sent);
        if reached(&sent).is_empty() {
            self.story.outcome(&sent, None)?;
            return Err(self.story.not_sent(&sent));
        }
        Ok(sent)
    }

    /// Where the port does not answer before the knock. Matters, and is looked
    /// at, only while this machine may not be enrolled yet: a port that is open
    /// anyway does not show that the enrolment arrived.
    fn silent_before(&self, watch: &Watch) -> Vec<SocketAddr> {
        if self.entry.token_expires().is_none() {
            return Vec::new();
        }
        self.story.step(|| format!("looking whether TCP port {} is silent now", watch.port()));
        watch.silent(&self.addresses)
    }

    /// Watches, and knocks again every now and then.
    fn wait(
        &self,
        start: Instant,
        limit: Duration,
        watch: &mut Watch,
        first: &[Sent],
    ) -> Result<Waited, Failure> {
        let deadline = start + limit;
        let mut targets = reached(first);
        let mut rounds = 1;
        self.story.step(|| format!("waiting for TCP port {}", watch.port()));
        loop {
            let open_at = watch.until(deadline.min(Instant::now() + AGAIN), &targets);
            if open_at.is_some() || Instant::now() >= deadline {
                return Ok(Waited { open_at, rounds, elapsed: start.elapsed() });
            }
            self.story.step(|| "not open yet: knocking again".into());
            let sent = self.knocker.knock(&self.addresses)?;
            self.story.round(&sent);
            targets = reached(&sent);
            rounds += 1;
        }
    }

    /// From now on knocks need not enrol. Where that cannot be noted, they go
    /// on doing so, which does no harm.
    fn confirm(&self) {
        if let Err(failure) = self.config.confirm(&self.alias, &self.entry.key_id()) {
            self.story.step(|| format!("the token's secret stays in the file: {failure}"));
        }
    }
}

/// The addresses that a datagram left for.
fn reached(sent: &[Sent]) -> Vec<SocketAddr> {
    sent.iter().filter(|sent| sent.result.is_ok()).map(|sent| sent.to).collect()
}
