//! The way of requests through the warden (protocol §6, steps 8 to 12): each is
//! decided on alone; what those that have come together open is one transaction.

use std::collections::HashSet;

use spa_keys::{ClientName, ClientRecord};
use spa_proto::{Arrival, Generation, Kid, Reason, SignedRequest, VerifiedKnock};
use tokio::time::Instant;
use tracing::warn;

use super::Warden;
use super::first_knocks::First;
use crate::clock::{self, Reading};
use crate::firewall::{Element, FirewallError, GrantSet};
use crate::grants::{Grant, Ledger};
use crate::policy::{self, Approved, Judgement};

/// A knock that has been used up, and what it opens.
pub(super) struct Accepted {
    client: ClientName,
    kid: Kid,
    arrival: Arrival,
    judgement: Judgement,
    generation: Generation,
    at: Reading,
    enrolled: bool,
}

/// One of the things that an accepted knock opens.
type Wanted<'a> = (&'a Accepted, &'a Approved);

impl Accepted {
    pub(super) fn of(
        request: &SignedRequest,
        client: ClientName,
        judgement: Judgement,
        enrolled: bool,
        at: Reading,
    ) -> Self {
        let (kid, arrival) = (request.kid(), request.arrival());
        Self { client, kid, arrival, judgement, generation: request.generation(), at, enrolled }
    }

    fn wants(&self) -> impl Iterator<Item = Wanted<'_>> {
        self.judgement.grants().iter().map(move |approved| (self, approved))
    }
}

impl Warden {
    /// Decides on a request. What it deserves is to be opened, with others.
    pub(super) fn accept(&mut self, request: &SignedRequest) -> Option<Accepted> {
        let at = Reading::now();
        let decided = self.decide(request, at);
        decided.unwrap_or_else(|why| {
            self.turn_down(request.kid(), request.arrival(), why, at);
            None
        })
    }

    /// Refuses what may have been used up.
    pub(super) fn turn_down(&mut self, kid: Kid, arrival: Arrival, reason: Reason, at: Reading) {
        self.memory.write_down(&self.ledger);
        self.refuse(kid, arrival, reason, at);
    }

    /// Steps 8 to 11. `None` where it waits for the client's record.
    fn decide(&mut self, request: &SignedRequest, at: Reading) -> Result<Option<Accepted>, Reason> {
        let (knock, record) = self.verified(request, at)?;
        // A copy costs the client nothing.
        let unused = self.memory.judge(&knock, &record, at)?;
        if !self.budgets.take(record.kid, at.clock) {
            return Err(Reason::OverBudget);
        }
        let judged = self.judged(&knock, &record, at);
        // Refused by policy counts as used: it must not become valid later.
        self.memory.use_up(unused, &self.ledger, at)?;
        let judgement = judged?;
        // As soon as the record is renamed it says that it has knocked; written is it later.
        if record.knocked && !self.first_knocks.waits(&record.kid) {
            return Ok(Some(Accepted::of(request, record.name, judgement, false, at)));
        }
        // The first is written to the record before anything is granted; it binds the
        // client's key if it enrols.
        let first = First { name: record.name, kid: record.kid, binds: knock.binds() };
        self.hold_first(request, first)?;
        Ok(None)
    }

    /// Steps 8 and 9.
    pub(super) fn verified(
        &mut self,
        request: &SignedRequest,
        at: Reading,
    ) -> Result<(VerifiedKnock, ClientRecord), Reason> {
        let record = self.clients.get(&request.kid()).ok_or(Reason::NoRecord)?;
        let server = self.own.public(request.generation(), at.wall).ok_or(Reason::NoRecord)?;
        let (prepared, tolerance) = (&mut self.prepared, self.config.tolerance);
        let knock = request.verify_with(prepared, &server, &record.verifier, at.wall, tolerance)?;
        Ok((knock, record))
    }

    /// Step 10.
    pub(super) fn judged(
        &mut self,
        knock: &VerifiedKnock,
        record: &ClientRecord,
        at: Reading,
    ) -> Result<Judgement, Reason> {
        let config = &self.config;
        let judged = policy::judge(knock, record, config, at.wall, |ip| self.host.is_own(ip))?;
        match config.firewall.absolute_bans {
            true => self.bans.admit(judged, &config.trusted),
            false => Ok(judged),
        }
    }

