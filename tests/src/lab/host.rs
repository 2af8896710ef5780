//! A host: a network namespace with its own mounts, in which programs run.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::error::{Doing, LabError, Result};
use super::link::Interface;
use super::namespace::{Holder, Privilege};
use super::process::{Output, Running};
use super::{Lab, files};

/// A program that takes longer than this is killed, and its exit code is 124.
const TIME_LIMIT: [&str; 3] = ["timeout", "--kill-after=2", "60"];

/// What the shell that holds a host does before it waits. Rate limits on ICMP are lifted so that
/// a test for silence sees every answer there would be.
const SCRIPT: &str = r#"
    set -e
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mount -t sysfs sysfs /sys 2>/dev/null || true # masked in some containers
    for file in $BOUND; do
        [ ! -e /etc/$file ] || mount --bind "$ETC/$file" /etc/$file
    done
    ip link set lo up
    put() { echo 0 > /proc/sys/net/$1 || true; } # read-only in some containers
    put ipv4/ip_unprivileged_port_start
    put ipv4/icmp_ratelimit
    put ipv6/icmp/ratelimit
    for scope in all default; do
        put ipv6/conf/$scope/accept_dad
        put ipv6/conf/$scope/router_solicitations
    done
    echo $$
    exec cat"#;

/// One host of a lab. All that runs on it ends with this value.
pub struct Host {
    name: String,
    holder: Holder,
    dir: PathBuf,
    home: PathBuf,
    privilege: Privilege,
    interfaces: Mutex<Vec<Interface>>,
}

impl Host {
    pub(crate) fn start(lab: &Lab, name: &str) -> Result<Self> {
        let (dir, home) = (lab.dir().join(name), lab.dir().join("home"));
        let etc = dir.join("etc");
        fs::create_dir_all(&etc).doing(format!("making {}", etc.display()))?;
        files::write(&etc, &home)?;
        let setting = format!("ETC={} BOUND='{}'", etc.display(), files::BOUND.join(" "));
        let holder = Holder::host(&lab.holder.entrance, &format!("{setting}\n{SCRIPT}"))?;
        Ok(Self {
            name: name.to_owned(),
            holder,
            dir,
            home,
            privilege: lab.privilege(),
            interfaces: Mutex::default(),
        })
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory for this host's files, where its programs start. It is in the same place on
    /// every host.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whose namespaces the host is made of.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// Runs a program to its end, at most a minute.
    pub fn run<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<Output> {
        self.run_with_input(command, "")
    }

    /// Runs a line of shell.
    pub fn sh(&self, line: &str) -> Result<Output> {
        self.run(["sh", "-c", line])
    }

    /// As [`Host::run`], with a text on standard input.
    pub fn run_with_input<S: AsRef<OsStr>>(
        &self,
        command: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Result<Output> {
        let words = words(command);
        let limited =
            TIME_LIMIT.iter().map(OsStr::new).chain(words.iter().map(OsString::as_os_str));
        let child = self.start_piped(limited)?;
        finish(child, show(&words), input)
    }

    /// Starts a program and leaves it running.
    pub fn spawn<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<Running> {
        let words = words(command);
        let child = self.start_piped(words.iter().map(OsString::as_os_str))?;
        Running::new(show(&words), child)
    }

    fn start_piped<'a>(&self, words: impl IntoIterator<Item = &'a OsStr>) -> Result<Child> {
        let mut words = words.into_iter();
        let mut command = self.command(words.next().unwrap_or_default());
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().doing(format!("starting a program on {}", self.name))
    }

    fn command(&self, program: &OsStr) -> Command {
        // Entering a mount namespace leaves one in its root: `env` goes to the host's directory.
        let mut command = self.holder.entrance.command("env");
        command.arg("--chdir").arg(&self.dir).arg(program).env("HOME", &self.home);
        for name in ["XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "RUST_LOG"] {
            command.env_remove(name);
        }
        command
    }

    /// Makes a name resolve to exactly these addresses on this host.
    pub fn set_name(&self, name: &str, addresses: &[IpAddr]) -> Result {
        files::set_name(&self.dir.join("etc"), name, addresses)
    }

    /// Gives this host another boot id, as each start of a machine does.
    pub fn new_boot_id(&self) -> Result {
        let (new, place) = (self.dir.join("boot_id"), "/proc/sys/kernel/random");
        let new = new.display();
        // The second time it is changed in place, where it is bound already.
        let bound = "grep -q random/boot_id /proc/self/mountinfo";
        let bind = format!("{bound} || mount --bind {new} {place}/boot_id");
        self.sh(&format!("cat {place}/uuid > {new} && {{ {bind}; }}"))?.ok()?;
        Ok(())
    }

    /// Adds an account to this host. Without root nobody can become it.
    pub fn add_user(&self, name: &str, id: u32) -> Result {
        files::add_user(&self.dir.join("etc"), name, id)
    }

    /// Sets a kernel setting of this host, such as `net.ipv4.ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        self.sh(&format!("echo {value} > {path}"))?.ok()?;
        Ok(())
    }

