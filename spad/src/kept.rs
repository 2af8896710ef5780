//! What is known of the table beyond the life of a process. In the state
//! directory: the ruleset that was last in force, without grants, and the one
//! before it. In the run directory: whether a table is in force in this boot, and which ports
//! it shuts.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use spa_keys::files::{FileError, make_private_dir, write_atomic};
use tracing::warn;

use crate::config::Directories;
use crate::firewall::{FirewallError, Options, PortRange, Ruleset, Saved};

const LATEST: &str = "ruleset";
const PREVIOUS: &str = "ruleset.previous";
const FRESH: &str = "ruleset.new";
const IN_FORCE: &str = "in-force";
const SHUT: &str = "shut-ports";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The largest ruleset with room to spare, in bytes.
const LONGEST: u64 = 64 * 1024 * 1024;

/// What was found where a ruleset should be.
#[derive(Debug)]
pub enum Kept {
    /// This one.
    Ruleset(Saved),
    /// None: no spad has put one in force here, or it was taken out by an administrator's word.
    Nothing,
    /// One that cannot be used, and why.
    Unusable(String),
}

/// The ruleset that was last in force.
#[must_use]
pub fn latest(state_dir: &Path) -> Kept {
    let path = path(state_dir);
    match load(&path) {
        // Between two renames there is only the one before.
        Kept::Nothing => previous(state_dir),
        kept => kept,
    }
}

/// The one that was in force before it.
#[must_use]
pub fn previous(state_dir: &Path) -> Kept {
    load(&state_dir.join(PREVIOUS))
}

/// Where the ruleset that was last in force is kept.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(LATEST)
}

