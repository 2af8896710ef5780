//! The few files of /etc that a host has for itself: who is there, and what names mean.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::{Doing, Result};

/// Bound over their namesakes in /etc; one copy for each host, since `hosts` differs.
pub(crate) const BOUND: [&str; 5] = ["hosts", "passwd", "group", "shadow", "nsswitch.conf"];

/// Who can log in where the tests are not run by root; what it is mapped to is the caller.
pub(crate) const USER: &str = "tester";

/// Its number, within the namespace of sshd.
pub(crate) const USER_ID: u32 = 1000;

/// Makes what all hosts share: a home directory, so that nobody's own settings play a part.
pub(crate) fn write_common(lab: &Path) -> Result {
    fs::create_dir(lab.join("home")).doing("making a home directory")
}

/// Writes a host's own files into its directory. `spad` gets no account: that is for a test to add.
pub(crate) fn write(etc: &Path, home: &Path) -> Result {
    put(etc, "hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
    put(etc, "nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")?;
    put(etc, "group", &format!("root:x:0:\n{USER}:x:{USER_ID}:\n"))?;
    put(etc, "passwd", &passwd(home))?;
    put(etc, "shadow", "root:*:19000::::::\n")?;
    fs::set_permissions(etc.join("shadow"), fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn passwd(home: &Path) -> String {
    let (home, nowhere) = (home.display(), "/nonexistent:/usr/sbin/nologin");
    format!(
        "root:x:0:0::{home}:/bin/sh\n{USER}:x:{USER_ID}:{USER_ID}::{home}:/bin/sh\n\
         sshd:x:103:65534::{nowhere}\n\
         nobody:x:65534:65534::{nowhere}\n"
    )
}

fn put(dir: &Path, name: &str, text: &str) -> Result {
    fs::write(dir.join(name), text).doing(format!("writing the host's {name}"))
}

/// Makes `name` resolve to exactly these addresses. The file is changed in place: a new one would
/// not be the one that is bound over /etc/hosts.
pub(crate) fn set_name(etc: &Path, name: &str, addresses: &[IpAddr]) -> Result {
    let path = etc.join("hosts");
    let old = fs::read_to_string(&path)?;
    let others = old.lines().filter(|line| line.split_whitespace().nth(1) != Some(name));
    let mut lines: Vec<_> = others.map(str::to_owned).collect();
    lines.extend(addresses.iter().map(|address| format!("{address} {name}")));
    fs::write(path, lines.join("\n") + "\n").doing(format!("giving {name} its addresses"))
}

/// Adds an account, such as that of the daemon's unprivileged half.
pub(crate) fn add_user(etc: &Path, name: &str, id: u32) -> Result {
    append(&etc.join("passwd"), &format!("{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n"))?;
    append(&etc.join("group"), &format!("{name}:x:{id}:\n"))
}

fn append(path: &Path, text: &str) -> Result {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(text.as_bytes()).doing(format!("writing {}", path.display()))
}
