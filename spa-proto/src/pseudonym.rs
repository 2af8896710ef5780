//! Under which name a client's packets are found: 8 bytes that change every
//! six hours, hidden from those without the cloak (protocol §5.1).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use siphasher::sip::SipHasher24;

use crate::key::Nonce;
use crate::packet::field;
use crate::schedule::ClientKeys;
use crate::secret::Cloak;
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
    epoch: u64,
    table: HashMap<Pseudonym, Entry, BuildHasherDefault<Identity>>,
}

/// A client's place in the gate, and the epoch that the pseudonym is of.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) client: usize,
    pub(crate) epoch: u64,
}

impl Pseudonyms {
    /// Whether `now` lies in another epoch than the table was made for; if so,
    /// the table is empty and every client has to be inserted again.
    pub(crate) fn turn(&mut self, now: Timestamp) -> bool {
        let turned = self.epoch != now.epoch();
        if turned {
            self.epoch = now.epoch();
            self.table.clear();
        }
        turned
    }

    pub(crate) fn insert(&mut self, client: usize, keys: &ClientKeys) {
        for epoch in self.epochs() {
            self.table.insert(keys.pseudonym(epoch), Entry { client, epoch });
        }
    }

    pub(crate) fn remove(&mut self, keys: &ClientKeys) {
        for epoch in self.epochs() {
            self.table.remove(&keys.pseudonym(epoch));
        }
    }

    pub(crate) fn find(&self, pseudonym: Pseudonym) -> Option<Entry> {
        self.table.get(&pseudonym).copied()
    }

    fn epochs(&self) -> std::ops::RangeInclusive<u64> {
        self.epoch.saturating_sub(1)..=self.epoch.saturating_add(1)
    }
}

/// Pseudonyms are HMAC output: they are their own hash, and nobody without a
/// client's key can choose the ones in the table.
#[derive(Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 << 8) | u64::from(*byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
