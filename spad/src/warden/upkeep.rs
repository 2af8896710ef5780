//! What happens between knocks: records change, interfaces come and go,
//! somebody touches the table, the lease is renewed, the gatekeeper dies.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use spa_proto::{ClientKeys, GateSettings, Kid, Monotonic, Reason, Timestamp};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::clients::{Difference, Touched};
use super::{Warden, keeper};
use crate::capture::{Family, socket};
use crate::clock::{self, Reading};
use crate::firewall::{Drift, Element, Event, Firewall, FirewallError, Watch};
use crate::grants::{Change, Grant};
use crate::ipc::{ToGate, ToWarden};
use crate::journal::{JournalError, LeaseFile};
use crate::sys::ready;

/// How long a dead gatekeeper's successor waits, so that one that dies at once
/// does not keep the machine busy.
const PAUSE: Duration = Duration::from_millis(200);

/// A renewal of the lease on its way to the disk.
pub(super) type Renewing = JoinHandle<Renewed>;
/// And what became of it.
pub(super) type Renewed = (LeaseFile, Timestamp, Result<(), JournalError>);

/// Waits for the renewal that is on its way, if there is one.
pub(super) async fn renewed(renewing: &mut Option<Renewing>) -> Option<Renewed> {
    let Some(task) = renewing else { return std::future::pending().await };
    let renewed = task.await.ok();
    *renewing = None;
    renewed
}

/// Says when somebody else touches our table.
pub(super) struct Tables {
    watch: Watch,
    ready: AsyncFd<OwnedFd>,
    pub(super) repairs: u64,
}

impl Tables {
    pub(super) fn watch(firewall: &Firewall) -> Result<Self, FirewallError> {
        let watch = Watch::open(firewall)?;
        let ready = watch
            .as_fd()
            .try_clone_to_owned()
            .and_then(|fd| ready::register(fd, Interest::READABLE))
            .map_err(|source| FirewallError::Netlink { doing: "watch for changes", source })?;
        Ok(Self { watch, ready, repairs: 0 })
    }

    pub(super) async fn changed(&mut self) -> io::Result<Vec<Event>> {
        let mut ready = self.ready.readable().await?;
        // Cleared first: what comes while reading makes it ready again.
        ready.clear_ready();
        self.watch.events().map_err(io::Error::other)
    }
}

impl Warden {
    pub(super) fn start_keeper(&mut self) {
        self.start_again = None;
        match keeper::Keeper::start(self.identity) {
            Ok(keeper) => {
                self.keeper = Some(keeper);
                self.provision();
            }
            Err(error) => {
                error!(%error, "the gatekeeper cannot be started: no knock is heard");
                self.start_again = Some(Instant::now() + PAUSE * 10);
            }
        }
    }

    /// Tells the gatekeeper all it needs to know, from the start.
    pub(super) fn provision(&mut self) {
        let settings = GateSettings { tolerance: self.config.tolerance, ..GateSettings::default() };
        let (secret, cloak) = (self.server.secret.clone(), self.server.cloak.clone());
        self.tell(&ToGate::Serve { secret, cloak, settings });
        let kids: Vec<_> = self.clients.iter().map(|record| record.kid).collect();
        kids.iter().for_each(|kid| self.introduce(kid));
        self.listen();
    }

    /// Tells the gatekeeper of one client, and what it has used already.
    fn introduce(&self, kid: &Kid) {
        let Some(record) = self.clients.get(kid) else { return };
        let keys = ClientKeys::derive(&record.psk, &self.public, kid);
        self.tell(&ToGate::Insert { kid: *kid, keys });
        if let Some(history) = self.memory.replay().history(kid) {
            let (floor, used) = (history.floor(), history.used().to_vec());
            self.tell(&ToGate::Recall { kid: *kid, floor, used });
        }
    }

    fn tell(&self, message: &ToGate) {
        if let Some(keeper) = &self.keeper {
            keeper.tell(message, Vec::new());
        }
    }

    /// Gives the gatekeeper new sockets, and keeps none.
    fn listen(&mut self) {
        self.listening = false;
        let port = self.config.listen_port;
        let indices = self.present.indices.as_deref();
        let sockets: io::Result<Vec<_>> =
            Family::BOTH.into_iter().map(|family| socket::open(family, port, indices)).collect();
        match (sockets, &self.keeper) {
            (Ok(sockets), Some(keeper)) => keeper.tell(&ToGate::Listen { port }, sockets),
            (Ok(_), None) => {}
            (Err(error), _) => {
                error!(%error, "no packet socket: no knock is heard; CAP_NET_RAW is needed")
            }
        }
        for name in &self.present.missing {
            warn!(interface = %name, "not there yet: knocks are heard on it as soon as it comes");
        }
    }

    pub(super) fn heard(&mut self, message: io::Result<ToWarden>) {
        match message {
            Ok(ToWarden::Request(request)) => self.knock(&request),
            Ok(ToWarden::Listening) => self.listening = true,
            Ok(ToWarden::Counters(counters)) => {
                self.counters.gate = counters;
                self.answer_waiting();
            }
            Err(error) => self.bury_keeper(&error),
        }
    }

    fn bury_keeper(&mut self, why: &io::Error) {
        warn!(error = %why, "the gatekeeper has ended: starting another");
        self.keeper = None;
        self.listening = false;
        self.restarts += 1;
        for (former, gate) in self.counters.former.iter_mut().zip(&mut self.counters.gate) {
            *former += std::mem::take(gate);
        }
        self.start_again = Some(Instant::now() + PAUSE);
    }

