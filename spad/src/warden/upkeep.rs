//! What happens between knocks: records change, interfaces come and go,
//! somebody touches the table, the lease is renewed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use spa_keys::ClientName;
use spa_proto::Kid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::Warden;
use super::clients::{Difference, Touched};
use super::renewal::Written;
use super::start;
use crate::clock::{self, Reading};
use crate::firewall::{Attachment, Drift, Element, Event, Firewall, FirewallError, Watch};
use crate::grants::{Change, Grant};
use crate::ipc::ToGate;
use crate::service;
use crate::sys::ready;

/// How often the lease is renewed (protocol §7, rule R3).
const RENEWAL: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };
/// How long after a failed repair the next is tried.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// How long after a failed attempt to watch the records the next is made.
const WATCH_PAUSE: Duration = Duration::from_millis(500);
/// How many elements are taken out in one transaction.
const TOGETHER: usize = 4096;
/// By how much an element may outlast its grants before it is set right.
pub(super) const SLACK: Duration = Duration::from_secs(1);

/// Says each time that [`RENEWAL`] is over, also while the machine was suspended.
/// The kernel's timer, since the runtime's own wakes three times on the way.
pub(super) struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        let every = Itimerspec { it_interval: RENEWAL, it_value: RENEWAL };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
        Ok(Self(ready::register(timer, Interest::READABLE)?))
    }

    /// Several that were missed are one.
    pub(super) async fn next(&self) -> io::Result<()> {
        let read = |timer: &OwnedFd| rustix::io::read(timer, &mut [0_u8; 8]).map_err(Into::into);
        self.0.async_io(Interest::READABLE, read).await.map(drop)
    }
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

    /// Whose tables are watched beside ours.
    pub(super) fn follow(&mut self, attachment: &Attachment) {
        self.watch.follow(attachment);
    }

    pub(super) async fn changed(&mut self) -> io::Result<Vec<Event>> {
        let mut ready = self.ready.readable().await?;
        // Cleared first: what comes while reading makes it ready again.
        ready.clear_ready();
        self.watch.events().map_err(io::Error::other)
    }
}

impl Warden {
    pub(super) fn records_changed(&mut self, touched: io::Result<Touched>) {
        match touched {
            Ok(Touched { files, all: false, own_keys }) => {
                if own_keys {
                    self.look_at_own_keys();
                }
                let differences = self.clients.look(&files);
                self.follow(differences);
            }
            // Events were lost, or the directory itself was moved or removed.
            Ok(_) | Err(_) => self.watch_again(),
        }
    }

    /// Watches the records' directory as it is now, and looks at all of it, while knocks
    /// are served.
    pub(super) fn watch_again(&mut self) {
        self.watch_anew();
        if !self.clients.begin_sweep() {
            let differences = self.clients.reload();
            self.follow(differences);
        }
    }

    /// Watches the records' directory for the first time, and knows all of them then.
    pub(super) fn begin_to_watch(&mut self) {
        self.watch_anew();
        let differences = self.clients.reload();
        self.follow(differences);
    }

    fn watch_anew(&mut self) {
        self.records = super::clients::Watch::new(self.clients.store())
            .inspect_err(|error| {
                error!(%error, "the client records cannot be watched: looked at every 20 s");
            })
            .ok();
        self.watch_at = self.records.is_none().then(|| Instant::now() + WATCH_PAUSE);
    }

    /// Whether the directory is there again, as after a backup was put back:
    /// revocations are not to wait for the next look at all of it.
    pub(super) fn try_to_watch(&mut self) {
        match super::clients::Watch::new(self.clients.store()) {
            Ok(_) => self.watch_again(),
            Err(_) => self.watch_at = Some(Instant::now() + WATCH_PAUSE),
        }
    }

    /// People's files are not being written, but broken.
    pub(super) fn end_doubts(&mut self) {
        let differences = self.clients.end_doubts(Instant::now());
        self.follow(differences);
    }

    pub(super) fn follow(&mut self, differences: Vec<Difference>) {
        self.doubt_at = self.clients.doubts_end(Instant::now());
        self.memory.knows(self.clients.newest());
        // Together: each look at what is open is one for all of them.
        let mut over: BTreeMap<&'static str, HashSet<Kid>> = BTreeMap::new();
        for difference in differences {
            match difference {
                Difference::Came(kid) => {
                    self.keeper.iter_mut().for_each(|keeper| keeper.is_to_know(kid));
                }
                Difference::Went(name, kid) => match self.clients.name_of(&kid).cloned() {
                    Some(new) => {
                        info!(client = %new, former = %name, %kid, "client renamed");
                        self.ledger.rename(&kid, &new);
                    }
                    None => {
                        over.entry(self.dismiss(&name, kid)).or_default().insert(kid);
                    }
                },
                Difference::Shut(name, kid) => {
                    info!(client = %name, %kid, "client disabled");
                    over.entry("disabled").or_default().extend(self.clients.kids_beside(&kid));
                }
            }
        }
        for (why, kids) in over {
            self.end_grants(why, |grant| kids.contains(&grant.kid));
            self.cut(why, |session| kids.contains(&session.kid));
        }
        self.introduce();
    }

