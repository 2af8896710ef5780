//! Records as they are kept: some 200 bytes for each of 100 000.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use spa_keys::{ClientName, ClientRecord, FormerKeys, Person, Policy};
use spa_proto::{Kid, Psk, Timestamp, Verifier};

/// Records, each with a name and key-ids of its own.
#[derive(Default)]
pub(super) struct Held {
    records: Vec<Option<Packed>>,
    vacant: Vec<Place>,
    by_kid: HashTable<Place>,
    by_name: HashTable<Place>,
    hasher: RandomState,
    /// Many clients may do the same.
    policies: HashSet<Arc<Policy>>,
    people: HashMap<ClientName, Arc<Person>>,
    newest: Timestamp,
    /// Of those whose keys are being replaced, few at a time.
    by_former_kid: HashMap<Kid, Place>,
    /// How often all records were looked through for people.
    #[cfg(test)]
    pub(super) passes: std::cell::Cell<usize>,
}

/// Where a record lies.
pub(super) type Place = u32;

/// How many are copied before the first of them is dropped.
const GATHERED: usize = 16 * 1024;

/// Some of these places.
#[derive(Default)]
pub(super) struct Places(Vec<bool>);

impl Places {
    fn has(&self, at: usize) -> bool {
        self.0.get(at) == Some(&true)
    }
}

impl Extend<Place> for Places {
    fn extend<T: IntoIterator<Item = Place>>(&mut self, more: T) {
        for at in more.into_iter().map(index) {
            self.0.resize(self.0.len().max(at.saturating_add(1)), false);
            self.0[at] = true;
        }
    }
}

/// A [`ClientRecord`].
struct Packed {
    name: ClientName,
    kid: Kid,
    psk: Psk,
    verifier: Verifier,
    knocked: bool,
    created: Timestamp,
    policy: Arc<Policy>,
    /// `None` where there is nothing in it.
    rare: Option<Box<Rare>>,
}

/// What few clients have.
#[derive(Clone)]
struct Rare {
    expires: Option<Timestamp>,
    disabled: Option<Timestamp>,
    former: Option<FormerKeys>,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// When the newest was made of all records that were ever here.
    pub(super) fn newest(&self) -> Timestamp {
        self.newest
    }

    pub(super) fn get(&self, kid: &Kid) -> Option<ClientRecord> {
        let record = self.of_kid(kid)?;
        let person = self.person_behind(&record.name);
        ClientRecord { person, ..record.unpack() }.under(kid)
    }

    fn person_behind(&self, name: &ClientName) -> Option<Arc<Person>> {
        name.device().and_then(|_| self.people.get(&name.person())).cloned()
    }

    /// Whether there is such a client, and it is not shut out.
    pub(super) fn is_open(&self, kid: &Kid) -> bool {
        let person = |name| self.person_behind(name).is_some_and(|one| one.disabled.is_some());
        self.of_kid(kid).is_some_and(|one| one.disabled().is_none() && !person(&one.name))
    }

    /// Whether a person is disabled, with all devices.
    pub(super) fn is_person_shut(&self, name: &ClientName) -> bool {
        self.people.get(name).is_some_and(|person| person.disabled.is_some())
    }

    /// What is said of a person from now on.
    pub(super) fn put_person(&mut self, said: Person) {
        self.people.insert(said.name.clone(), Arc::new(said));
    }

    /// Nothing is said of a person from now on.
    pub(super) fn take_person(&mut self, name: &ClientName) {
        self.people.remove(name);
    }

    pub(super) fn knows_person(&self, name: &ClientName) -> bool {
        self.people.contains_key(name)
    }

    /// Under which the devices of these people can knock that are not shut out.
    pub(super) fn open_devices(&self, of: &HashSet<ClientName>) -> Vec<Kid> {
        let devices = self.devices(|person| of.contains(person), of.is_empty());
        devices.flat_map(Packed::kids).filter(|kid| self.is_open(kid)).collect()
    }

    /// Those of these people who have a device.
    pub(super) fn with_devices(&self, people: &BTreeSet<ClientName>) -> BTreeSet<ClientName> {
        let devices = self.devices(|person| people.contains(person), people.is_empty());
        devices.map(|record| record.name.person()).collect()
    }

