//! The clients of one set of a server's keys: found by key-id, and by the name
//! that a packet bears (protocol §6, steps 2 and 3).

use hashbrown::HashTable;
use siphasher::sip::SipHasher24;

use crate::key::{Kid, ServerPublic, ServerSecret};
use crate::open;
use crate::packet::Datagram;
use crate::pseudonym::{Entry, Pseudonyms};
use crate::schedule::{ClientKeys, Keys};
use crate::secret::Cloak;
use crate::shelf::{Place, Shelf};
use crate::time::Timestamp;

/// Which of the sets of keys that a server has at the same time (protocol §3.4):
/// a number that the server itself gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Generation(u32);

impl Generation {
    /// Any number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// A set of a server's keys (protocol §3.1).
#[derive(Clone)]
pub struct ServerKeys {
    /// What tells it from another of the same server.
    pub generation: Generation,
    /// The private key.
    pub secret: ServerSecret,
    /// What hides pseudonyms.
    pub cloak: Cloak,
}

/// A set of keys, and the clients that knock for it.
pub(crate) struct Book {
    pub(crate) own: ServerKeys,
    pub(crate) public: ServerPublic,
    clients: Shelf<Client>,
    places: HashTable<Place>,
    pseudonyms: Pseudonyms,
}

pub(crate) struct Client {
    pub(crate) kid: Kid,
    pub(crate) keys: Keys,
}

impl AsRef<Keys> for Client {
    fn as_ref(&self) -> &Keys {
        &self.keys
    }
}

impl Book {
    pub(crate) fn new(own: ServerKeys) -> Self {
        Self {
            public: own.secret.public(),
            own,
            clients: Shelf::new(),
            places: HashTable::new(),
            pseudonyms: Pseudonyms::default(),
        }
    }

    /// See [`Pseudonyms::turn`].
    pub(crate) fn turn(&mut self, now: Timestamp, some: Place) {
        self.pseudonyms.turn(now, &self.clients, some);
    }

    pub(crate) fn insert(&mut self, kid: Kid, keys: &ClientKeys) {
        let client = Client { kid, keys: keys.keys().clone() };
        let place = match self.place(&kid) {
            Some(place) => {
                self.forget_names(place);
                self.clients.set(place, client);
                place
            }
            None => self.take_place(client),
        };
        self.pseudonyms.insert(place, keys.keys());
    }

    pub(crate) fn remove(&mut self, kid: &Kid) {
        let Some(place) = self.place(kid) else { return };
        self.forget_names(place);
        let hash = hash(&self.own.cloak, kid);
        if let Ok(entry) = self.places.find_entry(hash, |found| *found == place) {
            entry.remove();
        }
        self.clients.remove(place);
    }

    pub(crate) fn knows(&self, kid: &Kid) -> bool {
        self.place(kid).is_some()
    }

    /// Step 2: who says so, and in which epoch the name was found.
    pub(crate) fn find(&self, datagram: &Datagram) -> Option<(&Client, u64)> {
        let pseudonym = open::pseudonym(datagram, &self.own.cloak);
        let Entry { place, epoch } = self.pseudonyms.find(pseudonym)?;
        Some((self.clients.get(place)?, epoch))
    }

    fn place(&self, kid: &Kid) -> Option<Place> {
        let own = |place: &Place| self.clients.get(*place).is_some_and(|it| it.kid == *kid);
        self.places.find(hash(&self.own.cloak, kid), own).copied()
    }

    fn take_place(&mut self, client: Client) -> Place {
        let hash = |kid: &Kid| hash(&self.own.cloak, kid);
        let hash_of_client = hash(&client.kid);
        let place = self.clients.insert(client);
        let hash_at = |place: &Place| self.clients.get(*place).map_or(0, |it| hash(&it.kid));
        self.places.insert_unique(hash_of_client, place, hash_at);
        place
    }

    fn forget_names(&mut self, place: Place) {
        if let Some(client) = self.clients.get(place) {
            self.pseudonyms.remove(place, &client.keys);
        }
    }
}

/// Keyed, so that it does not matter who has chosen the key-ids, and how.
fn hash(cloak: &Cloak, kid: &Kid) -> u64 {
    SipHasher24::new_with_key(cloak.expose()).hash(kid.as_bytes())
}
