//! The clients' records, as they are on disk, within a second of any change.

mod held;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use spa_keys::{ClientName, ClientRecord, FileOf, Person, Store, StoreError};
use spa_proto::{ClientKeys, Kid, ServerPublic, Timestamp, VerifyingKey};
use tracing::warn;
use zeroize::Zeroizing;

use crate::wipe;
use held::{Held, Place};
pub(super) use watch::{Touched, Watch};

/// All records that can be used.
pub(super) struct Clients {
    store: Store,
    held: Held,
    /// What is wrong with the others, by their files.
    broken: BTreeMap<OsString, String>,
}

/// Under which what is wrong with the directory itself is put among the broken.
const DIRECTORY: &str = ".";

/// So many broken records are looked at again with every change: what stood in the
/// way of one may be gone. More of them, as where a whole directory gets another
/// mode, wait for [`Clients::look_at_broken`].
const FEW: usize = 64;

/// What a look at the disk has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// A client is new, or has other keys.
    Came(Kid),
    /// A record is gone, or cannot be used any more: the client is revoked, unless
    /// its key-id is there under another name.
    Went(ClientName, Kid),
    /// A client is disabled now, or its person is.
    Shut(ClientName, Kid),
}

impl Clients {
    /// None yet: [`Self::reload`] reads them.
    pub(super) fn new(store: Store) -> Self {
        Self { store, held: Held::default(), broken: BTreeMap::new() }
    }

    pub(super) fn get(&self, kid: &Kid) -> Option<ClientRecord> {
        self.held.get(kid)
    }

    pub(super) fn name_of(&self, kid: &Kid) -> Option<&ClientName> {
        self.held.name_of(kid)
    }

    /// Whether there is such a client, and it is not disabled.
    pub(super) fn is_open(&self, kid: &Kid) -> bool {
        self.held.is_open(kid)
    }

    /// Whether there is a client of this very name.
    pub(super) fn has(&self, name: &ClientName) -> bool {
        !self.held.own_kids(name).is_empty()
    }

    /// The key-ids that a name stands for: a client's, or those of all devices of a person.
    pub(super) fn kids_of(&self, who: &ClientName) -> Vec<Kid> {
        self.held.kids_of(who)
    }

    /// Under which key-ids clients can knock: more than one while keys are replaced.
    pub(super) fn kids(&self) -> impl Iterator<Item = Kid> {
        self.held.kids()
    }

    /// What the gatekeeper is to know of a client.
    pub(super) fn keys(&self, kid: &Kid, server: &ServerPublic) -> Option<ClientKeys> {
        Some(ClientKeys::derive(self.held.psk(kid)?, server, kid))
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// When the newest was made of all records that were ever held.
    pub(super) fn newest(&self) -> Timestamp {
        self.held.newest()
    }

    pub(super) fn broken(&self) -> Vec<String> {
        self.broken.values().cloned().collect()
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
        wipe::stack_after(|| {
            let written = self.store.note_first_knock(&record.name, &record.kid, binds)?;
            self.held.put(written);
            Ok(())
        })
    }

    /// Looks at all records again. A directory that cannot be read has no
    /// clients.
    pub(super) fn reload(&mut self) -> Vec<Difference> {
        let mut look = Look::begin(self);
        let store = look.clients.store.clone();
        look.at_people(&store);
        let mut seen = vec![false; look.clients.held.places()];
        let read = wipe::stack_after(|| {
            store.each_client(|file, found| {
                if let Some(place) = look.take_up(&file, found) {
                    let place = usize::try_from(place).unwrap_or(usize::MAX);
                    seen.resize(seen.len().max(place.saturating_add(1)), false);
                    seen[place] = true;
                }
            })
        });
        if let Err(error) = read {
            look.clients.broken.insert(DIRECTORY.into(), error.to_string());
        }
        let unseen = |place| seen.get(place) != Some(&true);
        look.clients.held.names_at(unseen).iter().for_each(|name| look.forget(name));
        look.end()
    }

    /// Looks at these files again, and at those of records that could not be
    /// used: what stood in their way may be gone.
    pub(super) fn look(&mut self, files: &BTreeSet<OsString>) -> Vec<Difference> {
        if self.broken.contains_key(OsStr::new(DIRECTORY)) {
            return self.reload();
        }
        let mut look = Look::begin(self);
        look.at(files);
        look.end()
    }

    /// Drops former keys that have ended, here and on the disk. Until that is
    /// written they stay, expired.
    pub(super) fn end_overlaps(&mut self, now: Timestamp) -> Vec<Difference> {
        let mut look = Look::begin(self);
        look.clients.broken.clone_from(&look.before);
        for record in look.clients.held.overdue(now) {
            // Who holds the lock does so for the others too: at the next tick again.
            if !wipe::stack_after(|| look.end_overlap(&record)) {
                break;
            }
        }
        look.end()
    }

    /// Looks again at records that could not be used: the reason may have passed.
    pub(super) fn look_at_broken(&mut self) -> Vec<Difference> {
        match self.broken.len() {
            0 => Vec::new(),
            1..=FEW => self.look(&BTreeSet::new()),
            _ => self.reload(),
        }
    }
}

/// A look at the disk. Whatever the order in which files are looked at, the same
/// comes of them.
struct Look<'a> {
    clients: &'a mut Clients,
    /// What was broken before, and was told.
    before: BTreeMap<OsString, String>,
    differences: Vec<Difference>,
}