    /// Step 12.
    pub(super) fn open(&mut self, accepted: &[Accepted]) {
        if !accepted.is_empty() {
            self.expire(clock::monotonic());
            let mut full = FullSets::default();
            apart(accepted).into_iter().for_each(|knocks| self.open_together(knocks, &mut full));
            accepted.iter().for_each(|knock| self.own.accepted(knock.kid, knock.generation));
        }
    }

    /// All at once; where the kernel refuses that, each alone, so that one does
    /// not stand in the way of another. What it refuses costs ten milliseconds and
    /// more: of a set that is full it is asked once.
    fn open_together(&mut self, knocks: &[Accepted], full: &mut FullSets) {
        let all: Vec<_> = knocks.iter().flat_map(Accepted::wants).collect();
        let is_new = |ledger: &Ledger, element: &Element| !ledger.is_held(element);
        let in_vain = |(_, Approved { element, .. }): &Wanted<'_>| {
            full.refuses(element, is_new(&self.ledger, element))
        };
        if all.len() > 1 && !all.iter().any(in_vain) && self.grant(&all).is_ok() {
            return knocks.iter().for_each(|knock| self.let_in(knock));
        }
        for knock in knocks {
            let opened = knock.wants().try_for_each(|wanted| {
                let element = &wanted.1.element;
                full.ask(element, is_new(&self.ledger, element), || self.grant(&[wanted]))
            });
            match opened {
                Ok(()) => self.let_in(knock),
                Err(refused) => {
                    let reason = refused.reason();
                    refused.tell(&knock.client);
                    self.turn_down(knock.kid, knock.arrival, reason, knock.at);
                }
            }
        }
    }

    fn let_in(&mut self, knock: &Accepted) {
        self.count(Reason::Granted);
        self.last_knocks.note(knock.kid, knock.at.wall);
    }

    /// Writes down that these are in force, puts them in force, and says so.
    fn grant(&mut self, wanted: &[Wanted<'_>]) -> Result<(), Refused> {
        let prepare = |&(knock, &Approved { element, lasts }): &Wanted<'_>| {
            let (now, ends) = (knock.at.clock, knock.at.clock.plus(lasts));
            self.ledger.prepare(&knock.client, knock.kid, element, now, ends)
        };
        let mut grants: Vec<Grant> = wanted.iter().map(prepare).collect();
        let tells_ends = self.hooks.tells_ends();
        grants.iter_mut().for_each(|grant| grant.told |= tells_ends);
        self.memory.note_grants(&grants, &self.ledger).map_err(Refused::Journal)?;
        // Counted from this moment, not from the packet's arrival: verifying and
        // remembering took time, and the kernel is to end it when the ledger does.
        let present = clock::monotonic();
        let lasts = |grant: &Grant| {
            grant.ends.since(present).max(self.ledger.remaining(&grant.element, present))
        };
        let timed: Vec<_> = grants.iter().map(|grant| (grant.element, lasts(grant))).collect();
        let is_held = |grant: &Grant| self.ledger.is_held(&grant.element);
        let granted = match grants.iter().any(is_held) {
            true => self.firewall.grant_all(&timed),
            false => self.firewall.grant_new(&timed),
        };
        if let Err(error) = granted {
            self.memory.note_refused(&grants, &self.ledger);
            if !matches!(error, FirewallError::SetFull { .. } | FirewallError::Refused { .. }) {
                // The kernel may have done it, and its answer was lost: taken back by the repair.
                self.repair_at = Some(Instant::now());
            }
            return Err(Refused::Firewall(error));
        }
        let mut untold = Vec::new();
        for (mut grant, (knock, _)) in grants.into_iter().zip(wanted) {
            let ports = self.config.ports(&grant.element.service);
            self.audit.granted(&grant, &ports, knock.arrival, knock.at.clock, knock.enrolled);
            self.welcome(&grant);
            if !self.tell_begun(&mut grant, &ports, knock.arrival.source, knock.at) {
                untold.push(grant.clone());
            }
            self.ledger.put(grant);
        }
        if !untold.is_empty() {
            // A failure only means that of ends more is told after a restart.
            let _ = self.memory.note_grants(&untold, &self.ledger);
        }
        Ok(())
    }

    fn refuse(&mut self, kid: Kid, arrival: Arrival, reason: Reason, at: Reading) {
        self.count(reason);
        let Some(record) = self.clients.get(&kid).filter(|_| is_told(reason)) else { return };
        self.audit.refused(&record.name, kid, reason, arrival, at.clock);
    }

    fn count(&mut self, reason: Reason) {
        if let Some(counter) = self.counters.warden.get_mut(reason.index()) {
            *counter += 1;
        }
    }
}

