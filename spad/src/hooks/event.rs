//! What a hook is told, in its environment. Pure.

use std::net::IpAddr;

use spa_keys::date;
use spa_proto::Monotonic;

use crate::clock::Reading;
use crate::grants::Grant;

/// Where programs are looked for; the environment of the daemon is not passed on.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What has happened to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was made, or made to last longer, by a packet from this address.
    Granted {
        /// As the packet had it.
        seen: IpAddr,
        /// Whether it was there already.
        extended: bool,
    },
    /// It is over, because of this.
    Ended(&'static str),
}

impl Event {
    /// As the hook is told.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Granted { extended: false, .. } => "grant",
            Self::Granted { extended: true, .. } => "extend",
            Self::Ended(_) => "end",
        }
    }
}

/// All variables that a hook has. None of them holds anything but what records,
/// configuration and addresses can: no letters that mean something to a shell. It happened at
/// `told`; by `now` others may have run before this.
pub(super) fn environment(
    event: Event,
    grant: &Grant,
    ports: &str,
    told: Reading,
    now: Monotonic,
) -> Vec<(&'static str, String)> {
    let ends = match event {
        Event::Granted { .. } => told.wall.plus(grant.ends.since(told.clock)),
        // It may be over for some time, or before its time.
        Event::Ended(_) => told.wall.minus(told.clock.since(grant.ends)),
    };
    let mut all = vec![
        ("PATH", PATH.to_owned()),
        ("SPAD_EVENT", event.name().to_owned()),
        ("SPAD_GRANT", grant.id.to_string()),
        ("SPAD_CLIENT", grant.client.to_string()),
        ("SPAD_KID", grant.kid.to_string()),
        ("SPAD_SERVICE", grant.element.service.to_string()),
        ("SPAD_PORTS", ports.to_owned()),
        ("SPAD_SOURCE", grant.element.source_text()),
        ("SPAD_MODE", grant.element.terms.mode().name().to_owned()),
        ("SPAD_EXPIRES", date::format(ends)),
    ];
    all.extend(grant.element.destination.map(|to| ("SPAD_DESTINATION", to.to_string())));
    match event {
        Event::Granted { seen, .. } => {
            // Where others count with it, 0 may mean without an end.
            let left = grant.ends.since(now).as_secs_f32().round().max(1.0);
            all.push(("SPAD_SECONDS", left.to_string()));
            all.push(("SPAD_SEEN", seen.to_string()));
        }
        Event::Ended(why) => all.push(("SPAD_WHY", why.to_owned())),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::{Element, Terms};
    use spa_proto::{Kid, Prefix};
    use std::time::Duration;

    fn grant(now: Reading) -> Grant {
        let element = Element {
            service: "ssh".parse().unwrap(),
            source: Prefix::of("198.51.100.7".parse().unwrap(), 32),
            destination: Some("192.0.2.1".parse().unwrap()),
            terms: Terms::Bound(4000),
        };
        Grant {
            id: 7,
            client: "alice@laptop".parse().unwrap(),
            kid: Kid::from_bytes([1; 16]),
            element,
            since: now.clock,
            ends: now.clock.plus(Duration::from_secs(30)),
            told: true,
        }
    }

    #[test]
    fn everything_is_told_and_nothing_else() {
        let now = Reading::now();
        let granted = Event::Granted { seen: "203.0.113.9".parse().unwrap(), extended: false };
        let told = environment(granted, &grant(now), "tcp/22,udp/22", now, now.clock);
        let expires = date::format(now.wall.plus(Duration::from_secs(30)));
        let kid = grant(now).kid.to_string();
        let expected = [
            ("PATH", PATH),
            ("SPAD_EVENT", "grant"),
            ("SPAD_GRANT", "7"),
            ("SPAD_CLIENT", "alice@laptop"),
            ("SPAD_KID", kid.as_str()),
            ("SPAD_SERVICE", "ssh"),
            ("SPAD_PORTS", "tcp/22,udp/22"),
            ("SPAD_SOURCE", "198.51.100.7"),
            ("SPAD_MODE", "bound"),
            ("SPAD_EXPIRES", expires.as_str()),
            ("SPAD_DESTINATION", "192.0.2.1"),
            ("SPAD_SECONDS", "30"),
            ("SPAD_SEEN", "203.0.113.9"),
        ];
        assert_eq!(told, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn what_waited_is_told_what_is_left_and_never_nothing() {
        let told = Reading::now();
        let granted = Event::Granted { seen: "203.0.113.9".parse().unwrap(), extended: false };
        let after = |seconds| {
            let now = told.clock.plus(Duration::from_secs(seconds));
            let all = environment(granted, &grant(told), "", told, now);
            let of =
                |name| all.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone());
            (of("SPAD_SECONDS").unwrap(), of("SPAD_EXPIRES").unwrap())
        };
        let expires = date::format(told.wall.plus(Duration::from_secs(30)));
        for (seconds, left) in [(0, "30"), (12, "18"), (30, "1"), (100, "1")] {
            assert_eq!(after(seconds), (left.to_owned(), expires.clone()), "after {seconds}");
        }
    }

    #[test]
    fn an_end_says_when_and_why() {
        let now = Reading::now();
        let over = Grant {
            ends: Monotonic::new(now.clock.as_duration() - Duration::from_secs(2)),
            ..grant(now)
        };
        let told = environment(Event::Ended("expired"), &over, "", now, now.clock);
        let of = |name| told.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str());
        let ended = date::format(now.wall.minus(Duration::from_secs(2)));
        assert_eq!((of("SPAD_EVENT"), of("SPAD_WHY")), (Some("end"), Some("expired")));
        assert_eq!((of("SPAD_EXPIRES"), of("SPAD_SEEN")), (Some(ended.as_str()), None));
    }
}
