use super::*;
use spa_proto::{Monotonic, Nonce, Reason, Timestamp};
use std::time::Duration;

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
    let successor = |journal: &mut Journal| full(&mut journal.successor.as_mut().unwrap().slots);

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
