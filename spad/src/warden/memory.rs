//! What must not be forgotten, put together: the replay rules, the journal
//! behind them and the lease behind that (protocol §7).

mod anew;
mod lease;

use spa_keys::ClientRecord;
use spa_proto::{
    Floor, History, Kid, Lease, Nonce, Reason, Replay, ServerPublic, Timestamp, Tolerance,
    VerifiedKnock,
};
use tracing::warn;

use super::copying::Copying;
use super::renewal::{Horizon, Renewals};
use crate::clock::Reading;
use crate::config::Config;
use crate::control::report;
use crate::grants::{Grant, Ledger};
use crate::journal::{BootId, Found, Journal, JournalError, LeaseFile, Record};
use crate::sessions::Session;

/// The memory of a running daemon.
pub(super) struct Memory {
    replay: Replay,
    journal: Journal,
    lease: Lease,
    renewals: Renewals,
    /// Why the lease could not be written last time.
    fault: Option<String>,
    /// Why the journal could not be written last time.
    unwritable: Option<String>,
    tolerance: Tolerance,
    /// When the newest of all records was made that this process has heard of.
    newest: Timestamp,
    last: Reading,
    /// Whether the journal does not know all: a raised floor, or an entry that
    /// could not be written.
    outdated: bool,
    /// What was used, and is going to be written with the grants that it is for.
    unwritten: Vec<Record>,
    /// What is to be copied to the journal's successor, if there is one.
    copying: Option<Copying>,
    /// A copy that was given up is not tried again before the journal is full.
    uncopied: bool,
}

impl Memory {
    /// Opens journal and lease. Also returns the grants and sessions that the journal knows.
    pub(super) fn open(
        config: &Config,
        server: ServerPublic,
        now: Reading,
    ) -> Result<(Self, Vec<Record>), JournalError> {
        let (journal, found) = Journal::open(&config.run_dir, server, BootId::current()?)?;
        let (file, horizon) = LeaseFile::open(&config.state_dir, server)?;
        let (replay, grants) = match found {
            Some(Found { replay, grants, sessions }) => {
                (replay, grants.into_values().chain(sessions.into_values()).collect())
            }
            None => (Replay::new(another_start(horizon, config.tolerance, now)), Vec::new()),
        };
        if !journal.is_on_tmpfs() {
            warn!(run_dir = %config.run_dir.display(), "the run directory is not on a tmpfs: if its file \
                system is rolled back while the machine runs, knocks from before could be used again");
        }
        let lease = Lease::found(horizon, now.clock);
        let tolerance = config.tolerance;
        let memory = Self {
            replay,
            journal,
            lease,
            renewals: Renewals::of(file),
            fault: None,
            unwritable: None,
            tolerance,
            newest: Timestamp::ZERO,
            last: now,
            outdated: false,
            unwritten: Vec::new(),
            copying: None,
            uncopied: false,
        };
        Ok((memory, grants))
    }

    /// Writes a new journal of what is known, and tries the lease: a disk that
    /// does not take it is told now, not at the first knock.
    pub(super) fn begin(&mut self, ledger: &Ledger, now: Reading) -> Result<(), JournalError> {
        self.rewrite(ledger)?;
        let horizon = Horizon { time: self.lease.horizon(), begun: now.clock };
        if let Some(written) = self.renewals.write(horizon) {
            self.lease_written(written);
        }
        Ok(())
    }

    pub(super) fn set_tolerance(&mut self, tolerance: Tolerance) {
        let wider = tolerance.as_duration().saturating_sub(self.tolerance.as_duration());
        self.replay.widen(wider);
        self.tolerance = tolerance;
    }

    /// There are clients whose records were made at or before this time.
    pub(super) fn knows(&mut self, newest: Timestamp) {
        self.newest = self.newest.max(newest);
    }

