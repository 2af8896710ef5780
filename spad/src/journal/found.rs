//! A journal read back: whose it is, and what it says (protocol §7, rules R2 and R4).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use spa_proto::{Floor, History, Monotonic, Replay, ServerPublic, Timestamp};

use super::BootId;
use super::record::{Fields, RECORD_LEN, Raw, Record, seal, unseal};
use crate::fields::{Reader, millis};
use crate::sessions::Ends;

const MAGIC: &[u8; 8] = b"spa jnl2";

/// What makes a journal this daemon's, this boot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) server: ServerPublic,
    pub(super) boot: BootId,
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

/// Header: magic, boot, server, inode, room, floor. Nobody's records are of 1970.
pub(super) fn header(identity: Identity, inode: u64, room: u64, floor: Floor) -> Raw {
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

/// Reads a journal; `None` unless it is whole, and this daemon's and boot's.
///
/// Its length must be what the header says, so that a file that was cut is no
/// journal. Behind the last entry only one that was torn by the death of its
/// writer may stand, and zeros.
pub(super) fn read(file: &File, identity: Identity) -> io::Result<Option<Found>> {
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
