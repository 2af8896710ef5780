//! What the audit writes down: one event, the same wherever it goes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spa_proto::Timestamp;

use crate::clock;

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A knock was accepted, and opened something.
    KnockAccepted,
    /// A client's key was bound to its record.
    Enrolled,
    /// An authentic knock was refused.
    KnockRefused,
    /// A grant was ended before its time.
    GrantEnded,
    /// A connection was made through a grant.
    SessionBegan,
    /// It is over.
    SessionEnded,
    /// A network was banned.
    Banned,
    /// A ban is over.
    BanEnded,
    /// An administrator has asked for a change.
    Command,
    /// Events were lost: whoever writes them down could not keep up.
    Lost,
    /// What a newer version of spad has written.
    #[default]
    #[serde(other)]
    Other,
}

impl Kind {
    /// As people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KnockAccepted => "knock accepted",
            Self::Enrolled => "enrolled",
            Self::KnockRefused => "knock refused",
            Self::GrantEnded => "grant ended",
            Self::SessionBegan => "session began",
            Self::SessionEnded => "session ended",
            Self::Banned => "banned",
            Self::BanEnded => "ban ended",
            Self::Command => "command",
            Self::Lost => "events lost",
            Self::Other => "other",
        }
    }
}

/// One line of the audit: as JSON in a file, as fields in the journal, as text on
/// standard error. What does not belong to its kind is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What.
    pub event: Kind,
    /// Name of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Name of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Its ports, joined by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// `tcp` or `udp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Who is let in: an address or a prefix; of a session, address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What a session is connected to: address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// What is banned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// How a grant can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// For how long it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<u64>,
    /// Why a knock was refused: a counter's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For how many this stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The address that a knock came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// Key-id of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Whether the knock has enrolled its client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrolled: Option<bool>,
    /// When a session began, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// When it ended; of a ban, how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Bytes that the client has sent through it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// Bytes that it has got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// Until when a ban holds, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why something ended or was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// User id of the administrator who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<u32>,
    /// The login name, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// What was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// How many grants ended with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<usize>,
}

/// Prints with the fields that are there.
macro_rules! line {
    ($level:expr, $event:expr) => {{
        let Event { client, service, ports, protocol, source, destination, .. } = $event;
        let Event { network, mode, reason, seen, kid, start, end, until, .. } = $event;
        let Event { why, login, command, outcome, .. } = $event;
        tracing::event!(
            target: "audit",
            $level,
            client = client.as_ref().map(display),
            service = service.as_ref().map(display),
            ports = ports.as_deref(),
            protocol = protocol.as_ref().map(display),
            source = source.as_ref().map(display),
            destination = destination.as_ref().map(display),
            network = network.as_ref().map(display),
            mode = mode.as_ref().map(display),
            seconds = $event.seconds,
            reason = reason.as_deref(),
            count = $event.count,
            grant = $event.grant,
            seen = seen.as_ref().map(display),
            kid = kid.as_ref().map(display),
            enrolled = $event.enrolled,
            start = start.as_ref().map(display),
            end = end.as_ref().map(display),
            bytes_in = $event.bytes_in,
            bytes_out = $event.bytes_out,
            until = until.as_ref().map(display),
            why = why.as_deref(),
            by = $event.by,
            login = login.as_deref(),
            command = command.as_deref(),
            outcome = outcome.as_deref(),
            grants = $event.grants.and_then(|grants| u64::try_from(grants).ok()),
            "{}",
            $event.event.name()
        )
    }};
}

impl Event {
    /// It happens now.
    #[must_use]
    pub fn now(event: Kind) -> Self {
        Self { unix_ms: clock::wall().as_millis(), event, ..Self::default() }
    }

    /// When.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.unix_ms)
    }

    /// Hands it to whoever takes log lines on this thread.
    pub fn tell(&self) {
        match self.is_warning() {
            true => line!(tracing::Level::WARN, self),
            false => line!(tracing::Level::INFO, self),
        }
    }

    pub(super) fn is_warning(&self) -> bool {
        matches!(self.event, Kind::KnockRefused | Kind::Banned | Kind::Lost)
    }

    /// From a line of a file; `None` if it is none of ours.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// From an entry of the journal, as `journalctl --output=json` prints it; `None`
    /// if it is none of ours.
    #[must_use]
    pub fn from_journal(line: &str) -> Option<Self> {
        let Value::Object(entry) = serde_json::from_str(line).ok()? else { return None };
        let micros: u64 = entry.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
        let kind = entry.get("MESSAGE")?.as_str()?.replace(' ', "-");
        let kind = if kind == "events-lost" { "lost".to_owned() } else { kind };
        let named = |(name, value): (&String, &Value)| {
            let name = name.strip_prefix(FIELDS)?.to_ascii_lowercase();
            Some((name.clone(), typed(&name, value.as_str()?)))
        };
        let mut fields: Map<_, _> = entry.iter().filter_map(named).collect();
        fields.insert("event".into(), kind.into());
        let time = Timestamp::ZERO.plus(Duration::from_micros(micros));
        fields.insert("unix_ms".into(), time.as_millis().into());
        serde_json::from_value(Value::Object(fields)).ok()
    }
}

/// What the journal's names of our fields begin with.
pub(super) const FIELDS: &str = "SPAD_";

/// The journal knows texts alone.
fn typed(name: &str, text: &str) -> Value {
    match name {
        "seconds" | "grant" | "count" | "bytes_in" | "bytes_out" | "by" | "grants" => {
            text.parse::<u64>().map_or(Value::Null, Value::from)
        }
        "enrolled" => Value::Bool(text == "true"),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_what_is_not_there_takes_no_room() {
        let event = Event {
            unix_ms: 1_700_000_000_123,
            event: Kind::KnockRefused,
            client: Some("alice".into()),
            count: Some(3),
            ..Event::default()
        };
        let line = serde_json::to_string(&event).unwrap();
        let expected =
            r#"{"unix_ms":1700000000123,"event":"knock-refused","client":"alice","count":3}"#;
        assert_eq!(line, expected);
        assert_eq!(Event::from_line(&line), Some(event));
        let newer = r#"{"unix_ms":1,"event":"door-painted","colour":"red"}"#;
        assert_eq!(Event::from_line(newer).unwrap().event, Kind::Other);
        assert_eq!(Event::from_line(&line[..40]), None, "torn");
    }

    #[test]
    fn an_entry_of_the_journal_is_an_event() {
        let entry = r#"{"__REALTIME_TIMESTAMP":"1700000000123456","MESSAGE":"knock accepted","TARGET":"audit",
            "SPAD_CLIENT":"alice","SPAD_SECONDS":"30","SPAD_ENROLLED":"false","SPAD_SOURCE":"192.0.2.7","_UID":"0"}"#;
        let expected = Event {
            unix_ms: 1_700_000_000_123,
            event: Kind::KnockAccepted,
            client: Some("alice".into()),
            source: Some("192.0.2.7".into()),
            seconds: Some(30),
            enrolled: Some(false),
            ..Event::default()
        };
        assert_eq!(Event::from_journal(entry), Some(expected));
        let lost = r#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":"events lost","SPAD_COUNT":"7"}"#;
        assert_eq!(Event::from_journal(lost).unwrap().event, Kind::Lost);
        for other in ["{}", "[]", r#"{"__REALTIME_TIMESTAMP":"x","MESSAGE":"banned"}"#] {
            assert_eq!(Event::from_journal(other), None, "{other}");
        }
    }
}