impl<'a> Look<'a> {
    fn begin(clients: &'a mut Clients) -> Self {
        let before = std::mem::take(&mut clients.broken);
        Self { clients, before, differences: Vec::new() }
    }

    /// Looks at files, and at those that were broken before if they are [`FEW`].
    fn at(&mut self, files: &BTreeSet<OsString>) {
        let mut all = files.clone();
        if self.before.len() <= FEW {
            all.extend(self.before.keys().cloned());
        } else {
            self.clients.broken.clone_from(&self.before);
        }
        all.iter().for_each(|file| wipe::stack_after(|| self.at_one(file)));
    }

    /// All people anew.
    fn at_people(&mut self, store: &Store) {
        let mut gone: BTreeSet<_> = self.clients.held.people().cloned().collect();
        let read = store.each_person(|file, found| {
            if let Some(FileOf::Person(name)) = Store::whose(&file) {
                gone.remove(&name);
                self.take_up_person(&file, &name, Some(found));
            }
        });
        if let Err(error) = read {
            self.clients.broken.insert(DIRECTORY.into(), error.to_string());
        }
        gone.iter().for_each(|name| self.put_person(name, None));
    }

    /// What was found in a person's file. One that cannot be read lets none of the
    /// devices in.
    fn take_up_person(
        &mut self,
        file: &OsStr,
        name: &ClientName,
        found: Option<Result<Person, StoreError>>,
    ) {
        self.clients.broken.remove(file);
        let said = found.map(|found| {
            found.unwrap_or_else(|error| {
                self.clients.broken.insert(file.to_owned(), error.to_string());
                Person::shut(name.clone())
            })
        });
        self.put_person(name, said);
    }

    fn put_person(&mut self, name: &ClientName, said: Option<Person>) {
        let held = &mut self.clients.held;
        let is_shut = said.as_ref().is_some_and(|person| person.disabled.is_some());
        // Only then are all records looked through: a look at all people would else take
        // as long as there are people times as there are records.
        let mut open =
            if is_shut && !held.is_person_shut(name) { held.kids_of(name) } else { vec![] };
        open.retain(|kid| held.is_open(kid));
        held.put_person(name, said);
        open.into_iter().for_each(|kid| self.tell_if_shut(kid));
    }

    /// Of a client that was open before.
    fn tell_if_shut(&mut self, kid: Kid) {
        let held = &self.clients.held;
        if !held.is_open(&kid) {
            let name = held.name_of(&kid).cloned();
            self.differences.extend(name.map(|name| Difference::Shut(name, kid)));
        }
    }

    fn at_one(&mut self, file: &OsStr) {
        if let Some(FileOf::Person(name)) = Store::whose(file) {
            let found = self.clients.store.person_in(file);
            return self.take_up_person(file, &name, found);
        }
        match self.clients.store.client_in(file) {
            Some(found) => {
                self.take_up(file, found);
            }
            None => {
                self.clients.broken.remove(file);
                name_in(file).iter().for_each(|name| self.forget(name));
            }
        }
    }

    /// What was found in a file takes the place of what was known of it. Where the
    /// record now lies, if it is used.
    fn take_up(&mut self, file: &OsStr, found: Result<ClientRecord, StoreError>) -> Option<Place> {
        let usable = found.and_then(|record| self.unless_twin(record));
        match usable {
            Ok(record) => {
                self.clients.broken.remove(file);
                Some(self.put(record))
            }
            Err(error) => {
                self.clients.broken.insert(file.to_owned(), error.to_string());
                name_in(file).iter().for_each(|name| self.forget(name));
                None
            }
        }
    }

