//! The systemd journal, by its own protocol: entries with fields. By hand, since what does
//! not get there is to be known.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::event::{Event, FIELDS};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// As syslog(3) has them.
const WARNING: &str = "4";
const NOTICE: &str = "5";

/// Takes entries, if journald is there.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// Whether anybody listens is seen with each entry.
    pub(super) fn new() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::unbound()?, path: path.to_owned() })
    }

    /// Whether it takes anything: an entry without fields is none.
    pub(super) fn listens(&self) -> bool {
        self.socket.send_to(&[], &self.path).is_ok()
    }

    /// Writes one event, in one datagram.
    pub(super) fn write(&self, event: &Event) -> io::Result<()> {
        self.socket.send_to(&entry(event), &self.path).map(drop)
    }
}

fn entry(event: &Event) -> Vec<u8> {
    let priority = if event.is_warning() { WARNING } else { NOTICE };
    let mut entry = Vec::with_capacity(512);
    for (name, value) in [
        ("MESSAGE", event.event.name()),
        ("PRIORITY", priority),
        ("SYSLOG_IDENTIFIER", "spad"),
        ("TARGET", "audit"),
    ] {
        put(&mut entry, name, value);
    }
    let Ok(Value::Object(fields)) = serde_json::to_value(event) else { return entry };
    // The message is what it is, and the journal knows when.
    let fields = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "event" | "unix_ms"));
    for (name, value) in fields {
        let name = format!("{FIELDS}{}", name.to_ascii_uppercase());
        match value {
            Value::String(text) => put(&mut entry, &name, text),
            other => put(&mut entry, &name, &other.to_string()),
        }
    }
    entry
}

/// With its length, as whatever may have line breaks in it.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Kind;

    /// The fields of a datagram.
    fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some(at) = entry.iter().position(|byte| *byte == b'\n') {
            let name = String::from_utf8(entry[..at].to_vec()).unwrap();
            let (len, rest) = entry[at + 1..].split_first_chunk().unwrap();
            let (value, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*len)).unwrap());
            fields.push((name, String::from_utf8(value.to_vec()).unwrap()));
            entry = rest.strip_prefix(b"\n").unwrap();
        }
        fields
    }

    #[test]
    fn an_event_is_the_same_when_it_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        let event = Event {
            unix_ms: 1_800_000_000_000,
            event: Kind::KnockRefused,
            client: Some("alice/laptop".into()),
            reason: Some("stale".into()),
            why: Some("two\nlines\nMESSAGE=forged".into()),
            count: Some(7),
            enrolled: Some(true),
            ..Event::default()
        };
        journal.write(&event).unwrap();
        let mut space = [0; 4096];
        let len = journald.recv(&mut space).unwrap();
        let fields = fields(&space[..len]);
        for expected in [("PRIORITY", "4"), ("TARGET", "audit"), ("SYSLOG_IDENTIFIER", "spad")] {
            assert!(fields.iter().any(|(name, value)| (name.as_str(), value.as_str()) == expected));
        }
        let mut entry: serde_json::Map<_, _> =
            fields.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        entry.insert("__REALTIME_TIMESTAMP".into(), "1800000000000000".into());
        let read = Event::from_journal(&Value::Object(entry).to_string());
        assert_eq!(read, Some(event));
    }
}
