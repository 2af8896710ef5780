//! The shapes of what spad's commands print with `--json`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::audit::Event;
use crate::clock::Discipline;
use crate::config::Config;
use crate::fields::millis;
use crate::firewall::{FirewallError, Mode};
use crate::sys::ntp;
use spa_proto::ServiceName;

/// One grant in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its number.
    pub id: u64,
    /// Name of the client.
    pub client: String,
    /// Name of the service.
    pub service: String,
    /// The source address that is let in, or the prefix.
    pub source: String,
    /// The address of this host that it may connect to; `None` for all of them.
    pub destination: Option<String>,
    /// Ports of the service: `tcp/22`, `udp/60000-61000`.
    pub ports: Vec<String>,
    /// How it can be used: `window`, `once`, `bound`.
    pub mode: String,
    /// The source port that it is bound to.
    pub source_port: Option<u16>,
    /// Milliseconds until the kernel removes it.
    pub expires_in_ms: u64,
    /// How many milliseconds it lasts since it was last asked for.
    #[serde(default)]
    pub lasts_ms: u64,
}

/// A chain of the table `inet spad`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where the kernel calls it, as `nft` writes it; `None` for one that
    /// others jump to.
    pub hook: Option<String>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Packets that it has applied to.
    pub packets: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// As `nft` writes it, without its counter.
    pub text: String,
}

/// One connection that was made through a grant and is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Number of the grant, which may be over.
    pub grant: u64,
    /// Name of the client.
    pub client: String,
    /// Name of the service.
    pub service: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The client's address and port.
    pub source: String,
    /// The address and port that it connected to.
    pub destination: String,
    /// When it began, in milliseconds since 1970.
    pub since_unix_ms: u64,
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// The address or network, as a network.
    pub network: String,
    /// When it was banned, RFC 3339.
    pub since: String,
    /// Milliseconds until it is over; `None` for one without end.
    pub expires_in_ms: Option<u64>,
    /// As the administrator has put it.
    pub why: String,
    /// User id of who has asked for it.
    pub by_uid: Option<u32>,
}

/// What a ban has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banned {
    /// The ban.
    pub ban: Ban,
    /// How many grants it has ended.
    pub grants: usize,
    /// How many connections it has cut.
    pub connections: usize,
}

/// One source that has connected to a service with a rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Name of the service.
    pub service: String,
    /// The IPv4 address, or the IPv6 network.
    pub source: String,
    /// Milliseconds until its count begins anew.
    pub begins_anew_in_ms: u64,
}

/// How the daemon is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// What it does with the firewall: `guard`, `managed`, `attach`.
    pub mode: String,
    /// Whether knocks are heard.
    pub capture: Capture,
    /// Whether the ruleset is in force.
    pub ruleset: Ruleset,
    /// The chains of others.
    pub foreign: Foreign,
    /// How many grants are in force; `spad grants` lists them.
    pub grants: usize,
    /// How many clients there are.
    pub clients: usize,
    /// Records that could not be used, and why.
    pub broken_records: Vec<String>,
    /// What became of each datagram that reached the daemon, by reason.
    pub counters: BTreeMap<String, u64>,
    /// Whether replays are safely remembered.
    pub journal: Journal,
    /// Knocks that wait for their clients' records.
    #[serde(default)]
    pub first_knocks: FirstKnocks,
    /// What time it is here.
    pub clock: Clock,
    /// All processes.
    pub processes: Vec<Process>,
    /// For how long it runs.
    #[serde(default)]
    pub uptime_ms: u64,
    /// How many connections are open that were made through grants.
    #[serde(default)]
    pub sessions: usize,
    /// How many networks are banned.
    #[serde(default)]
    pub bans: usize,
    /// The grants that end next, ten at most.
    #[serde(default)]
    pub next_to_end: Vec<Grant>,
    /// The last knocks that are in the audit, ten at most, the newest first.
    #[serde(default)]
    pub last_knocks: Vec<Event>,
    /// Where the audit goes.
    #[serde(default)]
    pub audit: Audit,
    /// While the server's keys are being replaced, until when the old ones work too, in
    /// milliseconds since 1970.
    #[serde(default)]
    pub old_keys_until_unix_ms: Option<u64>,
    /// What else is wrong, and stays so until somebody or something mends it.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// Where the audit goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// `stderr` or `journal`, and the path of the file, if there is one.
    pub to: Vec<String>,
    /// How many events are missing in the journal, or in the file.
    pub lost: u64,
    /// Why the file cannot be written.
    pub fault: Option<String>,
}

