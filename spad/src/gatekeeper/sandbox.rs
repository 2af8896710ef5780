//! What the kernel refuses the gatekeeper from now on: files, ports, and all
//! system calls but the handful that it lives on.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::clock;

/// System calls that are always allowed: waiting, receiving from the channel and the packet
/// sockets, the clock, memory, randomness for hash tables, and ending.
const CALLS: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_clock_gettime,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Standard error, where a last word may be said.
const STDERR: u64 = 2;

/// `F_GETFD` of `linux/fcntl.h`.
const IS_OPEN: u64 = 1;

/// `PROT_EXEC` of `asm-generic/mman-common.h`.
const EXECUTABLE: u64 = 4;

/// Of `linux/socket.h` and `linux/if_packet.h`.
const SOL_PACKET: u64 = 263;
const PACKET_STATISTICS: u64 = 6;

/// Why there is no sandbox.
#[derive(Debug)]
pub enum SandboxError {
    /// The part about files and ports.
    Landlock(RulesetError),
    /// The part about system calls.
    Seccomp(seccompiler::Error),
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Landlock(error) => write!(f, "Landlock: {error}"),
            Self::Seccomp(error) => write!(f, "seccomp: {error}"),
        }
    }
}

impl std::error::Error for SandboxError {}

/// Shuts the calling thread in. A forbidden system call ends the process; to send, on anything
/// but the channel, is one: a packet socket sends whatever it is given, from any source, on any
/// interface, loopback too.
///
/// # Errors
/// Where the kernel or this machine's architecture has no system call filter:
/// then the caller must not go on. Landlock is used as far as the kernel has it.
pub fn enter(channel: BorrowedFd<'_>) -> Result<(), SandboxError> {
    // The first reading finds out where the kernel's fast clock is, by means
    // that are forbidden afterwards.
    clock::Reading::now();
    reach_nothing().map_err(SandboxError::Landlock)?;
    let program = program(channel).map_err(SandboxError::Seccomp)?;
    seccompiler::apply_filter(&program).map_err(SandboxError::Seccomp)
}

/// Refuses the calling thread all files, ports and abstract sockets from now on, as far as the
/// kernel's Landlock knows them: a ruleset that handles everything and allows nothing. False where
/// the kernel has no Landlock.
///
/// # Errors
/// Where the kernel does not take it.
pub fn reach_nothing() -> Result<bool, RulesetError> {
    let newest = ABI::V6;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

fn program(channel: BorrowedFd<'_>) -> Result<BpfProgram, seccompiler::Error> {
    let condition =
        |argument, how, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value);
    let compare = |argument, how, value| -> Result<_, seccompiler::Error> {
        Ok(vec![SeccompRule::new(vec![condition(argument, how, value)?])?])
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().map(|call| (*call, vec![])).collect();
    rules.insert(libc::SYS_write, compare(0, SeccompCmpOp::Eq, STDERR)?);
    // Else the next socket that comes would take its place, and could be written to.
    rules.insert(libc::SYS_close, compare(0, SeccompCmpOp::Ne, STDERR)?);
    // By its number, which no other socket can take: new ones come through the channel alone.
    let channel = channel.as_raw_fd().unsigned_abs().into();
    rules.insert(libc::SYS_sendmsg, compare(0, SeccompCmpOp::Eq, channel)?);
    // Memory for data; never for a program that came over the network.
    rules.insert(libc::SYS_mmap, compare(2, SeccompCmpOp::MaskedEq(EXECUTABLE), 0)?);
    // Debug builds of the standard library look whether what they close is open.
    rules.insert(libc::SYS_fcntl, compare(1, SeccompCmpOp::Eq, IS_OPEN)?);
    // How many packets were lost, and no other option.
    let statistics = SeccompRule::new(vec![
        condition(1, SeccompCmpOp::Eq, SOL_PACKET)?,
        condition(2, SeccompCmpOp::Eq, PACKET_STATISTICS)?,
    ])?;
    rules.insert(libc::SYS_getsockopt, vec![statistics]);
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
    Ok(filter.try_into()?)
}
