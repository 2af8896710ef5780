//! The journal file (protocol §7, rules R2 and R4).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstatfs};
use spa_proto::{Floor, History, Monotonic, Replay, ServerPublic, Timestamp};
use std::time::Duration;

use super::record::{Fields, RECORD_LEN, Raw, Record, seal, unseal};
use super::{BootId, JournalError};
use crate::fields::{Reader, millis};
use crate::sessions::Ends;

const MAGIC: &[u8; 8] = b"spa jnl2";
/// Entries that an empty journal has room for, the header included.
const SMALLEST: u64 = 512;
const TMPFS: u64 = 0x0102_1994;

/// The open journal of a running daemon, which no other can open meanwhile.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    identity: Identity,
    /// Entries written, and entries that fit.
    used: u64,
    room: u64,
    _lock: File,
}

/// What makes a journal this daemon's, this boot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    server: ServerPublic,
    boot: BootId,
}

/// What an earlier process of this boot has left.
#[derive(Debug)]
pub struct Found {
    /// What was used.
    pub replay: Replay,
    /// Grants that were in force, by number; some may have ended since.
    pub grants: BTreeMap<u64, Record>,
    /// Connections that were open, by their ends; some may have ended since.
    pub sessions: BTreeMap<Ends, Record>,
}

/// Everything that has to be in a journal from the start.
#[derive(Debug)]
pub struct Snapshot<'a> {
    /// What was used.
    pub replay: &'a Replay,
    /// The grants in force, and the connections made through grants.
    pub grants: Vec<Record>,
}

impl Journal {
    /// Locks the journal of this server in `run_dir`, and reads what is in it.
    ///
    /// `None` where there is none that can be trusted, which is another start
    /// in the sense of rule R4. The journal takes entries after
    /// [`Self::begin`], in either case.
    ///
    /// # Errors
    /// Where another process has it, or the directory does not take files.
    pub fn open(
        run_dir: &Path,
        server: ServerPublic,
        boot: BootId,
    ) -> Result<(Self, Option<Found>), JournalError> {
        let identity = Identity { server, boot };
        let name = server.to_string();
        let name = name.get(..16).unwrap_or(&name);
        let lock = lock(&run_dir.join(format!("lock-{name}")))?;
        let path = run_dir.join(format!("journal-{name}"));
        let file =
            options().open(&path).map_err(|error| JournalError::new("open", &path, error))?;
        let found =
            read(&file, identity).map_err(|error| JournalError::new("read", &path, error))?;
        Ok((Self { path, file, identity, used: 0, room: 0, _lock: lock }, found))
    }

    /// Whether it dies with the machine. Elsewhere a file system that is rolled
    /// back while the machine runs would not be noticed.
    #[must_use]
    pub fn is_on_tmpfs(&self) -> bool {
        fstatfs(&self.file).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(TMPFS))
    }

    /// Starts over with a file that holds `snapshot` and nothing else.
    ///
    /// # Errors
    /// Where it cannot be written; then the old one is still there.
    pub fn begin(&mut self, snapshot: &Snapshot<'_>) -> Result<(), JournalError> {
        let written = self.write_anew(snapshot);
        written.map_err(|error| JournalError::new("write", &self.path, error))
    }

    fn write_anew(&mut self, snapshot: &Snapshot<'_>) -> io::Result<()> {
        let entries = entries(snapshot);
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX).saturating_add(1);
        let room = count.saturating_mul(2).max(SMALLEST);
        let fresh = self.path.with_extension("new");
        let file = options().truncate(true).open(&fresh)?;
        fallocate(&file, FallocateFlags::empty(), 0, room.saturating_mul(RECORD_LEN as u64))?;
        let mut bytes =
            header(self.identity, file.metadata()?.ino(), room, snapshot.replay.floor()).to_vec();
        bytes.extend(entries.iter().flat_map(Record::encode));
        file.write_all_at(&bytes, 0)?;
        std::fs::rename(&fresh, &self.path)?;
        (self.file, self.used, self.room) = (file, count, room);
        Ok(())
    }

    /// Whether the next [`Self::append`] needs a [`Self::begin`] first.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.used >= self.room
    }

    /// Adds an entry; afterwards it survives the process.
    ///
    /// # Errors
    /// Where it cannot be written: then nothing must be granted on its account.
    pub fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let at = self.used.saturating_mul(RECORD_LEN as u64);
        let written = self.file.write_all_at(&record.encode(), at);
        written.map_err(|error| JournalError::new("write", &self.path, error))?;
        self.used += 1;
        Ok(())
    }
}

fn options() -> std::fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

