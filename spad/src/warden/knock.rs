//! The way of one request through the warden (protocol §6, steps 8 to 12).

use spa_keys::{ClientRecord, StoreError};
use spa_proto::{Reason, SignedRequest, VerifiedKnock};
use tracing::warn;

use super::Warden;
use crate::clock::{self, Reading};
use crate::firewall::FirewallError;
use crate::policy::{self, Approved, Judgement};

impl Warden {
    /// Decides on a request, and opens what it deserves.
    pub(super) fn knock(&mut self, request: &SignedRequest) {
        let now = Reading::now();
        let Some(record) = self.clients.get(&request.kid()) else {
            return self.count(Reason::NoRecord);
        };
        match self.decide(request, &record, now) {
            Ok(()) => self.count(Reason::Granted),
            Err(reason) => {
                self.count(reason);
                if is_told(reason) {
                    let (kid, arrival) = (request.kid(), request.arrival());
                    self.audit.refused(&record.name, kid, reason, arrival, now.clock);
                }
            }
        }
    }

    fn decide(
        &mut self,
        request: &SignedRequest,
        record: &ClientRecord,
        now: Reading,
    ) -> Result<(), Reason> {
        let tolerance = self.config.tolerance;
        let knock = request.verify(&self.public, &record.verifier, now.wall, tolerance)?;
        let judged =
            policy::judge(&knock, record, &self.config, now.wall, |ip| self.host.is_own(ip));
        let judged = match self.config.firewall.absolute_bans {
            true => judged.and_then(|judgement| self.bans.admit(judgement, &self.config.trusted)),
            false => judged,
        };
        // Refused by policy counts as used: it must not become valid later.
        self.memory.use_up(&knock, record, &self.ledger, now)?;
        let judgement = judged?;
        let enrolled = self.note_first(&knock, record)?;
        self.open(&knock, record, &judgement, now, enrolled)
    }

    /// The first accepted knock of a client is written to its record before
    /// anything is granted; it binds the client's key if it enrols.
    fn note_first(&mut self, knock: &VerifiedKnock, record: &ClientRecord) -> Result<bool, Reason> {
        if record.knocked {
            return Ok(false);
        }
        self.clients.note_first_knock(record, knock.binds()).map_err(|error| {
            warn!(client = %record.name, %error, "first knock not granted: it could not be written down");
            match error {
                // Another knock, or the administrator, was quicker.
                StoreError::Unknown(_) | StoreError::Revoked(_) | StoreError::Changed(_) => Reason::NoRecord,
                _ => Reason::NotDurable,
            }
        })?;
        Ok(knock.binds().is_some())
    }

    fn open(
        &mut self,
        knock: &VerifiedKnock,
        record: &ClientRecord,
        judgement: &Judgement,
        now: Reading,
        enrolled: bool,
    ) -> Result<(), Reason> {
        self.expire(now.clock);
        for approved in judgement.grants() {
            self.grant(knock, record, approved, now, enrolled)?;
        }
        Ok(())
    }

    fn grant(
        &mut self,
        knock: &VerifiedKnock,
        record: &ClientRecord,
        approved: &Approved,
        now: Reading,
        enrolled: bool,
    ) -> Result<(), Reason> {
        let &Approved { element, lasts } = approved;
        let ends = now.clock.plus(lasts);
        let grant = self.ledger.prepare(&record.name, record.kid, element, now.clock, ends);
        self.memory.note_grant(&grant, &self.ledger)?;
        // Counted from this moment, not from the packet's arrival: verifying and
        // remembering took time, and the kernel is to end it when the ledger does.
        let present = clock::monotonic();
        let lasts = grant.ends.since(present).max(self.ledger.remaining(&element, present));
        if let Err(error) = self.firewall.grant(&element, lasts) {
            self.memory.note_ended(std::slice::from_ref(&grant), &self.ledger);
            let reason = refusal(&error);
            // A full set is told by the audit, which does not repeat itself.
            if reason != Reason::Full {
                warn!(%error, client = %record.name, "the firewall did not take a grant");
            }
            return Err(reason);
        }
        let ports = self.config.ports(&element.service);
        self.audit.granted(&grant, &ports, knock.arrival(), now.clock, enrolled);
        self.welcome(&grant);
        self.ledger.put(grant);
        Ok(())
    }

    fn count(&mut self, reason: Reason) {
        if let Some(counter) = self.counters.warden.get_mut(reason.index()) {
            *counter += 1;
        }
    }
}

/// Only the first verdict for a nonce may make a line; what an eavesdropper can
/// cause with copies, or a wrong clock all day, is counted.
fn is_told(reason: Reason) -> bool {
    !matches!(reason, Reason::Replayed | Reason::Stale)
}

fn refusal(error: &FirewallError) -> Reason {
    match error {
        FirewallError::SetFull { .. } => Reason::Full,
        _ => Reason::Firewall,
    }
}
