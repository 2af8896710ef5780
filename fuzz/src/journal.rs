//! The journal as an earlier process, or a disk, may have left it. The input
//! says what was written to it and what became of the file.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};
use spa_proto::{Kid, Monotonic, Nonce, Prefix, Replay, ServerPublic, Timestamp};
use spad::firewall::{Element, Terms};
use spad::journal::{BootId, Journal, Record, Snapshot};
use tempfile::TempDir;

use crate::script::Script;

const SERVER: ServerPublic = ServerPublic::from_bytes([1; 32]);
const ENTRY: usize = 128;

thread_local! {
    /// One for all inputs: each begins with an empty journal.
    static PLACE: OnceCell<(TempDir, BootId)> = const { OnceCell::new() };
}

/// Writes entries, then alters the file. Through: it was altered, and is still
/// taken for a journal.
pub fn run(input: &[u8]) -> bool {
    PLACE.with(|place| {
        let (dir, boot) =
            place.get_or_init(|| (TempDir::new().unwrap(), BootId::current().unwrap()));
        let mut script = Script(input);
        let open = || Journal::open(dir.path(), SERVER, *boot).unwrap();
        let written = write(&mut open().0, &mut script);
        let path = file(dir);
        let before = std::fs::read(&path).unwrap();
        let after = alter(before.clone(), written.len(), &mut script);
        std::fs::write(&path, &after).unwrap();
        let found = open().1;
        if before == after {
            let replay = found.expect("a journal that nobody has touched").replay;
            assert_eq!(used(&replay), written.into_iter().collect());
            return false;
        }
        let Some(found) = found else { return false };
        assert_eq!(after.len(), before.len(), "cut or grown");
        assert_eq!(after[..ENTRY], before[..ENTRY], "under another header");
        found.grants.values().for_each(|grant| drop(format!("{grant:?}")));
        true
    })
}

/// The journal's, which has the server's name.
fn file(dir: &TempDir) -> PathBuf {
    dir.path().join(format!("journal-{}", &SERVER.to_string()[..16]))
}

/// Few enough that the ring forgets none.
fn write(journal: &mut Journal, script: &mut Script<'_>) -> Vec<(Kid, Timestamp, Nonce)> {
    journal.begin(&Snapshot { replay: &Replay::default(), grants: Vec::new() }).unwrap();
    let mut written = Vec::new();
    for number in 0..script.byte() % 8 {
        let kid = Kid::from_bytes([script.byte() % 2; 16]);
        let time = Timestamp::from_millis(u64::from_be_bytes(script.array()).max(1));
        let nonce = Nonce::from_bytes([number; 16]);
        journal.append(&[Record::Used { kid, time, nonce }]).unwrap();
        journal.append(&[grant(number, kid)]).unwrap();
        written.push((kid, time, nonce));
    }
    written
}

fn grant(number: u8, kid: Kid) -> Record {
    let source = Prefix::of([192, 0, 2, number].into(), 32);
    let terms = Terms::Bound(40_000);
    let element = Element { service: "ssh".parse().unwrap(), source, destination: None, terms };
    let since = Monotonic::new(Duration::from_secs(1));
    Record::Grant {
        id: number.into(),
        kid,
        element,
        since,
        ends: since.plus(Duration::MAX / 4),
        told: number.is_multiple_of(2),
    }
}

/// Bytes change, anywhere or in an entry whose checksum is then made good
/// again; the file is cut, or grows.
fn alter(mut bytes: Vec<u8>, written: usize, script: &mut Script<'_>) -> Vec<u8> {
    while !script.is_done() {
        let kind = script.byte();
        let entry = usize::from(script.byte()) % (2 * written + 2);
        let at = entry * ENTRY + usize::from(script.byte()) % ENTRY;
        let value = script.byte();
        match kind % 4 {
            0 if at < bytes.len() => bytes[at] ^= value,
            1 | 2 if entry * ENTRY + ENTRY <= bytes.len() && entry > 0 => {
                bytes[at] = value;
                seal(&mut bytes[entry * ENTRY..][..ENTRY]);
            }
            3 if value < 8 => bytes.truncate(at),
            3 if value > 247 => bytes.resize(bytes.len() + at, 0),
            _ => {}
        }
    }
    bytes
}

fn seal(entry: &mut [u8]) {
    let (fields, checksum) = entry.split_at_mut(ENTRY - 8);
    checksum.copy_from_slice(&Sha256::digest(fields)[..8]);
}

fn used(replay: &Replay) -> HashSet<(Kid, Timestamp, Nonce)> {
    let of_client = |(kid, history): (&Kid, &spa_proto::History)| {
        let kid = *kid;
        history.used().iter().map(move |(time, nonce)| (kid, *time, *nonce)).collect::<Vec<_>>()
    };
    replay.histories().flat_map(of_client).collect()
}