    /// Of two records with one key-id, the one whose name comes first is a client.
    fn unless_twin(&mut self, record: ClientRecord) -> Result<ClientRecord, StoreError> {
        let holder = |kid| self.clients.held.name_of(&kid).cloned();
        let mut holders: Vec<_> = record.kids().filter_map(holder).collect();
        holders.retain(|holder| *holder != record.name);
        if holders.iter().any(|holder| *holder < record.name) {
            return Err(self.clients.store.twin(&record.name));
        }
        for holder in holders {
            let error = self.clients.store.twin(&holder).to_string();
            self.clients.broken.insert(Store::file_of(&holder), error);
            self.forget(&holder);
        }
        Ok(record)
    }

    /// For the gatekeeper, and for what is open, each key-id is a client of its own:
    /// one that is not the record's any more has gone. One with the same keys is
    /// no difference.
    fn put(&mut self, record: ClientRecord) -> Place {
        let held = &mut self.clients.held;
        let (name, now) = (record.name.clone(), record.kids().collect::<Vec<_>>());
        let keys = |held: &Held, kid: &Kid| held.psk(kid).map(|psk| Zeroizing::new(*psk.expose()));
        let before: Vec<_> =
            held.own_kids(&name).into_iter().map(|kid| (kid, keys(held, &kid))).collect();
        let was_shut = |kid: &Kid| held.psk(kid).is_some() && !held.is_open(kid);
        let were_shut: Vec<_> = now.iter().map(was_shut).collect();
        let place = held.put(record);
        let went = before.iter().filter(|(kid, _)| !now.contains(kid));
        self.differences.extend(went.map(|(kid, _)| Difference::Went(name.clone(), *kid)));
        let same = |kid: &Kid| before.contains(&(*kid, keys(held, kid)));
        let came = now.iter().filter(|kid| !same(kid));
        self.differences.extend(came.copied().map(Difference::Came));
        let may_shut = now.iter().zip(were_shut).filter(|(_, was_shut)| !was_shut);
        may_shut.for_each(|(kid, _)| self.tell_if_shut(*kid));
        place
    }

    /// Whether others may be worth a try.
    fn end_overlap(&mut self, record: &ClientRecord) -> bool {
        let name = &record.name;
        let Some(former) = &record.former else { return true };
        match self.clients.store.end_overlap(name, &former.kid) {
            Ok(record) => {
                if !record.knocked {
                    warn!(client = %name, "its old keys have ended, and it has not moved to the new ones: it is shut out");
                }
                self.put(record);
                true
            }
            Err(error) => {
                warn!(client = %name, %error, "its old keys have ended, but stay in its record");
                !matches!(error, StoreError::Locked(_))
            }
        }
    }

    fn forget(&mut self, name: &ClientName) {
        let kids = self.clients.held.own_kids(name);
        self.clients.held.take(name);
        let went = kids.into_iter().map(|kid| Difference::Went(name.clone(), kid));
        self.differences.extend(went);
    }

    /// Where a client went, it may have stood in the way of another. Then says
    /// what is broken that was not before.
    fn end(mut self) -> Vec<Difference> {
        let went = |differences: &[_]| {
            differences.iter().filter(|one| matches!(one, Difference::Went(..))).count()
        };
        let (told, mut gone) = (std::mem::take(&mut self.before), 0);
        let may_profit = |broken: &BTreeMap<_, _>| {
            broken.len() <= FEW && !broken.contains_key(OsStr::new(DIRECTORY))
        };
        while went(&self.differences) > gone && may_profit(&self.clients.broken) {
            gone = went(&self.differences);
            self.before = std::mem::take(&mut self.clients.broken);
            self.at(&BTreeSet::new());
        }
        for (file, error) in &self.clients.broken {
            if told.get(file) != Some(error) {
                warn!(error, "client record not used");
            }
        }
        self.differences
    }
}

