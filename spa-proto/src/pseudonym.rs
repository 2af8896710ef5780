//! Under which name a client's packets are found: 8 bytes that change every
//! six hours, hidden from those without the cloak (protocol §5.1).

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use siphasher::sip::SipHasher24;

use crate::key::Nonce;
use crate::packet::field;
use crate::schedule::Keys;
use crate::secret::Cloak;
use crate::shelf::{Place, Shelf};
use crate::time::Timestamp;

/// The name of one client in one epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pseudonym(u64);

impl Pseudonym {
    /// The first 8 bytes of an HMAC.
    pub(crate) fn truncate(tag: &[u8; 32]) -> Self {
        Self(u64::from_be_bytes(field(tag, 0..8)))
    }

    /// As it travels: exclusive-or with SipHash-2-4 of the nonce.
    pub(crate) fn mask(self, cloak: &Cloak, nonce: &Nonce) -> [u8; 8] {
        (self.0 ^ veil(cloak, nonce)).to_be_bytes()
    }

    /// Undoes [`Self::mask`].
    pub(crate) fn unmask(masked: [u8; 8], cloak: &Cloak, nonce: &Nonce) -> Self {
        Self(u64::from_be_bytes(masked) ^ veil(cloak, nonce))
    }
}

fn veil(cloak: &Cloak, nonce: &Nonce) -> u64 {
    SipHasher24::new_with_key(cloak.expose()).hash(nonce.as_bytes())
}

/// Which client a pseudonym belongs to, for the previous, the current and the
/// next epoch, so that a look-up costs the same for one client and for 100 000.
#[derive(Default)]
pub(crate) struct Pseudonyms {
    /// The current one.
    epoch: u64,
    /// Whether the tables of all three are complete.
    settled: bool,
    /// Each epoch's is at the rest of its number by three.
    tables: [Table; 3],
}

/// A client's place in the gate, and the epoch that the pseudonym is of.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) epoch: u64,
}

impl Pseudonyms {
    /// Makes the tables those around the time `now`. When the epoch turns, two of
    /// them are there already. The third is of times far away: `some` clients with
    /// each call are quick enough for it, while what is near is made whole.
    pub(crate) fn turn<C: AsRef<Keys>>(&mut self, now: Timestamp, clients: &Shelf<C>, some: Place) {
        let current = now.epoch();
        if self.settled && self.epoch == current {
            return;
        }
        (self.epoch, self.settled) = (current, true);
        for (table, rest) in self.tables.iter_mut().zip(0..) {
            let mut around = current.saturating_sub(1)..=current.saturating_add(1);
            let Some(epoch) = around.find(|epoch| epoch % 3 == rest) else {
                // In 1970 there is none before. What is not kept up must not come back.
                *table = Table::default();
                continue;
            };
            let some = if now.is_far_from(epoch) { some } else { Place::MAX };
            self.settled &= table.fill(epoch, clients, some);
        }
    }

    /// Names a client in all three epochs; before the first turn there are none.
    pub(crate) fn insert(&mut self, place: Place, keys: &Keys) {
        let namer = keys.namer();
        for (epoch, table) in self.around() {
            table.insert(namer.pseudonym(epoch), place);
            if table.filled == place {
                table.filled += 1;
            }
        }
    }

    pub(crate) fn remove(&mut self, place: Place, keys: &Keys) {
        let namer = keys.namer();
        for (epoch, table) in self.around() {
            table.remove(namer.pseudonym(epoch), place);
        }
    }

    pub(crate) fn find(&self, pseudonym: Pseudonym) -> Option<Entry> {
        self.tables.iter().find_map(|table| {
            let epoch = table.near(self.epoch)?;
            Some(Entry { place: table.find(pseudonym)?, epoch })
        })
    }

    fn around(&mut self) -> impl Iterator<Item = (u64, &mut Table)> {
        let current = self.epoch;
        self.tables.iter_mut().filter_map(move |table| Some((table.near(current)?, table)))
    }
}

/// The pseudonyms of one epoch.
#[derive(Default)]
struct Table {
    epoch: Option<u64>,
    names: HashTable<Name>,
    sieve: Sieve,
    /// Whoever is at a place below this is in it.
    filled: Place,
}

