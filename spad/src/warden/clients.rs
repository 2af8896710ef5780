//! The clients' records, as they are on disk, within a second of any change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use spa_keys::{ClientName, ClientRecord, Listing, Store, StoreError};
use spa_proto::{Kid, VerifyingKey};
use std::mem::MaybeUninit;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::sys::ready;
use crate::wipe;

/// All records that can be used.
pub(super) struct Clients {
    store: Store,
    by_kid: HashMap<Kid, ClientRecord>,
    kids: BTreeMap<ClientName, Kid>,
    /// What is wrong with the others.
    broken: BTreeSet<String>,
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
    /// None yet: [`Self::reload`] reads them.
    pub(super) fn new(store: Store) -> Self {
        Self { store, by_kid: HashMap::new(), kids: BTreeMap::new(), broken: BTreeSet::new() }
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
        self.broken.iter().cloned().collect()
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Writes to a client's record that its first knock is about to be accepted,
    /// and the key that it binds; see [`Store::note_first_knock`].
    ///
    /// # Errors
    /// Those of the store: then the knock must not be accepted.
    pub(super) fn note_first_knock(
        &mut self,
        record: &ClientRecord,
        binds: Option<VerifyingKey>,
    ) -> Result<(), StoreError> {
        let note = || self.store.note_first_knock(&record.name, &record.kid, binds);
        let written = wipe::stack_after(note)?;
        self.put(written);
        Ok(())
    }

    /// Looks at all records again. A directory that cannot be read has no
    /// clients.
    pub(super) fn reload(&mut self) -> Vec<Difference> {
        let listing = wipe::stack_after(|| self.store.clients())
            .unwrap_or_else(|error| Listing { records: Vec::new(), broken: vec![error] });
        let told = std::mem::take(&mut self.broken);
        for error in listing.broken {
            let error = error.to_string();
            if !told.contains(&error) {
                warn!(error, "client record not used");
            }
            self.broken.insert(error);
        }
        let kept: BTreeSet<_> = listing.records.iter().map(|record| record.name.clone()).collect();
        let gone: Vec<_> = self.kids.keys().filter(|name| !kept.contains(*name)).cloned().collect();
        let mut differences: Vec<_> = gone.iter().flat_map(|name| self.take(name)).collect();
        differences.extend(listing.records.into_iter().flat_map(|record| self.put(record)));
        differences
    }

    /// Looks at these records again; at all of them where some could not be
    /// used, since one may stand in the way of another.
    pub(super) fn look(&mut self, names: &BTreeSet<ClientName>) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut unclear = !self.broken.is_empty();
        for name in names {
            match self.look_at(name) {
                Some(seen) => differences.extend(seen),
                None => unclear = true,
            }
        }
        if unclear {
            differences.extend(self.reload());
        }
        differences
    }

    /// Looks again at records that could not be used: the reason may have passed.
    pub(super) fn look_at_broken(&mut self) -> Vec<Difference> {
        if self.broken.is_empty() { Vec::new() } else { self.reload() }
    }

