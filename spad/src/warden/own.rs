//! The server's own keys: one set of them, or two while they are being replaced
//! (protocol §3.4); and who has moved to the new ones.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

use spa_keys::{FormerIdentity, Moved, ServerIdentity, StoreError};
use spa_proto::{Generation, Kid, ServerKeys, ServerPublic, Timestamp};
use tracing::{error, info, warn};

use super::Warden;
use crate::clock;
use crate::wipe;

/// The keys in force.
pub(super) struct OwnKeys {
    dir: PathBuf,
    current: Own,
    former: Option<Former>,
    /// Up to when those were to be in force that have ended, and may be in the file still.
    lingering: Option<Timestamp>,
    memory_key: ServerPublic,
    /// The next set's number.
    next: u32,
    /// Of the file that was read last; `None` where that could not be.
    stamp: Option<Stamp>,
    /// Why it could not be, or was not taken up, as last said.
    fault: Option<Fault>,
}

/// Why a file with the server's keys changes nothing.
#[derive(PartialEq, Eq)]
enum Fault {
    Unreadable(String),
    /// Those of another server.
    OfAnother,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(
                f,
                "the server's keys of before are in force, but the next start would end: {why}"
            ),
            Self::OfAnother => f.write_str(
                "server.toml is of another server: no client of now gets in once spad is started again",
            ),
        }
    }
}

#[derive(Clone)]
struct Own {
    keys: ServerKeys,
    public: ServerPublic,
}

struct Former {
    own: Own,
    identity: FormerIdentity,
    marks: Marks,
}

/// What changes when a file is written anew, or gets another mode or owner: where it is, and
/// when that was.
type Stamp = (u64, u64, (i64, i64));

/// How many clients are named that have not moved when they should have.
const NAMED: usize = 20;

impl OwnKeys {
    /// As they are in `dir`, or in a credential.
    pub(super) fn load(dir: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let stamp = stamp(dir);
        let identity = ServerIdentity::load(dir)?;
        let own = |number, secret, cloak| {
            let keys = ServerKeys { generation: Generation::new(number), secret, cloak };
            Own { public: keys.secret.public(), keys }
        };
        let current = own(0, identity.secret.clone(), identity.cloak.clone());
        let (dir, memory_key) = (dir.to_owned(), identity.memory_key());
        let (former, lingering, fault) = (None, None, None);
        let mut keys = Self { dir, current, former, lingering, memory_key, next: 1, stamp, fault };
        keys.take_up(&identity, now);
        Ok(keys)
    }

    /// Under which key it is remembered what was used: old keys and new ones have one
    /// memory (protocol §7).
    pub(super) fn memory_key(&self) -> ServerPublic {
        self.memory_key
    }

    /// Those in force, for the gatekeeper.
    pub(super) fn sets(&self) -> (ServerKeys, Option<ServerKeys>) {
        let former = self.former.as_ref().map(|former| former.own.keys.clone());
        (self.current.keys.clone(), former)
    }

    /// Their public halves; with the second, whether they are the former ones.
    pub(super) fn publics(&self) -> impl Iterator<Item = (ServerPublic, bool)> {
        let former = self.former.iter().map(|former| (former.own.public, true));
        std::iter::once((self.current.public, false)).chain(former)
    }

    /// Until when the old keys work too, while they are being replaced.
    pub(super) fn overlap(&self) -> Option<Timestamp> {
        self.former.as_ref().map(|former| former.identity.until)
    }

    /// The public key of the set that a request was made for, if that is in force.
    pub(super) fn public(&self, of: Generation, now: Timestamp) -> Option<ServerPublic> {
        if self.current.keys.generation == of {
            return Some(self.current.public);
        }
        let former = self.former.as_ref().filter(|former| former.identity.until >= now)?;
        (former.own.keys.generation == of).then_some(former.own.public)
    }

