//! The warden: the process that holds the firewall. It never reads a network
//! byte; what it gets are fixed-size requests, each of which it verifies itself.
//!
//! `start` brings everything up, `knock` is the way of one request, `upkeep`
//! is what happens meanwhile, `answer` is the administrator's side.

mod answer;
mod attach;
mod bans;
mod budgets;
mod clients;
mod copying;
mod enforce;
mod faults;
mod first_knocks;
mod gatehouse;
mod hooks;
pub(crate) mod host;
mod keeper;
mod keeping;
mod knock;
mod last_knocks;
mod machine;
mod memory;
mod operators;
mod overlaps;
mod own;
mod post;
mod process;
mod rates;
mod renewal;
mod sessions;
mod start;
mod steady;
mod stop;
mod suspend;
mod upkeep;
mod worker;

use std::path::PathBuf;

use spa_proto::{Monotonic, PreparedKeys, Reason};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::audit::Audit;
use crate::clock;
use crate::config::Config;
use crate::control::server::{Call, Reply};
use crate::enforcement::Enforcement;
use crate::firewall::{Firewall, Ruleset};
use crate::grants::Ledger;
use crate::hooks::Hooks;
use crate::ipc::ToWarden;
use crate::sys;

pub use start::StartError;
use stop::Course;

/// Runs the daemon until it is told to end.
///
/// # Errors
/// [`StartError`], where it could not come up: nothing is open then that was
/// not open before.
pub async fn run(config_path: PathBuf) -> Result<(), StartError> {
    sys::memory::keep_little();
    let mut signals = Signals::new().map_err(StartError::system("listen for signals"))?;
    let (mut warden, mut calls) = Warden::start(config_path)?;
    info!(port = warden.config.listen_port, clients = warden.clients.len(), "ready");
    let ticks = upkeep::Ticks::new().map_err(StartError::system("make a timer"))?;
    while warden.course == Course::Running {
        if warden.turn(&mut signals, &mut calls, &ticks).await {
            // However much of one kind comes: what else has happened is seen before the next.
            tokio::task::yield_now().await;
        }
    }
    warden.end(calls).await;
    Ok(())
}

/// Everything that the daemon holds.
struct Warden {
    config_path: PathBuf,
    config: Config,
    own: own::OwnKeys,
    clients: clients::Clients,
    /// `None` while their directory cannot be watched.
    records: Option<clients::Watch>,
    /// When that is tried again.
    watch_at: Option<Instant>,
    /// When a person's file has been unreadable for long enough.
    doubt_at: Option<Instant>,
    host: host::Host,
    /// `None` where the kernel does not tell.
    machine: Option<machine::Machine>,
    present: host::Present,
    memory: memory::Memory,
    /// Verifying keys of clients that have knocked.
    prepared: PreparedKeys,
    budgets: budgets::Budgets,
    first_knocks: first_knocks::FirstKnocks,
    last_knocks: last_knocks::Knocks,
    overlaps: overlaps::Overlaps,
    /// Writes what knocks leave beside the records, and the bans.
    writer: worker::Worker,
    /// Writes bans, which may be on another disk than the keys.
    ban_writer: worker::Worker,
    ledger: Ledger,
    /// `None` where the kernel does not tell of connections.
    connections: Option<sessions::Connections>,
    firewall: Firewall,
    ruleset: Ruleset,
    enforcement: Enforcement,
    keeping: keeping::Keeping,
    tables: upkeep::Tables,
    bans: bans::Register,
    /// Why our rule is not in all chains that it should be in, as last said.
    unattached: Option<String>,
    audit: Audit,
    hooks: Hooks,
    /// Why none is run.
    hooks_fault: Option<String>,
    /// Why nobody can collect metrics.
    metrics_fault: Option<String>,
    keeper: Option<keeper::Keeper>,
    post: post::Post,
    /// Whether the gatekeeper has said that it listens.
    listening: bool,
    /// When the gatekeeper was last listened to.
    heard_at: Instant,
    /// Whether knocks were opened since everything else was last looked at.
    owes_a_look: bool,
    restarts: gatehouse::Restarts,
    /// When a repair of the firewall that has failed is tried again.
    repair_at: Option<Instant>,
    /// When the kernel's elements last had the time that their grants and bans have.
    aligned: clock::Reading,
    counters: Counters,
    waiting: Vec<oneshot::Sender<Reply>>,
    answer_by: Option<Instant>,
    /// Listens for callers.
    serving: tokio::task::JoinHandle<()>,
    course: Course,
    started: Monotonic,
    /// Who may ask beside root, as it was at the start.
    group: Option<u32>,
    /// Whether what is over by the clock is thrown away.
    steady: steady::Steady,
    /// Why the clock is not to be relied on, as last said.
    clock_fault: Option<String>,
}