/// Sets that had no room a moment ago.
#[derive(Default)]
struct FullSets(HashSet<GrantSet>);

impl FullSets {
    fn refuses(&self, element: &Element, is_new: bool) -> bool {
        is_new && self.0.contains(&element.set())
    }

    /// Puts one element in force, unless it is new in a set known to be full.
    fn ask(
        &mut self,
        element: &Element,
        is_new: bool,
        grant: impl FnOnce() -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let set = element.set();
        if self.refuses(element, is_new) {
            return Err(Refused::Firewall(FirewallError::SetFull { set: set.name() }));
        }
        let granted = grant();
        if let Err(Refused::Firewall(FirewallError::SetFull { .. })) = granted {
            self.0.insert(set);
        }
        granted
    }
}

/// Why a grant did not come in force.
enum Refused {
    Journal(Reason),
    Firewall(FirewallError),
}

impl Refused {
    fn reason(&self) -> Reason {
        match self {
            Self::Journal(reason) => *reason,
            Self::Firewall(FirewallError::SetFull { .. }) => Reason::Full,
            Self::Firewall(_) => Reason::Firewall,
        }
    }

    /// The journal has told already; a full set is told by the audit, which does
    /// not repeat itself.
    fn tell(&self, client: &ClientName) {
        if let Self::Firewall(error) = self
            && self.reason() == Reason::Firewall
        {
            warn!(%error, %client, "the firewall did not take a grant");
        }
    }
}

/// In order, and cut where an element would come twice: one transaction puts
/// each in force once, and the second grant looks at the first. What one knock wants
/// differs from each other.
fn apart(knocks: &[Accepted]) -> Vec<&[Accepted]> {
    if knocks.len() == 1 {
        return vec![knocks];
    }
    let mut runs = Vec::new();
    let (mut begin, mut seen) = (0, HashSet::new());
    for (at, knock) in knocks.iter().enumerate() {
        let elements: HashSet<_> = knock.wants().map(|(_, approved)| approved.element).collect();
        if !seen.is_disjoint(&elements) {
            runs.extend(knocks.get(begin..at));
            begin = at;
            seen.clear();
        }
        seen.extend(elements);
    }
    runs.extend(knocks.get(begin..));
    runs
}

/// Only the first verdict for a nonce may make a line; what an eavesdropper can
/// cause with copies, or a wrong clock all day, is counted.
fn is_told(reason: Reason) -> bool {
    !matches!(reason, Reason::Replayed | Reason::Stale | Reason::OverBudget)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::Terms;
    use spa_proto::Prefix;
    use std::net::Ipv4Addr;

    fn element(service: &str, source: u32) -> Element {
        Element {
            service: service.parse().unwrap(),
            source: Prefix::of(Ipv4Addr::from(source).into(), 32),
            destination: None,
            terms: Terms::Window,
        }
    }

    #[test]
    fn of_a_set_that_is_full_the_kernel_is_asked_once() {
        let mut full = FullSets::default();
        let mut asked = Vec::new();
        let mut reasons = Vec::new();
        // The set of `ssh` is full; the second was there before.
        for (service, source, is_new) in
            [("ssh", 1, true), ("ssh", 2, false), ("ssh", 3, true), ("web", 3, true)]
        {
            let granted = full.ask(&element(service, source), is_new, || {
                asked.push((service, source));
                let set = String::new();
                let room = service == "web" || !is_new;
                if room { Ok(()) } else { Err(Refused::Firewall(FirewallError::SetFull { set })) }
            });
            reasons.push(granted.map_err(|refused| refused.reason()));
        }
        assert_eq!(asked, [("ssh", 1), ("ssh", 2), ("web", 3)]);
        assert_eq!(reasons, [Err(Reason::Full), Ok(()), Err(Reason::Full), Ok(())]);
        assert!(full.refuses(&element("ssh", 4), true) && !full.refuses(&element("ssh", 2), false));
        let other = FirewallError::NotInstalled;
        let failed = full.ask(&element("db", 1), true, || Err(Refused::Firewall(other)));
        assert!(failed.is_err() && full.ask(&element("db", 1), true, || Ok(())).is_ok());
    }
}
