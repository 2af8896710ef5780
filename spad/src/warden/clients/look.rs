//! A look at the disk, and what it has changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};

use spa_keys::{ClientName, ClientRecord, FileOf, Person, Store, StoreError};
use spa_proto::Kid;
use tracing::warn;
use zeroize::Zeroizing;

use super::Clients;
use super::held::{Held, Place, Places};
use crate::wipe;

/// Under which what is wrong with the directory itself is put among the broken.
pub(super) const DIRECTORY: &str = ".";

/// So many broken records are looked at again with every change: what stood in the
/// way of one may be gone. More of them, as where a whole directory gets another
/// mode, wait for [`Clients::look_at_broken`].
pub(super) const FEW: usize = 64;

/// What a look at the disk has changed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::warden) enum Difference {
    /// A client is new, or has other keys.
    Came(Kid),
    /// A record is gone, or cannot be used any more: the client is revoked, unless
    /// its key-id is there under another name.
    Went(ClientName, Kid),
    /// A client is disabled now, or its person is.
    Shut(ClientName, Kid),
}

impl Clients {
    /// Looks at all records again. A directory that cannot be read has no
    /// clients.
    pub(in crate::warden) fn reload(&mut self) -> Vec<Difference> {
        // What a sweep has read by now is older.
        self.sweep = None;
        let mut look = Look::begin(self);
        let store = look.clients.store.clone();
        look.at_people(&store);
        let mut seen = Places::default();
        let read = wipe::stack_after(|| {
            store.each_client(|file, found| {
                seen.extend(look.take_up(&file, found));
            })
        });
        if let Err(error) = read {
            look.clients.broken.insert(DIRECTORY.into(), error.to_string());
        }
        look.clients.held.names_beside(&seen).iter().for_each(|name| look.forget(name));
        look.clients.held.gather();
        look.end()
    }

    /// Looks at these files again, and at those of records that could not be
    /// used: what stood in their way may be gone.
    pub(in crate::warden) fn look(&mut self, files: &BTreeSet<OsString>) -> Vec<Difference> {
        if self.broken.contains_key(OsStr::new(DIRECTORY)) {
            return self.reload();
        }
        let mut look = Look::begin(self);
        look.at(files);
        look.end()
    }

    /// Looks at this one record's file again, and at no other unless somebody goes.
    pub(in crate::warden) fn look_at(&mut self, name: &ClientName) -> Vec<Difference> {
        let file = Store::file_of(name);
        self.sweep.iter_mut().for_each(|sweep| sweep.touch(&file));
        if let Some(record) = wipe::stack_after(|| self.as_held(name, &file)) {
            // Nobody can profit: what is broken, of which there may be a crowd, stays as it is.
            let mut look = Look::beside(self, BTreeMap::new());
            wipe::stack_after(|| look.put(record));
            return look.differences;
        }
        let told = self.broken.clone();
        let mut look = Look::beside(self, told);
        wipe::stack_after(|| look.at_client(&file));
        look.end()
    }

    /// What the file says, if it is of the key-ids that this client has already.
    fn as_held(&self, name: &ClientName, file: &OsStr) -> Option<ClientRecord> {
        let record = self.store.client_in(file)?.ok()?;
        let (held, found) = (self.own_kids(name), record.kids().collect::<Vec<_>>());
        (held.len() == found.len() && found.iter().all(|kid| held.contains(kid))).then_some(record)
    }

    /// Looks again at records that could not be used: the reason may have passed.
    pub(in crate::warden) fn look_at_broken(&mut self) -> Vec<Difference> {
        match self.broken.len() {
            0 => Vec::new(),
            1..=FEW => self.look(&BTreeSet::new()),
            // In its own time.
            _ if self.begin_sweep() => Vec::new(),
            _ => self.reload(),
        }
    }
}

/// A look at the disk. Whatever the order in which files are looked at, the same
/// comes of them.
pub(super) struct Look<'a> {
    pub(super) clients: &'a mut Clients,
    /// What was broken before, and was told.
    before: BTreeMap<OsString, String>,
    pub(super) differences: Vec<Difference>,
    /// Whether somebody may have lost the last device.
    may_orphan: bool,
}

/// What was found in people's files; `None` where there is none.
pub(super) type People = Vec<(ClientName, Option<Result<Person, StoreError>>)>;

impl<'a> Look<'a> {
    fn begin(clients: &'a mut Clients) -> Self {
        let before = std::mem::take(&mut clients.broken);
        Self { clients, before, differences: Vec::new(), may_orphan: false }
    }

    /// One at some of the files: what is known of the others stays.
    pub(super) fn beside(clients: &'a mut Clients, before: BTreeMap<OsString, String>) -> Self {
        Self { clients, before, differences: Vec::new(), may_orphan: false }
    }

    /// Looks at those that are broken: what stood in their way may be gone.
    pub(super) fn again_at_broken(&mut self) {
        let told = std::mem::take(&mut self.before);
        if self.clients.broken.len() <= FEW {
            self.before = std::mem::take(&mut self.clients.broken);
            self.at(&BTreeSet::new());
        }
        self.before = told;
    }