    /// Why the file could not be read, or taken up, the last time.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.as_ref().map(ToString::to_string)
    }

    /// Notes for which keys a knock was made that was accepted.
    pub(super) fn accepted(&mut self, kid: Kid, of: Generation) {
        if let Some(former) = self.former.as_mut().filter(|_| self.current.keys.generation == of) {
            former.marks.note(kid);
        }
    }

    /// Looks at the file again, if it is another, or could not be read. Whether other keys are
    /// in force now.
    fn look(&mut self, now: Timestamp) -> bool {
        if self.lingering.is_some_and(|until| until >= now) {
            // They had ended by a clock that was ahead, and are in the file still.
            self.stamp = None;
        }
        let stamp = stamp(&self.dir);
        if stamp == self.stamp {
            return false;
        }
        let read = ServerIdentity::load(&self.dir);
        // What stood in the way may pass without a trace in the file.
        self.stamp = stamp.filter(|_| read.is_ok());
        let before = self.fault.take();
        match read {
            Ok(identity) if identity.memory_key() == self.memory_key => {
                return self.take_up(&identity, now);
            }
            Ok(_) => self.fault = Some(Fault::OfAnother),
            Err(error) => self.fault = Some(Fault::Unreadable(error.to_string())),
        }
        if let Some(fault) = self.fault.as_ref().filter(|_| before != self.fault) {
            error!("{fault}");
        }
        false
    }

    /// Puts these in force. Keys that were in force keep their number: a gatekeeper that
    /// has not heard of the others yet says it.
    fn take_up(&mut self, identity: &ServerIdentity, now: Timestamp) -> bool {
        let before = self.numbers();
        let current = self.numbered(&identity.secret, &identity.cloak);
        let (there, over) = identity.former.iter().partition::<Vec<_>, _>(|it| it.until >= now);
        self.lingering = over.first().map(|former| former.until);
        let there = there.first().copied();
        let former = there.map(|former| (self.numbered(&former.secret, &former.cloak), former));
        let marks = former.as_ref().and_then(|_| identity.moved(&self.dir));
        let same = |own: &Own, former: &Former| {
            own.keys.generation == former.own.keys.generation
                && current.keys.generation == self.current.keys.generation
        };
        let kept = self.former.take();
        self.former = former.zip(marks).map(|((own, identity), moved)| {
            let marks = match kept {
                Some(kept) if same(&own, &kept) => kept.marks,
                _ => Marks::of(moved),
            };
            Former { own, identity: identity.clone(), marks }
        });
        self.current = current;
        self.numbers() != before
    }

    fn numbers(&self) -> [Option<Generation>; 2] {
        let former = self.former.as_ref().map(|former| former.own.keys.generation);
        [Some(self.current.keys.generation), former]
    }

    fn numbered(&mut self, secret: &spa_proto::ServerSecret, cloak: &spa_proto::Cloak) -> Own {
        let known = std::iter::once(&self.current);
        let mut known = known.chain(self.former.as_ref().map(|former| &former.own));
        let same = |own: &&Own| {
            own.keys.cloak.expose() == cloak.expose() && own.keys.secret.expose() == secret.expose()
        };
        if let Some(own) = known.find(same) {
            return own.clone();
        }
        let generation = Generation::new(self.next);
        self.next = self.next.wrapping_add(1);
        let keys = ServerKeys { generation, secret: secret.clone(), cloak: cloak.clone() };
        Own { public: keys.secret.public(), keys }
    }

    /// The overlap that is over, if it is: only the new keys are in force from now on.
    fn end_overlap(&mut self, now: Timestamp) -> Option<(FormerIdentity, HashSet<Kid>)> {
        let over = self.former.take_if(|former| former.identity.until < now)?;
        self.lingering = Some(over.identity.until);
        Some((over.identity, over.marks.known))
    }

    /// See [`Self::lingers_no_more`], which ends it.
    pub(super) fn lingering(&self) -> Option<Timestamp> {
        self.lingering
    }

    /// Those that were to be in force up to then are not in the file.
    pub(super) fn lingers_no_more(&mut self, until: Timestamp) {
        self.lingering.take_if(|lingering| *lingering == until);
    }
}

impl Warden {
    /// Takes up other keys of the server, if there are.
    pub(super) fn look_at_own_keys(&mut self) {
        let now = clock::wall();
        if wipe::stack_after(|| self.own.look(now)) {
            let replaced = self.own.former.is_some();
            info!(overlap = replaced, public_key = %self.own.current.public, "the server has other keys");
            self.provision();
        }
    }

