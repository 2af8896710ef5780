//! The journal file (protocol §7, rules R2 and R4).

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstatfs};
use spa_proto::{Floor, History, Kid, Replay, ServerPublic};

use super::found::{Found, Identity, header, read};
use super::record::{PAST, RECORD_LEN, Record};
use super::{BootId, JournalError};

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

#[cfg(test)]
mod tests;
