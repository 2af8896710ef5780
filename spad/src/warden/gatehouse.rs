//! The gatekeeper, as the warden keeps it: started, told what it needs to know,
//! listened to, and replaced when it dies.

use std::io;
use std::time::Duration;

use spa_proto::{GateSettings, History, Kid, Reason, ServerPublic};
use tokio::time::Instant;
use tracing::{error, warn};

use super::Warden;
use super::keeper::{Keeper, Room};
use crate::capture::{Family, socket};
use crate::ipc::{INSERT_LEN, ToGate, ToWarden};
use crate::service;
use crate::sys::memory;
use crate::wipe;

/// How long a dead gatekeeper's successor waits. The pause doubles with each
/// that does not live for [`LONG`], so that one that dies at once does not keep
/// the machine busy.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);
/// How many knocks are opened at once at most, and for how long they are gathered. A
/// revocation waits until they are open; where the kernel refuses that, also for some
/// ten milliseconds for each set that is full, and for each knock that it refuses for
/// another reason.
pub(super) const BATCH: usize = 32;
const TURN: Duration = Duration::from_millis(5);
/// How long a gatekeeper may take to answer: clients are introduced in rounds, so
/// that no question waits behind a crowd.
const PATIENCE: Duration = Duration::from_secs(10);

/// When gatekeepers were started, and the next one is to be.
pub(super) struct Restarts {
    pub(super) count: u64,
    pub(super) next: Option<Instant>,
    started: Instant,
    pause: Duration,
}

impl Restarts {
    pub(super) fn new() -> Self {
        Self { count: 0, next: None, started: Instant::now(), pause: PAUSE }
    }

    fn begin(&mut self) {
        self.next = None;
        self.started = Instant::now();
    }

    fn plan(&mut self) {
        let lived = self.started.elapsed() > LONG;
        self.pause = if lived { PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        self.count += 1;
        self.next = Some(Instant::now() + self.pause);
    }
}

impl Warden {
    pub(super) fn start_keeper(&mut self) {
        self.restarts.begin();
        match Keeper::start(&self.post) {
            Ok(keeper) => {
                self.keeper = Some(keeper);
                self.provision();
            }
            Err(error) => {
                error!(%error, "the gatekeeper cannot be started: no knock is heard");
                self.restarts.plan();
            }
        }
    }

    /// Tells the gatekeeper all it needs to know, from the start.
    pub(super) fn provision(&mut self) {
        let settings = GateSettings { tolerance: self.config.tolerance, ..GateSettings::default() };
        let (current, former) = self.own.sets();
        self.tell(&ToGate::Serve { current, former, settings });
        if let Some(keeper) = &mut self.keeper {
            keeper.is_to_know_all(self.clients.kids());
        }
        self.listen();
        self.introduce();
    }

    /// Tells the gatekeeper of clients that it is to know, as far as there is room;
    /// [`Keeper::has_room`] says when there is more.
    pub(super) fn introduce(&mut self) {
        let room = |keeper: &Keeper| if keeper.knows_all() { None } else { keeper.room() };
        while let Some(room) = self.keeper.as_ref().and_then(room) {
            self.introduce_some(room);
        }
    }

    /// One round of it. After the last the gatekeeper listens, if it is to.
    pub(super) fn introduce_some(&mut self, room: Room) {
        let Some(keeper) = &mut self.keeper else { return };
        let kids = keeper.round();
        wipe::stack_after(|| {
            let some = |public: ServerPublic, former: bool, kids: &[Kid]| {
                let keys = |kid: &Kid| Some((*kid, self.clients.keys(kid, &public)?));
                ToGate::Insert { former, clients: kids.iter().filter_map(keys).collect() }
            };
            let used =
                kids.iter().filter_map(|kid| Some(used(*kid, self.memory.replay().history(kid)?)));
            let parts = |(public, former): (ServerPublic, bool)| {
                kids.chunks(INSERT_LEN).map(move |kids| some(public, former, kids))
            };
            let messages: Vec<_> = self.own.publics().flat_map(parts).chain(used).collect();
            keeper.tell_round(&messages, room);
        });
        if keeper.is_to_listen && keeper.knows_all() {
            memory::give_back();
            self.listen();
        }
    }

    pub(super) fn tell(&self, message: &ToGate) {
        if let Some(keeper) = &self.keeper {
            keeper.tell(message);
        }
    }

