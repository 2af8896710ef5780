//! The programs of the distribution that the lab runs.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use super::error::{Result, fail};

/// Every program the lab calls and the Debian package it comes in.
pub const TOOLS: [(&str, &str); 22] = [
    ("conntrack", "conntrack"),
    ("dhclient", "isc-dhcp-client"),
    ("dnsmasq", "dnsmasq-base"),
    ("faketime", "faketime"),
    ("fsfreeze", "util-linux"),
    ("gcc", "gcc"),
    ("git", "git"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("journalctl", "systemd"),
    ("mkfs.ext4", "e2fsprogs"),
    ("nft", "nftables"),
    ("nmap", "nmap"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("python3", "python3"),
    ("rsync", "rsync"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("sshd", "openssh-server"),
    ("ufw", "ufw"),
    ("unshare", "util-linux"),
];

/// The line that installs what [`TOOLS`] names.
pub fn apt_line<'a>(packages: impl IntoIterator<Item = &'a str>) -> String {
    let mut packages: Vec<_> = packages.into_iter().collect();
    packages.sort_unstable();
    packages.dedup();
    format!("apt-get install -y {}", packages.join(" "))
}

/// An error that names the missing packages: a scenario is never skipped for want of a tool.
pub(super) fn require() -> Result {
    let missing: Vec<_> = TOOLS.iter().filter(|(tool, _)| find(tool).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let tools: Vec<_> = missing.iter().map(|(tool, _)| *tool).collect();
    let line = apt_line(missing.iter().map(|(_, package)| *package));
    fail(format!("missing: {}. Install with\n    {line}", tools.join(", ")))
}

/// The full path of a program.
pub(super) fn find(tool: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|dir| dir.join(tool)).find(|path| path.is_file())
}

/// PATH with the directories of the system administrator, which a user's often lacks.
pub(super) fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// Words to put before a command so that its wall clock, and no other, is off by so much, such as
/// `+29s`. The command replaces them: it keeps their process number.
pub fn shifted_clock(offset: &str) -> Vec<String> {
    // The dynamic linker, and nobody else, knows what $LIB stands for.
    let preload = "LD_PRELOAD=/usr/$LIB/faketime/libfaketimeMT.so.1";
    let words = ["env", preload, &format!("FAKETIME={offset}"), "FAKETIME_DONT_FAKE_MONOTONIC=1"];
    words.map(str::to_owned).to_vec()
}