    /// Loads nft commands, as somebody else on that host would.
    pub fn nft(&self, commands: &str) -> Result<Output> {
        self.run_with_input(["nft", "-f", "-"], commands)
    }

    /// Entries in the connection tracking table.
    pub fn conntrack_count(&self) -> Result<u64> {
        let count = self.run(["conntrack", "-C"])?.ok()?;
        count.text().parse().doing("number of conntrack entries")
    }

    /// Mounts an empty tmpfs of this size, such as `64k`, on a directory; seen on this host only.
    pub fn mount_tmpfs(&self, place: &Path, size: &str) -> Result {
        let options = format!("size={size},mode=700");
        self.run(
            [OsStr::new("mount"), "-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref()]
                .into_iter()
                .chain([options.as_ref(), "tmpfs".as_ref(), place.as_os_str()]),
        )?
        .ok()?;
        Ok(())
    }

    /// Makes what is mounted on a directory read-only, or writable again.
    pub fn remount(&self, place: &Path, read_only: bool) -> Result {
        // Of the mount, not of the file system: that one's owner has another number in here.
        let options = if read_only { "remount,bind,ro" } else { "remount,bind,rw" };
        self.run([OsStr::new("mount"), "-o".as_ref(), options.as_ref(), place.as_os_str()])?
            .ok()?;
        Ok(())
    }

    /// First IPv4 address.
    pub fn v4(&self) -> Result<IpAddr> {
        self.find(|interface| interface.v4.map(IpAddr::V4), "IPv4")
    }

    /// First IPv6 address that is not link-local.
    pub fn v6(&self) -> Result<IpAddr> {
        self.find(|interface| interface.v6.map(IpAddr::V6), "IPv6")
    }

    /// All addresses given by links.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.interfaces().iter().flat_map(Interface::addresses).collect()
    }

    /// The interfaces that links made, in the order of making.
    pub fn interfaces(&self) -> Vec<Interface> {
        self.interfaces.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, pick: impl Fn(&Interface) -> Option<IpAddr>, family: &str) -> Result<IpAddr> {
        let missing = || LabError::new(format!("{} has no {family} address", self.name));
        self.interfaces().iter().find_map(pick).ok_or_else(missing)
    }

    pub(crate) fn add_interface(&self, interface: Interface) {
        let mut all = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.name != interface.name);
        all.push(interface);
    }

    /// The host's number as other programs of the lab know it.
    pub(crate) fn inner_pid(&self) -> u32 {
        self.holder.inner_pid
    }
}

fn words<S: AsRef<OsStr>>(command: impl IntoIterator<Item = S>) -> Vec<OsString> {
    command.into_iter().map(|word| word.as_ref().to_owned()).collect()
}

fn show(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// Feeds `input` to a child and collects what it prints.
pub(crate) fn finish(mut child: Child, command: String, input: &str) -> Result<Output> {
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // Errors: the program may end without reading its input.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    })?;
    Ok(Output {
        command,
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