    pub(super) fn records_changed(&mut self, touched: io::Result<Touched>) {
        match touched {
            Ok(Touched { names, all: false }) => {
                let differences = self.clients.look(&names);
                self.follow(differences);
            }
            // Events were lost, or the directory itself was moved or removed.
            Ok(_) | Err(_) => self.watch_again(),
        }
    }

    /// Watches the records' directory as it is now, and looks at all of it.
    fn watch_again(&mut self) {
        match super::clients::Watch::new(self.clients.store()) {
            Ok(watch) => self.records = Some(watch),
            Err(error) => {
                error!(%error, "the client records cannot be watched: looked at every 20 s");
                self.records = None;
            }
        }
        let differences = self.clients.reload();
        self.follow(differences);
    }

    fn follow(&mut self, differences: Vec<Difference>) {
        for difference in differences {
            match difference {
                Difference::Came(kid) => self.introduce(&kid),
                Difference::Went(name, kid) => {
                    info!(client = %name, %kid, "client gone");
                    self.tell(&ToGate::Remove(kid));
                    self.end_grants("revoked", |grant| grant.kid == kid);
                }
            }
        }
    }

    /// Ends grants before their time; how many.
    pub(super) fn end_grants(&mut self, why: &str, which: impl Fn(&Grant) -> bool) -> usize {
        let now = clock::monotonic();
        self.ledger.expire(now);
        let (ended, changes) = self.ledger.end(now, which);
        for change in changes {
            let told = match change {
                Change::Withdraw(element) => self.firewall.withdraw(&[element]),
                Change::Shorten(element, left) => self.firewall.grant(&element, left),
            };
            if let Err(error) = told {
                error!(%error, "a grant could not be taken back; it ends in its time");
            }
        }
        self.memory.note_ended(&ended, &self.ledger);
        ended.iter().for_each(|grant| self.audit.ended(grant, why));
        ended.len()
    }

    pub(super) fn host_changed(&mut self, changed: &io::Result<()>) {
        if let Err(error) = changed {
            warn!(%error, "interfaces cannot be watched");
        }
        let present = self.host.present(&self.config.interfaces);
        if present != self.present {
            self.present = present;
            self.listen();
        }
    }

    pub(super) fn tables_changed(&mut self, events: io::Result<Vec<Event>>) {
        match events {
            Ok(events) if events.is_empty() => {}
            Ok(_) => self.repair(),
            Err(error) => {
                error!(%error, "the firewall cannot be watched");
                self.repair();
            }
        }
    }

    /// Puts back what somebody else has changed.
    pub(super) fn repair(&mut self) {
        let repaired = match self.firewall.verify() {
            Ok(()) => Ok(()),
            Err(drift) => self.reinstall(&drift),
        };
        let repaired = repaired.and_then(|()| self.align_elements(clock::monotonic()));
        if let Err(error) = repaired {
            error!(%error, "the firewall could not be put right");
        }
    }

    fn reinstall(&mut self, drift: &Drift) -> Result<(), FirewallError> {
        warn!(%drift, "somebody has changed our table: putting it back");
        self.tables.repairs += 1;
        self.firewall.install(&self.ruleset).map(|_| ())
    }

    /// Makes the kernel's elements and the ledger say the same: what the ledger
    /// does not know goes, what the kernel has lost comes back for the time it
    /// has left.
    pub(super) fn align_elements(&mut self, now: Monotonic) -> Result<(), FirewallError> {
        self.ledger.expire(now);
        let found = self.firewall.elements()?;
        let mut wanted: HashMap<Element, Duration> = self
            .ledger
            .iter()
            .map(|grant| (grant.element, self.ledger.remaining(&grant.element, now)))
            .collect();
        let strange: Vec<_> = found
            .iter()
            .map(|(element, _)| *element)
            .filter(|element| !wanted.contains_key(element))
            .collect();
        if !strange.is_empty() {
            warn!(elements = strange.len(), "grants that spad did not make: taken out");
            self.firewall.withdraw(&strange)?;
        }
        for (element, _) in &found {
            wanted.remove(element);
        }
        wanted.iter().try_for_each(|(element, left)| self.firewall.grant(element, *left))
    }

    /// Every 20 seconds.
    pub(super) fn tick(&mut self) {
        let now = Reading::now();
        self.ledger.expire(now.clock);
        self.audit.tidy(now.clock);
        self.memory.look_at_clocks(now);
        if self.records.is_none() {
            self.watch_again();
        }
        if let Some((mut file, horizon)) = self.memory.renewal(now) {
            self.renewing = Some(tokio::task::spawn_blocking(move || {
                let written = file.write(horizon);
                (file, horizon, written)
            }));
        }
    }

    pub(super) fn lease_written(&mut self, written: Option<Renewed>) {
        if let Some((file, horizon, written)) = written {
            self.memory.lease_written(file, horizon, written, clock::monotonic());
        }
    }

    /// Counters of both processes, by reason.
    pub(super) fn counters(&self) -> impl Iterator<Item = (Reason, u64)> {
        let sum = |reason: Reason| {
            let all = [&self.counters.warden, &self.counters.former, &self.counters.gate];
            all.iter().filter_map(|counters| counters.get(reason.index())).sum()
        };
        Reason::ALL.into_iter().map(move |reason| (reason, sum(reason)))
    }
}