impl Status {
    /// Whether knocks are heard, and can be remembered, and the ruleset is in force: the exit code.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.capture.in_force && self.ruleset.in_force && self.journal.durable
    }
}

/// Where knocks are heard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Capture {
    /// Whether the gatekeeper listens on at least one interface.
    pub in_force: bool,
    /// UDP port.
    pub port: u16,
    /// The names configured; `any` alone for all.
    pub interfaces: Vec<String>,
    /// Those of them that are not there now.
    pub missing: Vec<String>,
}

/// What the kernel holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ruleset {
    /// Whether the kernel holds exactly what was installed.
    pub in_force: bool,
    /// Whether the kernel keeps others from changing it.
    pub owned: bool,
    /// What differs, or why it cannot be read.
    pub fault: Option<String>,
    /// How often somebody else's change was repaired.
    pub repairs: u64,
    /// Milliseconds until nothing is shut any more, unless somebody confirms it.
    pub opens_in_ms: Option<u64>,
}

/// What chains of others would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// Those that may drop what is granted, in the order of their priority.
    pub chains: Vec<ForeignChain>,
    /// What to do, and what else is worth knowing about them.
    pub notices: Vec<String>,
}

impl Foreign {
    /// Nothing is known about them, and why.
    #[must_use]
    pub fn unreadable(error: &FirewallError) -> Self {
        let notice = format!("chains of others cannot be looked at: {error}");
        Self { chains: Vec::new(), notices: vec![notice] }
    }
}

/// A base chain that may drop what is granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignChain {
    /// Family, table and chain: `ip filter INPUT`.
    pub chain: String,
    /// Where the kernel calls it: `input` or `forward`.
    pub hook: String,
    /// When: lower is earlier.
    pub priority: i32,
    /// What becomes of packets that get to its end: `accept` or `drop`.
    pub policy: String,
    /// The services that it may drop.
    pub services: Vec<String>,
}

impl fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain, hook, priority, policy, services } = self;
        let services = services.join(", ");
        write!(
            f,
            "chain '{chain}' (hook {hook}, priority {priority}, policy {policy}) may drop {services}"
        )
    }
}

/// Memory of what was used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Journal {
    /// Whether what is granted now would be remembered after any crash.
    pub durable: bool,
    /// Whether the journal dies with the machine, as it should.
    pub on_tmpfs: bool,
    /// How far ahead of now the lease on disk reaches, in milliseconds.
    pub lease_ms: i64,
    /// Why it is not durable.
    pub fault: Option<String>,
}

/// First knocks of clients, which wait until their records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstKnocks {
    /// How many.
    pub waiting: usize,
    /// For how long the oldest has, in milliseconds.
    pub oldest_ms: u64,
}

/// The server's clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Clock {
    /// Milliseconds since 1970, UTC.
    pub unix_ms: u64,
    /// How far a client's clock may be off, in milliseconds.
    pub tolerance_ms: u64,
    /// Whether something keeps it right; null where the kernel does not say.
    #[serde(default)]
    pub synchronised: Option<bool>,
    /// By how much it can be off, in milliseconds, says what keeps it right.
    #[serde(default)]
    pub max_error_ms: Option<u64>,
    /// Why clients whose clocks are right may be refused.
    #[serde(default)]
    pub fault: Option<String>,
}

impl Clock {
    /// What the kernel says of a clock, if it says anything.
    #[must_use]
    pub fn of(unix_ms: u64, tolerance: Duration, discipline: Option<Discipline>) -> Self {
        Self {
            unix_ms,
            tolerance_ms: millis(tolerance),
            synchronised: discipline.map(|it| it.synchronised),
            max_error_ms: discipline.map(|it| millis(it.max_error)),
            fault: discipline.and_then(|it| it.fault(tolerance)),
        }
    }

    /// As this process is told: the daemon may be kept from asking the kernel.
    #[must_use]
    pub fn or_as_told_here(self) -> Self {
        match self.synchronised {
            Some(_) => self,
            None => {
                let tolerance = Duration::from_millis(self.tolerance_ms);
                Self::of(self.unix_ms, tolerance, ntp::discipline().ok())
            }
        }
    }
}

