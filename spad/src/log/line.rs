//! One event on one line, for people. Pure.

use spa_keys::{date, duration};
use std::time::Duration;

use crate::audit::{Event, Kind};
use crate::show::plain;

/// Time, what, who, and then what there is to say. Nothing in it moves a cursor.
#[must_use]
pub fn text(event: &Event) -> String {
    let who = event.client.as_deref().or(event.network.as_deref()).unwrap_or("-");
    let parts: Vec<_> = parts(event).into_iter().flatten().collect();
    let line = format!(
        "{}  {:<14} {who:<12} {}",
        date::local(event.time()),
        event.event.name(),
        parts.join("  ")
    );
    plain(line.trim_end())
}

fn parts(event: &Event) -> Vec<Option<String>> {
    let of = |text: &Option<String>| text.clone();
    let grant = event.grant.map(|grant| format!("grant {grant}"));
    let by = event.by.map(|uid| match &event.login {
        Some(login) => format!("by {login} ({uid})"),
        None => format!("by uid {uid}"),
    });
    let why = of(&event.why).filter(|why| !why.is_empty());
    match event.event {
        Kind::KnockAccepted => {
            let lasts = event.seconds.map(|seconds| duration::format(Duration::from_secs(seconds)));
            let mode = of(&event.mode).filter(|mode| mode != "window");
            vec![of(&event.service), of(&event.source), lasts, mode, from_elsewhere(event), grant]
        }
        Kind::Enrolled => vec![of(&event.seen)],
        Kind::KnockRefused => {
            vec![of(&event.reason), of(&event.seen), times(event)]
        }
        Kind::GrantEnded => vec![of(&event.service), of(&event.source), grant, why],
        Kind::SessionBegan => vec![of(&event.service), ends(event), grant],
        Kind::SessionEnded => vec![of(&event.service), ends(event), grant, traffic(event), why],
        Kind::Banned => vec![of(&event.until).map(|until| format!("until {until}")), by, why],
        Kind::BanEnded => vec![of(&event.end), by, why],
        Kind::Command => vec![by, of(&event.command), of(&event.outcome), times(event)],
        Kind::Lost => vec![event.count.map(|count| count.to_string())],
        Kind::Other => vec![of(&event.service), of(&event.source), of(&event.reason), why],
    }
}

fn from_elsewhere(event: &Event) -> Option<String> {
    let seen = event.seen.as_ref().filter(|seen| Some(*seen) != event.source.as_ref())?;
    Some(format!("knocked from {seen}"))
}

/// For how many it stands, if that is more than one.
fn times(event: &Event) -> Option<String> {
    event.count.filter(|count| *count > 1).map(|count| format!("{count} times"))
}

fn ends(event: &Event) -> Option<String> {
    Some(format!("{} -> {}", event.source.as_ref()?, event.destination.as_ref()?))
}

fn traffic(event: &Event) -> Option<String> {
    Some(format!("{} in, {} out", bytes(event.bytes_in?), bytes(event.bytes_out?)))
}

/// In the largest unit that leaves one digit before the point.
#[must_use]
pub fn bytes(count: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match units.into_iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{}.{} {unit}", count / size, count % size * 10 / size),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: Event) -> String {
        let text = text(&event);
        text.split_once("  ").unwrap().1.to_owned()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn says_who_and_what() {
        let accepted = Event {
            event: Kind::KnockAccepted,
            client: some("alice"),
            service: some("ssh"),
            source: some("192.0.2.7"),
            seen: some("192.0.2.7"),
            mode: some("window"),
            seconds: Some(90),
            grant: Some(3),
            ..Event::default()
        };
        assert_eq!(
            line(accepted.clone()),
            "knock accepted alice        ssh  192.0.2.7  90s  grant 3"
        );
        let elsewhere = Event { enrolled: Some(true), seen: some("198.51.100.9"), ..accepted };
        assert_eq!(
            line(elsewhere.clone()),
            "knock accepted alice        ssh  192.0.2.7  90s  knocked from 198.51.100.9  grant 3"
        );
        let enrolled = Event { event: Kind::Enrolled, ..elsewhere };
        assert_eq!(line(enrolled), "enrolled       alice        198.51.100.9");
        let refused = Event {
            event: Kind::KnockRefused,
            client: some("bob"),
            reason: some("client-expired"),
            seen: some("192.0.2.9"),
            count: Some(60),
            ..Event::default()
        };
        assert_eq!(
            line(refused),
            "knock refused  bob          client-expired  192.0.2.9  60 times"
        );
        let command = Event {
            event: Kind::Command,
            by: Some(1000),
            login: some("carol"),
            command: some("revoke alice"),
            outcome: some("1 grants ended"),
            ..Event::default()
        };
        assert_eq!(
            line(command),
            "command        -            by carol (1000)  revoke alice  1 grants ended"
        );
    }

    #[test]
    fn nothing_moves_the_cursor() {
        let ban = Event {
            event: Kind::Banned,
            network: some("192.0.2.0/24"),
            why: some("a\u{1b}[2Jb\nc\u{9b}d"),
            ..Event::default()
        };
        let line = line(ban);
        assert!(
            line.contains(r"a\u{1b}[2Jb\nc\u{9b}d") && !line.contains(char::is_control),
            "{line}"
        );
    }

    #[test]
    fn bytes_in_units() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_999_999, "1.9 MB"),
            (25_000_000_000, "25.0 GB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}