fn lock(path: &Path) -> Result<File, JournalError> {
    let fail = |error| JournalError::new("lock", path, error);
    let file = options().open(path).map_err(fail)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        let busy = error == rustix::io::Errno::WOULDBLOCK;
        let other = io::Error::new(
            io::ErrorKind::WouldBlock,
            "another spad runs with this server key and run-dir",
        );
        fail(if busy { other } else { error.into() })
    })?;
    Ok(file)
}

/// Header: magic, boot, server, inode, room, floor.
fn header(identity: Identity, inode: u64, room: u64, floor: Floor) -> Raw {
    let (soft, lapses) = floor
        .soft
        .map_or((0, 0), |(time, lapses)| (time.as_millis(), millis(lapses.as_duration())));
    let mut out = Fields::default();
    out.put(MAGIC).put(&identity.boot.0).put(identity.server.as_bytes());
    out.number(inode).number(room).number(floor.hard.as_millis()).number(soft).number(lapses);
    seal(out.bytes)
}

fn entries(snapshot: &Snapshot<'_>) -> Vec<Record> {
    let of_client = |(kid, history): (&spa_proto::Kid, &History)| {
        let kid = *kid;
        let begin =
            Record::History { kid, floor: history.floor(), complete: history.is_complete() };
        let used: Vec<_> = history
            .used()
            .iter()
            .map(|(time, nonce)| Record::Used { kid, time: *time, nonce: *nonce })
            .collect();
        std::iter::once(begin).chain(used)
    };
    snapshot.replay.histories().flat_map(of_client).chain(snapshot.grants.iter().cloned()).collect()
}