    /// The histories, for a gatekeeper that has just started.
    pub(super) fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Step 11, the test: whether the knock may be used. Then [`Self::use_up`] sets it.
    pub(super) fn judge(
        &mut self,
        knock: &VerifiedKnock,
        record: &ClientRecord,
        now: Reading,
    ) -> Result<Unused, Reason> {
        let used = Used { kid: knock.kid(), time: knock.time(), nonce: knock.nonce() };
        self.test(used, (!record.knocked).then_some(record.created), now)
    }

    /// `fresh` says when the record was made of a client that has never knocked before.
    fn test(
        &mut self,
        used: Used,
        fresh: Option<Timestamp>,
        now: Reading,
    ) -> Result<Unused, Reason> {
        self.look_at_clocks(now);
        let Used { kid, time, nonce } = used;
        let first = fresh.is_some_and(|created| self.replay.floor().exempts(created));
        self.replay.judge(&kid, time, nonce, first, now.clock)?;
        Ok(Unused { used, first })
    }

    /// Step 11: from now on the knock is used, whatever becomes of it. It is in the
    /// journal when the next entry is: [`Self::note_grants`], or [`Self::write_down`].
    pub(super) fn use_up(
        &mut self,
        Unused { used: Used { kid, time, nonce }, first }: Unused,
        ledger: &Ledger,
        now: Reading,
    ) -> Result<(), Reason> {
        self.cover(time, now)?;
        if first && self.replay.history(&kid).is_none() {
            let record = Record::History { kid, floor: Timestamp::ZERO, complete: true };
            self.append(&[record], ledger)?;
            self.replay.restore(kid, History::complete());
        }
        self.unwritten.push(Record::Used { kid, time, nonce });
        self.replay.record(kid, time, nonce);
        Ok(())
    }

    /// Whether a knock that was used up, and has waited since, may still be granted: the
    /// machine may have been rolled back meanwhile, to where it was waiting already.
    pub(super) fn judge_again(
        &mut self,
        knock: &VerifiedKnock,
        now: Reading,
    ) -> Result<(), Reason> {
        self.look_at_clocks(now);
        self.replay.judge_again(&knock.kid(), knock.time(), now.clock)
    }

    /// Writes down what was used in vain. Where that fails, nothing is granted
    /// before it is made good.
    pub(super) fn write_down(&mut self, ledger: &Ledger) {
        if !self.unwritten.is_empty() {
            let _ = self.append(&[], ledger);
        }
    }

    /// Writes down that grants are in force until their ends.
    pub(super) fn note_grants(&mut self, grants: &[Grant], ledger: &Ledger) -> Result<(), Reason> {
        self.append(&grants.iter().map(entry).collect::<Vec<_>>(), ledger)
    }

    /// Writes down that it did not come to that: what was in force before still is.
    pub(super) fn note_refused(&mut self, grants: &[Grant], ledger: &Ledger) {
        let now = |&Grant { id, .. }: &Grant| ledger.get(id).map_or(Record::Ended { id }, entry);
        let _ = self.append(&grants.iter().map(now).collect::<Vec<_>>(), ledger);
    }

    /// Writes down that grants were ended early. A failure only means that a
    /// restart looks for elements which are not there any more.
    pub(super) fn note_ended(&mut self, grants: &[Grant], ledger: &Ledger) {
        let ended = |grant: &Grant| Record::Ended { id: grant.id };
        let _ = self.append(&grants.iter().map(ended).collect::<Vec<_>>(), ledger);
    }

    /// Writes down that a connection was made through a grant, or has ended.
    /// Without it a restart does not know whose the connection is.
    pub(super) fn note_session(&mut self, session: &Session, open: bool, ledger: &Ledger) {
        let record = if open { opened(session) } else { Record::Closed { ends: session.ends } };
        let _ = self.append(&[record], ledger);
    }

