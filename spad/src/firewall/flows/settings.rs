//! What connection tracking has to note for us; by default it does not.

use std::fs;

const SETTINGS: [(&str, &str); 3] = [
    ("nf_conntrack_acct", "bytes and packets of connections are not counted"),
    ("nf_conntrack_timestamp", "when connections began and ended is not known"),
    // 2 does it as long as somebody listens: not while we are being restarted.
    ("nf_conntrack_events", "the end of connections may go unnoticed"),
];

/// Makes connection tracking count, keep times and report, from now on and for
/// new connections. Returns a warning for each of these that it could not do.
#[must_use]
pub fn keep_records() -> Vec<String> {
    SETTINGS.iter().filter_map(|(name, otherwise)| switch_on(name, otherwise)).collect()
}

fn switch_on(name: &str, otherwise: &str) -> Option<String> {
    // Not under /proc/self: each network namespace has its own, by thread.
    let path = format!("/proc/sys/net/netfilter/{name}");
    let now = fs::read_to_string(&path).unwrap_or_default();
    if now.trim() == "1" {
        return None;
    }
    let e = fs::write(&path, "1").err()?;
    Some(format!("{otherwise}: cannot write 1 to {path}: {e}; sysctl -w net.netfilter.{name}=1"))
}