/// Reads a journal; `None` unless it is whole, and this daemon's and boot's.
///
/// Its length must be what the header says, so that a file that was cut is no
/// journal. Behind the last entry only one that was torn by the death of its
/// writer may stand, and zeros.
fn read(file: &File, identity: Identity) -> io::Result<Option<Found>> {
    let metadata = file.metadata()?;
    let mut bytes = vec![0; usize::try_from(metadata.len()).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    let (slots, rest) = bytes.as_chunks::<RECORD_LEN>();
    let Some((head, slots)) = slots.split_first() else { return Ok(None) };
    let room = u64::try_from(slots.len()).unwrap_or(u64::MAX).saturating_add(1);
    let Some(floor) = floor(head)
        .filter(|floor| rest.is_empty() && *head == header(identity, metadata.ino(), room, *floor))
    else {
        return Ok(None);
    };
    let records: Vec<_> = slots.iter().map_while(Record::decode).collect();
    let after = slots.get(records.len() + 1..).unwrap_or_default();
    let ends = after.iter().all(|slot| slot.iter().all(|byte| *byte == 0));
    Ok(ends.then(|| replay(floor, records)))
}

fn floor(head: &Raw) -> Option<Floor> {
    let mut fields = Reader { rest: unseal(head)?.get(8 + 16 + 32 + 8 + 8..)? };
    let hard = Timestamp::from_millis(fields.number()?);
    let soft = Timestamp::from_millis(fields.number()?);
    let lapses = Monotonic::new(Duration::from_millis(fields.number()?));
    let soft = (lapses.as_duration() > Duration::ZERO).then_some((soft, lapses));
    Some(Floor { hard, soft })
}

fn replay(floor: Floor, records: Vec<Record>) -> Found {
    let (grants, sessions) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Found { replay: Replay::new(floor), grants, sessions };
    for record in records {
        match record {
            Record::Used { kid, time, nonce } => found.replay.record(kid, time, nonce),
            Record::History { kid, floor, complete } => {
                found.replay.restore(kid, History::restored(floor, complete));
            }
            Record::Grant { id, .. } => {
                found.grants.insert(id, record);
            }
            Record::Ended { id } => {
                found.grants.remove(&id);
            }
            Record::Session { ends, .. } => {
                found.sessions.insert(ends, record);
            }
            Record::Closed { ends } => {
                found.sessions.remove(&ends);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use spa_proto::{Kid, Nonce, Reason};

    const SERVER: ServerPublic = ServerPublic::from_bytes([1; 32]);
    const BOOT: BootId = BootId([2; 16]);
    const KID: Kid = Kid::from_bytes([3; 16]);

    fn clock() -> Monotonic {
        Monotonic::new(Duration::from_secs(1000))
    }

    fn used(n: u8) -> Record {
        Record::Used {
            kid: KID,
            time: Timestamp::from_millis(u64::from(n)),
            nonce: Nonce::from_bytes([n; 16]),
        }
    }

    fn started(dir: &Path) -> Journal {
        let (mut journal, found) = Journal::open(dir, SERVER, BOOT).unwrap();
        let replay = found.map(|found| found.replay).unwrap_or_default();
        journal.begin(&Snapshot { replay: &replay, grants: Vec::new() }).unwrap();
        journal
    }

    fn reopened(dir: &Path) -> Option<Found> {
        Journal::open(dir, SERVER, BOOT).unwrap().1
    }

    fn path(dir: &Path) -> PathBuf {
        let mut files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        files.find(|path| path.to_string_lossy().contains("journal")).unwrap()
    }

    #[test]
    fn what_was_written_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = started(dir.path());
        (1..=40).for_each(|n| journal.append(&used(n)).unwrap());
        drop(journal);
        let found = reopened(dir.path()).unwrap();
        for n in 1..=40 {
            let time = Timestamp::from_millis(u64::from(n));
            let judged = found.replay.judge(&KID, time, Nonce::from_bytes([n; 16]), false, clock());
            assert_eq!(judged, Err(Reason::Replayed), "{n}");
        }
    }

    #[test]
    fn two_daemons_do_not_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let _journal = started(dir.path());
        let error = Journal::open(dir.path(), SERVER, BOOT).unwrap_err().to_string();
        assert!(error.contains("another spad runs"), "{error}");
    }

    #[test]
    fn a_torn_last_entry_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = started(dir.path());
        journal.append(&used(1)).unwrap();
        journal.file.write_all_at(&used(2).encode()[..77], 2 * RECORD_LEN as u64).unwrap();
        drop(journal);
        let found = reopened(dir.path()).unwrap();
        assert_eq!(found.replay.history(&KID).unwrap().used().len(), 1);
    }

    #[test]
    fn what_was_cut_damaged_or_moved_is_no_journal() {
        type Harm = fn(&Path);
        let harms: [(&str, Harm); 6] = [
            ("cut", |path| {
                let file = options().open(path).unwrap();
                file.set_len(file.metadata().unwrap().len() - RECORD_LEN as u64).unwrap();
            }),
            ("cut within", |path| options().open(path).unwrap().set_len(200).unwrap()),
            ("emptied", |path| options().open(path).unwrap().set_len(0).unwrap()),
            ("garbage at the end", |path| {
                options()
                    .open(path)
                    .unwrap()
                    .write_all_at(&[7; 4 * RECORD_LEN], 3 * RECORD_LEN as u64)
                    .unwrap();
            }),
            ("garbage in the middle", |path| {
                options().open(path).unwrap().write_all_at(&[7; 9], RECORD_LEN as u64 + 5).unwrap();
            }),
            ("copied", |path| {
                let copy = path.with_extension("copy");
                std::fs::copy(path, &copy).unwrap();
                std::fs::rename(&copy, path).unwrap();
            }),
        ];
        for (name, harm) in harms {
            let dir = tempfile::tempdir().unwrap();
            let mut journal = started(dir.path());
            (1..=2).for_each(|n| journal.append(&used(n)).unwrap());
            drop(journal);
            assert!(reopened(dir.path()).is_some(), "{name}: sound before");
            harm(&path(dir.path()));
            assert!(reopened(dir.path()).is_none(), "{name}");
        }
    }

    #[test]
    fn another_boot_or_server_is_another_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(started(dir.path()));
        assert!(Journal::open(dir.path(), SERVER, BootId([9; 16])).unwrap().1.is_none());
        let other = ServerPublic::from_bytes([9; 32]);
        assert!(Journal::open(dir.path(), other, BOOT).unwrap().1.is_none());
        assert!(reopened(dir.path()).is_some());
    }

    #[test]
    fn starting_over_keeps_floor_histories_and_grants() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), SERVER, BOOT).unwrap();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut replay =
            Replay::new(Floor::at_start(now, now, clock(), spa_proto::Tolerance::DEFAULT));
        replay.restore(KID, History::complete());
        (0..20).for_each(|n| replay.record(KID, now, Nonce::from_bytes([n; 16])));
        let grant = Record::Ended { id: 3 };
        journal.begin(&Snapshot { replay: &replay, grants: vec![grant] }).unwrap();
        drop(journal);
        let found = reopened(dir.path()).unwrap();
        assert_eq!(found.replay.floor(), replay.floor());
        assert_eq!(found.replay.history(&KID), replay.history(&KID));
    }

    #[test]
    fn it_says_when_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = started(dir.path());
        let fits =
            (0..).take_while(|_| !journal.is_full() && journal.append(&used(1)).is_ok()).count();
        assert_eq!(fits as u64, SMALLEST - 1);
        drop(journal);
        assert!(reopened(dir.path()).is_some());
    }
}