    /// `None` where one record alone does not say what has changed.
    fn look_at(&mut self, name: &ClientName) -> Option<Vec<Difference>> {
        match wipe::stack_after(|| self.store.client(name)) {
            Ok(record) if self.is_twin(&record) => None,
            Ok(record) => Some(self.put(record)),
            Err(StoreError::Unknown(_) | StoreError::Revoked(_)) => {
                Some(self.take(name).into_iter().collect())
            }
            Err(_) => None,
        }
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

    /// Whether a client of another name has this key-id already.
    fn is_twin(&self, record: &ClientRecord) -> bool {
        self.by_kid.get(&record.kid).is_some_and(|known| known.name != record.name)
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
    /// Which directory that was.
    watched: (u64, u64),
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
        Ok(Self { inotify: ready::register(fd, Interest::READABLE)?, watched: identity(store)? })
    }

    /// Whether another directory is in the place of the one that is watched.
    pub(super) fn is_stale(&self, store: &Store) -> bool {
        identity(store).ok() != Some(self.watched)
    }

    /// Waits for the next changes; where there is no watch, for ever.
    pub(super) async fn changed(watch: Option<&Self>) -> io::Result<Touched> {
        match watch {
            Some(watch) => watch.inotify.async_io(Interest::READABLE, read).await,
            None => std::future::pending().await,
        }
    }
}

/// Device and number of the directory.
fn identity(store: &Store) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(store.clients_dir())?;
    Ok((metadata.dev(), metadata.ino()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use spa_keys::{AddressRule, NewClient, ServerIdentity};
    use spa_proto::Timestamp;

    struct Keys {
        dir: tempfile::TempDir,
        clients: Clients,
    }

    impl Keys {
        fn with(names: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            ServerIdentity::init(dir.path(), "fw.example", 62201).unwrap();
            let mut keys = Self { clients: Clients::new(Store::open(dir.path())), dir };
            names.iter().for_each(|name| keys.add(name));
            keys.clients.reload();
            keys
        }

        fn add(&mut self, name: &str) {
            let client = NewClient {
                name: name.parse().unwrap(),
                services: vec!["ssh".parse().unwrap()],
                ttl: None,
                max_ttl: None,
                expires: None,
                sources: Vec::new(),
                address: AddressRule::Both,
                modes: spa_keys::Modes::ALL,
                widest: spa_keys::Widest::ADDRESS,
                key: None,
            };
            self.clients.store.add(client, Timestamp::from_millis(1_800_000_000_000)).unwrap();
        }

        fn file(&self, name: &str) -> std::path::PathBuf {
            self.dir.path().join("clients").join(format!("{name}.toml"))
        }

        fn look(&mut self, names: &[&str]) -> (usize, usize) {
            let names = names.iter().map(|name| name.parse().unwrap()).collect();
            let differences = self.clients.look(&names);
            let came = differences.iter().filter(|one| matches!(one, Difference::Came(_)));
            (
                came.count(),
                differences.iter().filter(|one| matches!(one, Difference::Went(..))).count(),
            )
        }
    }

    #[test]
    fn records_come_and_go() {
        let mut keys = Keys::with(&["alice"]);
        keys.add("bob");
        assert_eq!(keys.look(&["bob"]), (1, 0));
        assert_eq!(keys.look(&["bob", "alice"]), (0, 0), "nothing has changed");
        std::fs::remove_file(keys.file("alice")).unwrap();
        assert_eq!(keys.look(&["alice"]), (0, 1));
        assert_eq!(keys.clients.len(), 1);
    }

    #[test]
    fn a_renamed_record_is_the_same_client_under_its_new_name() {
        for (old, new) in [("bob", "alice"), ("bob", "carol")] {
            let mut keys = Keys::with(&[old]);
            let text = std::fs::read_to_string(keys.file(old)).unwrap();
            std::fs::rename(keys.file(old), keys.file(new)).unwrap();
            std::fs::write(keys.file(new), text.replace(old, new)).unwrap();
            assert_eq!(keys.look(&[old, new]), (1, 1), "{old} to {new}");
            assert!(keys.clients.kid_of(&new.parse().unwrap()).is_some());
            assert_eq!((keys.clients.len(), keys.clients.broken()), (1, vec![]));
        }
    }

    #[test]
    fn a_copied_record_does_not_take_the_place_of_the_first() {
        let mut keys = Keys::with(&["alice", "zoe"]);
        let copy = std::fs::read_to_string(keys.file("alice")).unwrap().replace("alice", "bob");
        spa_keys::files::create_new(&keys.file("bob"), &copy).unwrap();
        std::fs::remove_file(keys.file("zoe")).unwrap();
        assert_eq!(keys.look(&["bob", "zoe"]), (0, 1), "and what went meanwhile is told");
        assert_eq!((keys.clients.len(), keys.clients.broken().len()), (1, 1));
        std::fs::remove_file(keys.file("bob")).unwrap();
        keys.look(&["bob"]);
        assert_eq!(keys.clients.broken(), Vec::<String>::new(), "mended");
    }

    #[test]
    fn a_directory_that_cannot_be_read_has_no_clients() {
        let mut keys = Keys::with(&["alice"]);
        std::fs::remove_dir_all(keys.dir.path().join("clients")).unwrap();
        std::fs::write(keys.dir.path().join("clients"), "").unwrap();
        keys.clients.reload();
        assert_eq!(keys.clients.len(), 0);
    }
}
