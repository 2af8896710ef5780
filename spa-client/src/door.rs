//! One server: knocking at it, and waiting until it opens. What `spa knock`
//! and `spa proxy` have in common.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use spa_keys::date;
use spa_proto::{Address, GrantMode, Mode, Request, Service, Services, Timestamp};

use crate::address::Width;
use crate::alias::Alias;
use crate::bound::BoundSocket;
use crate::cli::RequestOptions;
use crate::config::ConfigDir;
use crate::exit::Failure;
use crate::field::Sealed;
use crate::host_file::HostEntry;
use crate::lock::Keys;
use crate::outside::Outside;
use crate::report;
use crate::reporter::Reporter;
use crate::resolve::{Family, resolve};
use crate::save::SavedKnock;
use crate::send::{Knocker, Sending, Sent, Target};
use crate::story::{Story, Waited, reached};
use crate::unlock;
use crate::wait::{Opened, Watch};

/// How long to wait before knocking again: well within what a server allows
/// one client (protocol §6, step 6).
const AGAIN: Duration = Duration::from_secs(2);
/// 2025-01-01: a clock that shows less was never set.
pub(crate) const EARLIEST: Timestamp = Timestamp::from_millis(1_735_689_600_000);

/// A server that this machine has keys for.
pub(crate) struct Host<'a> {
    config: &'a ConfigDir,
    alias: Alias,
    entry: HostEntry,
    keys: Keys,
}

/// One that is about to be knocked at, arguments being right.
pub(crate) struct Door<'a> {
    host: Host<'a>,
    addresses: Vec<SocketAddr>,
    knocker: Knocker,
    pub(crate) story: Story<'a>,
}

impl<'a> Host<'a> {
    /// The one that `name` means.
    pub(crate) fn find(config: &'a ConfigDir, name: &str) -> Result<Self, Failure> {
        Self::load(config, config.find(name)?)
    }

    /// The same, where it is no error that there are no keys for it.
    pub(crate) fn find_known(config: &'a ConfigDir, name: &str) -> Result<Option<Self>, Failure> {
        config.find_known(name)?.map(|alias| Self::load(config, alias)).transpose()
    }

    /// The one of this alias.
    pub(crate) fn load(config: &'a ConfigDir, alias: Alias) -> Result<Self, Failure> {
        let entry = config.load(&alias)?;
        let keys = unlock::keys(config, &alias, &entry)?;
        Ok(Self { config, alias, entry, keys })
    }

    /// Its name or address for everybody.
    pub(crate) fn address(&self) -> &str {
        self.entry.host()
    }

    /// UDP port to knock at.
    pub(crate) fn port(&self) -> NonZeroU16 {
        self.entry.port()
    }

    /// See [`HostEntry::token_expires`].
    pub(crate) fn token_expires(&self) -> Option<Timestamp> {
        self.entry.token_expires()
    }

    /// What to knock for if nothing is named.
    pub(crate) fn default_service(&self) -> Option<Service> {
        self.entry.default_service()
    }

    /// All that the token names.
    pub(crate) fn all_services(&self) -> Vec<Service> {
        self.entry.all_services()
    }

    /// The mode of the command line, else of the server's file; `None` leaves
    /// it to the server.
    pub(crate) fn mode(&self, options: &RequestOptions) -> Option<GrantMode> {
        options.mode.or(self.entry.mode())
    }

    /// Goes there, to ask for `services` in this order, four in each knock.
    pub(crate) fn door(
        self,
        options: &RequestOptions,
        services: Vec<Service>,
        reporter: &'a Reporter,
    ) -> Result<Door<'a>, Failure> {
        let port = options.port.unwrap_or(self.entry.port());
        let addresses = resolve(self.entry.host(), port.get(), options.family())?;
        let source = options.source.unwrap_or_default();
        let outside = Outside::learn(&self.config.settings()?, source, &addresses);
        self.door_at(addresses, outside, options, services, reporter)
    }

    /// The same where it is known which addresses that are, and what others see of this machine.
    pub(crate) fn door_at(
        self,
        addresses: Vec<SocketAddr>,
        outside: Outside,
        options: &RequestOptions,
        services: Vec<Service>,
        reporter: &'a Reporter,
    ) -> Result<Door<'a>, Failure> {
        let sending = if reporter.dry_run() { Sending::Not } else { Sending::Sent };
        let knocker = Knocker { sending, outside, ..self.knocker(options, &services)? };
        let story = Story {
            reporter,
            name: self.alias.to_string(),
            host: self.entry.host().to_owned(),
            asked: options.ttl,
            as_enrolled: self.entry.lasting(&services),
            services,
            token_expires: self.entry.token_expires(),
        };
        story.plan(&self.config.host_path(&self.alias), &addresses);
        Ok(Door { host: self, addresses, knocker, story })
    }

    fn knocker(&self, options: &RequestOptions, services: &[Service]) -> Result<Knocker, Failure> {
        let request = |services| Request {
            kind: self.entry.knock_kind(&self.keys),
            mode: Mode::Default,
            address: Address::Seen,
            width: None,
            seconds: options.ttl,
            services,
        };
        let knocks = services.chunks(Services::MAX);
        let requests = knocks.filter_map(|four| Services::new(four.iter().copied()).map(request));
        Ok(Knocker {
            credentials: self.entry.credentials(&self.keys),
            requests: requests.collect(),
            source: options.source.unwrap_or_default(),
            outside: Outside::default(),
            width: options.width,
            sending: Sending::Not,
        })
    }

    /// One knock for somebody else to send, by a clock that shows `time`.
    pub(crate) fn save(
        &self,
        options: &RequestOptions,
        services: &[Service],
        mode: Mode,
        time: Timestamp,
    ) -> Result<SavedKnock, Failure> {
        let source = options.source.unwrap_or_default();
        let families = [source.family(), Some(options.family()), options.width.map(Width::family)];
        let family = families.into_iter().flatten().find(|family| *family != Family::Any);
        let asked = source.for_somebody(options.width, family, mode);
        let knocker = self.knocker(options, services)?;
        let [request] = knocker.requests.as_slice() else { return Err(too_many_services()) };
        let datagram = Sealed::new(knocker.seal(request, asked, time)?);
        let host = self.entry.host_name().clone();
        let port = options.port.unwrap_or(self.entry.port());
        Ok(SavedKnock { host, port, family, time, datagram })
    }
}