    /// Drops the server's former keys when their time is over; [`super::overlaps`] takes
    /// them out of the file.
    pub(super) fn end_own_overlap(&mut self, now: Timestamp) {
        let Some((former, moved)) = self.own.end_overlap(now) else { return };
        let names = self.not_moved(&former, &moved);
        let count = names.len();
        let named = names.into_iter().take(NAMED).collect::<Vec<_>>().join(" ");
        info!("the server's old keys have ended");
        if count > 0 {
            warn!(
                count,
                clients = named,
                "have not moved to the server's new keys: they are shut out"
            );
        }
        self.provision();
    }

    fn not_moved(&self, former: &FormerIdentity, moved: &HashSet<Kid>) -> Vec<String> {
        let kids = self.clients.kids();
        let records = kids.filter_map(|kid| self.clients.get(&kid).filter(|it| it.kid == kid));
        let keeps = records.filter(|record| former.keeps(record, moved));
        let mut names: Vec<_> = keeps.map(|record| record.name.to_string()).collect();
        names.sort();
        names.dedup();
        names
    }
}

fn stamp(dir: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(ServerIdentity::path(dir)).ok()?;
    Some((metadata.dev(), metadata.ino(), (metadata.ctime(), metadata.ctime_nsec())))
}

/// Who has moved, and who writes it down: a thread of its own, so that no knock waits
/// for the disk.
struct Marks {
    known: HashSet<Kid>,
    /// `None` where there was no thread to be had.
    to_write: Option<Sender<Kid>>,
}

impl Marks {
    fn of(moved: Moved) -> Self {
        let known = moved.read().unwrap_or_else(|error| {
            warn!(%error, "who has moved to the server's new keys is not known");
            HashSet::new()
        });
        let (to_write, kids) = channel();
        let thread = Builder::new().name("moved".into()).spawn(move || write(&moved, &kids));
        Self { known, to_write: thread.is_ok().then_some(to_write) }
    }

    fn note(&mut self, kid: Kid) {
        if self.known.insert(kid) {
            let _ = self.to_write.as_ref().map(|thread| thread.send(kid));
        }
    }
}

