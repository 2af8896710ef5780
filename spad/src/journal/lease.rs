//! The lease file (protocol §7, rule R3): the horizon, twice, so that a write
//! that is torn leaves the one before.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use spa_proto::{ServerPublic, Timestamp};

use super::JournalError;
use super::record::{Fields, RECORD_LEN, Raw, seal, unseal};
use crate::fields::Reader;

const MAGIC: &[u8; 8] = b"spa lse1";
/// Each slot has a page of its own, which disks write whole.
const SLOT: usize = 4096;

/// Where the horizon is kept. The file is opened for each write, so that it
/// recovers when the file system does.
#[derive(Clone, Debug)]
pub struct LeaseFile {
    path: PathBuf,
    server: ServerPublic,
    sequence: u64,
}

impl LeaseFile {
    /// The lease of this server in `state_dir`, and the horizon found in it:
    /// [`Timestamp::ZERO`] where there is none yet.
    ///
    /// # Errors
    /// Where there is one that cannot be read. Neither slot being sound counts
    /// as that: what it said is unknown.
    pub fn open(state_dir: &Path, server: ServerPublic) -> Result<(Self, Timestamp), JournalError> {
        let name = server.to_string();
        let path = state_dir.join(format!("lease-{}", name.get(..16).unwrap_or(&name)));
        let slots = match read(&path, server) {
            Ok(slots) => slots,
            Err(error) if error.kind() == io::ErrorKind::NotFound => vec![(0, Timestamp::ZERO)],
            Err(error) => return Err(JournalError::new("read", &path, error)),
        };
        let newest = slots.into_iter().max();
        let damaged = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "both copies are damaged; what was used before is \
            not known: remove the file once the clock is right and no knock can be pending, after twice the tolerance",
            )
        };
        let (sequence, horizon) =
            newest.ok_or_else(|| JournalError::new("use", &path, damaged()))?;
        Ok((Self { path, server, sequence }, horizon))
    }

    /// The file itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a horizon and waits for the disk.
    ///
    /// # Errors
    /// Where it did not get there.
    pub fn write(&mut self, horizon: Timestamp) -> Result<(), JournalError> {
        let sequence = self.sequence + 1;
        let written = write(&self.path, &slot(self.server, sequence, horizon), sequence);
        written.map_err(|error| JournalError::new("write", &self.path, error))?;
        self.sequence = sequence;
        Ok(())
    }
}

fn slot(server: ServerPublic, sequence: u64, horizon: Timestamp) -> Raw {
    let mut out = Fields::default();
    out.put(MAGIC).put(server.as_bytes()).number(sequence).number(horizon.as_millis());
    seal(out.bytes)
}

/// Where the slot of a sequence number begins.
fn place(sequence: u64) -> u64 {
    (sequence % 2) * SLOT as u64
}

/// The sound slots.
fn read(path: &Path, server: ServerPublic) -> io::Result<Vec<(u64, Timestamp)>> {
    let file = File::open(path)?;
    let sound = |at: u64| {
        let mut raw: Raw = [0; RECORD_LEN];
        file.read_exact_at(&mut raw, place(at)).ok()?;
        let mut fields = Reader { rest: unseal(&raw)?.get(8 + 32..)? };
        let (sequence, horizon) = (fields.number()?, Timestamp::from_millis(fields.number()?));
        (slot(server, sequence, horizon) == raw).then_some((sequence, horizon))
    };
    Ok((0..2).filter_map(sound).collect())
}

fn write(path: &Path, slot: &Raw, sequence: u64) -> io::Result<()> {
    let place = place(sequence);
    match File::options().write(true).open(path) {
        Ok(file) => {
            file.write_all_at(slot, place)?;
            file.sync_data()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, slot, place),
        Err(error) => Err(error),
    }
}

/// Makes the file with room for both slots, so that a disk that is full later
/// does not matter; it appears whole or not at all.
fn create(path: &Path, slot: &Raw, place: u64) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let made = (|| {
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all_at(&[0; 2 * SLOT], 0)?;
        file.write_all_at(slot, place)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    })();
    if made.is_err() {
        // It is only in the way; that it cannot be written is told already.
        let _ = std::fs::remove_file(&fresh);
    }
    made?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerPublic = ServerPublic::from_bytes([1; 32]);

    fn time(n: u64) -> Timestamp {
        Timestamp::from_millis(n)
    }

    #[test]
    fn the_last_horizon_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (mut lease, horizon) = LeaseFile::open(dir.path(), SERVER).unwrap();
        assert_eq!(horizon, Timestamp::ZERO);
        for n in 1..6 {
            lease.write(time(n)).unwrap();
            assert_eq!(LeaseFile::open(dir.path(), SERVER).unwrap().1, time(n));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut lease, _) = LeaseFile::open(dir.path(), SERVER).unwrap();
        (1..=4).for_each(|n| lease.write(time(n)).unwrap());
        let file = File::options().write(true).open(&lease.path).unwrap();
        file.write_all_at(&[9; 30], 20).unwrap();
        assert_eq!(LeaseFile::open(dir.path(), SERVER).unwrap().1, time(3));
        file.write_all_at(&[9; 30], SLOT as u64 + 20).unwrap();
        assert!(LeaseFile::open(dir.path(), SERVER).is_err(), "what it said is unknown");
    }

    #[test]
    fn a_lease_of_another_server_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (mut lease, _) = LeaseFile::open(dir.path(), SERVER).unwrap();
        lease.write(time(5)).unwrap();
        let other = ServerPublic::from_bytes([2; 32]);
        assert_eq!(LeaseFile::open(dir.path(), other).unwrap().1, Timestamp::ZERO);
    }
}