    /// Gives the gatekeeper new sockets, and keeps none.
    pub(super) fn listen(&mut self) {
        self.listening = false;
        if let Some(keeper) = &mut self.keeper {
            keeper.is_to_listen = !keeper.knows_all();
            if keeper.is_to_listen {
                return;
            }
        }
        let port = self.config.listen_port;
        let indices = self.present.indices.as_deref();
        let sockets: io::Result<Vec<_>> =
            Family::BOTH.into_iter().map(|family| socket::open(family, port, indices)).collect();
        match (sockets, &mut self.keeper) {
            (Ok(sockets), Some(keeper)) => keeper.listen(port, sockets, PATIENCE),
            (Ok(_), None) => {}
            (Err(error), _) => error!(%error, "no packet socket: no knock is heard"),
        }
        for name in &self.present.missing {
            warn!(interface = %name, "not there yet: knocks are heard on it as soon as it comes");
        }
    }

    /// Asks for its counters; whether there is one to ask.
    pub(super) fn ask_counters(&mut self) -> bool {
        self.keeper.as_mut().map(|keeper| keeper.report(PATIENCE)).is_some()
    }

    /// Every now and then: one that does not hear is told again, and one that
    /// does not answer has stopped.
    pub(super) fn look_after_keeper(&mut self) {
        let is_told = self.keeper.as_ref().is_some_and(Keeper::knows_all);
        if is_told && !self.listening {
            self.provision();
        }
        self.ask_counters();
    }

    /// Takes what the gatekeeper has said, in order, and some of what it has said
    /// meanwhile. What comes after a silence is opened alone: nobody is asked whether
    /// there is more, which costs it a call of the system.
    pub(super) fn heard(&mut self, first: io::Result<ToWarden>) {
        let begun = Instant::now();
        let most = if begun.duration_since(self.heard_at) < TURN { BATCH } else { 1 };
        let (mut accepted, mut enrols) = (Vec::new(), false);
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match self.expected(message) {
                Ok(ToWarden::Request(request)) => {
                    enrols |= request.enrols();
                    accepted.extend(self.accept(&request));
                }
                Ok(ToWarden::Listening) => self.listens(),
                Ok(ToWarden::Counters(counters)) => {
                    self.counters.gate = counters;
                    self.answer_waiting(true);
                }
                Err(error) => self.replace_keeper(&error),
            }
            if accepted.len() < most && begun.elapsed() < TURN {
                next = self.keeper.as_ref().and_then(Keeper::at_once);
            }
        }
        self.open(&accepted);
        if enrols {
            wipe::stack();
        }
        self.heard_at = Instant::now();
        self.owes_a_look = true;
    }

    fn listens(&mut self) {
        self.listening = true;
        service::ready();
    }

    fn expected(&mut self, message: io::Result<ToWarden>) -> io::Result<ToWarden> {
        let message = message?;
        if let Some(keeper) = &mut self.keeper {
            keeper.expect(&message, PATIENCE)?;
        }
        Ok(message)
    }

    pub(super) fn keeper_is_silent(&mut self) {
        self.replace_keeper(&io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
    }

    /// Ends the gatekeeper, whatever it is doing, and plans another.
    fn replace_keeper(&mut self, why: &io::Error) {
        let mut keeper = self.keeper.take();
        let status = keeper.as_mut().and_then(Keeper::end).map(|status| status.to_string());
        let said = keeper.map(|mut keeper| keeper.last_words()).filter(|said| !said.is_empty());
        warn!(%why, status, said, "the gatekeeper has ended or was ended: another is started");
        self.listening = false;
        for (former, gate) in self.counters.former.iter_mut().zip(&mut self.counters.gate) {
            *former = former.saturating_add(std::mem::take(gate));
        }
        self.restarts.plan();
    }

    /// Counters of both processes, by reason.
    pub(super) fn counters(&self) -> impl Iterator<Item = (Reason, u64)> {
        let sum = |reason: Reason| {
            let all = [&self.counters.warden, &self.counters.former, &self.counters.gate];
            let counts = all.iter().filter_map(|counters| counters.get(reason.index()));
            counts.fold(0_u64, |sum, count| sum.saturating_add(*count))
        };
        Reason::ALL.into_iter().map(move |reason| (reason, sum(reason)))
    }
}

/// What a client has used already.
fn used(kid: Kid, history: &History) -> ToGate {
    ToGate::Recall { kid, floor: history.floor(), used: history.used().to_vec() }
}
