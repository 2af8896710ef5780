//! A process that is run one instruction at a time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use spa_tests::Result;
use spa_tests::lab::{Doing, fail};

/// In what time a signal comes that is on its way.
const LEFT: Duration = Duration::from_millis(100);

/// How long it is looked at what comes after the last that was waited for.
const AFTER: Duration = Duration::from_millis(300);

/// The addresses of the instructions that the first thread of a process runs for so long, or until
/// a while after the `last` one, each when it is run for the first time.
///
/// # Errors
/// Where it ends meanwhile, or this process may not trace it.
pub(crate) fn through(pid: Pid, lasts: Duration, last: impl Fn(u64) -> bool) -> Result<Vec<u64>> {
    let mut until = Instant::now() + lasts;
    // Without a signal, which its parent would hear of.
    ptrace::seize(pid, ptrace::Options::empty()).doing("seizing a process")?;
    let mut addresses = Addresses::default();
    let mut stopped = stop(pid)?;
    while let Some(signal) = stopped
        && Instant::now() < until
    {
        let address = address(pid)?;
        if addresses.note(address) && last(address) {
            until = until.min(Instant::now() + AFTER);
        }
        ptrace::step(pid, not_ours(signal)).doing("stepping")?;
        stopped = wait(pid, Some(until))?;
    }
    // It may wait in the kernel for something to happen: who lets go of it has to stop it before.
    let by = stopped.map_or_else(|| stop(pid), |signal| Ok(Some(signal)))?;
    let_go(pid, by.and_then(not_ours))?;
    Ok(addresses.in_order)
}

#[derive(Default)]
struct Addresses {
    in_order: Vec<u64>,
    known: HashSet<u64>,
}

impl Addresses {
    /// Whether it is a new one.
    fn note(&mut self, address: u64) -> bool {
        let is_new = self.known.insert(address);
        if is_new {
            self.in_order.push(address);
        }
        is_new
    }
}

fn stop(pid: Pid) -> Result<Option<Signal>> {
    ptrace::interrupt(pid).doing("interrupting a process")?;
    wait(pid, None)
}

/// From a stop on, by this signal, it runs as it did before. The end of a step that was interrupted
/// in the kernel still comes to it as a signal, from which it would die.
fn let_go(pid: Pid, by: Option<Signal>) -> Result {
    ptrace::cont(pid, by).doing("continuing a process")?;
    let left = match wait(pid, Some(Instant::now() + LEFT))? {
        Some(signal) => not_ours(signal),
        None => stop(pid)?.and_then(not_ours),
    };
    ptrace::detach(pid, left).doing("letting go of a process")
}

/// A signal that is for the process, and not made by stepping.
fn not_ours(signal: Signal) -> Option<Signal> {
    (signal != Signal::SIGTRAP).then_some(signal)
}

/// What stopped it; `None` where nothing has until then.
fn wait(pid: Pid, until: Option<Instant>) -> Result<Option<Signal>> {
    loop {
        // A step is over within microseconds: to sleep in between would take longer.
        match waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)).doing("waiting")? {
            WaitStatus::StillAlive => {}
            WaitStatus::Stopped(_, signal) => return Ok(Some(signal)),
            WaitStatus::PtraceEvent(..) => return Ok(Some(Signal::SIGTRAP)),
            other => return fail(format!("it did not stop: {other:?}")),
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(None);
        }
        std::thread::yield_now();
    }
}

/// Of the instruction that it runs next.
#[cfg(target_arch = "x86_64")]
fn address(pid: Pid) -> Result<u64> {
    Ok(ptrace::getregs(pid).doing("reading registers")?.rip)
}

#[cfg(target_arch = "aarch64")]
fn address(pid: Pid) -> Result<u64> {
    Ok(ptrace::getregs(pid).doing("reading registers")?.pc)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn address(_: Pid) -> Result<u64> {
    fail("nobody has told where this processor keeps the address of its next instruction")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_stepped_through_and_goes_on_as_before() {
        let mut cat = Command::new("cat");
        let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(cat.id().try_into().unwrap());
        let mut input = cat.stdin.take().unwrap();
        let asker = std::thread::spawn(move || {
            // When it waits in the kernel, and again.
            for said in [b"sa", b"id"] {
                std::thread::sleep(Duration::from_millis(200));
                std::io::Write::write_all(&mut input, said).unwrap();
            }
            input
        });
        let addresses = through(pid, Duration::from_secs(2), |_| false).unwrap();
        assert!(addresses.len() > 10, "{}", addresses.len());
        assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), addresses.len(), "each once");
        let input = asker.join().unwrap();
        drop(input);
        let output = cat.wait_with_output().unwrap();
        assert!(output.status.success() && output.stdout == b"said", "{output:?}");
    }
}