    /// Devices by their people; all records are looked through, unless it is for nobody.
    fn devices(
        &self,
        whose: impl Fn(&ClientName) -> bool,
        nobodys: bool,
    ) -> impl Iterator<Item = &Packed> {
        #[cfg(test)]
        self.passes.set(self.passes.get() + usize::from(!nobodys));
        let records = if nobodys { &[] } else { self.records.as_slice() };
        let devices = records.iter().flatten().filter(|record| record.name.device().is_some());
        devices.filter(move |record| whose(&record.name.person()))
    }

    /// All of whom something is said.
    pub(super) fn people(&self) -> impl Iterator<Item = &ClientName> {
        self.people.keys()
    }

    /// The key-ids that a name stands for.
    pub(super) fn kids_of(&self, who: &ClientName) -> Vec<Kid> {
        if who.device().is_some() {
            return self.own_kids(who);
        }
        let records = self.records.iter().flatten().filter(|record| record.name.is_of(who));
        records.flat_map(Packed::kids).collect()
    }

    pub(super) fn psk(&self, kid: &Kid) -> Option<&Psk> {
        let record = self.of_kid(kid)?;
        let former = record.former().filter(|former| former.kid == *kid);
        Some(former.map_or(&record.psk, |former| &former.psk))
    }

    pub(super) fn name_of(&self, kid: &Kid) -> Option<&ClientName> {
        self.of_kid(kid).map(|record| &record.name)
    }

    /// All under which the client of this name can knock, the newest first.
    pub(super) fn own_kids(&self, name: &ClientName) -> Vec<Kid> {
        let record = self.place_of(name).and_then(|place| self.at(place));
        record.map(|record| record.kids().collect()).unwrap_or_default()
    }

    pub(super) fn kids(&self) -> impl Iterator<Item = Kid> {
        self.records.iter().flatten().flat_map(Packed::kids)
    }

    /// Those whose former keys have ended, with these keys' id.
    pub(super) fn overdue(&self, now: Timestamp) -> impl Iterator<Item = (ClientName, Kid)> {
        let replaced = self.by_former_kid.values().filter_map(|place| self.at(*place));
        replaced.filter_map(move |record| {
            let former = record.former().filter(|it| it.until < now)?;
            Some((record.name.clone(), former.kid))
        })
    }

    /// Names of the records that are not at these places.
    pub(super) fn names_beside(&self, places: &Places) -> Vec<ClientName> {
        let records = self.records.iter().enumerate().filter(|(at, _)| !places.has(*at));
        records.filter_map(|(_, record)| Some(record.as_ref()?.name.clone())).collect()
    }

