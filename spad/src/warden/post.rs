//! Where a gatekeeper is put: as whom it runs, and in which directory.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::User;
use rustix::fs::{Mode, OFlags, open};
use tracing::warn;

use crate::privileges::Identity;

/// Where ids are looked for that nobody uses.
const UNUSED: std::ops::Range<u32> = 61_184..65_520;

/// The same for every gatekeeper of one warden.
pub(super) struct Post {
    /// As whom; `None` where this process could not become anybody else.
    pub(super) identity: Option<Identity>,
    dir: OwnedFd,
}

impl Post {
    /// For the configured user. The directory is made in `run_dir` and removed
    /// again: held open it is still one, but nobody, root included, can put
    /// anything into it.
    ///
    /// # Errors
    /// Where the directory cannot be made or is not empty.
    pub(super) fn new(user: &str, run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join("gatekeeper");
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = open(&path, flags, Mode::empty())?;
        fs::remove_dir(&path)?;
        Ok(Self { identity: identity(user), dir })
    }

    /// The directory, as a child of this process reaches it before it executes
    /// a program.
    pub(super) fn dir(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.dir.as_raw_fd()).into()
    }
}

/// The configured user; where there is none, an id that nobody has; where this
/// process could not become anybody else, `None`.
fn identity(user: &str) -> Option<Identity> {
    let wanted = match User::from_name(user) {
        Ok(Some(user)) => Identity { uid: user.uid.as_raw(), gid: user.gid.as_raw() },
        _ => {
            let id = unused();
            warn!(
                user,
                id,
                "no such user: the gatekeeper runs under an unused id; make one with: \
                useradd --system --no-create-home --shell /usr/sbin/nologin {user}"
            );
            Identity { uid: id, gid: id }
        }
    };
    let possible = is_mapped("uid", wanted.uid) && is_mapped("gid", wanted.gid);
    if !possible {
        warn!(
            "this user namespace has one id only: the gatekeeper runs under it, without capabilities"
        );
    }
    possible.then_some(wanted)
}

fn unused() -> u32 {
    let free = |id: &u32| matches!(User::from_uid((*id).into()), Ok(None));
    UNUSED.rev().find(free).unwrap_or(UNUSED.end)
}

/// Whether an id exists in this user namespace. Where that cannot be read, it
/// is tried, and fails then.
fn is_mapped(kind: &str, id: u32) -> bool {
    let Ok(map) = fs::read_to_string(format!("/proc/self/{kind}_map")) else { return true };
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        first
            .zip(count)
            .is_some_and(|(first, count)| (first..first + count).contains(&u64::from(id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_cannot_be_filled() {
        let run_dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let post = Post::new("nobody", run_dir.path()).unwrap();
            assert_eq!(fs::read_dir(post.dir()).unwrap().count(), 0);
            let error = fs::write(post.dir().join("file"), "").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
            assert_eq!(fs::read_dir(run_dir.path()).unwrap().count(), 0, "nothing stays");
        }
    }

    #[test]
    fn a_directory_with_something_in_it_is_refused() {
        let run_dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(run_dir.path().join("gatekeeper/something")).unwrap();
        assert!(Post::new("nobody", run_dir.path()).is_err());
    }
}