    /// Looks at files, and at those that were broken before if they are [`FEW`].
    fn at(&mut self, files: &BTreeSet<OsString>) {
        let mut all = files.clone();
        if self.before.len() <= FEW {
            all.extend(self.before.keys().cloned());
        } else {
            self.clients.broken.clone_from(&self.before);
        }
        let mut people = Vec::new();
        for file in &all {
            self.clients.sweep.iter_mut().for_each(|sweep| sweep.touch(file));
            match Store::whose(file) {
                Some(FileOf::Person(name)) => {
                    people.push((name, self.clients.store.person_in(file)));
                }
                _ => wipe::stack_after(|| self.at_client(file)),
            }
        }
        self.take_up_people(people);
    }

    /// All people anew.
    fn at_people(&mut self, store: &Store) {
        let mut gone: BTreeSet<_> = self.clients.held.people().cloned().collect();
        let mut people = Vec::new();
        let read = store.each_person(|file, found| {
            if let Some(FileOf::Person(name)) = Store::whose(&file) {
                gone.remove(&name);
                people.push((name, Some(found)));
            }
        });
        if let Err(error) = read {
            self.clients.broken.insert(DIRECTORY.into(), error.to_string());
        }
        people.extend(gone.into_iter().map(|name| (name, None)));
        self.take_up_people(people);
    }

    /// What was found in people's files. One that cannot be read lets none of the
    /// devices in. One that is gone may be back in a moment: an editor, or a copy, has
    /// it away. So what it said last holds for as long as there are devices.
    pub(super) fn take_up_people(&mut self, people: People) {
        let (mut said, mut unread) = (Vec::new(), HashSet::new());
        for (name, found) in people {
            let file = Store::file_of_person(&name);
            self.clients.broken.remove(&file);
            self.clients.away.remove(&name);
            match found {
                Some(Ok(person)) => said.push(person),
                Some(Err(error)) => {
                    self.clients.broken.insert(file, error.to_string());
                    unread.insert(name.clone());
                    said.push(Person::shut(name));
                }
                None if self.clients.held.knows_person(&name) => {
                    let error = self.clients.store.person_gone(&name);
                    self.clients.broken.insert(file, error.to_string());
                    self.clients.away.insert(name);
                    self.may_orphan = true;
                }
                None => {}
            }
        }
        self.put_people(said, &unread);
    }

    /// All at once: for those who are disabled now, all records are looked through. Of whom
    /// the file is `unread`, that may not last.
    fn put_people(&mut self, people: Vec<Person>, unread: &HashSet<ClientName>) {
        let Clients { held, doubts, .. } = &mut *self.clients;
        let newly =
            |person: &&Person| person.disabled.is_some() && !held.is_person_shut(&person.name);
        let shut: HashSet<_> =
            people.iter().filter(newly).map(|person| person.name.clone()).collect();
        let mut open = held.open_devices(&shut);
        for person in people {
            if !unread.contains(&person.name) {
                open.extend(doubts.remove(&person.name).into_iter().flat_map(|doubt| doubt.kids));
            }
            held.put_person(person);
        }
        for kid in open {
            let person = self.clients.name_of(&kid).map(ClientName::person);
            match person.filter(|person| unread.contains(person)) {
                Some(person) => self.clients.doubts.entry(person).or_default().kids.push(kid),
                None => self.tell_if_shut(kid),
            }
        }
    }

    /// Of people without file and without devices nothing is known any more.
    fn forget_orphans(&mut self) {
        let Clients { held, away, broken, .. } = &mut *self.clients;
        let left = held.with_devices(away);
        let orphans: Vec<_> = away.difference(&left).cloned().collect();
        for name in orphans {
            held.take_person(&name);
            broken.remove(&Store::file_of_person(&name));
            away.remove(&name);
        }
    }

    /// Of a client that was open before.
    pub(super) fn tell_if_shut(&mut self, kid: Kid) {
        let held = &self.clients.held;
        if !held.is_open(&kid) {
            let name = held.name_of(&kid).cloned();
            self.differences.extend(name.map(|name| Difference::Shut(name, kid)));
        }
    }

    fn at_client(&mut self, file: &OsStr) {
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
    pub(super) fn take_up(
        &mut self,
        file: &OsStr,
        found: Result<ClientRecord, StoreError>,
    ) -> Option<Place> {
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

    pub(super) fn forget(&mut self, name: &ClientName) {
        let kids = self.clients.held.own_kids(name);
        self.clients.held.take(name);
        let went = kids.into_iter().map(|kid| Difference::Went(name.clone(), kid));
        self.differences.extend(went);
        self.may_orphan = true;
    }

    /// Where a client went, it may have stood in the way of another. Then says
    /// what is broken that was not before.
    pub(super) fn end(mut self) -> Vec<Difference> {
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
        if self.may_orphan && !self.clients.away.is_empty() {
            self.forget_orphans();
        }
        for (file, error) in &self.clients.broken {
            if told.get(file) != Some(error) {
                warn!(error, "client record not used");
                self.clients.sweep.iter_mut().for_each(|sweep| sweep.tell(file, error));
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
