//! The audit: one line for each accepted knock, each client that enrols, each grant that
//! ends early, each connection through a grant, each ban; and for each knock refused that
//! was authentic, but no more than one a minute for each client and reason.

mod event;
mod file;
mod journal;
mod quiet;
mod recorder;

use std::time::Duration;

use spa_keys::ClientName;
use spa_proto::{Arrival, Kid, Monotonic, Reason, Timestamp};

use crate::bans::Ban;
use crate::firewall::{Count, Traffic};
use crate::grants::Grant;
use crate::sessions::Session;

pub use event::{Event, Kind};
pub use quiet::Quiet;
pub use recorder::{Recorder, Target, leads_to_journal};

/// Makes the lines, and remembers which it has left out.
#[derive(Debug, Default)]
pub struct Audit {
    refusals: Quiet<(Kid, Reason)>,
    /// Where they go.
    pub recorder: Recorder,
}

impl Audit {
    /// One that writes there.
    #[must_use]
    pub fn to(recorder: Recorder) -> Self {
        Self { refusals: Quiet::default(), recorder }
    }

    /// A knock was accepted, and opened this.
    pub fn granted(
        &mut self,
        grant: &Grant,
        ports: &[String],
        arrival: Arrival,
        now: Monotonic,
        enrolled: bool,
    ) {
        let lasts = grant.ends.since(now) + Duration::from_millis(500);
        self.recorder.put(Event {
            ports: Some(ports.join(",")),
            mode: Some(grant.element.terms.to_string()),
            seconds: Some(lasts.as_secs()),
            seen: Some(arrival.source.to_string()),
            kid: Some(grant.kid.to_string()),
            enrolled: Some(enrolled),
            ..about(Kind::KnockAccepted, grant)
        });
    }

    /// A client's key was bound to its record, whatever becomes of the knock that did it.
    pub fn enrolled(&mut self, client: &ClientName, kid: Kid, arrival: Option<Arrival>) {
        self.recorder.put(Event {
            client: Some(client.to_string()),
            seen: arrival.map(|arrival| arrival.source.to_string()),
            kid: Some(kid.to_string()),
            ..Event::now(Kind::Enrolled)
        });
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
        let Some(count) = self.refusals.tell((kid, reason), now) else { return };
        self.recorder.put(Event {
            client: Some(client.to_string()),
            reason: Some(reason.name().to_owned()),
            count: Some(count),
            seen: Some(arrival.source.to_string()),
            kid: Some(kid.to_string()),
            ..Event::now(Kind::KnockRefused)
        });
    }

    /// A grant was ended before its time.
    pub fn ended(&mut self, grant: &Grant, why: &str) {
        self.recorder.put(Event { why: Some(why.to_owned()), ..about(Kind::GrantEnded, grant) });
    }

    /// A connection was made through a grant.
    pub fn began(&mut self, session: &Session) {
        self.recorder.put(of(Kind::SessionBegan, session));
    }

    /// It is over. Without `traffic` nobody knows when it ended, nor what went
    /// through it: spad was not there.
    pub fn over(&mut self, session: &Session, ended: Timestamp, traffic: Option<Traffic>) {
        let bytes = |count: fn(&Traffic) -> Count| traffic.as_ref().map(|all| count(all).bytes);
        self.recorder.put(Event {
            start: Some(spa_keys::date::format(session.began)),
            end: traffic.as_ref().map(|_| spa_keys::date::format(ended)),
            bytes_in: bytes(|all| all.to_server),
            bytes_out: bytes(|all| all.to_client),
            why: Some(session.cut.unwrap_or("closed").to_owned()),
            ..of(Kind::SessionEnded, session)
        });
    }

    /// A network was banned, and so many grants ended with it.
    pub fn banned(&mut self, ban: &Ban, grants: usize) {
        let until = ban.until().map_or("lifted".to_owned(), spa_keys::date::format);
        self.recorder.put(Event {
            until: Some(until),
            why: Some(ban.why.clone()),
            by: ban.by,
            grants: Some(grants),
            ..Event { network: Some(ban.network.to_string()), ..Event::now(Kind::Banned) }
        });
    }

    /// A ban is over: its time is, or somebody has lifted it.
    pub fn ban_ended(&mut self, ban: &Ban, end: &str, by: Option<u32>) {
        self.recorder.put(Event {
            network: Some(ban.network.to_string()),
            why: Some(ban.why.clone()),
            end: Some(end.to_owned()),
            by,
            ..Event::now(Kind::BanEnded)
        });
    }

    /// Forgets what has been quiet for long.
    pub fn tidy(&mut self, now: Monotonic) {
        self.refusals.tidy(now);
    }
}

fn about(kind: Kind, grant: &Grant) -> Event {
    Event {
        client: Some(grant.client.to_string()),
        service: Some(grant.element.service.to_string()),
        source: Some(grant.element.source_text()),
        grant: Some(grant.id),
        ..Event::now(kind)
    }
}

fn of(kind: Kind, session: &Session) -> Event {
    Event {
        client: Some(session.client.to_string()),
        service: Some(session.service.to_string()),
        protocol: Some(session.ends.protocol.to_string()),
        source: Some(session.ends.source.to_string()),
        destination: Some(session.ends.destination.to_string()),
        grant: Some(session.grant),
        ..Event::now(kind)
    }
}
