//! Records as they are kept: some 200 bytes for each of 100 000.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use spa_keys::{ClientName, ClientRecord, Person, Policy};
use spa_proto::{Kid, Psk, Timestamp, Verifier};

/// Records, each with a name and a key-id of its own.
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
}

/// Where a record lies.
pub(super) type Place = u32;

/// A [`ClientRecord`].
struct Packed {
    name: ClientName,
    kid: Kid,
    psk: Psk,
    verifier: Verifier,
    knocked: bool,
    created: Timestamp,
    expires: Option<Timestamp>,
    disabled: Option<Timestamp>,
    policy: Arc<Policy>,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.by_kid.len()
    }

    /// When the newest was made of all records that were ever here.
    pub(super) fn newest(&self) -> Timestamp {
        self.newest
    }

    /// All places are below this.
    pub(super) fn places(&self) -> usize {
        self.records.len()
    }

    pub(super) fn get(&self, kid: &Kid) -> Option<ClientRecord> {
        let record = self.of_kid(kid)?;
        Some(ClientRecord { person: self.person_behind(&record.name), ..record.unpack() })
    }

    fn person_behind(&self, name: &ClientName) -> Option<Arc<Person>> {
        name.device().and_then(|_| self.people.get(&name.person())).cloned()
    }

    /// Whether there is such a client, and it is not shut out.
    pub(super) fn is_open(&self, kid: &Kid) -> bool {
        let person = |name| self.person_behind(name).is_some_and(|one| one.disabled.is_some());
        self.of_kid(kid).is_some_and(|one| one.disabled.is_none() && !person(&one.name))
    }

    /// What is said of a person from now on.
    pub(super) fn put_person(&mut self, name: &ClientName, said: Option<Person>) {
        match said {
            Some(said) => self.people.insert(name.clone(), Arc::new(said)),
            None => self.people.remove(name),
        };
    }

    /// All of whom something is said.
    pub(super) fn people(&self) -> impl Iterator<Item = &ClientName> {
        self.people.keys()
    }

    /// The clients that a name stands for.
    pub(super) fn kids_of(&self, who: &ClientName) -> Vec<Kid> {
        if who.device().is_some() {
            return self.kid_of(who).into_iter().collect();
        }
        let records = self.records.iter().flatten().filter(|record| record.name.is_of(who));
        records.map(|record| record.kid).collect()
    }

    pub(super) fn psk(&self, kid: &Kid) -> Option<&Psk> {
        self.of_kid(kid).map(|record| &record.psk)
    }

    pub(super) fn name_of(&self, kid: &Kid) -> Option<&ClientName> {
        self.of_kid(kid).map(|record| &record.name)
    }

    pub(super) fn kid_of(&self, name: &ClientName) -> Option<Kid> {
        Some(self.at(self.place_of(name)?)?.kid)
    }

    pub(super) fn kids(&self) -> impl Iterator<Item = Kid> {
        self.records.iter().flatten().map(|record| record.kid)
    }

    /// Names of the records at the places of which this is true.
    pub(super) fn names_at(&self, which: impl Fn(usize) -> bool) -> Vec<ClientName> {
        let records = self.records.iter().enumerate().filter(|(place, _)| which(*place));
        records.filter_map(|(_, record)| Some(record.as_ref()?.name.clone())).collect()
    }

    /// Puts a record in place of that of its name; where. No other may have its
    /// key-id. One that says nothing new stays as it is, and where.
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
        let Self { records, by_kid, by_name, hasher, .. } = self;
        let (kid, name) = (hasher.hash_one(record.kid), hasher.hash_one(&record.name));
        if let Some(slot) = slot(records, place) {
            *slot = Some(record);
        }
        let at = |place: &Place| records.get(index(*place))?.as_ref();
        by_kid.insert_unique(kid, place, |it| at(it).map_or(0, |it| hasher.hash_one(it.kid)));
        by_name.insert_unique(name, place, |it| at(it).map_or(0, |it| hasher.hash_one(&it.name)));
        place
    }

    /// Drops a record; which key-id it had.
    pub(super) fn take(&mut self, name: &ClientName) -> Option<Kid> {
        let place = self.place_of(name)?;
        let Packed { kid, policy, .. } = slot(&mut self.records, place)?.take()?;
        let is_it = |other: &Place| *other == place;
        let hashes = [self.hasher.hash_one(name), self.hasher.hash_one(kid)];
        for (table, hash) in [&mut self.by_name, &mut self.by_kid].into_iter().zip(hashes) {
            if let Ok(entry) = table.find_entry(hash, is_it) {
                entry.remove();
            }
        }
        self.vacant.push(place);
        // Its own, and that of the list.
        if Arc::strong_count(&policy) == 2 {
            self.policies.remove(&policy);
        }
        Some(kid)
    }

    fn of_kid(&self, kid: &Kid) -> Option<&Packed> {
        let own = |place: &Place| self.at(*place).is_some_and(|it| it.kid == *kid);
        self.at(*self.by_kid.find(self.hasher.hash_one(kid), own)?)
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
            let policy = Arc::new(record.policy);
            self.policies.insert(Arc::clone(&policy));
            policy
        });
        // Copied, so that what stays does not lie between what its readers have freed.
        Packed {
            name: record.name.clone(),
            kid: record.kid,
            psk: record.psk.clone(),
            verifier: record.verifier,
            knocked: record.knocked,
            created: record.created,
            expires: record.expires,
            disabled: record.disabled,
            policy,
        }
    }
}

impl Packed {
    /// Whether it is this record, of the same name.
    fn says(&self, record: &ClientRecord) -> bool {
        let keys = self.kid == record.kid
            && self.psk.expose() == record.psk.expose()
            && self.verifier == record.verifier;
        let dates = self.knocked == record.knocked
            && (self.created, self.expires) == (record.created, record.expires)
            && self.disabled == record.disabled;
        keys && dates && *self.policy == record.policy
    }

    fn unpack(&self) -> ClientRecord {
        ClientRecord {
            name: self.name.clone(),
            kid: self.kid,
            psk: self.psk.clone(),
            verifier: self.verifier.clone(),
            knocked: self.knocked,
            created: self.created,
            expires: self.expires,
            disabled: self.disabled,
            policy: Policy::clone(&self.policy),
            person: None,
        }
    }
}

fn index(place: Place) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn slot(records: &mut [Option<Packed>], place: Place) -> Option<&mut Option<Packed>> {
    records.get_mut(index(place))
}
