//! Hosts that are network namespaces, as a library.
//!
//! ```no_run
//! # fn story() -> spa_tests::Result {
//! use spa_tests::lab::Lab;
//!
//! let lab = Lab::new()?;
//! let (client, server) = (lab.host("client")?, lab.host("server")?);
//! lab.lan(&[&client, &server])?;
//! client.run(["ping", "-c1", &server.v4()?.to_string()])?.ok()?;
//! # Ok(())
//! # }
//! ```
//!
//! It works for root and, in user namespaces, for anybody else. Labs share nothing, so tests run
//! in parallel; all of a lab goes with its value, and with the test process if that is killed.

mod clock;
mod disk;
mod error;
mod files;
mod host;
mod link;
mod namespace;
mod netlink;
mod packet;
mod preload;
mod probe;
mod process;
mod programs;
mod shown;
mod ssh;
mod tools;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

pub use clock::{Clock, unix_time};
pub use disk::{Disk, Frozen};
pub use error::{Doing, LabError, Result, fail};
pub use host::Host;
pub use link::{Addressing, Interface, Lan, Tunnel};
pub use namespace::Privilege;
pub use netlink::Netlink;
pub use packet::{Capture, Datagram, Direction, Seen, Sender};
pub use probe::{Hold, Prober, Reach, Storm, Stormed};
pub use process::{Output, Running};
pub use programs::program;
pub use shown::not_shown;
pub use ssh::{Session, SshLogin, Sshd};
pub use tools::{TOOLS, apt_line, shifted_clock};

use namespace::Holder;

/// What the shell that holds the lab does before it waits. With SIGCHLD ignored the kernel reaps
/// the orphans of the lab.
const SCRIPT: &str = r#"
    set -e
    # In some containers /proc is masked: then the outer one does as well, but settings stay.
    mount -t proc proc /proc || true
    echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6 || true
    echo $$
    exec env --ignore-signal=CHLD "$KEEPER" keep "$DIR""#;

/// A set of hosts and the links between them.
pub struct Lab {
    // In this order: its keeper ends all that runs in the lab and then removes the files.
    holder: Holder,
    dir: TempDir,
    privilege: Privilege,
    lans: AtomicUsize,
    ports: AtomicUsize,
}

impl Lab {
    /// An empty lab. Fails if a tool is missing, with the line that installs it.
    pub fn new() -> Result<Self> {
        tools::require()?;
        let dir = tempfile::Builder::new().prefix("spa-lab-").tempdir()?;
        let privilege = Privilege::of_caller();
        files::write_common(dir.path())?;
        let keeper = program(packet::HELPER)?;
        let setting = format!("KEEPER={} DIR={}", keeper.display(), dir.path().display());
        Ok(Self {
            holder: Holder::lab(privilege, &format!("{setting}\n{SCRIPT}"))?,
            dir,
            privilege,
            lans: AtomicUsize::new(0),
            ports: AtomicUsize::new(0),
        })
    }

    /// A new host without links.
    pub fn host(&self, name: &str) -> Result<Host> {
        Host::start(self, name)
    }

    /// Whose namespaces these are; without root a second user cannot be shown.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// Directory that lives as long as the lab, the same on all hosts.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A wall clock that programs can be started with, see [`Clock::words`].
    pub fn clock(&self) -> Result<Clock> {
        Clock::new(self.dir(), self.next_port())
    }

    /// A kernel that can be told to refuse, see [`Netlink::words`].
    pub fn netlink(&self) -> Result<Netlink> {
        Netlink::new(self.dir(), self.next_port())
    }

    fn next_lan(&self) -> usize {
        self.lans.fetch_add(1, Ordering::Relaxed)
    }

    fn next_port(&self) -> usize {
        self.ports.fetch_add(1, Ordering::Relaxed)
    }
}