    /// A client is revoked, or knocks under another key-id alone from now on. Why what
    /// it has open ends.
    fn dismiss(&mut self, name: &ClientName, kid: Kid) -> &'static str {
        let (what, why) = match self.clients.has(name) {
            true => ("client has other keys", "keys replaced"),
            false => ("client gone", "revoked"),
        };
        info!(client = %name, %kid, "{what}");
        self.tell(&ToGate::Remove(kid));
        why
    }

    /// Ends grants before their time; how many.
    pub(super) fn end_grants(
        &mut self,
        why: &'static str,
        which: impl Fn(&Grant) -> bool,
    ) -> usize {
        self.make_up_for_suspend(Reading::now());
        let now = clock::monotonic();
        self.expire(now);
        let (ended, changes) = self.ledger.end(now, which);
        // Written down first: a restart must not take them over again.
        self.memory.note_ended(&ended, &self.ledger);
        self.put_out(&changes);
        ended.iter().for_each(|grant| self.audit.ended(grant, why));
        self.tell_ends(&ended, why);
        ended.len()
    }

    /// What is to go goes together: a client may have thousands, and each transaction takes its
    /// time. Where that is refused each goes alone, so that one does not hold up another.
    fn put_out(&mut self, changes: &[Change]) {
        let withdrawn = |change: &Change| match change {
            Change::Withdraw(element) => Some(*element),
            Change::Shorten(..) => None,
        };
        let withdrawn: Vec<_> = changes.iter().filter_map(withdrawn).collect();
        for part in withdrawn.chunks(TOGETHER) {
            if self.firewall.withdraw(part).is_err() {
                part.iter().for_each(|element| {
                    let told = self.firewall.withdraw(std::slice::from_ref(element));
                    self.try_again_unless(told);
                });
            }
        }
        for change in changes {
            if let Change::Shorten(element, left) = change {
                let told = self.firewall.retime(element, *left);
                self.try_again_unless(told);
            }
        }
    }

    fn try_again_unless(&mut self, told: Result<(), FirewallError>) {
        if let Err(error) = told {
            error!(%error, "a grant could not be taken back: tried again");
            self.repair_at = Some(Instant::now() + PAUSE);
        }
    }

    pub(super) fn restored(&mut self, heard: io::Result<()>) {
        if let Err(error) = heard {
            warn!(%error, "no more news of the machine being restored");
            self.machine = None;
        }
        self.memory.start_over("the machine was restored from a snapshot", Reading::now());
        self.memory.catch_up(&self.ledger);
        // Their addresses are of then, and by the kernel's clock that time has not passed.
        self.end_grants("machine restored", |_| true);
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
            Ok(events) if events == [Event::Attached] => self.attach_again(),
            Ok(events) => {
                if events.contains(&Event::Lost) {
                    info!("others change the packet filter faster than we read: all is looked at");
                }
                self.repair();
            }
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
        let repaired = repaired.and_then(|()| self.align(Reading::now()));
        self.repair_at = repaired.is_err().then(|| Instant::now() + PAUSE);
        self.attach_again();
        if let Err(error) = repaired {
            error!(%error, "the firewall could not be put right: tried again");
        }
    }

    fn reinstall(&mut self, drift: &Drift) -> Result<(), FirewallError> {
        warn!(%drift, "somebody has changed our table: putting it back");
        self.tables.repairs += 1;
        let trusted = self.config.trusted.clone();
        self.stage_bans(&trusted);
        start::install(&mut self.firewall, &self.config.run_dir, &self.ruleset).map(drop)
    }

    /// Makes the kernel's elements and the ledger say the same: what the ledger
    /// does not know goes, what the kernel has lost comes back for the time it
    /// has left, and what would last too long is shortened.
    pub(super) fn align_elements(&mut self, now: Reading) -> Result<(), FirewallError> {
        let slept = self.has_slept(now);
        let now = now.clock;
        self.expire(now);
        let found = self.firewall.elements()?;
        let mut wanted: HashMap<Element, Duration> = HashMap::new();
        for grant in self.ledger.iter() {
            let left = wanted.entry(grant.element).or_default();
            *left = (*left).max(grant.ends.since(now));
        }
        let strange = found.iter().map(|(element, _)| *element);
        let strange: Vec<_> = strange.filter(|element| !wanted.contains_key(element)).collect();
        if !strange.is_empty() {
            match slept {
                true => info!(elements = strange.len(), "ended in the suspend: taken out"),
                false => {
                    warn!(elements = strange.len(), "grants that spad did not make: taken out");
                }
            }
            self.firewall.withdraw(&strange)?;
        }
        for (element, lasts) in &found {
            if wanted.get(element).is_some_and(|left| *lasts <= *left + SLACK) {
                wanted.remove(element);
            }
        }
        wanted.retain(|_, left| left.as_millis() > 0);
        wanted.iter().try_for_each(|(element, left)| self.firewall.retime(element, *left))
    }

    /// Every 20 seconds.
    pub(super) fn tick(&mut self) {
        service::alive();
        let now = Reading::now();
        self.make_up_for_suspend(now);
        self.hear_flows();
        self.expire(now.clock);
        self.audit.tidy(now.clock);
        self.budgets.forget_full(now.clock);
        self.look_after_bans(now);
        self.memory.look_at_clocks(now);
        self.memory.catch_up(&self.ledger);
        if self.records.as_ref().is_none_or(|watch| watch.is_stale(self.clients.store())) {
            self.watch_again();
        }
        let differences = self.clients.look_at_broken();
        self.follow(differences);
        self.look_at_own_keys();
        self.keep_again();
        self.end_overlaps(now);
        self.look_after_keeper();
        self.look_at_discipline();
        self.last_knocks.write(&mut self.writer, |kid| self.clients.name_of(kid).is_some());
        self.memory.renew(now);
    }

    pub(super) fn lease_written(&mut self, written: Written) {
        self.memory.lease_written(written);
    }
}