/// How often each reason was given.
struct Counters {
    /// By the warden itself.
    warden: [u64; Reason::COUNT],
    /// By gatekeepers that have ended.
    former: [u64; Reason::COUNT],
    /// By the one that runs, when last asked.
    gate: [u64; Reason::COUNT],
}

impl Counters {
    fn none() -> Self {
        let none = [0; Reason::COUNT];
        Self { warden: none, former: none, gate: none }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

impl Warden {
    /// Waits for the next thing that happens, and deals with it.
    /// Whether there was anything.
    async fn turn(
        &mut self,
        signals: &mut Signals,
        calls: &mut mpsc::Receiver<Call>,
        ticks: &upkeep::Ticks,
    ) -> bool {
        let owed = self.owes_a_look;
        let expiry = self.next_expiry();
        let trial = self.trial_ends();
        tokio::select! {
            biased;
            // Before any knock: what was granted since the snapshot is not known any more.
            restored = machine::Machine::restored(self.machine.as_ref()) => self.restored(restored),
            // Then knocks, since looking at all that follows takes a tenth of a knock's time; but the
            // next not before that: a revocation, or a repair, waits for no more than one batch.
            message = keeper_next(self.keeper.as_ref()), if !owed => self.heard(message),
            _ = signals.terminate.recv() => self.course = Course::Ending,
            _ = signals.interrupt.recv() => self.course = Course::Ending,
            changed = clients::Watch::changed(self.records.as_ref()) => self.records_changed(changed),
            events = self.tables.changed() => self.tables_changed(events),
            () = at(expiry) => self.expire(clock::monotonic()),
            changed = self.host.changed() => self.host_changed(&changed),
            written = self.memory.renewed() => self.lease_written(written),
            () = at(self.bans.late_at()) => self.bans_are_late(Instant::now()),
            written = self.bans.written() => self.bans_written(&written),
            _ = ticks.next() => self.tick(),
            () = at(trial) => self.trial_is_over(),
            () = at(self.restarts.next) => self.start_keeper(),
            () = at(self.keeper.as_ref().and_then(keeper::Keeper::owes_by)) => self.keeper_is_silent(),
            () = at(self.repair_at) => self.repair(),
            () = at(self.watch_at) => self.try_to_watch(),
            () = at(self.doubt_at) => self.end_doubts(),
            () = at(self.first_knocks.slow_at()) => self.first_knocks.say_slow(),
            () = at(self.answer_by) => self.answer_waiting(false),
            _ = signals.reload.recv() => self.reload_by_signal(),
            // Of what others may do all the time, one thing between two batches. Whoever waits for
            // a disk first, since no more of these come than that has written.
            noted = self.first_knocks.noted() => {
                self.owes_a_look = false;
                self.first_knocks_noted(noted);
            }
            done = self.overlaps.done() => {
                self.owes_a_look = false;
                self.overlap_ended(done);
            }
            Some((request, caller, reply)) = calls.recv() => {
                self.owes_a_look = false;
                self.hear(request, caller, reply);
            }
            read = self.clients.swept() => {
                self.owes_a_look = false;
                let differences = self.clients.take_slice(read);
                self.follow(differences);
            }
            room = keeper_has_room(self.keeper.as_ref()) => {
                self.owes_a_look = false;
                self.introduce_some(room);
            }
            heard = sessions::Connections::changed(self.connections.as_ref()) => {
                self.owes_a_look = false;
                self.flows_changed(heard);
            }
            () = std::future::ready(()), if owed => {
                self.owes_a_look = false;
                return false;
            }
        }
        true
    }

    fn reload_by_signal(&mut self) {
        match self.reload() {
            Ok(but) if but.is_empty() => info!("configuration read again"),
            Ok(but) => warn!(but = but.join("; "), "configuration read again, and in force, but"),
            Err(error) => warn!(%error, "the configuration stays as it was"),
        }
    }
}

async fn keeper_next(keeper: Option<&keeper::Keeper>) -> std::io::Result<ToWarden> {
    match keeper {
        Some(keeper) => keeper.next().await,
        None => std::future::pending().await,
    }
}

async fn keeper_has_room(keeper: Option<&keeper::Keeper>) -> keeper::Room {
    match keeper {
        Some(keeper) => keeper.has_room().await,
        None => std::future::pending().await,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
