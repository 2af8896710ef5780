//! A kernel that does not take every change of the packet filter.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::error::{Doing, Result};
use super::preload;

/// Where the file has the number of faults that have happened; see `netlink.c`.
const DONE: u64 = 8;

/// What the kernel answers when elements are added to the packet filter, to programs that are
/// started with [`Netlink::words`] before them. All is as usual until it is told otherwise.
pub struct Netlink {
    library: PathBuf,
    file: PathBuf,
}

impl Netlink {
    /// A kernel that takes everything; its files are in `dir`.
    pub(super) fn new(dir: &Path, number: usize) -> Result<Self> {
        let library = dir.join(format!("netlink{number}.so"));
        let file = library.with_extension("faults");
        preload::build("netlink.c", &library)?;
        fs::write(&file, [0; 12]).doing("making a kernel that refuses")?;
        Ok(Self { library, file })
    }

    /// Of the next commits that add elements, this many meet `error`. With [`Errno::ENOBUFS`] the
    /// kernel does what was asked and its answer is lost; with others it does nothing.
    pub fn fail_next(&self, count: i32, error: Errno) -> Result {
        let file = File::options().write(true).open(&self.file)?;
        let both = [(error as i32).to_ne_bytes(), count.to_ne_bytes()].concat();
        file.write_all_at(&both, 0).doing("telling the kernel to refuse")
    }

    /// How many commits have met an error so far.
    pub fn failed(&self) -> Result<i32> {
        let mut count = [0; 4];
        File::open(&self.file)?.read_exact_at(&mut count, DONE).doing("counting faults")?;
        Ok(i32::from_ne_bytes(count))
    }

    /// What to put before a command; it keeps its process number.
    pub fn words(&self) -> Vec<String> {
        preload::words(&self.library, "SPA_LAB_NETLINK", &self.file)
    }
}
