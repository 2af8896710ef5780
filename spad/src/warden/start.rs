//! Bringing the daemon up: closed first, then listening.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spa_keys::{Store, StoreError, files};
use spa_proto::PreparedKeys;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::bans::Register;
use super::budgets::Budgets;
use super::clients::Clients;
use super::first_knocks::FirstKnocks;
use super::gatehouse::Restarts;
use super::host::Host;
use super::keeping::Keeping;
use super::last_knocks::Knocks;
use super::machine::Machine;
use super::memory::Memory;
use super::overlaps::Overlaps;
use super::own::OwnKeys;
use super::post::Post;
use super::sessions::{Connections, Names};
use super::steady::Steady;
use super::stop::Course;
use super::upkeep::Tables;
use super::worker::Worker;
use super::{Counters, Warden, operators};
use crate::audit::{Audit, Event, Recorder, leads_to_journal};
use crate::check;
use crate::clock::{self, Reading};
use crate::config::{Config, ConfigError};
use crate::control::access::Access;
use crate::control::server::Call;
use crate::control::{self, server};
use crate::enforcement::{Enforcement, Trial};
use crate::firewall::{
    AttachError, Firewall, FirewallError, Installed, Interval, Mode, Options, Origin, Ruleset,
};
use crate::grants::{Grant, Ledger};
use crate::hooks::Hooks;
use crate::journal::{JournalError, Record};
use crate::kept;
use crate::privileges;
use crate::turn::Turn;

