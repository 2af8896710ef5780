//! The journal file (protocol §7, rules R2 and R4).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstatfs};
use spa_proto::{Floor, History, Kid, Monotonic, Replay, ServerPublic, Timestamp};
use std::time::Duration;

use super::record::{Fields, PAST, RECORD_LEN, Raw, Record, seal, unseal};
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
    slots: Slots,
    identity: Identity,
    successor: Option<Successor>,
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
        let slots = Slots { file, used: 0, room: 0 };
        Ok((Self { path, slots, identity, successor: None, _lock: lock }, found))
    }

    /// Whether it dies with the machine. Elsewhere a file system that is rolled
    /// back while the machine runs would not be noticed.
    #[must_use]
    pub fn is_on_tmpfs(&self) -> bool {
        fstatfs(&self.slots.file).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(TMPFS))
    }

    /// Starts over with a file that holds `snapshot` and nothing else.
    ///
    /// # Errors
    /// Where it cannot be written; then the old one is still there.
    pub fn begin(&mut self, snapshot: &Snapshot<'_>) -> Result<(), JournalError> {
        let written = self.write_anew(snapshot);
        written.map_err(|error| {
            self.successor = None;
            JournalError::new("write", &self.path, error)
        })
    }

    fn write_anew(&mut self, snapshot: &Snapshot<'_>) -> io::Result<()> {
        let entries = entries(snapshot);
        self.prepare(count(entries.len()), 0, snapshot.replay.floor())?;
        self.write_copies(&entries, 1)?;
        self.take_over()
    }

    /// Begins a successor of this journal, to be filled with so many entries by
    /// [`Self::copy`] while `added` others are added to this one. It takes over
    /// with [`Self::succeed`].
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn begin_successor(
        &mut self,
        entries: u64,
        added: u64,
        floor: Floor,
    ) -> Result<(), JournalError> {
        let begun = self.prepare(entries, added, floor);
        begun.map_err(|error| JournalError::new("begin", &self.fresh(), error))
    }

    fn prepare(&mut self, entries: u64, added: u64, floor: Floor) -> io::Result<()> {
        // Goes first: it has the same name.
        self.successor = None;
        let room = entries.saturating_add(added).saturating_mul(2).saturating_add(2).max(SMALLEST);
        let file = options().truncate(true).open(self.fresh())?;
        let place = Place(Some(self.fresh()));
        let len = room.saturating_mul(RECORD_LEN as u64);
        file.set_len(len)?;
        let piece = len.div_ceil(added.max(1));
        let mut slots = Slots { file, used: 0, room };
        let header = header(self.identity, slots.file.metadata()?.ino(), room, floor);
        slots.write(&header)?;
        self.successor = Some(Successor { slots, allocated: 0, piece, len, place });
        Ok(())
    }

    fn fresh(&self) -> PathBuf {
        self.path.with_extension("new")
    }

    /// Adds entries to the successor: what is remembered from before it was begun.
    /// So many are going to be added to both.
    ///
    /// # Errors
    /// Where they cannot be written: then there is no successor any more.
    pub fn copy(&mut self, records: &[Record], added: usize) -> Result<(), JournalError> {
        let copied = self.write_copies(records, count(added));
        copied.map_err(|error| {
            self.successor = None;
            JournalError::new("write", &self.fresh(), error)
        })
    }

    fn write_copies(&mut self, records: &[Record], added: u64) -> io::Result<()> {
        let lost = || io::Error::other("an entry could not be added");
        let successor = self.successor.as_mut().ok_or_else(lost)?;
        successor.allocate(successor.piece.saturating_mul(added))?;
        successor.slots.append(records)
    }

    /// The successor is this journal now, with all that was copied and added.
    ///
    /// # Errors
    /// Where it cannot be put in place: then this one stays in use.
    pub fn succeed(&mut self) -> Result<(), JournalError> {
        let succeeded = self.take_over();
        succeeded.map_err(|error| JournalError::new("replace", &self.path, error))
    }

    fn take_over(&mut self) -> io::Result<()> {
        let Some(mut successor) = self.successor.take() else { return Ok(()) };
        // What is still missing: no entry is to fail for want of room.
        successor.allocate(u64::MAX)?;
        std::fs::rename(self.fresh(), &self.path)?;
        successor.place.0 = None;
        self.slots = successor.slots;
        Ok(())
    }

    /// For how many more entries there is room; beyond, [`Self::begin`] comes first.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.slots.room.saturating_sub(self.slots.used)
    }

    /// Adds entries; afterwards they survive the process.
    ///
    /// # Errors
    /// Where they cannot be written: then nothing must be granted on their
    /// account, and [`Self::begin`] comes before the next.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let written = self.slots.append(records);
        written.map_err(|error| JournalError::new("write", &self.path, error))?;
        let followed = self.successor.as_mut().map(|successor| successor.slots.append(records));
        if followed.is_some_and(|followed| followed.is_err()) {
            self.successor = None;
        }
        Ok(())
    }
}

