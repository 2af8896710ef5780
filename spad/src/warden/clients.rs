//! The clients' records, as they are on disk, within a second of any change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use spa_keys::{ClientName, ClientRecord, Listing, Store, StoreError};
use spa_proto::Kid;
use std::mem::MaybeUninit;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::sys::ready;

/// All records that can be used.
pub(super) struct Clients {
    store: Store,
    by_kid: HashMap<Kid, ClientRecord>,
    kids: BTreeMap<ClientName, Kid>,
    broken: BTreeMap<String, String>,
}

/// What a look at the disk has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// A client is new, or has other keys.
    Came(Kid),
    /// A record is gone, or cannot be used any more: the client is revoked.
    Went(ClientName, Kid),
}

impl Clients {
    pub(super) fn load(store: Store) -> Self {
        let mut clients =
            Self { store, by_kid: HashMap::new(), kids: BTreeMap::new(), broken: BTreeMap::new() };
        clients.reload();
        clients
    }

    pub(super) fn get(&self, kid: &Kid) -> Option<&ClientRecord> {
        self.by_kid.get(kid)
    }

    pub(super) fn kid_of(&self, name: &ClientName) -> Option<Kid> {
        self.kids.get(name).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ClientRecord> {
        self.by_kid.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_kid.len()
    }

    pub(super) fn broken(&self) -> Vec<String> {
        self.broken.values().cloned().collect()
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Replaces a record by what has just been written.
    pub(super) fn replace(&mut self, record: ClientRecord) {
        self.put(record);
    }

    /// Looks at all records again. A directory that cannot be read has no
    /// clients.
    pub(super) fn reload(&mut self) -> Vec<Difference> {
        self.broken.clear();
        let listing = self
            .store
            .clients()
            .unwrap_or_else(|error| Listing { records: Vec::new(), broken: vec![error] });
        for error in listing.broken {
            self.complain(error.to_string(), &error);
        }
        let kept: BTreeSet<_> = listing.records.iter().map(|record| record.name.clone()).collect();
        let gone: Vec<_> = self.kids.keys().filter(|name| !kept.contains(*name)).cloned().collect();
        let mut differences: Vec<_> = gone.iter().flat_map(|name| self.take(name)).collect();
        differences.extend(listing.records.into_iter().flat_map(|record| self.put(record)));
        differences
    }

    /// Looks at these records again.
    pub(super) fn look(&mut self, names: &BTreeSet<ClientName>) -> Vec<Difference> {
        names.iter().flat_map(|name| self.look_at(name)).collect()
    }

    fn look_at(&mut self, name: &ClientName) -> Vec<Difference> {
        self.broken.remove(name.as_str());
        match self.store.client(name) {
            Ok(record) => self.put(record),
            Err(error) => {
                if !matches!(error, StoreError::Unknown(_) | StoreError::Revoked(_)) {
                    self.complain(name.as_str().to_owned(), &error);
                }
                self.take(name).into_iter().collect()
            }
        }
    }

    fn complain(&mut self, key: String, error: &StoreError) {
        warn!(%error, "client record not used");
        self.broken.insert(key, error.to_string());
    }

    /// A record of the same name with another key-id is another client. One
    /// with the same keys is no difference to the gatekeeper.
    fn put(&mut self, record: ClientRecord) -> Vec<Difference> {
        let (name, kid) = (record.name.clone(), record.kid);
        let before = self.kids.insert(name.clone(), kid).filter(|before| *before != kid);
        let went = before.map(|before| {
            self.by_kid.remove(&before);
            Difference::Went(name, before)
        });
        let known = self.by_kid.get(&kid);
        let same = known.is_some_and(|known| known.psk.expose() == record.psk.expose());
        self.by_kid.insert(kid, record);
        went.into_iter().chain((!same).then_some(Difference::Came(kid))).collect()
    }

    fn take(&mut self, name: &ClientName) -> Option<Difference> {
        let kid = self.kids.remove(name)?;
        self.by_kid.remove(&kid);
        Some(Difference::Went(name.clone(), kid))
    }
}

/// Says when files of the records' directory change.
pub(super) struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

/// What has changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) names: BTreeSet<ClientName>,
    /// More than can be told: look at everything.
    pub(super) all: bool,
}

impl Watch {
    pub(super) fn new(store: &Store) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        inotify::add_watch(&fd, store.clients_dir(), changes | WatchFlags::ONLYDIR)?;
        Ok(Self { inotify: ready::register(fd, Interest::READABLE)? })
    }

    /// Waits for the next changes; where there is no watch, for ever.
    pub(super) async fn changed(watch: Option<&Self>) -> io::Result<Touched> {
        match watch {
            Some(watch) => watch.inotify.async_io(Interest::READABLE, read).await,
            None => std::future::pending().await,
        }
    }
}

fn read(fd: &OwnedFd) -> io::Result<Touched> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(fd, &mut space);
    let mut touched = Touched::default();
    loop {
        let event = reader.next()?;
        match event.file_name().and_then(|name| name.to_str().ok()) {
            Some(file) => {
                touched.names.extend(file.strip_suffix(".toml").and_then(|name| name.parse().ok()))
            }
            None => touched.all = true,
        }
        touched.all |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
        if reader.is_buffer_empty() {
            return Ok(touched);
        }
    }
}