/// Writes what comes, and once more what could not be written.
fn write(moved: &Moved, kids: &Receiver<Kid>) {
    let mut unwritten = Vec::new();
    while let Ok(kid) = kids.recv() {
        unwritten.push(kid);
        unwritten.extend(kids.try_iter());
        match moved.add(&unwritten) {
            Ok(()) => unwritten.clear(),
            Err(error) => {
                warn!(%error, "who has moved to the server's new keys is not written down")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spa_keys::ReplacedServer;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn made() -> (tempfile::TempDir, OwnKeys) {
        let dir = tempfile::tempdir().unwrap();
        ServerIdentity::init(dir.path(), "fw.example", 62201).unwrap();
        let own = OwnKeys::load(dir.path(), NOW).unwrap();
        (dir, own)
    }

    #[test]
    fn keys_keep_their_numbers_through_an_overlap() {
        let (dir, mut own) = made();
        assert!(!own.look(NOW), "nothing has changed");
        let (first, memory) = (own.sets().0, own.memory_key());
        for (what, back) in [
            (ReplacedServer::Key, true),
            (ReplacedServer::Cloak, true),
            (ReplacedServer::Key, false),
        ] {
            ServerIdentity::rotate(dir.path(), what, HOUR, NOW).unwrap();
            assert!(own.look(NOW) && !own.look(NOW));
            let (current, former) = own.sets();
            assert_eq!(former.unwrap().generation, first.generation, "{what:?}");
            assert_ne!(current.generation, first.generation, "{what:?}");
            assert_eq!(own.memory_key(), memory);
            let public = |of: &ServerKeys, now| own.public(of.generation, now);
            assert_eq!(public(&first, NOW.plus(HOUR)), Some(first.secret.public()), "to the end");
            let over = NOW.plus(HOUR).plus(Duration::from_millis(1));
            assert_eq!(public(&first, over), None, "whether or not that was noticed");
            assert_eq!(public(&current, over), Some(current.secret.public()));
            assert_eq!(own.public(Generation::new(200), NOW), None, "what nobody was given");
            if back {
                ServerIdentity::abort(dir.path()).unwrap();
                assert!(own.look(NOW));
                assert_eq!(own.sets().0.generation, first.generation);
            }
        }
    }

    #[test]
    fn a_file_that_could_not_be_read_is_looked_at_again() {
        let (dir, mut own) = made();
        ServerIdentity::rotate(dir.path(), ReplacedServer::Key, HOUR, NOW).unwrap();
        let mode = |mode| {
            let path = ServerIdentity::path(dir.path());
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        mode(0o644);
        for _ in 0..2 {
            assert!(!own.look(NOW) && own.fault.is_some(), "others may read it");
            assert_eq!(own.stamp, None, "it is looked at again, whether or not it is another");
        }
        mode(0o600);
        assert!(own.look(NOW), "as the message has advised");
        assert!(!own.look(NOW) && own.fault.is_none());
    }

    #[test]
    fn an_overlap_ends_by_itself() {
        let (dir, mut own) = made();
        ServerIdentity::rotate(dir.path(), ReplacedServer::Key, HOUR, NOW).unwrap();
        assert!(own.look(NOW));
        assert!(own.end_overlap(NOW.plus(HOUR)).is_none());
        let over = NOW.plus(HOUR).plus(Duration::from_millis(1));
        let current = own.sets().0;
        assert_eq!(own.lingering(), None);
        assert!(own.end_overlap(over).is_some() && own.sets().1.is_none());
        // What could not be taken out of the file does not come back with it.
        let mut again = OwnKeys::load(dir.path(), over).unwrap();
        assert!(again.sets().1.is_none() && again.end_overlap(over).is_none());
        assert_eq!(again.sets().0.secret.public(), current.secret.public());
        // Either takes it out, and tries until it could.
        for own in [&mut own, &mut again] {
            assert_eq!(own.lingering(), Some(NOW.plus(HOUR)));
            own.lingers_no_more(NOW);
            assert_eq!(own.lingering(), Some(NOW.plus(HOUR)), "of another overlap");
            own.lingers_no_more(NOW.plus(HOUR));
            assert_eq!(own.lingering(), None);
        }
    }

    #[test]
    fn an_overlap_goes_on_when_a_clock_that_was_ahead_is_put_right() {
        let (dir, mut own) = made();
        ServerIdentity::rotate(dir.path(), ReplacedServer::Key, HOUR, NOW).unwrap();
        assert!(own.look(NOW));
        let former = |own: &OwnKeys| own.sets().1.map(|former| former.secret.public());
        let (before, ahead) = (former(&own), NOW.plus(HOUR * 24));
        assert!(own.end_overlap(ahead).is_some() && !own.look(ahead));
        assert_eq!(former(&own), None);
        assert!(own.look(NOW) && !own.look(NOW));
        assert_eq!((former(&own), own.lingering()), (before, None));
        assert!(own.end_overlap(NOW.plus(HOUR)).is_none());
    }

    #[test]
    fn who_has_moved_is_known_by_the_next_process() {
        let (dir, mut own) = made();
        ServerIdentity::rotate(dir.path(), ReplacedServer::Cloak, HOUR, NOW).unwrap();
        own.look(NOW);
        let (current, former) = own.sets();
        let [one, two] = [1, 2].map(|n| Kid::from_bytes([n; 16]));
        own.accepted(one, current.generation);
        own.accepted(two, former.unwrap().generation);
        let moved = ServerIdentity::load(dir.path()).unwrap().moved(dir.path()).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while moved.read().unwrap() != HashSet::from([one]) {
            assert!(std::time::Instant::now() < until, "written down");
            std::thread::yield_now();
        }
        let again = OwnKeys::load(dir.path(), NOW).unwrap();
        assert_eq!(again.former.unwrap().marks.known, [one].into());
    }

    #[test]
    fn another_servers_keys_are_not_taken_up() {
        let (dir, mut own) = made();
        let other = tempfile::tempdir().unwrap();
        ServerIdentity::init(other.path(), "fw.example", 62201).unwrap();
        std::fs::rename(other.path().join("server.toml"), dir.path().join("server.toml")).unwrap();
        let before = own.sets().0.generation;
        assert!(!own.look(NOW) && !own.look(NOW));
        assert!(own.fault().is_some_and(|why| why.contains("another server")), "as long as it is");
        assert_eq!(own.sets().0.generation, before);
    }
}
