//! The audit: one line for each accepted knock, for each grant that ends early,
//! each connection through a grant, each ban; and for each knock refused that was
//! authentic, but no more than one a minute for each client and reason.

use std::collections::HashMap;
use std::time::Duration;

use spa_keys::ClientName;
use spa_proto::{Arrival, Kid, Monotonic, Reason, Timestamp};
use tracing::{info, warn};

use crate::bans::Ban;
use crate::firewall::{Count, Traffic};
use crate::grants::Grant;
use crate::sessions::Session;

/// How often the same refusal of the same client is told.
const QUIET: Duration = Duration::from_secs(60);

/// Writes the lines, and remembers which it has left out.
#[derive(Debug, Default)]
pub struct Audit {
    refusals: HashMap<(Kid, Reason), Refusals>,
}

#[derive(Debug)]
struct Refusals {
    told: Monotonic,
    left_out: u64,
}

impl Audit {
    /// A knock was accepted, and opened this.
    pub fn granted(
        &self,
        grant: &Grant,
        ports: &[String],
        arrival: Arrival,
        now: Monotonic,
        enrolled: bool,
    ) {
        info!(
            target: "audit",
            client = %grant.client,
            service = %grant.element.service,
            ports = ports.join(","),
            source = %grant.element.source_text(),
            mode = %grant.element.terms,
            seconds = grant.ends.since(now).as_secs_f32().round(),
            grant = grant.id,
            seen = %arrival.source,
            kid = %grant.kid,
            enrolled,
            "knock accepted"
        );
    }

    /// An authentic knock was refused.
    pub fn refused(
        &mut self,
        client: &ClientName,
        kid: Kid,
        reason: Reason,
        arrival: Arrival,
        now: Monotonic,
    ) {
        let Some(count) = self.tell(kid, reason, now) else { return };
        warn!(
            target: "audit",
            client = %client,
            reason = reason.name(),
            count,
            seen = %arrival.source,
            kid = %kid,
            "knock refused"
        );
    }

    /// A grant was ended before its time.
    pub fn ended(&self, grant: &Grant, why: &str) {
        info!(
            target: "audit",
            client = %grant.client,
            service = %grant.element.service,
            source = %grant.element.source_text(),
            grant = grant.id,
            why,
            "grant ended"
        );
    }

    /// A connection was made through a grant.
    pub fn began(&self, session: &Session) {
        info!(
            target: "audit",
            client = %session.client,
            service = %session.service,
            protocol = %session.ends.protocol,
            source = %session.ends.source,
            destination = %session.ends.destination,
            grant = session.grant,
            "session began"
        );
    }

    /// It is over. Without `traffic` nobody knows when it ended, nor what went
    /// through it: spad was not there.
    pub fn over(&self, session: &Session, ended: Timestamp, traffic: Option<Traffic>) {
        let bytes = |count: fn(&Traffic) -> Count| traffic.as_ref().map(|all| count(all).bytes);
        info!(
            target: "audit",
            client = %session.client,
            service = %session.service,
            protocol = %session.ends.protocol,
            source = %session.ends.source,
            destination = %session.ends.destination,
            grant = session.grant,
            start = %spa_keys::date::format(session.began),
            end = traffic.map(|_| tracing::field::display(spa_keys::date::format(ended))),
            bytes_in = bytes(|all| all.to_server),
            bytes_out = bytes(|all| all.to_client),
            why = session.cut.unwrap_or("closed"),
            "session ended"
        );
    }

    /// A network was banned, and so many grants ended with it.
    pub fn banned(&self, ban: &Ban, grants: usize) {
        warn!(
            target: "audit",
            network = %ban.network,
            until = %ban.until().map_or("lifted".to_owned(), spa_keys::date::format),
            why = ban.why,
            by = ban.by,
            grants,
            "banned"
        );
    }

    /// A ban is over: its time is, or somebody has lifted it.
    pub fn ban_ended(&self, ban: &Ban, end: &str, by: Option<u32>) {
        info!(target: "audit", network = %ban.network, why = ban.why, end, by, "ban ended");
    }

    /// Forgets what has been quiet for long.
    pub fn tidy(&mut self, now: Monotonic) {
        self.refusals.retain(|_, refusals| now.since(refusals.told) < QUIET * 10);
    }

    /// How many refusals a line now would stand for; `None` if it is too early for one.
    fn tell(&mut self, kid: Kid, reason: Reason, now: Monotonic) -> Option<u64> {
        match self.refusals.get_mut(&(kid, reason)) {
            Some(refusals) if now.since(refusals.told) < QUIET => {
                refusals.left_out += 1;
                None
            }
            known => {
                let count = known.map_or(0, |refusals| refusals.left_out) + 1;
                self.refusals.insert((kid, reason), Refusals { told: now, left_out: 0 });
                Some(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_with_a_count() {
        let mut audit = Audit::default();
        let kid = Kid::from_bytes([1; 16]);
        let at = |seconds| Monotonic::new(Duration::from_secs(seconds));
        assert_eq!(audit.tell(kid, Reason::ServiceNotAllowed, at(0)), Some(1));
        for second in 1..60 {
            assert_eq!(audit.tell(kid, Reason::ServiceNotAllowed, at(second)), None);
        }
        assert_eq!(audit.tell(kid, Reason::ClientExpired, at(5)), Some(1), "another reason");
        assert_eq!(audit.tell(Kid::from_bytes([2; 16]), Reason::ServiceNotAllowed, at(5)), Some(1));
        assert_eq!(audit.tell(kid, Reason::ServiceNotAllowed, at(60)), Some(60));
        assert_eq!(audit.tell(kid, Reason::ServiceNotAllowed, at(61)), None);
    }
}