    /// Adds entries to the journal. One that is full, or does not know all, is
    /// written anew first: where that fails, nothing is granted. Whatever was
    /// added before is in `replay` and `ledger` by now, from which is copied.
    fn append(&mut self, records: &[Record], ledger: &Ledger) -> Result<(), Reason> {
        let mut all = std::mem::take(&mut self.unwritten);
        all.extend_from_slice(records);
        let full = usize::try_from(self.journal.left()).is_ok_and(|left| left < all.len());
        let written = if self.outdated || full {
            // It has what was used, and nothing of what is over, of which there may be more
            // than it has room for.
            let over =
                |record: &&Record| matches!(record, Record::Ended { .. } | Record::Closed { .. });
            let rest: Vec<_> = records.iter().filter(|record| !over(record)).cloned().collect();
            self.rewrite(ledger).and_then(|()| self.journal.append(&rest))
        } else {
            self.copy_some(all.len(), ledger);
            self.journal.append(&all)
        };
        all.clear();
        self.unwritten = all;
        written.map_err(|error| {
            self.cannot_write(&error);
            Reason::NotDurable
        })
    }

    fn cannot_write(&mut self, error: &JournalError) {
        self.outdated = true;
        warn!(%error, "the journal cannot be written: no knock is granted");
        self.unwritable = Some(error.to_string());
    }

    /// Rule R5: a wall clock that moved against monotonic time while the
    /// machine was suspended may mean that the machine was rolled back.
    pub(super) fn look_at_clocks(&mut self, now: Reading) {
        let moved = now.jumped_in_suspend(&self.last);
        self.last = now;
        if moved {
            self.start_over("the clock jumped while the machine was suspended", now);
        }
    }

    /// What was used since some earlier moment may be forgotten: from now on
    /// only what cannot be a replay is granted.
    pub(super) fn start_over(&mut self, why: &str, now: Reading) {
        warn!(why, "treated as a start without journal: knocks are refused for a minute");
        let floor = another_start(self.lease.horizon(), self.tolerance, now);
        // The clock may have been ahead when a record was made.
        let known = Some(self.newest.max(now.wall));
        self.replay.set_floor(Floor { known, ..floor });
        // The journal must know before anything more is granted: the next
        // entry sees to it.
        self.outdated = true;
    }

    /// Writes the journal anew where the ledger says otherwise than it does.
    pub(super) fn write_anew(&mut self, ledger: &Ledger) {
        self.outdated = true;
        self.catch_up(ledger);
    }

    /// Writes a raised floor to the journal, if it does not have it yet.
    pub(super) fn catch_up(&mut self, ledger: &Ledger) {
        if self.outdated
            && let Err(error) = self.rewrite(ledger)
        {
            self.cannot_write(&error);
        }
    }

    pub(super) fn report(&self, now: Reading) -> report::Journal {
        let of_lease = self.fault.clone().or_else(|| self.renewals.fault());
        let fault = of_lease.or_else(|| self.unwritable.clone());
        let ahead = |time: Timestamp| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        report::Journal {
            durable: fault.is_none(),
            on_tmpfs: self.journal.is_on_tmpfs(),
            lease_ms: ahead(self.lease.horizon()).saturating_sub(ahead(now.wall)),
            fault,
        }
    }
}

/// The identity of a knock.
#[derive(Clone, Copy)]
struct Used {
    kid: Kid,
    time: Timestamp,
    nonce: Nonce,
}

/// A knock that may be used, as it stands in the memory at this moment.
pub(super) struct Unused {
    used: Used,
    /// Whether it is the first of a client of whom nothing can be unknown.
    first: bool,
}

fn another_start(lease: Timestamp, tolerance: Tolerance, now: Reading) -> Floor {
    Floor::at_start(lease, now.wall, now.clock, tolerance)
}

pub(super) fn entry(grant: &Grant) -> Record {
    let &Grant { id, kid, element, since, ends, told, .. } = grant;
    Record::Grant { id, kid, element, since, ends, told }
}

pub(super) fn opened(session: &Session) -> Record {
    let &Session { grant, kid, service, ends, began, .. } = session;
    Record::Session { grant, kid, service, ends, began }
}

#[cfg(test)]
mod tests;