/// Sixteen bits or more for each name, of which it sets one: so that it stays in the
/// processor's caches when the table does not, and most of an outsider's packets
/// need no more of it.
#[derive(Default)]
struct Sieve(Vec<u64>);

impl Sieve {
    const BITS_EACH: usize = 16;

    /// One of a power of two words.
    fn place(&self, name: u64) -> Option<(usize, u64)> {
        let last = u64::try_from(self.0.len().checked_sub(1)?).ok()?;
        let word = usize::try_from(name >> 6 & last).ok()?;
        Some((word, 1 << (name & 63)))
    }

    fn may_have(&self, name: u64) -> bool {
        let bit = |(word, bit): (usize, u64)| self.0.get(word).is_some_and(|word| word & bit != 0);
        self.place(name).is_some_and(bit)
    }

    fn add(&mut self, name: u64) {
        if let Some((at, bit)) = self.place(name)
            && let Some(word) = self.0.get_mut(at)
        {
            *word |= bit;
        }
    }

    fn has_room_for(&self, names: usize) -> bool {
        names * Self::BITS_EACH <= self.0.len() * 64
    }

    fn of(names: impl ExactSizeIterator<Item = u64>) -> Self {
        let words = (names.len() * 2 * Self::BITS_EACH).div_ceil(64).next_power_of_two();
        let mut sieve = Self(vec![0; words]);
        names.for_each(|name| sieve.add(name));
        sieve
    }
}

/// A pseudonym and whose it is, in 12 bytes.
struct Name {
    halves: [u32; 2],
    place: Place,
}

impl Name {
    /// Pseudonyms are HMAC output: they are their own hash, and nobody without a
    /// client's key can choose the ones in the table.
    fn hash(&self) -> u64 {
        let [high, low] = self.halves;
        u64::from(high) << 32 | u64::from(low)
    }
}

impl Table {
    /// Its epoch, if it is the current one or next to it.
    fn near(&self, current: u64) -> Option<u64> {
        self.epoch.filter(|epoch| epoch.abs_diff(current) <= 1)
    }

    /// Goes on with naming clients, or begins where it was of another epoch.
    /// Whether all of them are named.
    fn fill<C: AsRef<Keys>>(&mut self, epoch: u64, clients: &Shelf<C>, some: Place) -> bool {
        if self.epoch != Some(epoch) {
            self.names.clear();
            self.sieve.0.fill(0);
            (self.epoch, self.filled) = (Some(epoch), 0);
        }
        let end = self.filled.saturating_add(some).min(clients.places());
        for place in self.filled..end {
            if let Some(client) = clients.get(place) {
                self.insert(client.as_ref().namer().pseudonym(epoch), place);
            }
        }
        self.filled = self.filled.max(end);
        end == clients.places()
    }

    fn find(&self, Pseudonym(name): Pseudonym) -> Option<Place> {
        let known = self.sieve.may_have(name);
        let found = known.then(|| self.names.find(name, |entry| entry.hash() == name))?;
        found.map(|entry| entry.place)
    }

    fn insert(&mut self, Pseudonym(name): Pseudonym, place: Place) {
        match self.names.entry(name, |entry| entry.hash() == name, Name::hash) {
            Slot::Occupied(mut entry) => entry.get_mut().place = place,
            Slot::Vacant(entry) => {
                let halves =
                    [0, 4].map(|at| u32::from_be_bytes(field(&name.to_be_bytes(), at..at + 4)));
                entry.insert(Name { halves, place });
                self.sift(name);
            }
        }
    }

    /// Puts a new name into the sieve. One that is removed stays in it.
    fn sift(&mut self, name: u64) {
        if self.sieve.has_room_for(self.names.len()) {
            self.sieve.add(name);
        } else {
            self.sieve = Sieve::of(self.names.iter().map(Name::hash));
        }
    }

    fn remove(&mut self, Pseudonym(name): Pseudonym, place: Place) {
        let own = |entry: &Name| entry.hash() == name && entry.place == place;
        if let Ok(entry) = self.names.find_entry(name, own) {
            entry.remove();
        }
    }
}