/// Numbers for a monitoring system. No client is named: they may be read by many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// Version of the program.
    pub version: String,
    /// What it does with the firewall.
    pub mode: String,
    /// For how long it runs.
    pub uptime_ms: u64,
    /// Whether knocks are heard, as far as is known without asking.
    pub capture_in_force: bool,
    /// Whether the ruleset is in force, as last seen.
    pub ruleset_in_force: bool,
    /// How often somebody else's change was repaired.
    pub repairs: u64,
    /// How often the gatekeeper had to be started again.
    pub restarts: u64,
    /// What became of each datagram; the gatekeeper's are up to 20 s old.
    pub counters: BTreeMap<String, u64>,
    /// Grants in force.
    pub grants: usize,
    /// Open connections made through grants.
    pub sessions: usize,
    /// Clients.
    pub clients: usize,
    /// Records that cannot be used.
    pub broken_records: usize,
    /// How many other faults there are.
    #[serde(default)]
    pub faults: usize,
    /// Networks that are banned.
    pub bans: usize,
    /// As [`Journal::durable`].
    pub durable: bool,
    /// As [`Journal::lease_ms`].
    pub lease_ms: i64,
    /// As [`Clock::synchronised`].
    pub synchronised: Option<bool>,
    /// As [`Clock::max_error_ms`].
    pub max_error_ms: Option<u64>,
    /// As [`Audit::lost`].
    pub audit_lost: u64,
    /// All processes.
    pub processes: Vec<Process>,
}

/// What is left when the daemon has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Whether there was a daemon to end.
    pub was_running: bool,
    /// Whether nothing of ours is left in the kernel.
    pub open: bool,
    /// Whether its table shuts the services; in mode attach a ruleset of others does.
    pub shuts: bool,
    /// The services that it protected, as `ssh (tcp/22)`, where there was one to say so.
    pub services: Vec<String>,
    /// How many grants stay in force until their time is over.
    pub grants: usize,
    /// Milliseconds until the last of them ends.
    pub grants_end_in_ms: u64,
}

/// What `spad enable` and `spad confirm` have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enabled {
    /// Whether it was in force for good before.
    pub already: bool,
    /// Whether the configuration has it so, whatever an administrator says.
    #[serde(default)]
    pub always: bool,
    /// What is shut, as `ssh (tcp/22)`.
    pub services: Vec<String>,
    /// Milliseconds until nothing is shut any more, unless somebody confirms it.
    pub opens_in_ms: Option<u64>,
    /// Addresses whose connections live on.
    pub living_on: Vec<String>,
    /// How many knocks were granted since spad started.
    pub granted: u64,
}

/// What `spad disable` has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// Whether nothing was in force before.
    pub already: bool,
    /// Whether there is a daemon, which goes on hearing knocks.
    pub is_running: bool,
    /// What is open to everybody, as `ssh (tcp/22)`.
    pub services: Vec<String>,
    /// Services of inner hosts: a knock is the only way as long as there is a daemon, and
    /// without one there is none.
    #[serde(default)]
    pub inner: Vec<String>,
    /// Whether so is all else: mode managed has dropped that too.
    pub all_else: bool,
}

impl Disabled {
    /// What is open where nothing of this configuration is in force.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let all_else = config.firewall.mode == Mode::Managed;
        let is_inner = |name: &&ServiceName| {
            config.services.get(*name).is_some_and(|service| service.target.is_some())
        };
        let (inner, own): (Vec<_>, Vec<_>) = config.protected().partition(is_inner);
        let [inner, services] = [inner, own]
            .map(|names| names.into_iter().map(|name| config.with_ports(name)).collect());
        Self { services, inner, all_else, ..Self::default() }
    }
}

/// One process of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// `warden` or `gatekeeper`.
    pub role: String,
    /// Its id.
    pub pid: u32,
    /// As whom it runs.
    pub uid: u32,
    /// How often it had to be started again.
    pub restarts: u64,
    /// The capabilities in effect; null where the kernel does not say. Here and below.
    #[serde(default)]
    pub capabilities: Option<Vec<String>>,
    /// Whether a filter of system calls is in force.
    #[serde(default)]
    pub seccomp: Option<bool>,
    /// How much memory it has, what it shares with others included.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
}
