//! Hears when records change on the disk.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use spa_keys::Store;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::ready;

/// Says when files of the records' directory change.
pub(in crate::warden) struct Watch {
    inotify: AsyncFd<OwnedFd>,
    /// What the kernel calls the watch of the records.
    records: i32,
    /// Which directory that was.
    watched: (u64, u64),
}

/// What has changed.
#[derive(Debug, Default)]
pub(in crate::warden) struct Touched {
    /// Files of records.
    pub(in crate::warden) files: BTreeSet<OsString>,
    /// More than can be told: look at everything.
    pub(in crate::warden) all: bool,
    /// The server's own keys.
    pub(in crate::warden) own_keys: bool,
}

impl Watch {
    pub(in crate::warden) fn new(store: &Store) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let records = inotify::add_watch(&fd, store.clients_dir(), changes | WatchFlags::ONLYDIR)?;
        // Whoever writes there moves a file into place; of the lock nothing is to be heard.
        inotify::add_watch(&fd, store.dir(), WatchFlags::MOVED_TO | WatchFlags::ONLYDIR)?;
        let inotify = ready::register(fd, Interest::READABLE)?;
        Ok(Self { inotify, records, watched: identity(store)? })
    }

    /// Whether another directory is in the place of the one that is watched.
    pub(in crate::warden) fn is_stale(&self, store: &Store) -> bool {
        identity(store).ok() != Some(self.watched)
    }

    /// Waits for the next changes; where there is no watch, for ever.
    pub(in crate::warden) async fn changed(watch: Option<&Self>) -> io::Result<Touched> {
        match watch {
            Some(watch) => {
                watch.inotify.async_io(Interest::READABLE, |fd| read(fd, watch.records)).await
            }
            None => std::future::pending().await,
        }
    }
}

/// Device and number of the directory.
fn identity(store: &Store) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(store.clients_dir())?;
    Ok((metadata.dev(), metadata.ino()))
}

fn read(fd: &OwnedFd, records: i32) -> io::Result<Touched> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(fd, &mut space);
    let mut touched = Touched::default();
    loop {
        let event = reader.next()?;
        match event.file_name().map(|name| OsStr::from_bytes(name.to_bytes())) {
            Some(file) if event.wd() != records => touched.own_keys |= file == Store::SERVER_FILE,
            Some(file) if Store::is_record(file) => {
                touched.files.insert(file.to_owned());
            }
            Some(_) => {}
            None => touched.all = true,
        }
        touched.all |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
        if reader.is_buffer_empty() {
            return Ok(touched);
        }
    }
}
