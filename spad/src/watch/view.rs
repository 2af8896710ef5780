//! What `spad watch` knows, and how it looks. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use spa_keys::date;
use spa_proto::Timestamp;

use crate::audit::{Event, Kind};
use crate::control::report;
use crate::fields::millis;
use crate::log::line;
use crate::show::{self, style::Style};

/// How many events are kept to be shown.
const KEPT: usize = 15;
/// How many grants are shown.
const SHOWN: usize = 15;

/// Grants, connections and the last events.
#[derive(Debug, Default)]
pub struct View {
    grants: BTreeMap<u64, Grant>,
    sessions: usize,
    granted: u64,
    refused: u64,
    /// The newest first.
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Grant {
    shown: report::Grant,
    ends: Timestamp,
}

impl View {
    /// As things are at this moment.
    #[must_use]
    pub fn new(grants: &[report::Grant], sessions: usize, now: Timestamp) -> Self {
        let known = |grant: &report::Grant| {
            let ends = now.plus(Duration::from_millis(grant.expires_in_ms));
            (grant.id, Grant { shown: grant.clone(), ends })
        };
        Self { grants: grants.iter().map(known).collect(), sessions, ..Self::default() }
    }

    /// What is in force is this, after something was missed; what was seen, was seen.
    pub fn begin_again(&mut self, now: Self) {
        (self.grants, self.sessions) = (now.grants, now.sessions);
    }

    /// Something happens.
    pub fn take(&mut self, event: Event) {
        match event.event {
            Kind::KnockAccepted => {
                self.granted += 1;
                self.grant(&event);
            }
            Kind::KnockRefused => self.refused += event.count.unwrap_or(1),
            Kind::GrantEnded => {
                event.grant.and_then(|id| self.grants.remove(&id));
            }
            Kind::SessionBegan => self.sessions += 1,
            Kind::SessionEnded => self.sessions = self.sessions.saturating_sub(1),
            _ => {}
        }
        self.events.truncate(KEPT - 1);
        self.events.push_front(event);
    }

    fn grant(&mut self, event: &Event) {
        let (Some(id), Some(seconds)) = (event.grant, event.seconds) else { return };
        let lasts = Duration::from_secs(seconds);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let shown = report::Grant {
            id,
            client: text(&event.client),
            service: text(&event.service),
            source: text(&event.source),
            destination: None,
            ports: Vec::new(),
            mode: text(&event.mode),
            source_port: None,
            expires_in_ms: 0,
            lasts_ms: seconds * 1000,
        };
        self.grants.insert(id, Grant { shown, ends: event.time().plus(lasts) });
    }

    /// The whole page, at this moment.
    pub fn page(&mut self, now: Timestamp, style: &Style) -> String {
        self.grants.retain(|_, grant| grant.ends > now);
        let mut grants: Vec<_> = self.grants.values().collect();
        grants.sort_by_key(|grant| grant.ends);
        let left = |grant: &&Grant| report::Grant {
            expires_in_ms: millis(grant.ends.since(now)),
            ..grant.shown.clone()
        };
        let shown: Vec<_> = grants.iter().take(SHOWN).map(left).collect();
        let mut page = format!(
            "{}   {} grants, {} open connections   since the beginning: {} granted, {} refused\n\n",
            date::local(now),
            grants.len(),
            self.sessions,
            self.granted,
            self.refused
        );
        page = style.cut(page.trim_end(), style.width) + "\n\n";
        let room = style.width.saturating_sub(2);
        let rows = show::grant_rows(&shown, style).into_iter();
        let more = grants.len().saturating_sub(SHOWN);
        let more = (more > 0).then(|| format!("and {more} that end later"));
        for row in rows.chain(more).chain([String::new()]).chain(self.events.iter().map(line::text))
        {
            // Writing to a string does not fail.
            let _ = writeln!(page, "{}", format!("  {}", style.cut(&row, room)).trim_end());
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style { width: 80, terminal: true, colour: false, utf8: false };

    fn accepted(id: u64, client: &str, at: u64, seconds: u64) -> Event {
        Event {
            unix_ms: at * 1000,
            event: Kind::KnockAccepted,
            client: Some(client.into()),
            service: Some("ssh".into()),
            source: Some("192.0.2.7".into()),
            seconds: Some(seconds),
            grant: Some(id),
            ..Event::default()
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_grant_is_there_from_its_knock_to_its_end() {
        let mut view = View::new(&[], 0, at(0));
        view.take(accepted(1, "alice", 100, 30));
        view.take(accepted(2, "bob", 101, 60));
        view.take(Event { event: Kind::SessionBegan, ..Event::default() });
        let page = view.page(at(115), &STYLE);
        let row = "  alice  ssh  192.0.2.7  15 s left of 30 s  ##########..........\n";
        assert!(page.contains(row) && page.contains("2 grants, 1 open connections"), "{page}");
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        let page = view.page(at(130), &STYLE);
        assert!(
            !page.contains("  alice  ssh") && page.contains("  bob  ssh"),
            "its time is over: {page}"
        );
        let ended = Event { event: Kind::GrantEnded, grant: Some(2), ..Event::default() };
        view.take(ended);
        assert!(view.page(at(130), &STYLE).contains("0 grants, "), "it was taken back");
    }

    #[test]
    fn a_second_knock_lengthens_the_grant_and_the_page_stays_small() {
        let known = report::Grant {
            id: 7,
            client: "alice".into(),
            service: "ssh".into(),
            source: "192.0.2.7".into(),
            destination: None,
            ports: Vec::new(),
            mode: "window".into(),
            source_port: None,
            expires_in_ms: 5000,
            lasts_ms: 30_000,
        };
        let mut view = View::new(&[known], 3, at(100));
        assert!(view.page(at(100), &STYLE).contains("5 s left of 30 s"));
        view.take(accepted(7, "alice", 101, 60));
        assert!(view.page(at(101), &STYLE).contains("60 s left of 60 s"));
        (100..200).for_each(|id| view.take(accepted(id, "bob", 101, 60)));
        let page = view.page(at(101), &STYLE);
        assert!(page.contains("and 86 that end later") && page.lines().count() < 40, "{page}");
    }
}