/// Why the daemon did not come up.
#[derive(Debug)]
pub enum StartError {
    /// The configuration.
    Config(ConfigError),
    /// The server key or the directory of records.
    Keys(StoreError),
    /// A directory of its own.
    Directory(files::FileError),
    /// The journal or the lease.
    Journal(JournalError),
    /// The firewall.
    Firewall(FirewallError),
    /// What the process may do is not enough.
    Privileges(privileges::warden::Missing),
    /// An inner host that cannot be reached.
    Target(String),
    /// The chains of others that `attach` names in this file.
    Attach(PathBuf, AttachError),
    /// Something else that the system refused.
    System(&'static str, io::Error),
}

impl StartError {
    pub(super) fn system(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::System(doing, error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Directory(error) => error.fmt(f),
            Self::Journal(error) => error.fmt(f),
            Self::Firewall(error) => error.fmt(f),
            Self::Privileges(error) => error.fmt(f),
            Self::Target(what) => f.write_str(what),
            Self::Attach(path, error) => f.write_str(&check::not_attachable(path, error)),
            Self::System(doing, error) => write!(f, "cannot {doing}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What is in force before anything listens.
struct Shut {
    firewall: Firewall,
    tables: Tables,
    ruleset: Ruleset,
    enforcement: Enforcement,
    keeping: Keeping,
    bans: Register,
}

impl Warden {
    pub(super) fn start(config_path: PathBuf) -> Result<(Self, mpsc::Receiver<Call>), StartError> {
        let config = Config::load(&config_path).map_err(StartError::Config)?;
        let turn = Turn::or_without(&config.run_dir);
        let now = Reading::now();
        let enforcement = Enforcement::of(&config, now.clock);
        let ruleset = enforcement.ruleset(&config);
        let bans = Register::open(&config.state_dir, now);
        let intervals = bans.intervals(&config.trusted, now);
        let (firewall, tables) =
            close(&config, &config_path, &ruleset, intervals).map_err(without_privileges)?;
        // What cannot be kept is no reason to do without the ruleset: it is told.
        let kept = match enforcement.is_kept(&config) {
            true => kept::keep(&config.own_directories(), &ruleset, config.options()),
            false => Ok(()),
        };
        let keeping = Keeping::after(kept);
        let shuts = config.firewall.mode != Mode::Attach && enforcement.shuts();
        let shut = Shut { firewall, tables, ruleset, enforcement, keeping, bans };
        Self::start_shut(config_path, config, shut, turn).inspect_err(|_| {
            if shuts {
                warn!("the protected services are shut all the same; spad stop --open opens them");
            }
        })
    }

    /// Whatever fails from here on leaves everything shut.
    fn start_shut(
        config_path: PathBuf,
        config: Config,
        shut: Shut,
        turn: Option<Turn>,
    ) -> Result<(Self, mpsc::Receiver<Call>), StartError> {
        is_fit(&config, &config_path)?;
        let now = Reading::now();
        let own = OwnKeys::load(&config.keys_dir, now.wall).map_err(StartError::Keys)?;
        make_directories(&config)?;
        let (memory, remembered) =
            Memory::open(&config, own.memory_key(), now).map_err(StartError::Journal)?;
        let group = operators::group(&config);
        let recorder = Recorder::new(operators::audit(&config, group), leads_to_journal());
        let (hall, calls) =
            hear_callers(&config, operators::access(&config, group), recorder.watchers())?;
        // Whoever wants it otherwise asks from now on.
        drop(turn);
        let mut warden =
            Self::assembled(config_path, config, shut, (own, memory), (hall, recorder))?;
        warden.group = group;
        warden.begin_to_watch();
        warden.begin_hooks();
        warden.restore(&remembered, now)?;
        let attached = warden.attach();
        attached.map_err(|error| StartError::Attach(warden.config_path.clone(), error))?;
        warden.say_enforcement();
        warden.start_keeper();
        warden.look_at_discipline();
        Ok((warden, calls))
    }

    /// Everything in its place, and nothing begun.
    fn assembled(
        config_path: PathBuf,
        config: Config,
        Shut { firewall, tables, ruleset, enforcement, keeping, bans }: Shut,
        (own, memory): (OwnKeys, Memory),
        (hall, recorder): (Hall, Recorder),
    ) -> Result<Self, StartError> {
        let host = Host::new().map_err(StartError::system("watch the interfaces"))?;
        let post = Post::new(&config.user, &config.run_dir)
            .map_err(StartError::system("make an empty directory for the gatekeeper in run-dir"))?;
        let machine = Machine::new()
            .inspect_err(|error| warn!(%error, "no news of the machine being restored"));
        Ok(Self {
            config_path,
            own,
            prepared: PreparedKeys::new(),
            budgets: Budgets::new(),
            first_knocks: FirstKnocks::none(),
            overlaps: Overlaps::none(),
            steady: Steady::since(Reading::now()),
            writer: Worker::new("records"),
            ban_writer: Worker::new("bans"),
            last_knocks: Knocks::of(&Store::open(&config.keys_dir)),
            clients: Clients::new(Store::open(&config.keys_dir)),
            records: None,
            watch_at: None,
            doubt_at: None,
            present: host.present(&config.interfaces),
            host,
            machine: machine.ok(),
            memory,
            ledger: Ledger::default(),
            connections: Connections::new(&config),
            firewall,
            ruleset,
            enforcement,
            keeping,
            tables,
            bans,
            unattached: None,
            audit: Audit::to(recorder),
            hooks: Hooks::default(),
            hooks_fault: None,
            metrics_fault: hall.metrics_fault,
            keeper: None,
            post,
            listening: false,
            heard_at: tokio::time::Instant::now(),
            owes_a_look: false,
            restarts: Restarts::new(),
            repair_at: None,
            aligned: clock::Reading::now(),
            counters: Counters::none(),
            waiting: Vec::new(),
            answer_by: None,
            serving: hall.serving,
            course: Course::Running,
            started: clock::monotonic(),
            group: None,
            clock_fault: None,
            config,
        })
    }

    /// Takes over the grants that the journal and the kernel both know; an
    /// element that the journal does not know goes.
    fn restore(&mut self, remembered: &[Record], now: Reading) -> Result<(), StartError> {
        let elements = self.firewall.elements().map_err(StartError::Firewall)?;
        let elements: HashSet<_> = elements.into_iter().map(|(element, _)| element).collect();
        // Numbers that somebody's connection still has are not given again.
        for record in remembered {
            if let Record::Grant { id, .. } | Record::Session { grant: id, .. } = record {
                self.ledger.begin_after(*id);
            }
        }
        let mut past = Ledger::default();
        let gone = self.names_of_gone(remembered);
        let grants: Vec<_> = remembered.iter().filter_map(|r| self.grant_of(r, &gone)).collect();
        for grant in grants {
            let offered = self.clients.is_open(&grant.kid) && self.config.offers(&grant.element);
            if grant.ends > now.clock && offered && elements.contains(&grant.element) {
                let told = grant.told && self.hooks.tells_ends();
                self.ledger.put(Grant { told, ..grant.clone() });
            } else {
                self.tell_end(&grant, "while spad did not run", now);
            }
            past.put(grant);
        }
        self.restore_sessions(remembered, &gone, &past);
        self.align_elements(now).map_err(StartError::Firewall)?;
        info!(grants = self.ledger.iter().count(), "grants taken over");
        self.memory.begin(&self.ledger, now).map_err(StartError::Journal)
    }

    /// The grant of an entry, also if its client is not there any more.
    fn grant_of(&self, record: &Record, gone: &Names) -> Option<Grant> {
        let &Record::Grant { id, kid, element, since, ends, told } = record else {
            return None;
        };
        Some(Grant { id, client: self.name_of(&kid, gone)?, kid, element, since, ends, told })
    }
}

/// What makes a start useless is said before anything is made.
fn is_fit(config: &Config, path: &Path) -> Result<(), StartError> {
    privileges::warden::expect_all().map_err(StartError::Privileges)?;
    check::targets(config, path).map_err(StartError::Target)?;
    check::forwarding(config).iter().for_each(|notice| warn!(notice, "gateway"));
    Ok(())
}

/// Where callers come, and who listens to them.
struct Hall {
    serving: JoinHandle<()>,
    /// Why there are no metrics.
    metrics_fault: Option<String>,
}

/// Listens at the control socket, and for whoever collects metrics.
fn hear_callers(
    config: &Config,
    access: Access,
    events: broadcast::Sender<Arc<Event>>,
) -> Result<(Hall, mpsc::Receiver<Call>), StartError> {
    let listener = server::bind(&control::socket_path(&config.run_dir), access.group)
        .map_err(StartError::system("make the control socket in run-dir"))?;
    let (caller, calls) = mpsc::channel(16);
    let (metrics, metrics_fault) = operators::metrics(config, access, caller.clone());
    let callers = server::serve(listener, access, events, caller);
    let serving = tokio::spawn(async {
        tokio::join!(callers, metrics);
    });
    Ok((Hall { serving, metrics_fault }, calls))
}

/// Where capabilities are missing, whatever failed has failed for want of them.
fn without_privileges(error: StartError) -> StartError {
    privileges::warden::expect_all().err().map_or(error, StartError::Privileges)
}

fn make_directories(config: &Config) -> Result<(), StartError> {
    let clients = Store::open(&config.keys_dir).clients_dir();
    for dir in [&config.state_dir, &config.run_dir, &clients] {
        match files::make_private_dir(dir) {
            // A state directory that cannot be made leaves spad closed, not dead.
            Err(error) if dir == &config.state_dir && !dir.exists() => {
                warn!(%error, "no knock is granted until the state directory can be made");
            }
            made => made.map_err(StartError::Directory)?,
        }
    }
    Ok(())
}

/// Puts the ruleset in force, before anything listens.
fn close(
    config: &Config,
    path: &Path,
    ruleset: &Ruleset,
    banned: Option<Vec<Interval>>,
) -> Result<(Firewall, Tables), StartError> {
    let was_in_force = kept::is_in_force(&config.run_dir);
    let options = Options { existing: !was_in_force, ..config.options() };
    let mut firewall = Firewall::open_with(options).map_err(StartError::Firewall)?;
    let not_attachable = |error| StartError::Attach(path.to_owned(), error);
    firewall.attachable(&config.attachment()).map_err(not_attachable)?;
    banned.into_iter().for_each(|banned| firewall.stage_banned(banned));
    let tables = Tables::watch(&firewall).map_err(StartError::Firewall)?;
    let shut = match Trial::has_lapsed(&config.run_dir, clock::wall()) {
        true => Some(Vec::new()),
        false => kept::shut(&config.run_dir),
    };
    shut.into_iter().for_each(|shut| firewall.takes_over_from(shut));
    let installed =
        install(&mut firewall, &config.run_dir, ruleset).map_err(StartError::Firewall)?;
    if was_in_force && installed.origin == Origin::Created {
        warn!(
            "somebody has removed our table while spad did not run: connections made since end now"
        );
    }
    info!(origin = ?installed.origin, existing = installed.existing, owned = firewall.owned(), "ruleset in force");
    Ok((firewall, tables))
}

/// Puts a ruleset in force, takes note of what it shuts, and says what of connections from before
/// could not be seen to.
pub(super) fn install(
    firewall: &mut Firewall,
    run_dir: &Path,
    ruleset: &Ruleset,
) -> Result<Installed, FirewallError> {
    let installed = firewall.install(ruleset)?;
    kept::note_shut(run_dir, ruleset);
    for warning in &installed.warnings {
        warn!(warning, "firewall");
    }
    Ok(installed)
}