fn load(path: &Path) -> Kept {
    let unusable = |why: &dyn std::fmt::Display| {
        Kept::Unusable(format!("{} cannot be used: {why}", path.display()))
    };
    match read(path) {
        Ok(bytes) => match Saved::from_bytes(&bytes) {
            Some(saved) => Kept::Ruleset(saved),
            None => unusable(&"it is damaged, or of another version of spad"),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Kept::Nothing,
        Err(error) => unusable(&error),
    }
}

/// Reads what nobody else can have written.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !is_ours_alone(&metadata) || !metadata.is_file() {
        return Err(io::Error::other("others can write to it"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether nobody else can write to a file.
pub(crate) fn is_ours_alone(metadata: &fs::Metadata) -> bool {
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    ours && metadata.mode() & 0o022 == 0
}

/// Takes note of a ruleset that has been put in force.
///
/// # Errors
/// Why it is not kept.
pub fn keep(directories: &Directories, ruleset: &Ruleset, options: Options) -> Result<(), String> {
    let kept = put(&directories.state, ruleset, options).map_err(|error| error.to_string());
    note_in_force(&directories.run);
    kept
}

/// Forgets every ruleset that was in force: nothing is shut after a reboot, nor by the
/// next start where an administrator decides.
///
/// # Errors
/// Where one cannot be removed: the last one is there then.
pub fn forget(state_dir: &Path) -> Result<(), FileError> {
    // The last one goes last, as it tells whether anything is in force.
    for path in [state_dir.join(PREVIOUS), path(state_dir)] {
        remove(&path)?;
    }
    match flush(state_dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(FileError::io(state_dir, "write", error))
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(FileError::io(path, "remove", error))
        }
        _ => Ok(()),
    }
}

/// Takes note that a table is in force in this boot.
pub fn note_in_force(run_dir: &Path) {
    if let Err(error) = write_in_force(run_dir) {
        warn!(%error, "should somebody remove the table while spad does not run, connections made \
            meanwhile live on");
    }
}

fn write_in_force(run_dir: &Path) -> Result<(), FileError> {
    make_private_dir(run_dir)?;
    let path = run_dir.join(IN_FORCE);
    let boot = fs::read_to_string(BOOT_ID)
        .map_err(|error| FileError::io(BOOT_ID.as_ref(), "read", error))?;
    write_atomic(&path, &boot)
}

/// Whether a spad has put a table in force in this boot, and not taken it out
/// again by an administrator's word.
#[must_use]
pub fn is_in_force(run_dir: &Path) -> bool {
    let boot = fs::read(BOOT_ID).ok();
    boot.is_some() && fs::read(run_dir.join(IN_FORCE)).ok() == boot
}

/// Which boot this is; another after each.
pub(crate) fn boot_id() -> Option<String> {
    fs::read_to_string(BOOT_ID).ok().map(|id| id.trim().to_owned())
}

/// Takes note that it was taken out.
///
/// # Errors
/// Where the note cannot be removed: connections of now will not live on then
/// when spad starts.
pub fn note_open(run_dir: &Path) -> Result<(), FileError> {
    remove(&run_dir.join(IN_FORCE))
}

/// Takes note of the TCP ports that the table in the kernel shuts now: when another spad shuts
/// more, connections to those live on.
pub fn note_shut(run_dir: &Path, ruleset: &Ruleset) {
    if let Err(error) = write_shut(run_dir, ruleset.shut_ports()) {
        warn!(%error, "a spad that is started with more services ends connections to those");
        forget_shut(run_dir);
    }
}

/// Takes note that nobody knows.
pub fn forget_shut(run_dir: &Path) {
    if let Err(error) = remove(&run_dir.join(SHUT)) {
        warn!(%error, "this note of the ports that are shut is not true any more: remove it");
    }
}

fn write_shut(run_dir: &Path, ports: &[PortRange]) -> Result<(), FileError> {
    make_private_dir(run_dir)?;
    let boot = boot_id().unwrap_or_default();
    let lines = ports.iter().map(|range| format!("{} {}\n", range.first(), range.last()));
    write_atomic(&run_dir.join(SHUT), &format!("{boot}\n{}", lines.collect::<String>()))
}

/// The TCP ports that the table shuts, as noted in this boot.
#[must_use]
pub fn shut(run_dir: &Path) -> Option<Vec<PortRange>> {
    let text = fs::read_to_string(run_dir.join(SHUT)).ok()?;
    let mut lines = text.lines();
    if lines.next()? != boot_id()? {
        return None;
    }
    let range = |line: &str| {
        let (first, last) = line.split_once(' ')?;
        PortRange::new(first.parse().ok()?, last.parse().ok()?)
    };
    lines.map(range).collect()
}

/// Why a ruleset is not kept.
#[derive(Debug)]
enum KeepError {
    Firewall(FirewallError),
    File(FileError),
}

impl std::fmt::Display for KeepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Firewall(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
        }
    }
}

/// Keeps it, if it is not kept already. At every moment there is a whole one.
fn put(state_dir: &Path, ruleset: &Ruleset, options: Options) -> Result<(), KeepError> {
    let saved = Saved::of(ruleset, options).map_err(KeepError::Firewall)?;
    make_private_dir(state_dir).map_err(KeepError::File)?;
    let path = path(state_dir);
    let old = load(&path);
    if matches!(&old, Kept::Ruleset(old) if *old == saved) {
        // Whoever put it there may have failed at this.
        return flush(state_dir)
            .map_err(|error| KeepError::File(FileError::io(state_dir, "write", error)));
    }
    let sound = matches!(old, Kept::Ruleset(_));
    let replaced = replace(state_dir, &saved.to_bytes(), sound);
    replaced.map_err(|error| KeepError::File(FileError::io(&path, "write", error)))
}

/// `sound` says whether what is there is worth keeping as the one before.
fn replace(state_dir: &Path, bytes: &[u8], sound: bool) -> io::Result<()> {
    let (latest, fresh) = (path(state_dir), state_dir.join(FRESH));
    write(&fresh, bytes).inspect_err(|_| {
        // It is only in the way; that it cannot be written is told already.
        let _ = fs::remove_file(&fresh);
    })?;
    if sound {
        fs::rename(&latest, state_dir.join(PREVIOUS))?;
    }
    fs::rename(&fresh, &latest)?;
    flush(state_dir)
}