/// For one knock.
pub(crate) fn too_many_services() -> Failure {
    Failure::usage(format!("one knock asks for at most {} services", Services::MAX))
}

/// Says so if this machine's clock was never set.
pub(crate) fn warn_of_clock() {
    let now = date::now();
    if now < EARLIEST {
        let now = date::format(now);
        report::note(&format!("spa: this machine's clock says {now}: the knock will be refused"));
    }
}

impl Door<'_> {
    /// The same, listening for errors of the network after each datagram.
    pub(crate) fn listening(mut self) -> Self {
        self.knocker.sending = Sending::SentAndHeard;
        self
    }

    /// Every address, in one mode.
    pub(crate) fn targets(&self, mode: Mode) -> Vec<Target> {
        self.addresses.iter().map(|to| Target { to: *to, mode: Ok(mode) }).collect()
    }

    /// Every address in mode bound, and the sockets that hold the source port
    /// of each: `port`, or any for 0.
    pub(crate) fn bind(&self, port: u16) -> (Vec<Target>, Vec<BoundSocket>) {
        let mut sockets = Vec::new();
        let mut target = |to| {
            let bound = BoundSocket::towards(to, port).map(|socket| {
                let mode = Mode::Bound { source_port: socket.port() };
                sockets.push(socket);
                mode
            });
            Target { to, mode: bound }
        };
        let targets = self.addresses.iter().map(|to| target(*to)).collect();
        (targets, sockets)
    }

    /// One round, wherever it gets.
    pub(crate) fn send(&self, targets: &[Target]) -> Result<Vec<Sent>, Failure> {
        self.knocker.knock(targets)
    }

    /// The round that has to reach at least one address.
    pub(crate) fn knock(&self, targets: &[Target]) -> Result<Vec<Sent>, Failure> {
        let sent = self.knocker.knock(targets)?;
        self.story.knocked(&sent);
        if reached(&sent).is_empty() {
            return Err(self.story.not_sent(&sent));
        }
        Ok(sent)
    }

    /// Knocks until the service accepts a connection.
    ///
    /// # Errors
    /// Where it does not within `limit`.
    pub(crate) fn open(
        &self,
        targets: &[Target],
        mut watch: Watch,
        limit: Duration,
    ) -> Result<Opened, Failure> {
        let silent = self.silent_before(&watch);
        let start = Instant::now();
        let sent = self.knock(targets)?;
        let waited = self.wait(start, limit, &mut watch, targets, &sent)?;
        self.story.waited(&waited);
        let Some(opened) = waited.opened else {
            return Err(self.story.not_open(&sent, &watch, &waited));
        };
        self.story.opened(opened.at, waited.elapsed);
        if silent.contains(&opened.at) {
            self.confirm();
        }
        Ok(opened)
    }

    /// Where the port does not answer before the knock. Matters, and is looked
    /// at, only while this machine may not be enrolled yet, or not with these keys:
    /// a port that is open anyway does not show that the knock arrived.
    fn silent_before(&self, watch: &Watch) -> Vec<SocketAddr> {
        let Host { config, alias, entry, .. } = &self.host;
        if entry.token_expires().is_none() && !config.former_path(alias).exists() {
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
        targets: &[Target],
        first: &[Sent],
    ) -> Result<Waited, Failure> {
        let deadline = start + limit;
        let mut addresses = reached(first);
        let mut rounds = 1;
        self.story.step(|| format!("waiting for TCP port {}", watch.port()));
        loop {
            let opened = watch.until(deadline.min(Instant::now() + AGAIN), &addresses);
            if opened.is_some() || Instant::now() >= deadline {
                return Ok(Waited { opened, rounds, elapsed: start.elapsed() });
            }
            self.story.step(|| "not open yet: knocking again".into());
            let sent = self.knocker.knock(targets)?;
            self.story.round(&sent);
            addresses = reached(&sent);
            rounds += 1;
        }
    }

    /// From now on knocks need not enrol. Where that cannot be noted, they go
    /// on doing so, which does no harm.
    pub(crate) fn confirm(&self) {
        let Host { config, alias, entry, .. } = &self.host;
        if let Err(failure) = config.confirm(alias, &entry.key_id()) {
            self.story.step(|| format!("not all that is over is cleared away: {failure}"));
        }
    }
}