/// A file, entries written, and entries that fit, the header included.
#[derive(Debug)]
struct Slots {
    file: File,
    used: u64,
    room: u64,
}

impl Slots {
    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        self.write(&bytes)
    }

    /// In one write: what is torn, is torn behind whole entries.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let added = count(bytes.len() / RECORD_LEN);
        if self.used.saturating_add(added) > self.room {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.file.write_all_at(bytes, self.used.saturating_mul(RECORD_LEN as u64))?;
        self.used += added;
        Ok(())
    }
}

/// A journal that is being filled.
#[derive(Debug)]
struct Successor {
    slots: Slots,
    /// Bytes that it has, gets with each entry that is added, and will have: to get
    /// them all at once would take a while.
    allocated: u64,
    piece: u64,
    len: u64,
    place: Place,
}

/// Where a file lies that is to go unless it gets another place: what was given
/// up is not to keep its room.
#[derive(Debug)]
struct Place(Option<PathBuf>);

impl Drop for Place {
    fn drop(&mut self) {
        // That it could not be used is told already, and the next begins with it.
        let _ = self.0.take().map(std::fs::remove_file);
    }
}

impl Successor {
    fn allocate(&mut self, more: u64) -> io::Result<()> {
        let more = more.min(self.len.saturating_sub(self.allocated));
        if more > 0 {
            fallocate(&self.slots.file, FallocateFlags::empty(), self.allocated, more)?;
            self.allocated += more;
        }
        Ok(())
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
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

/// Header: magic, boot, server, inode, room, floor. Nobody's records are of 1970.
fn header(identity: Identity, inode: u64, room: u64, floor: Floor) -> Raw {
    let (soft, lapses) = floor
        .soft
        .map_or((0, 0), |(time, lapses)| (time.as_millis(), millis(lapses.as_duration())));
    let known = floor.known.map_or(0, Timestamp::as_millis);
    let mut out = Fields::default();
    out.put(MAGIC).put(&identity.boot.0).put(identity.server.as_bytes());
    out.number(inode).number(room).number(floor.hard.as_millis()).number(soft).number(lapses);
    out.number(known);
    seal(out.bytes)
}

fn entries(snapshot: &Snapshot<'_>) -> Vec<Record> {
    let histories = snapshot.replay.histories();
    let of_clients = histories.flat_map(|(kid, history)| past(kid, history));
    of_clients.chain(snapshot.grants.iter().cloned()).collect()
}

/// How many entries [`past`] gives.
#[must_use]
pub fn past_len(history: &History) -> usize {
    1 + history.used().len().div_ceil(PAST)
}

/// The entries that say all of a client's history: at most 5.
#[must_use]
pub fn past(kid: &Kid, history: &History) -> Vec<Record> {
    let kid = *kid;
    let begin = Record::History { kid, floor: history.floor(), complete: history.is_complete() };
    let used = history.used().chunks(PAST).map(|used| Record::Past { kid, used: used.to_vec() });
    std::iter::once(begin).chain(used).collect()
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
    let known = Some(Timestamp::from_millis(fields.number()?)).filter(|at| *at > Timestamp::ZERO);
    Some(Floor { hard, soft, known })
}

fn replay(floor: Floor, records: Vec<Record>) -> Found {
    let (grants, sessions) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Found { replay: Replay::new(floor), grants, sessions };
    for record in records {
        match record {
            Record::Used { kid, time, nonce } => found.replay.record(kid, time, nonce),
            Record::Past { kid, used } => {
                used.into_iter().for_each(|(time, nonce)| found.replay.record(kid, time, nonce));
            }
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
    use spa_proto::{Nonce, Reason};

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
        (1..=40).for_each(|n| journal.append(&[used(n)]).unwrap());
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
        journal.append(&[used(1)]).unwrap();
        journal.slots.file.write_all_at(&used(2).encode()[..77], 2 * RECORD_LEN as u64).unwrap();
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
            (1..=2).for_each(|n| journal.append(&[used(n)]).unwrap());
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
        let floor = Floor::at_start(now, now, clock(), spa_proto::Tolerance::DEFAULT);
        let mut replay = Replay::new(Floor { known: Some(now), ..floor });
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
    fn what_takes_over_has_its_room_already() {
        for batch in [1, 7, 32, 100] {
            let dir = tempfile::tempdir().unwrap();
            let mut journal = started(dir.path());
            journal.begin_successor(4000, 1000, Floor::default()).unwrap();
            for _ in 0..1000_usize.div_ceil(batch) {
                journal.copy(&[used(1)], batch).unwrap();
            }
            let successor = journal.successor.as_ref().unwrap();
            assert_eq!(successor.allocated, successor.len, "{batch} at once");
            let has = successor.slots.file.metadata().unwrap().blocks() * 512;
            assert!(has >= successor.len, "{batch} at once: {has} of {}", successor.len);
        }
    }

    /// The names that are there beside the journal's and its lock's.
    fn others(dir: &Path) -> Vec<PathBuf> {
        let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some()).collect()
    }

    #[test]
    fn a_successor_that_is_given_up_keeps_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let begun = || {
            let mut journal = started(dir.path());
            journal.begin_successor(10, 10, Floor::default()).unwrap();
            assert_eq!(others(dir.path()).len(), 1);
            journal
        };
        let full = |slots: &mut Slots| slots.room = slots.used;
        let successor =
            |journal: &mut Journal| full(&mut journal.successor.as_mut().unwrap().slots);

        let mut journal = begun();
        successor(&mut journal);
        assert!(journal.copy(&[used(1)], 1).is_err());
        assert_eq!(others(dir.path()), [] as [PathBuf; 0], "a copy failed");
        drop(journal);

        let mut journal = begun();
        successor(&mut journal);
        journal.append(&[used(1)]).unwrap();
        assert_eq!(others(dir.path()), [] as [PathBuf; 0], "an entry could not be added");
        drop(journal);

        let mut journal = begun();
        journal.path = dir.path().join("gone").join("journal");
        assert!(journal.succeed().is_err());
        assert_eq!(others(dir.path()), [] as [PathBuf; 0], "it could not take over");
        drop(journal);

        // Left by a daemon that was killed.
        std::mem::forget(begun().successor.take());
        assert_eq!(others(dir.path()).len(), 1);
        let mut journal = begun();
        let anew = Snapshot { replay: &Replay::default(), grants: Vec::new() };
        journal.begin(&anew).unwrap();
        assert_eq!(others(dir.path()), [] as [PathBuf; 0], "another took over");
        journal.append(&[used(1)]).unwrap();
        drop(journal);
        assert!(reopened(dir.path()).is_some());
    }

    #[test]
    fn it_says_when_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = started(dir.path());
        let fits =
            (0..).take_while(|_| journal.left() > 0 && journal.append(&[used(1)]).is_ok()).count();
        assert_eq!(fits as u64, SMALLEST - 1);
        assert!(journal.append(&[used(1)]).is_err());
        drop(journal);
        assert!(reopened(dir.path()).is_some());
    }
}
