//! A look at all records while knocks are served: a thread reads them, and they are taken
//! up some at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::thread::Builder;

use spa_keys::{ClientRecord, FileOf, Store, StoreError};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::Clients;
use super::held::Places;
use super::look::{DIRECTORY, Difference, Look, People};
use crate::sys::memory;
use crate::wipe;

/// So many records are taken up at once: 0.8 to 0.95 ms of a debug build on a busy machine.
const SLICE: usize = 64;
/// How many slices may wait, so that a crowd is never twice in memory.
const WAITING: usize = 2;

/// What was read.
pub(in crate::warden) enum Slice {
    /// First: all that is said of people.
    People(People),
    /// Some records.
    Clients(Vec<(OsString, Result<ClientRecord, StoreError>)>),
    /// Last: whether that was all.
    End(Result<(), StoreError>),
}

/// A look at all records that is under way.
pub(super) struct Sweep {
    read: Receiver<Slice>,
    /// Places of the records that were found.
    seen: Places,
    /// Files that could not be used when it began, and were not found yet.
    unfound: BTreeSet<OsString>,
    /// Files looked at since it began: what was read of them may be of before.
    touched: BTreeSet<OsString>,
    /// What was broken before, and was told.
    told: BTreeMap<OsString, String>,
    /// Whether somebody went, who may have stood in the way of another.
    went: bool,
    /// Whether another was asked for meanwhile.
    again: bool,
}

impl Sweep {
    pub(super) fn of(read: Receiver<Slice>, told: BTreeMap<OsString, String>) -> Self {
        let (unfound, touched) = (told.keys().cloned().collect(), BTreeSet::new());
        Self { read, seen: Places::default(), unfound, touched, told, went: false, again: false }
    }

    /// The next that is read.
    #[cfg(test)]
    pub(super) fn next(&mut self) -> Slice {
        self.read.blocking_recv().unwrap()
    }

    /// This file is looked at by itself.
    pub(super) fn touch(&mut self, file: &OsString) {
        self.touched.insert(file.clone());
    }

    /// This was told.
    pub(super) fn tell(&mut self, file: &OsString, error: &str) {
        self.told.insert(file.clone(), error.to_owned());
    }
}

impl Clients {
    /// Begins to look at all records again; what is found, [`Self::swept`] says. `false`
    /// where there is no thread for it.
    pub(in crate::warden) fn begin_sweep(&mut self) -> bool {
        if let Some(sweep) = &mut self.sweep {
            sweep.again = true;
            return true;
        }
        let (tell, read) = channel(WAITING);
        let store = self.store.clone();
        let begun = Builder::new().name("sweep".into()).spawn(move || read_all(&store, &tell));
        self.sweep = begun.is_ok().then(|| Sweep::of(read, self.broken.clone()));
        self.sweep.is_some()
    }

    /// Sleeps until something is read: then [`Self::take_slice`] must be called.
    pub(in crate::warden) async fn swept(&mut self) -> Slice {
        match &mut self.sweep {
            Some(sweep) => sweep.read.recv().await.unwrap_or_else(cut_short),
            None => std::future::pending().await,
        }
    }

    /// Takes up what was read; what has changed by it.
    pub(in crate::warden) fn take_slice(&mut self, slice: Slice) -> Vec<Difference> {
        let Some(mut sweep) = self.sweep.take() else { return Vec::new() };
        let mut look = Look::beside(self, BTreeMap::new());
        match slice {
            Slice::People(people) => look.sweep_people(people, &mut sweep),
            Slice::Clients(clients) => {
                wipe::stack_after(|| look.sweep_clients(clients, &mut sweep));
            }
            Slice::End(read) => {
                let differences = self.end_sweep(sweep, read);
                // Some hundred bytes for each record, which its readers had.
                memory::give_back();
                return differences;
            }
        }
        let differences = look.differences;
        sweep.went |= differences.iter().any(|one| matches!(one, Difference::Went(..)));
        self.sweep = Some(sweep);
        differences
    }

    /// What was not found has gone. A directory that cannot be read has no clients.
    fn end_sweep(&mut self, sweep: Sweep, read: Result<(), StoreError>) -> Vec<Difference> {
        let Sweep { seen, unfound, touched, told, went, again, .. } = sweep;
        self.broken.retain(|file, _| !unfound.contains(file) || touched.contains(file));
        let is_read = read.is_ok();
        self.broken.extend(read.err().map(|error| (DIRECTORY.into(), error.to_string())));
        let mut look = Look::beside(self, told);
        for name in look.clients.held.names_beside(&seen) {
            if !(is_read && touched.contains(&Store::file_of(&name))) {
                look.forget(&name);
            }
        }
        if went {
            look.again_at_broken();
        }
        let differences = look.end();
        if again && !self.begin_sweep() {
            return differences.into_iter().chain(self.reload()).collect();
        }
        differences
    }
}

impl Look<'_> {
    fn sweep_people(&mut self, mut people: People, sweep: &mut Sweep) {
        let found: BTreeSet<_> = people.iter().map(|(name, _)| name.clone()).collect();
        let gone = self.clients.held.people().filter(|name| !found.contains(*name));
        people.extend(gone.cloned().map(|name| (name, None)).collect::<Vec<_>>());
        people.retain(|(name, _)| !sweep.touched.contains(&Store::file_of_person(name)));
        for (name, _) in &people {
            sweep.unfound.remove(&Store::file_of_person(name));
        }
        self.take_up_people(people);
    }

    fn sweep_clients(
        &mut self,
        clients: Vec<(OsString, Result<ClientRecord, StoreError>)>,
        sweep: &mut Sweep,
    ) {
        for (file, found) in clients {
            if sweep.touched.contains(&file) {
                continue;
            }
            sweep.unfound.remove(&file);
            sweep.seen.extend(self.take_up(&file, found));
        }
    }
}

/// The thread has ended in the middle: what it has not told is not there, as in a
/// directory that cannot be read.
fn cut_short() -> Slice {
    let ended = std::io::Error::other("the thread that reads the records has ended");
    Slice::End(Err(
        spa_keys::files::FileError::io(std::path::Path::new(DIRECTORY), "read", ended).into()
    ))
}

pub(super) fn read_all(store: &Store, tell: &Sender<Slice>) {
    // Who does not hear it any more has ended.
    let tell = |slice| drop(tell.blocking_send(slice));
    let mut people = Vec::new();
    let read = store.each_person(|file, found| {
        if let Some(FileOf::Person(name)) = Store::whose(&file) {
            people.push((name, Some(found)));
        }
    });
    tell(Slice::People(people));
    let mut some = Vec::with_capacity(SLICE);
    let read = read.and_then(|()| {
        wipe::stack_after(|| {
            store.each_client(|file, found| {
                some.push((file, found));
                if some.len() == SLICE {
                    tell(Slice::Clients(std::mem::replace(&mut some, Vec::with_capacity(SLICE))));
                }
            })
        })
    });
    tell(Slice::Clients(some));
    tell(Slice::End(read));
}