/// Makes the names in a directory survive a crash.
fn flush(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::os::unix::fs::PermissionsExt;

    fn keep_port(state_dir: &Path, port: u16) -> Saved {
        let file = state_dir.join("spad.toml");
        fs::write(&file, format!("[service.ssh]\nport = {port}\n")).unwrap();
        let config = Config::load(&file).unwrap();
        put(state_dir, &config.ruleset(), config.options()).unwrap();
        Saved::of(&config.ruleset(), config.options()).unwrap()
    }

    fn ruleset(kept: Kept) -> Option<Saved> {
        if let Kept::Ruleset(saved) = kept { Some(saved) } else { None }
    }

    #[test]
    fn the_last_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert!(matches!(latest(dir), Kept::Nothing));
        let rulesets = [22, 23, 24].map(|port| keep_port(dir, port));
        assert!(ruleset(latest(dir)).as_ref() == Some(&rulesets[2]));
        assert!(ruleset(previous(dir)).as_ref() == Some(&rulesets[1]));
    }

    #[test]
    fn the_same_again_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        keep_port(dir, 22);
        let inode = || fs::metadata(path(dir)).unwrap().ino();
        let before = inode();
        keep_port(dir, 22);
        assert_eq!(inode(), before);
        assert!(matches!(previous(dir), Kept::Nothing));
    }

    #[test]
    fn what_is_damaged_does_not_become_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let first = keep_port(dir, 22);
        keep_port(dir, 23);
        fs::write(path(dir), b"damaged").unwrap();
        assert!(matches!(latest(dir), Kept::Unusable(_)));
        keep_port(dir, 24);
        assert!(ruleset(previous(dir)) == Some(first));
    }

    #[test]
    fn what_others_can_write_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        keep_port(dir, 22);
        fs::set_permissions(path(dir), fs::Permissions::from_mode(0o620)).unwrap();
        assert!(matches!(latest(dir), Kept::Unusable(_)));
    }

    #[test]
    fn a_crash_between_the_renames_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let first = keep_port(dir, 22);
        fs::rename(path(dir), dir.join(PREVIOUS)).unwrap();
        assert!(ruleset(latest(dir)) == Some(first));
    }

    #[test]
    fn what_is_forgotten_leaves_none_to_fall_back_on() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        forget(&dir.join("never made")).unwrap();
        keep_port(dir, 22);
        keep_port(dir, 23);
        forget(dir).unwrap();
        assert!(matches!((latest(dir), previous(dir)), (Kept::Nothing, Kept::Nothing)));
    }

    #[test]
    fn in_force_counts_for_this_boot_only() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        assert!(!is_in_force(&run));
        note_in_force(&run);
        assert!(is_in_force(&run));
        fs::write(run.join(IN_FORCE), "another boot\n").unwrap();
        assert!(!is_in_force(&run));
        note_in_force(&run);
        note_open(&run).unwrap();
        note_open(&run).unwrap();
        assert!(!is_in_force(&run));
    }

    #[test]
    fn what_is_shut_is_known_in_this_boot_and_as_long_as_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        assert_eq!(shut(&run), None);
        let ports = [PortRange::single(22), PortRange::new(8000, 8080).unwrap()];
        write_shut(&run, &ports).unwrap();
        assert_eq!(shut(&run).unwrap(), ports);
        write_shut(&run, &[]).unwrap();
        assert_eq!(shut(&run).unwrap(), [], "nothing is shut: that is known too");
        let boot = boot_id().unwrap();
        for text in
            ["", "another boot\n22 22\n", &format!("{boot}\n22\n"), &format!("{boot}\n9 8\n")]
        {
            fs::write(run.join(SHUT), text).unwrap();
            assert_eq!(shut(&run), None, "{text:?}");
        }
        forget_shut(&run);
        assert!(!run.join(SHUT).exists());
        forget_shut(&run);
    }
}
