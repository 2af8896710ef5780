//! Namespaces, held open by a process that waits and entered by others.
//!
//! Nothing has a name in a global place: when the holding process ends, so do its namespaces and
//! all that runs in them. It ends when its standard input does, that is with the test, however
//! that dies.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use nix::unistd::{Pid, Uid};

use super::error::{Doing, LabError, Result, fail};
use super::tools;

/// Whose namespaces these are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// Made by root.
    Root,
    /// Made by anybody, in a user namespace where they are root.
    UserNamespace,
}

impl Privilege {
    /// That of the caller. `SPA_LAB_USERNS=1` makes root behave as anybody else, and so does a
    /// container that gives its root too little.
    pub fn of_caller() -> Self {
        let asked = std::env::var_os("SPA_LAB_USERNS").is_some();
        let root = Uid::effective().is_root() && may_make_namespaces();
        if root && !asked { Self::Root } else { Self::UserNamespace }
    }

    fn unshare_options(self) -> &'static [&'static str] {
        match self {
            Self::Root => &[],
            Self::UserNamespace => &["--user", "--map-root-user"],
        }
    }

    fn enter_options(self) -> &'static [&'static str] {
        match self {
            Self::Root => &[],
            Self::UserNamespace => &["--user", "--preserve-credentials"],
        }
    }
}

/// Whether CAP_SYS_ADMIN and CAP_NET_ADMIN are in force.
fn may_make_namespaces() -> bool {
    const NEEDED: u64 = 1 << 21 | 1 << 12;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex, 16).ok());
    effective.is_some_and(|effective| effective & NEEDED == NEEDED)
}

/// The way into a set of namespaces.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    pid: Pid,
    privilege: Privilege,
}

impl Entrance {
    /// A command that runs `program` inside.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = outside("nsenter");
        command.args(["--target", &self.pid.to_string(), "--mount", "--net", "--pid"]);
        command.args(self.privilege.enter_options()).arg(program);
        command
    }
}

/// A process that holds namespaces: on a host of its own for as long as this value lives.
pub(crate) struct Holder {
    process: Child,
    /// Its number in the lab's PID namespace, where links are made.
    pub(crate) inner_pid: u32,
    pub(crate) entrance: Entrance,
}

impl Holder {
    /// The lab itself: its own network, mounts and process numbers. `script` is run in it by a
    /// shell, and must print a line and then wait for the end of standard input.
    pub(crate) fn lab(privilege: Privilege, script: &str) -> Result<Self> {
        let mut command = outside("unshare");
        command.args(privilege.unshare_options());
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script]);
        Self::start(command, privilege).doing("making namespaces")
    }

    /// A host within the lab: its own network and mounts.
    pub(crate) fn host(lab: &Entrance, script: &str) -> Result<Self> {
        let mut command = lab.command("unshare");
        command.args(["--mount", "--net", "sh", "-c", script]);
        Self::start(command, lab.privilege).doing("making a host")
    }

    fn start(mut command: Command, privilege: Privilege) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let line = first_line(&mut process)?;
        let inner_pid = line.trim().parse().doing("process number from the shell")?;
        let Some(pid) = child_of(process.id())? else {
            return fail("the shell that holds the namespaces is gone");
        };
        Ok(Self { process, inner_pid, entrance: Entrance { pid, privilege } })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.process.stdin = None;
        // Errors: nothing is left to wait for.
        let _ = self.process.wait();
    }
}

/// A program outside the lab, with a path and a language that do not depend on the caller's.
fn outside(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", tools::search_path()).env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

/// The only child of a process, if it has one.
pub(crate) fn child_of(parent: u32) -> Result<Option<Pid>> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    // The parent may just have ended.
    let children = fs::read_to_string(path).unwrap_or_default();
    let first = children.split_whitespace().next();
    Ok(first.map(str::parse).transpose()?.map(Pid::from_raw))
}

fn first_line(process: &mut Child) -> Result<String> {
    let mut line = String::new();
    if let Some(stdout) = &mut process.stdout {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.is_empty() { Err(last_words(process)) } else { Ok(line) }
}

fn last_words(process: &mut Child) -> LabError {
    let mut text = String::new();
    if let Some(stderr) = &mut process.stderr {
        // Whatever can be read is all there is to say.
        let _ = stderr.read_to_string(&mut text);
    }
    LabError::new(format!(
        "{}\n(the lab needs root, or user namespaces: sysctl user.max_user_namespaces, \
         kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
        text.trim()
    ))
}
