//! Which events are wanted. Pure.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use spa_keys::{cidr, date, duration};
use spa_proto::{Prefix, Timestamp};

use crate::audit::Event;

/// What an event has to fulfil; what is not given, every one does.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Name of the client, or of a person: of all devices.
    pub client: Option<String>,
    /// A network that one of its addresses lies in, or that lies in one of its networks.
    pub source: Option<Prefix>,
    /// Name of the service.
    pub service: Option<String>,
    /// Why it was refused; `any` for whatever reason.
    pub reason: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
}

/// A moment as people say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Then.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl Moment {
    /// As seen from now.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ago) => Timestamp::ZERO.plus(now.since(Timestamp::ZERO.plus(ago))),
        }
    }
}

/// Reads what `--since` takes.
///
/// # Errors
/// Says what it should look like.
pub fn since(text: &str) -> Result<Moment, String> {
    moment(text, date::parse_begin)
}

/// Reads what `--until` takes: a day lasts until its end.
///
/// # Errors
/// Says what it should look like.
pub fn until(text: &str) -> Result<Moment, String> {
    moment(text, date::parse_end)
}

fn moment(
    text: &str,
    date: impl Fn(&str) -> Result<Timestamp, date::InvalidDate>,
) -> Result<Moment, String> {
    if let Ok(ago) = duration::parse(text) {
        return Ok(Moment::Ago(ago));
    }
    let wrong = |error| format!("{error}, or how long ago, such as 2h");
    date(text).map(Moment::At).map_err(wrong)
}

impl Filter {
    /// Whether an event is wanted.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        let is =
            |wanted: &Option<String>, given: &Option<String>| wanted.is_none() || wanted == given;
        let reason = match self.reason.as_deref() {
            Some("any") => event.reason.is_some(),
            _ => is(&self.reason, &event.reason),
        };
        let client = self.client.as_deref().is_none_or(|wanted| {
            let rest = event.client.as_deref().and_then(|name| name.strip_prefix(wanted));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        client
            && is(&self.service, &event.service)
            && reason
            && self.since.is_none_or(|since| event.time() >= since)
            && self.until.is_none_or(|until| event.time() <= until)
            && self.source.is_none_or(|wanted| networks(event).any(|at| meet(&at, &wanted)))
    }
}

/// All that an event says about where somebody is.
fn networks(event: &Event) -> impl Iterator<Item = Prefix> {
    [&event.source, &event.seen, &event.network]
        .into_iter()
        .flatten()
        .filter_map(|text| network(text))
}

/// An address, alone or with a port, or a network.
fn network(text: &str) -> Option<Prefix> {
    let of = |address: IpAddr| Prefix::of(address, if address.is_ipv4() { 32 } else { 128 });
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| of(socket.ip()));
    cidr::parse(text).ok().or_else(with_port)
}

fn meet(one: &Prefix, other: &Prefix) -> bool {
    one.contains(other.address()) || other.contains(one.address())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Kind;

    fn event() -> Event {
        Event {
            unix_ms: 10_000,
            event: Kind::KnockAccepted,
            client: Some("alice".into()),
            service: Some("ssh".into()),
            source: Some("192.0.2.7".into()),
            seen: Some("198.51.100.1".into()),
            ..Event::default()
        }
    }

    #[test]
    fn without_a_condition_all_are_taken() {
        assert!(Filter::default().takes(&event()));
        assert!(Filter::default().takes(&Event::default()));
    }

    #[test]
    fn each_condition_has_to_hold() {
        let some = |text: &str| Some(text.to_owned());
        for (client, service, taken) in [
            ("alice", "ssh", true),
            ("alic", "ssh", false),
            ("alice/phone", "ssh", false),
            ("bob", "ssh", false),
            ("alice", "web", false),
        ] {
            let filter =
                Filter { client: some(client), service: some(service), ..Filter::default() };
            assert_eq!(filter.takes(&event()), taken, "{client} {service}");
            assert!(!filter.takes(&Event::default()), "who is not named is not taken");
        }
        let phone = Event { client: some("alice/phone"), ..event() };
        let of = |client: &str| Filter { client: some(client), ..Filter::default() };
        assert!(of("alice").takes(&phone) && of("alice/phone").takes(&phone));
        assert!(!of("alice/ph").takes(&phone) && !of("alice/").takes(&phone));
        let refused = Event { reason: some("full"), ..event() };
        for (reason, taken) in [("full", true), ("any", true), ("stale", false)] {
            let filter = Filter { reason: some(reason), ..Filter::default() };
            assert_eq!(filter.takes(&refused), taken, "{reason}");
            assert!(!filter.takes(&event()), "{reason}");
        }
    }

    #[test]
    fn an_address_is_looked_for_wherever_one_is() {
        let takes = |wanted: &str, event: &Event| {
            let source = Some(cidr::parse(wanted).unwrap());
            Filter { source, ..Filter::default() }.takes(event)
        };
        for (wanted, taken) in [
            ("192.0.2.7", true),
            ("192.0.2.0/24", true),
            ("198.51.100.1", true),
            ("192.0.2.8", false),
            ("2001:db8::/32", false),
        ] {
            assert_eq!(takes(wanted, &event()), taken, "{wanted}");
        }
        let session = Event { source: Some("[2001:db8::1]:4711".into()), ..Event::default() };
        assert!(takes("2001:db8::/32", &session) && !takes("2001:db9::/32", &session));
        let ban = Event { network: Some("203.0.113.0/24".into()), ..Event::default() };
        assert!(takes("203.0.113.9", &ban) && !takes("203.0.114.9", &ban));
    }

    #[test]
    fn times_are_bounds_that_belong_to_it() {
        let at = Timestamp::from_millis;
        for (since, until, taken) in [
            (10_000, 10_000, true),
            (9_999, 10_001, true),
            (10_001, 20_000, false),
            (0, 9_999, false),
        ] {
            let filter =
                Filter { since: Some(at(since)), until: Some(at(until)), ..Filter::default() };
            assert_eq!(filter.takes(&event()), taken, "{since} {until}");
        }
        let now = at(7_200_000);
        assert_eq!(since("1h").unwrap().at(now), at(3_600_000));
        assert_eq!(since("1d").unwrap().at(now), at(0));
        assert_eq!(until("1970-01-01T00:00:05Z").unwrap().at(now), at(5_000));
        assert!(since("soon").unwrap_err().contains("2h"));
    }
}
