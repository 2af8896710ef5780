//! What the kernel says of the daemon's processes. Read for whoever asks, never by itself.

use rustix::thread::CapabilitySet;

use crate::control::report;
use crate::privileges::warden::names;

/// With what `/proc` says; without, where it is hidden.
pub(super) fn described(mut process: report::Process) -> report::Process {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid));
    let status = status.unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let held = field("CapEff").and_then(|bits| u64::from_str_radix(bits, 16).ok());
    process.capabilities = held.map(|bits| names(CapabilitySet::from_bits_retain(bits)));
    process.seccomp = field("Seccomp").map(|mode| mode == "2");
    let kilobytes = field("VmRSS").and_then(|size| size.split(' ').next()?.parse::<u64>().ok());
    process.resident_bytes = kilobytes.map(|kilobytes| kilobytes * 1024);
    process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described_and_one_that_is_not_there_is_not() {
        let pid = std::process::id();
        let this = described(report::Process { pid, ..report::Process::default() });
        assert!(this.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{this:?}");
        assert!(this.seccomp.is_some() && this.capabilities.is_some(), "{this:?}");
        let none = described(report::Process { pid: u32::MAX, ..report::Process::default() });
        assert_eq!(none, report::Process { pid: u32::MAX, ..report::Process::default() });
    }
}
