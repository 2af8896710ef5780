//! What must not be forgotten, put together: the replay rules, the journal
//! behind them and the lease behind that (protocol §7).

use std::path::Path;

use spa_keys::ClientRecord;
use spa_proto::{
    Floor, History, Lease, Monotonic, Reason, Replay, ServerPublic, Timestamp, Tolerance,
    VerifiedKnock,
};
use tracing::{info, warn};

use crate::clock::Reading;
use crate::config::Config;
use crate::control::report;
use crate::grants::{Grant, Ledger};
use crate::journal::{BootId, Found, Journal, JournalError, LeaseFile, Record, Snapshot};
use crate::sessions::Session;

/// The memory of a running daemon.
pub(super) struct Memory {
    replay: Replay,
    journal: Journal,
    lease: Lease,
    /// `None` while a renewal is on its way to the disk.
    file: Option<LeaseFile>,
    /// Why the lease could not be written last time.
    fault: Option<String>,
    tolerance: Tolerance,
    last: Reading,
    /// Whether a floor was raised that the journal does not know yet.
    outdated: bool,
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
            file: Some(file),
            fault: None,
            tolerance,
            last: now,
            outdated: false,
        };
        Ok((memory, grants))
    }

    /// Writes a new journal of what is known, and tries the lease: a disk that
    /// does not take it is told now, not at the first knock.
    pub(super) fn begin(&mut self, ledger: &Ledger, now: Reading) -> Result<(), JournalError> {
        self.rewrite(ledger)?;
        self.write_lease(self.lease.horizon(), now.clock);
        Ok(())
    }

    pub(super) fn set_tolerance(&mut self, tolerance: Tolerance) {
        self.tolerance = tolerance;
    }

    /// The histories, for a gatekeeper that has just started.
    pub(super) fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Steps 11: test and set. Whether the knock may be used, and from now on
    /// it is used, whatever becomes of it.
    pub(super) fn use_up(
        &mut self,
        knock: &VerifiedKnock,
        record: &ClientRecord,
        ledger: &Ledger,
        now: Reading,
    ) -> Result<(), Reason> {
        self.look_at_clocks(now);
        let (kid, time, nonce) = (knock.kid(), knock.time(), knock.nonce());
        let first = !record.knocked;
        self.replay.judge(&kid, time, nonce, first, now.clock)?;
        self.cover(time, now)?;
        if first && self.replay.history(&kid).is_none() {
            self.append(&Record::History { kid, floor: Timestamp::ZERO, complete: true }, ledger)?;
            self.replay.restore(kid, History::complete());
        }
        self.append(&Record::Used { kid, time, nonce }, ledger)?;
        self.replay.record(kid, time, nonce);
        Ok(())
    }

    /// Writes down that a grant is in force until its end.
    pub(super) fn note_grant(&mut self, grant: &Grant, ledger: &Ledger) -> Result<(), Reason> {
        self.append(&entry(grant), ledger)
    }

    /// Writes down that grants were ended early. A failure only means that a
    /// restart looks for elements which are not there any more.
    pub(super) fn note_ended(&mut self, grants: &[Grant], ledger: &Ledger) {
        for grant in grants {
            let _ = self.append(&Record::Ended { id: grant.id }, ledger);
        }
    }

    /// Writes down that a connection was made through a grant, or has ended.
    /// Without it a restart does not know whose the connection is.
    pub(super) fn note_session(&mut self, session: &Session, open: bool, ledger: &Ledger) {
        let record = if open { opened(session) } else { Record::Closed { ends: session.ends } };
        let _ = self.append(&record, ledger);
    }

    /// Adds an entry to the journal. One that is full, or does not know of a
    /// raised floor, is written anew first: where that fails, nothing is granted.
    fn append(&mut self, record: &Record, ledger: &Ledger) -> Result<(), Reason> {
        let anew = self.outdated || self.journal.is_full();
        let ready = if anew { self.rewrite(ledger) } else { Ok(()) };
        ready.and_then(|()| self.journal.append(record)).map_err(|error| {
            warn!(%error, "the journal cannot be written: no knock is granted");
            Reason::NotDurable
        })
    }

    fn rewrite(&mut self, ledger: &Ledger) -> Result<(), JournalError> {
        let grants = ledger.iter().map(entry).chain(ledger.sessions.iter().map(opened)).collect();
        self.journal.begin(&Snapshot { replay: &self.replay, grants })?;
        self.outdated = false;
        Ok(())
    }

    /// Sees to it that the lease on disk reaches to `time`. Beyond it, the
    /// knock waits for the disk once.
    fn cover(&mut self, time: Timestamp, now: Reading) -> Result<(), Reason> {
        if self.fault.is_some() || !self.lease.covers(time) {
            self.write_lease(self.lease.stretched(time, self.tolerance), now.clock);
        }
        let covered = self.fault.is_none() && self.lease.covers(time);
        if covered { Ok(()) } else { Err(Reason::NotDurable) }
    }

    fn write_lease(&mut self, horizon: Timestamp, clock: Monotonic) {
        let Some(mut file) = self.file.take() else { return };
        let written = file.write(horizon);
        self.lease_written(file, horizon, written, clock);
    }

    /// A renewal to be written off the path of knocks: afterwards
    /// [`Self::lease_written`] must be called. `None` while one is on its way.
    pub(super) fn renewal(&mut self, now: Reading) -> Option<(LeaseFile, Timestamp)> {
        let horizon = self.lease.next(now.wall, now.clock, self.tolerance);
        Some((self.file.take()?, horizon))
    }

    /// Takes the lease file back, with what became of the write.
    pub(super) fn lease_written(
        &mut self,
        file: LeaseFile,
        horizon: Timestamp,
        written: Result<(), JournalError>,
        clock: Monotonic,
    ) {
        self.file = Some(file);
        match written {
            Ok(()) => {
                self.lease.renewed(horizon, clock);
                if self.fault.take().is_some() {
                    info!("the lease can be written again: knocks are granted");
                }
            }
            Err(error) => {
                if self.fault.replace(error.to_string()).is_none() {
                    warn!(%error, "no knock is granted until the lease can be written: make room, or make it writable");
                }
            }
        }
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
        self.replay.set_floor(another_start(self.lease.horizon(), self.tolerance, now));
        // The journal must know before anything more is granted: the next
        // entry sees to it.
        self.outdated = true;
    }

    /// Writes a raised floor to the journal, if it does not have it yet.
    pub(super) fn catch_up(&mut self, ledger: &Ledger) {
        if self.outdated
            && let Err(error) = self.rewrite(ledger)
        {
            warn!(%error, "the journal cannot be written: nothing is granted");
        }
    }

    /// Opens the lease anew after its renewal was lost.
    pub(super) fn lease_lost(&mut self, state_dir: &Path, server: ServerPublic) {
        match LeaseFile::open(state_dir, server) {
            Ok((file, _)) => self.file = Some(file),
            Err(error) => self.fault = Some(error.to_string()),
        }
    }

    pub(super) fn report(&self, now: Reading) -> report::Journal {
        let ahead = |time: Timestamp| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        report::Journal {
            durable: self.fault.is_none(),
            on_tmpfs: self.journal.is_on_tmpfs(),
            lease_ms: ahead(self.lease.horizon()).saturating_sub(ahead(now.wall)),
            fault: self.fault.clone(),
        }
    }
}

fn another_start(lease: Timestamp, tolerance: Tolerance, now: Reading) -> Floor {
    Floor::at_start(lease, now.wall, now.clock, tolerance)
}

fn entry(grant: &Grant) -> Record {
    let &Grant { id, kid, element, since, ends, .. } = grant;
    Record::Grant { id, kid, element, since, ends }
}

fn opened(session: &Session) -> Record {
    let &Session { grant, kid, service, ends, began, .. } = session;
    Record::Session { grant, kid, service, ends, began }
}
