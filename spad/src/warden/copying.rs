//! What has to get into a new journal while the old one is still in use: a few
//! clients, grants and sessions with each entry that is added, so that no knock
//! waits for all of them.

use spa_proto::{Kid, Replay, Services};

use super::gatehouse::BATCH;
use super::memory::{entry, opened};
use crate::grants::Ledger;
use crate::journal::{self, Record};
use crate::sessions::Ends;

/// Fewer things are written anew all at once, in a tenth of a millisecond or two.
pub(super) const FEW: usize = 500;
/// How many things are copied for each entry that is added.
const STEP: usize = 4;
/// Entries that may be added in one go: of each knock, that it was used, and its grants.
const TOGETHER: usize = BATCH * (Services::MAX + 1);
/// So many must fit beside those that [`Copying::takes`] counts: one batch may come before
/// it shows that too little is left, one before anything is copied, and the last may be
/// larger than what there is to copy.
pub(super) const MARGIN: u64 = 3 * TOGETHER as u64;

/// What is not in the new journal yet, of what was there when it was begun.
pub(super) struct Copying {
    clients: Vec<Kid>,
    grants: Vec<u64>,
    sessions: Vec<Ends>,
}

impl Copying {
    pub(super) fn all(replay: &Replay, ledger: &Ledger) -> Self {
        Self {
            clients: replay.histories().map(|(kid, _)| *kid).collect(),
            grants: ledger.iter().map(|grant| grant.id).collect(),
            sessions: ledger.sessions.iter().map(|session| session.ends).collect(),
        }
    }

    /// With how many entries that are added all of so many things are copied.
    pub(super) fn takes(things: usize) -> u64 {
        u64::try_from(things.div_ceil(STEP)).unwrap_or(u64::MAX)
    }

    /// The next things to copy where so many entries are going to be added, as
    /// they are now; what is gone by now is not copied.
    pub(super) fn next(&mut self, added: usize, replay: &Replay, ledger: &Ledger) -> Vec<Record> {
        let mut left = added.saturating_mul(STEP);
        let mut some = |all: usize| {
            let taken = all.min(left);
            left -= taken;
            all - taken
        };
        let clients = self.clients.split_off(some(self.clients.len()));
        let grants = self.grants.split_off(some(self.grants.len()));
        let sessions = self.sessions.split_off(some(self.sessions.len()));
        let past = |kid: &Kid| Some(journal::past(kid, replay.history(kid)?));
        let mut records: Vec<_> = clients.iter().filter_map(past).flatten().collect();
        records.extend(grants.iter().filter_map(|id| ledger.get(*id)).map(entry));
        records.extend(sessions.iter().filter_map(|ends| ledger.sessions.get(ends)).map(opened));
        records
    }

    pub(super) fn is_done(&self) -> bool {
        self.clients.is_empty() && self.grants.is_empty() && self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spa_proto::History;

    #[test]
    fn all_is_copied_when_it_is_said_to_be() {
        for (things, batch) in [(0, 1), (1, 1), (4, 1), (4001, 1), (4000, 32), (4001, 100)] {
            let mut replay = Replay::default();
            for client in 0_usize..things {
                let mut kid = [0; 16];
                kid[..8].copy_from_slice(&client.to_be_bytes());
                replay.restore(Kid::from_bytes(kid), History::default());
            }
            let ledger = Ledger::default();
            let mut copying = Copying::all(&replay, &ledger);
            let (mut copied, mut added) = (0, 0);
            while !copying.is_done() {
                copied += copying.next(batch, &replay, &ledger).len();
                added += batch as u64;
            }
            assert_eq!(copied, things, "{batch} at once");
            let takes = Copying::takes(things);
            assert_eq!(added, takes.next_multiple_of(batch as u64), "{things}, {batch} at once");
        }
    }
}