    /// Puts a record in place of that of its name; where. No other may have one of
    /// its key-ids. One that says nothing new stays as it is, and where.
    pub(super) fn put(&mut self, record: ClientRecord) -> Place {
        let known = self.place_of(&record.name);
        let same = |place: &Place| self.at(*place).is_some_and(|known| known.says(&record));
        if let Some(place) = known.filter(same) {
            return place;
        }
        self.take(&record.name);
        self.newest = self.newest.max(record.created);
        let record = self.pack(record);
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.records.push(None);
            Place::try_from(self.records.len() - 1).unwrap_or(Place::MAX)
        });
        let Self { records, by_kid, by_name, hasher, by_former_kid, .. } = self;
        let (kid, name) = (hasher.hash_one(record.kid), hasher.hash_one(&record.name));
        by_former_kid.extend(record.former().map(|former| (former.kid, place)));
        if let Some(slot) = slot(records, place) {
            *slot = Some(record);
        }
        let at = |place: &Place| records.get(index(*place))?.as_ref();
        by_kid.insert_unique(kid, place, |it| at(it).map_or(0, |it| hasher.hash_one(it.kid)));
        by_name.insert_unique(name, place, |it| at(it).map_or(0, |it| hasher.hash_one(&it.name)));
        place
    }

    /// Moves what lies between what readers have left to where it lies together, so that
    /// their memory can be given back. An allocator hands out again what was freed last:
    /// copied and dropped one by one, all would stay where they are.
    pub(super) fn gather(&mut self) {
        for some in self.records.chunks_mut(GATHERED) {
            let copy = |held: &Packed| (held.name.clone(), held.psk.clone());
            let copies: Vec<_> = some.iter().flatten().map(copy).collect();
            for (record, copy) in some.iter_mut().flatten().zip(copies) {
                (record.name, record.psk) = copy;
            }
        }
    }

    /// Drops a record, if there is one.
    pub(super) fn take(&mut self, name: &ClientName) {
        let Some(place) = self.place_of(name) else { return };
        let packed = slot(&mut self.records, place).and_then(Option::take);
        let Some(Packed { kid, policy, rare, .. }) = packed else { return };
        let is_it = |other: &Place| *other == place;
        let hashes = [self.hasher.hash_one(name), self.hasher.hash_one(kid)];
        for (table, hash) in [&mut self.by_name, &mut self.by_kid].into_iter().zip(hashes) {
            if let Ok(entry) = table.find_entry(hash, is_it) {
                entry.remove();
            }
        }
        if let Some(former) = rare.and_then(|rare| rare.former) {
            self.by_former_kid.remove(&former.kid);
        }
        self.vacant.push(place);
        // Its own, and that of the list.
        if Arc::strong_count(&policy) == 2 {
            self.policies.remove(&policy);
        }
    }

    fn of_kid(&self, kid: &Kid) -> Option<&Packed> {
        let own = |place: &Place| self.at(*place).is_some_and(|it| it.kid == *kid);
        let place = self.by_kid.find(self.hasher.hash_one(kid), own);
        self.at(*place.or_else(|| self.by_former_kid.get(kid))?)
    }

    fn place_of(&self, name: &ClientName) -> Option<Place> {
        let own = |place: &Place| self.at(*place).is_some_and(|it| it.name == *name);
        self.by_name.find(self.hasher.hash_one(name), own).copied()
    }

    fn at(&self, place: Place) -> Option<&Packed> {
        self.records.get(index(place))?.as_ref()
    }

    fn pack(&mut self, record: ClientRecord) -> Packed {
        let policy = self.policies.get(&record.policy).cloned().unwrap_or_else(|| {
            let policy = Arc::new(Policy::clone(&record.policy));
            self.policies.insert(Arc::clone(&policy));
            policy
        });
        let ClientRecord { expires, disabled, former, .. } = record;
        let is_rare = expires.is_some() || disabled.is_some() || former.is_some();
        Packed {
            name: record.name,
            kid: record.kid,
            psk: record.psk,
            verifier: record.verifier,
            knocked: record.knocked,
            created: record.created,
            policy,
            rare: is_rare.then(|| Box::new(Rare { expires, disabled, former })),
        }
    }
}

impl Packed {
    fn kids(&self) -> impl Iterator<Item = Kid> {
        std::iter::once(self.kid).chain(self.former().map(|former| former.kid))
    }

    fn former(&self) -> Option<&FormerKeys> {
        self.rare.as_ref()?.former.as_ref()
    }

    fn expires(&self) -> Option<Timestamp> {
        self.rare.as_ref()?.expires
    }

    fn disabled(&self) -> Option<Timestamp> {
        self.rare.as_ref()?.disabled
    }

    /// Whether it is this record, of the same name.
    fn says(&self, record: &ClientRecord) -> bool {
        let of = |former: &FormerKeys| {
            let FormerKeys { kid, key, knocked, until, ref psk } = *former;
            (kid, key, knocked, until, *psk.expose())
        };
        let keys = self.kid == record.kid
            && self.psk.expose() == record.psk.expose()
            && self.verifier == record.verifier
            && self.former().map(of) == record.former.as_ref().map(of);
        let dates = self.knocked == record.knocked
            && (self.created, self.expires()) == (record.created, record.expires)
            && self.disabled() == record.disabled;
        keys && dates && self.policy == record.policy
    }

    fn unpack(&self) -> ClientRecord {
        ClientRecord {
            name: self.name.clone(),
            kid: self.kid,
            psk: self.psk.clone(),
            verifier: self.verifier.clone(),
            knocked: self.knocked,
            created: self.created,
            expires: self.expires(),
            disabled: self.disabled(),
            policy: Arc::clone(&self.policy),
            person: None,
            former: self.former().cloned(),
            // Nothing is decided by them here, and nothing held is written.
            former_kids: Vec::new(),
        }
    }
}

fn index(place: Place) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn slot(records: &mut [Option<Packed>], place: Place) -> Option<&mut Option<Packed>> {
    records.get_mut(index(place))
}
