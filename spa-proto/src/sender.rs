//! Who has sent a datagram, for whoever holds all keys and has time: somebody who
//! looks at it afterwards. The gate goes by the pseudonym alone, and by the clock.

use crate::key::{Kid, ServerPublic};
use crate::open;
use crate::packet::Datagram;
use crate::schedule::ClientKeys;
use crate::secret::Cloak;
use crate::time::Timestamp;

/// The sender of a datagram, as its HMAC has proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its clock when it made the datagram.
    pub time: Timestamp,
    /// Whether the pseudonym is the one that it has at this time; not so where the
    /// datagram was made with another cloak (protocol §5.1).
    pub named: bool,
}

impl Sender {
    /// Who this client is in the datagram; `None` where its HMAC does not cover it.
    #[must_use]
    pub fn of(
        datagram: &Datagram,
        (kid, keys): (&Kid, &ClientKeys),
        server: ServerPublic,
        cloak: &Cloak,
    ) -> Option<Self> {
        let own = keys.keys();
        open::authentic(datagram, own).then(|| {
            let time = open::transcript(datagram, own, server, *kid).time;
            let epoch = time.epoch();
            Self { time, named: names(datagram, keys, cloak, epoch..=epoch) }
        })
    }

    /// Whether a datagram bears this client's pseudonym of an epoch that is admitted
    /// at the time `now`. It proves nothing: pseudonyms are there to be copied.
    #[must_use]
    pub fn is_claimed(
        datagram: &Datagram,
        keys: &ClientKeys,
        cloak: &Cloak,
        now: Timestamp,
    ) -> bool {
        let epoch = now.epoch();
        names(datagram, keys, cloak, epoch.saturating_sub(1)..=epoch.saturating_add(1))
    }
}

fn names(
    datagram: &Datagram,
    keys: &ClientKeys,
    cloak: &Cloak,
    mut epochs: impl Iterator<Item = u64>,
) -> bool {
    let (pseudonym, namer) = (open::pseudonym(datagram, cloak), keys.keys().namer());
    epochs.any(|epoch| namer.pseudonym(epoch) == pseudonym)
}