/// Whose record a file is for.
fn name_in(file: &OsStr) -> Option<ClientName> {
    match Store::whose(file)? {
        FileOf::Client(name) => Some(name),
        FileOf::Person(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spa_keys::{NewClient, Policy, ServerIdentity};

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
            self.add_with(name, None);
        }

        fn add_with(&mut self, name: &str, key: Option<VerifyingKey>) {
            let client = NewClient {
                name: name.parse().unwrap(),
                expires: None,
                policy: Policy { services: vec!["ssh".parse().unwrap()], ..Policy::default() },
                key,
            };
            self.clients.store.add(client, Timestamp::from_millis(1_800_000_000_000)).unwrap();
        }

        fn file(&self, name: &str) -> std::path::PathBuf {
            self.dir.path().join("clients").join(format!("{name}.toml"))
        }

        fn look(&mut self, names: &[&str]) -> (usize, usize) {
            let file = |name: &&str| format!("{}.toml", name.replace('/', "+")).into();
            let files = names.iter().map(file).collect();
            let differences = self.clients.look(&files);
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
        assert_eq!(keys.clients.newest(), Timestamp::from_millis(1_800_000_000_000));
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
            assert_eq!(keys.clients.kids_of(&new.parse().unwrap()).len(), 1);
            assert_eq!((keys.clients.len(), keys.clients.broken()), (1, vec![]));
        }
    }

    /// What a look at these files says of who is shut out.
    fn shut(keys: &mut Keys, files: &[&str]) -> Vec<String> {
        let files = files.iter().map(|file| file.into()).collect();
        let shut = keys.clients.look(&files).into_iter().filter_map(|one| match one {
            Difference::Shut(name, _) => Some(name.to_string()),
            _ => None,
        });
        let mut shut: Vec<_> = shut.collect();
        shut.sort();
        shut
    }

    #[test]
    fn who_is_disabled_is_told_once_and_stays_known() {
        let mut keys = Keys::with(&["alice", "bob"]);
        let (store, alice) = (keys.clients.store.clone(), "alice".parse().unwrap());
        let since = |since| store.change(&alice, |record| record.disabled = since).unwrap();
        since(Some(Timestamp::ZERO));
        assert_eq!(shut(&mut keys, &["alice.toml"]), ["alice"]);
        assert!(shut(&mut keys, &["alice.toml"]).is_empty(), "told already");
        let kid = keys.clients.kids_of(&alice)[0];
        assert!(keys.clients.get(&kid).unwrap().is_disabled() && !keys.clients.is_open(&kid));
        since(None);
        assert!(shut(&mut keys, &["alice.toml"]).is_empty() && keys.clients.is_open(&kid));
        since(Some(Timestamp::ZERO));
        let told = keys.clients.reload();
        assert_eq!(told, [Difference::Shut(alice, kid)], "the same by a look at all");
    }

    #[test]
    fn a_person_stands_for_all_devices() {
        let mut keys = Keys::with(&["alice/laptop", "alice/phone", "bob"]);
        let (store, alice) = (keys.clients.store.clone(), "alice".parse().unwrap());
        let file = "alice+.toml";
        store
            .change_person(&alice, Timestamp::ZERO, |one| one.disabled = Some(Timestamp::ZERO))
            .unwrap();
        assert_eq!(shut(&mut keys, &[file]), ["alice/laptop", "alice/phone"]);
        assert_eq!((keys.clients.reload(), keys.clients.len()), (vec![], 3));
        let kids = keys.clients.kids_of(&alice);
        assert_eq!(kids.len(), 2);
        store.change_person(&alice, Timestamp::ZERO, |one| one.disabled = None).unwrap();
        assert!(shut(&mut keys, &[file]).is_empty());
        assert!(kids.iter().all(|kid| keys.clients.is_open(kid)));
        let path = keys.dir.path().join("clients").join(file);
        std::fs::write(&path, "garbage").unwrap();
        assert_eq!(shut(&mut keys, &[file]), ["alice/laptop", "alice/phone"], "closed, not free");
        assert_eq!(keys.clients.broken().len(), 1);
        std::fs::remove_file(&path).unwrap();
        assert!(shut(&mut keys, &[file]).is_empty());
        assert!(kids.iter().all(|kid| keys.clients.is_open(kid)));
        assert_eq!(keys.clients.broken(), Vec::<String>::new());
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
    fn many_broken_records_do_not_make_every_change_a_look_at_all_of_them() {
        for (broken, looks) in [(FEW, true), (FEW + 1, false)] {
            let names: Vec<_> = (0..broken).map(|number| format!("c{number}")).collect();
            let mut keys = Keys::with(&["alice"]);
            for name in &names {
                keys.add(name);
                let text = std::fs::read_to_string(keys.file(name)).unwrap();
                std::fs::write(keys.file(name), text.replace("services", "nonsense")).unwrap();
            }
            keys.clients.reload();
            assert_eq!(keys.clients.broken().len(), broken, "as many as there are");
            let file = keys.file("c0");
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text.replace("nonsense", "services")).unwrap();
            std::fs::remove_file(keys.file("alice")).unwrap();
            assert_eq!(keys.look(&["alice"]), (usize::from(looks), 1), "{broken}");
            let differences = keys.clients.look_at_broken();
            assert_eq!(differences.len(), usize::from(!looks), "{broken}, in the end");
            assert_eq!((keys.clients.len(), keys.clients.broken().len()), (1, broken - 1));
        }
    }

    #[test]
    fn a_directory_that_cannot_be_read_has_no_clients() {
        let mut keys = Keys::with(&["alice"]);
        std::fs::remove_dir_all(keys.dir.path().join("clients")).unwrap();
        std::fs::write(keys.dir.path().join("clients"), "").unwrap();
        keys.clients.reload();
        assert_eq!(keys.clients.len(), 0);
    }

    #[test]
    fn each_key_id_of_a_record_comes_and_goes_alone() {
        let mut keys = Keys::with(&[]);
        let key = spa_proto::SigningKey::from_seed(&[1; 32]).verifying_key();
        keys.add_with("alice", Some(key));
        keys.look(&["alice"]);
        let (name, now) = ("alice".parse().unwrap(), Timestamp::from_millis(1_800_000_000_000));
        let hour = std::time::Duration::from_secs(3600);
        let before = keys.clients.held.own_kids(&name)[0];
        let store = keys.clients.store.clone();
        store.rotate(&name, spa_keys::Replaced::Psk, hour, now).unwrap();
        assert_eq!(keys.look(&["alice"]), (1, 0), "beside the old one");
        assert_eq!(keys.look(&["alice"]), (0, 0));
        let (kids, server) = (keys.clients.kids().count(), ServerPublic::from_bytes([2; 32]));
        assert_eq!((kids, keys.clients.len()), (2, 1));
        let new = keys.clients.held.own_kids(&name)[0];
        let derived =
            [before, new].map(|kid| *keys.clients.keys(&kid, &server).unwrap().to_bytes());
        assert!(before != new && derived[0] != derived[1]);
        assert_eq!(keys.clients.get(&before).unwrap().expires, Some(now.plus(hour)));
        assert_eq!(keys.clients.get(&new).unwrap().expires, None);

        assert_eq!(keys.clients.end_overlaps(now.plus(hour)), [], "up to the end");
        let over = now.plus(hour).plus(std::time::Duration::from_millis(1));
        assert_eq!(keys.clients.end_overlaps(over), [Difference::Went(name.clone(), before)]);
        assert!(keys.clients.get(&before).is_none() && keys.clients.get(&new).is_some());
        assert_eq!(keys.look(&["alice"]), (0, 0), "it is on the disk");
        assert!(store.client(&name).unwrap().former.is_none());

        store.rotate(&name, spa_keys::Replaced::Psk, hour, now).unwrap();
        keys.look(&["alice"]);
        std::fs::remove_file(keys.file("alice")).unwrap();
        assert_eq!(keys.look(&["alice"]), (0, 2), "all of them");
    }

    #[test]
    fn what_stood_in_the_way_of_another_gives_way() {
        let mut keys = Keys::with(&["bob"]);
        let copy = |keys: &Keys, name: &str| {
            let text = std::fs::read_to_string(keys.file("bob")).unwrap().replace("bob", name);
            spa_keys::files::create_new(&keys.file(name), &text).unwrap();
        };
        copy(&keys, "zoe");
        assert_eq!(keys.look(&["zoe"]), (0, 0));
        copy(&keys, "alice");
        assert_eq!(keys.look(&["alice"]), (1, 1), "the first name, as after a restart");
        assert_eq!((keys.clients.len(), keys.clients.broken().len()), (1, 2));
        std::fs::remove_file(keys.file("alice")).unwrap();
        assert_eq!(keys.look(&["alice"]), (1, 1), "bob again");
        assert_eq!((keys.clients.len(), keys.clients.broken().len()), (1, 1));
        std::fs::remove_file(keys.file("bob")).unwrap();
        assert_eq!(keys.look(&["bob"]), (1, 1), "nobody has said that zoe's file changed");
        assert_eq!(keys.clients.broken(), Vec::<String>::new());
    }

    /// Who is known under which key-id, and what is broken.
    fn known(clients: &Clients) -> (BTreeSet<(String, Kid)>, Vec<String>) {
        let name = |kid| clients.get(&kid).unwrap().name.to_string();
        (clients.kids().map(|kid| (name(kid), kid)).collect(), clients.broken())
    }

    /// Records come, go, break, are renamed and copied over each other: what a
    /// look at the changed files makes of it is what reading all of them does.
    #[test]
    fn a_look_at_what_changed_sees_what_a_look_at_all_does() {
        let names = ["ann", "bob", "cat", "dan", "eve", "fay"];
        let mut keys = Keys::with(&names);
        let texts = names.map(|name| std::fs::read_to_string(keys.file(name)).unwrap());
        let mut random = 1_u64;
        let mut draw = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 40).unwrap() % below
        };
        let (mut crowded, mut broken) = (0, 0);
        for _ in 0..400 {
            let mut touched = Vec::new();
            for _ in 0..=draw(3) {
                let (name, from) = (names[draw(6)], draw(6));
                touched.push(name);
                let _ = std::fs::remove_file(keys.file(name));
                let text = match draw(6) {
                    0 | 1 => continue,
                    2 => "garbage".to_owned(),
                    _ => texts[from].replace(names[from], name),
                };
                spa_keys::files::create_new(&keys.file(name), &text).unwrap();
            }
            keys.look(&touched);
            let mut anew = Clients::new(keys.clients.store.clone());
            anew.reload();
            assert_eq!(known(&keys.clients), known(&anew), "after {touched:?}");
            assert_eq!(keys.clients.reload(), [], "nothing else is to be seen");
            crowded = crowded.max(keys.clients.len());
            broken = broken.max(keys.clients.broken().len());
        }
        assert!(crowded > 4 && broken > 3, "{crowded} {broken}");
    }

    #[test]
    fn a_crowd_is_read_by_many_and_each_is_there_once() {
        let mut keys = Keys::with(&["alice"]);
        let text = std::fs::read_to_string(keys.file("alice")).unwrap();
        let kid = keys.clients.kids().next().unwrap().to_string();
        for number in 0..600 {
            let name = format!("c{number}");
            let text = text.replace("alice", &name).replace(&kid, &format!("{number:032x}"));
            std::fs::write(keys.file(&name), text).unwrap();
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(keys.file(&name), private).unwrap();
        }
        std::fs::remove_file(keys.file("alice")).unwrap();
        let differences = keys.clients.reload();
        let (came, went): (Vec<_>, Vec<_>) =
            differences.into_iter().partition(|one| matches!(one, Difference::Came(_)));
        assert_eq!((came.len(), went.len(), keys.clients.len()), (600, 1, 600));
        let record = |number| keys.clients.get(&Kid::from_bytes(u128::to_be_bytes(number)));
        assert!(
            (0..600).all(|number| record(number).unwrap().name.to_string() == format!("c{number}"))
        );
        assert_eq!(keys.clients.reload(), [], "and once more");
    }

    /// Whatever is changed in a record is taken up.
    #[test]
    fn every_line_of_a_record_counts() {
        let mut keys = Keys::with(&["alice"]);
        let mut text = std::fs::read_to_string(keys.file("alice")).unwrap();
        let line = text.lines().find(|line| line.starts_with("enrolment-expires"));
        let expires = line.unwrap().to_owned();
        let later = expires.replace("20", "21");
        for (old, new) in [
            ("[\"ssh\"]", "[\"ssh\", \"web\"]"),
            ("sources = []", "sources = [\"192.0.2.0/24\"]"),
            ("\"both\"", "\"seen\"\nmodes = [\"once\"]\nwidest-ipv4 = 24\nwidest-ipv6 = 64"),
            ("\"seen\"", "\"this\"\nttl = \"1m\""),
            ("\"1m\"", "\"1m\"\nhours = [\"sat 08:00-18:00\"]"),
            ("\"1m\"", "\"2m\"\nmax-ttl = \"3m\"\nexpires = \"2040-01-01T00:00:00Z\""),
            (&expires, &later),
        ] {
            assert!(text.contains(old), "{old} in {text}");
            text = text.replacen(old, new, 1);
            std::fs::write(keys.file("alice"), &text).unwrap();
            assert_eq!(keys.look(&["alice"]), (0, 0), "the same client");
            let (kept, read) = (keys.clients.kids().next().unwrap(), "alice".parse().unwrap());
            let (kept, read) = (keys.clients.get(&kept).unwrap(), keys.clients.store.client(&read));
            let plain =
                |record: ClientRecord| format!("{:?}", record.without_secrets(Timestamp::ZERO));
            assert_eq!(kept.verifier, read.as_ref().ok().unwrap().verifier);
            assert_eq!(plain(kept), plain(read.ok().unwrap()), "{new}");
        }
    }
}
