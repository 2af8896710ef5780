//! Where audit lines are read: a file, standard input, or the journal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use spa_keys::{date, note};
use spa_proto::Timestamp;

use super::filter::Filter;
use crate::audit::Event;

/// How often a file is looked at for more.
const PAUSE: Duration = Duration::from_millis(250);

/// Only what the daemon itself has written: anybody may write to the journal, but not
/// as root.
const OURS: [&str; 3] = ["TARGET=audit", "SYSLOG_IDENTIFIER=spad", "_UID=0"];

/// What is done with an event.
type Take<'a> = &'a mut dyn FnMut(Event) -> io::Result<()>;

/// Where audit lines are.
pub(super) enum Place<'a> {
    /// In this file; `-` is standard input.
    File(&'a Path),
    /// In the journal.
    Journal {
        /// Why nobody knows whether they are in a file instead.
        unread: Option<String>,
    },
}

pub(super) enum Source {
    Input,
    File(Followed),
    /// With the place in it that was read up to.
    Journal {
        bounds: Vec<String>,
        cursor: Option<String>,
        /// Why nobody knows whether there is a file instead.
        unread: Option<String>,
    },
}

impl Source {
    /// Ready to be read.
    pub(super) fn open(place: Place<'_>, filter: &Filter) -> io::Result<Self> {
        match place {
            Place::File(path) if path == Path::new("-") => Ok(Self::Input),
            Place::File(path) => Ok(Self::File(Followed::since(path, filter.since)?)),
            Place::Journal { unread } => {
                Ok(Self::Journal { bounds: bounds(filter), cursor: None, unread })
            }
        }
    }

    /// All that is there, in order.
    pub(super) fn past(&mut self, take: Take<'_>) -> io::Result<()> {
        match self {
            Self::Input => each_line(&mut io::stdin().lock(), &mut Vec::new(), &mut |line| {
                Event::from_line(line).map_or(Ok(()), &mut *take)
            }),
            Self::File(file) => file.rest(take),
            Self::Journal { bounds, cursor, unread } => {
                let words = bounds.iter().map(String::as_str);
                let end = journal(words, take)?;
                if let (None, Some(unread)) = (&end, unread.take()) {
                    return Err(io::Error::other(unread));
                }
                if end.is_none() {
                    note!(
                        "spad: the systemd journal has no audit line of spad for this time; where spad does not \
                         run under systemd, name an audit-file in its configuration, and where you may not read \
                         the journal, ask root for the group systemd-journal"
                    );
                }
                *cursor = end;
                Ok(())
            }
        }
    }

    /// What comes, until the end of the source.
    pub(super) fn coming(self, take: Take<'_>) -> io::Result<()> {
        match self {
            Self::Input => Ok(()),
            Self::File(mut file) => loop {
                sleep(PAUSE);
                file.rest(take)?;
            },
            Self::Journal { cursor, .. } => {
                let from = match cursor {
                    Some(cursor) => format!("--after-cursor={cursor}"),
                    None => "--lines=0".to_owned(),
                };
                journal(["--follow", "--no-tail", &from].into_iter(), take).map(drop)
            }
        }
    }
}

/// Asks journalctl for less where it is quicker in leaving out.
fn bounds(filter: &Filter) -> Vec<String> {
    let since = filter.since.map(|time| format!("--since=@{}", time.as_millis() / 1000));
    let until = filter.until.map(|time| format!("--until=@{}", time.as_millis() / 1000 + 1));
    since.into_iter().chain(until).collect()
}

/// The place of the last entry, if there was one.
fn journal<'a>(words: impl Iterator<Item = &'a str>, take: Take<'_>) -> io::Result<Option<String>> {
    let mut command = Command::new("journalctl");
    command.args(["--output=json", "--quiet", "--no-pager", "--all"]).args(words).args(OURS);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| {
        let what = "journalctl cannot be run, and the configuration names no audit-file";
        io::Error::new(error.kind(), format!("{what}: {error}"))
    })?;
    let mut cursor = None;
    let mut entry = |line: &str| {
        cursor = place(line).or_else(|| cursor.take());
        Event::from_journal(line).map_or(Ok(()), &mut *take)
    };
    let read = match child.stdout.take() {
        Some(output) => each_line(&mut BufReader::new(output), &mut Vec::new(), &mut entry),
        None => Ok(()),
    };
    if read.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    read?;
    // 1 is: nothing found.
    match status.code() {
        Some(0 | 1) | None => Ok(cursor),
        Some(code) => Err(io::Error::other(format!("journalctl has failed with exit code {code}"))),
    }
}

fn place(line: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(line).ok()?;
    Some(entry.get("__CURSOR")?.as_str()?.to_owned())
}

/// A file that is added to, and may be moved away.
pub(super) struct Followed {
    path: PathBuf,
    reader: BufReader<File>,
    /// A line whose end has not come yet.
    begun: Vec<u8>,
}

