//! Unix: permission bits, uids, `flock`.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::{geteuid, gethostname};

use crate::files::Problem;

const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;

/// Held until it is dropped, or the process ends.
pub(crate) type Lock = Flock<File>;

/// Asks with Ctrl-C held back until the end of it: whoever asks has changed the terminal, and would
/// be ended before it is as it was.
pub(crate) fn uninterrupted<T>(ask: impl FnOnce() -> T) -> T {
    let before = SigSet::from(Signal::SIGINT).thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let asked = ask();
    if let Ok(before) = before {
        // A set that was in force before.
        let _ = before.thread_set_mask();
    }
    asked
}

/// Opens for reading, without waiting for the other end of a pipe.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// Makes a file of mode 0600, whatever the umask.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path)?;
    file.set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
    Ok(file)
}

/// Opens for adding to its end; makes a file of mode 0600 where there is none.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(PRIVATE_FILE).open(path)
}

/// Makes a directory of mode 0700, whatever the umask.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(PRIVATE_DIR).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(PRIVATE_DIR))
}

/// Refuses a file that others have any right to, or could have written.
pub(crate) fn check_file(file: &Metadata) -> Result<(), Problem> {
    let mode = file.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Problem::LooseFile { mode });
    }
    check_owner(file)
}

/// Refuses a file that others can write to, or a directory in which they can put, replace or
/// bring back files.
pub(crate) fn check_writers(of: &Metadata) -> Result<(), Problem> {
    let mode = of.mode() & 0o7777;
    match mode & 0o022 {
        0 => check_owner(of),
        _ if of.is_dir() => Err(Problem::LooseDir { mode }),
        _ => Err(Problem::WritableFile { mode }),
    }
}

/// Refuses what is neither ours nor root's.
pub(crate) fn check_owner(of: &Metadata) -> Result<(), Problem> {
    let (owner, us) = (of.uid(), geteuid().as_raw());
    if owner == us || owner == 0 { Ok(()) } else { Err(Problem::Foreign { owner, us }) }
}

/// Makes the names in a directory survive a crash.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Locks the file against every other process; `None` where one has it.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<Lock>> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(PRIVATE_FILE).open(path)?;
    file.set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// The file that is locked.
pub(crate) fn locked(lock: &Lock) -> &File {
    lock
}

/// No core file, and `/proc/PID` is root's.
pub(crate) fn keep_to_itself() {
    // Error: a kernel that does not know it.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// What this host calls itself.
pub(crate) fn host_name() -> Option<String> {
    gethostname().ok()?.into_string().ok()
}
