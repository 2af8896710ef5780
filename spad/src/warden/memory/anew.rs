//! The journal anew, of what is known: at once, or beside the one that is in use.

use tracing::warn;

use super::{Memory, entry, opened};
use crate::grants::Ledger;
use crate::journal::{self, JournalError, Snapshot};
use crate::warden::copying::{Copying, FEW, MARGIN};

impl Memory {
    pub(super) fn rewrite(&mut self, ledger: &Ledger) -> Result<(), JournalError> {
        self.copying = None;
        self.unwritten.clear();
        let grants = ledger.iter().map(entry).chain(ledger.sessions.iter().map(opened)).collect();
        self.journal.begin(&Snapshot { replay: &self.replay, grants })?;
        (self.outdated, self.uncopied, self.unwritable) = (false, false, None);
        Ok(())
    }

    /// Before the journal is full, a successor is filled beside it, a little with
    /// each entry. Where that fails, this one is written anew when it is full.
    pub(super) fn copy_some(&mut self, added: usize, ledger: &Ledger) {
        let Some(mut copying) = self.copying.take() else { return self.begin_copying(ledger) };
        let records = copying.next(added, &self.replay, ledger);
        let copied = self.journal.copy(&records, added);
        let copied = match copying.is_done() {
            true => copied.and_then(|()| self.journal.succeed()),
            false => copied.map(|()| self.copying = Some(copying)),
        };
        self.give_up_on(copied);
    }

    fn give_up_on(&mut self, copied: Result<(), JournalError>) {
        if let Err(error) = copied {
            warn!(%error, "the journal's successor cannot be written");
            self.uncopied = true;
        }
    }

    fn begin_copying(&mut self, ledger: &Ledger) {
        let others = ledger.len() + ledger.sessions.len();
        let things = self.replay.clients() + others;
        let added = Copying::takes(things);
        if things < FEW || self.uncopied || self.journal.left() > added.saturating_add(MARGIN) {
            return;
        }
        let of_clients = self.replay.histories().map(|(_, history)| journal::past_len(history));
        let entries = u64::try_from(of_clients.sum::<usize>() + others).unwrap_or(u64::MAX);
        let entries = entries.saturating_add(MARGIN);
        let begun = self.journal.begin_successor(entries, added, self.replay.floor());
        self.copying = begun.is_ok().then(|| Copying::all(&self.replay, ledger));
        self.give_up_on(begun);
    }
}