impl Followed {
    /// With the file that was moved away for it, where what is wanted may be in that.
    fn since(path: &Path, since: Option<Timestamp>) -> io::Result<Self> {
        let has = |path: &Path| {
            since.is_some_and(|since| begin(path).is_some_and(|begin| begin <= since))
        };
        let before = with(path, ".1");
        if has(path) {
            return Self::open(path, path);
        }
        // From the one before, reading goes on in the next.
        let from_before = match Self::open(&before, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Self::open(path, path);
            }
            opened => opened?,
        };
        let older = [".2", ".2.gz"].map(|end| with(path, end)).into_iter().find(|it| it.exists());
        if let (Some(older), false) = (older, has(&before)) {
            let begin = begin(&before).map_or("nowhere".to_owned(), date::local);
            let (before, older) = (before.display(), older.display());
            note!("spad: {before} begins at {begin}; what is earlier is in {older}");
        }
        Ok(from_before)
    }

    /// The file at `path`, and then those of the name `next`.
    fn open(path: &Path, next: &Path) -> io::Result<Self> {
        let file = File::open(path);
        let explain =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let reader = BufReader::new(file.map_err(explain)?);
        Ok(Self { path: next.to_owned(), reader, begun: Vec::new() })
    }

    /// What was added since, also to the next file of that name.
    fn rest(&mut self, take: Take<'_>) -> io::Result<()> {
        let take = &mut |line: &str| Event::from_line(line).map_or(Ok(()), &mut *take);
        // Looked at first: what is in the old one when there is a new one is all of it.
        let has_moved = self.has_moved()?;
        each_line(&mut self.reader, &mut self.begun, take)?;
        if has_moved && let Ok(next) = Self::open(&self.path, &self.path) {
            *self = next;
            each_line(&mut self.reader, &mut self.begun, take)?;
        }
        Ok(())
    }

    fn has_moved(&mut self) -> io::Result<bool> {
        let held = self.reader.get_ref().metadata()?;
        if held.len() < self.reader.stream_position()? {
            // Emptied, and begun anew in its place.
            self.reader.rewind()?;
        }
        let now = std::fs::metadata(&self.path);
        Ok(now.is_ok_and(|now| (now.dev(), now.ino()) != (held.dev(), held.ino())))
    }
}

/// A path with this at its end.
fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// When the first event in a file was, if there is one.
fn begin(path: &Path) -> Option<Timestamp> {
    let lines = BufReader::new(File::open(path).ok()?).lines().map_while(Result::ok);
    lines.filter_map(|line| Event::from_line(&line)).map(|event| event.time()).next()
}

/// Whole lines; what is left in `begun` has no end yet.
fn each_line(
    reader: &mut impl BufRead,
    begun: &mut Vec<u8>,
    take: &mut dyn FnMut(&str) -> io::Result<()>,
) -> io::Result<()> {
    while reader.read_until(b'\n', begun)? > 0 {
        if begun.pop_if(|byte| *byte == b'\n').is_some() {
            let line = String::from_utf8_lossy(begun).into_owned();
            begun.clear();
            take(&line)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn read(source: &mut Source) -> Vec<u64> {
        let mut seen = Vec::new();
        let mut see = |event: Event| {
            seen.push(event.unix_ms);
            Ok(())
        };
        source.past(&mut see).unwrap();
        seen
    }

    #[test]
    fn a_file_is_followed_through_torn_lines_and_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let line = |number: u64| format!("{{\"unix_ms\":{number},\"event\":\"command\"}}\n");
        let add = |path: &Path, text: &str| {
            let mut file = File::options().append(true).create(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        add(&path, &line(1));
        add(&path, "no line of ours\n\n");
        add(&path, &line(2)[..9]);
        let mut source = Source::open(Place::File(&path), &Filter::default()).unwrap();
        assert_eq!(read(&mut source), [1], "the second is not whole");
        add(&path, &line(2)[9..]);
        assert_eq!(read(&mut source), [2]);
        add(&path, &line(3));
        let moved = dir.path().join("audit.jsonl.1");
        fs::rename(&path, &moved).unwrap();
        add(&path, &line(4));
        assert_eq!(read(&mut source), [3, 4]);
        fs::write(&path, line(5)).unwrap();
        assert_eq!(read(&mut source), [0; 0], "as long as before, and nobody can know");
        fs::write(&path, "").unwrap();
        assert_eq!(read(&mut source), [0; 0]);
        add(&path, &line(6));
        assert_eq!(read(&mut source), [6], "emptied, and begun anew");
    }

    #[test]
    fn what_was_moved_away_is_read_first_where_it_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let before = dir.path().join("audit.jsonl.1");
        let line = |number: u64| format!("{{\"unix_ms\":{number},\"event\":\"command\"}}\n");
        let open = |since: Option<u64>| {
            let since = since.map(Timestamp::from_millis);
            Source::open(Place::File(&path), &Filter { since, ..Filter::default() })
        };
        assert!(open(None).is_err());
        fs::write(&before, line(1) + &line(2)).unwrap();
        let mut source = open(Some(2)).unwrap();
        assert_eq!(read(&mut source), [1, 2], "nothing has happened since");
        fs::write(&path, line(3) + &line(4)).unwrap();
        assert_eq!(read(&mut source), [3, 4], "and then it has");
        for (since, expected) in [
            (None, &[1, 2, 3, 4][..]),
            (Some(2), &[1, 2, 3, 4]),
            (Some(3), &[3, 4]),
            (Some(9), &[3, 4]),
        ] {
            assert_eq!(read(&mut open(since).unwrap()), expected, "{since:?}");
        }
        fs::remove_file(&before).unwrap();
        assert_eq!(read(&mut open(None).unwrap()), [3, 4]);
    }

    #[test]
    fn journalctl_is_asked_for_no_more_than_needed() {
        let since = Some(Timestamp::from_millis(1999));
        let until = Some(Timestamp::from_millis(5000));
        let filter = Filter { since, until, ..Filter::default() };
        assert_eq!(bounds(&filter), ["--since=@1", "--until=@6"]);
        assert!(bounds(&Filter::default()).is_empty());
    }
}
