//! The gatekeeper's sandbox: what it forbids ends the process. Each attempt is
//! made in a copy of this test program.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use spad::gatekeeper::sandbox;

const ATTEMPT: &str = "SPAD_TEST_ATTEMPT";
/// `SIGSYS`: the signal of a forbidden system call.
const FORBIDDEN: i32 = 31;

/// Runs one attempt in a child; the signal that ended it, if one did.
fn signal_after(attempt: &str) -> Option<i32> {
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program)
        .args(["--exact", "attempt", "--ignored", "--nocapture", "--test-threads=1"])
        .env(ATTEMPT, attempt)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr).into_owned();
    assert!(said.contains("shut in"), "{attempt}: the sandbox was entered: {said}");
    child.status.signal()
}

#[test]
#[ignore = "run by the other tests, in a child"]
fn attempt() {
    let Ok(attempt) = std::env::var(ATTEMPT) else { return };
    let descriptor = std::fs::File::open("/dev/null").unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sandbox::enter().unwrap();
    std::io::stderr().write_all(b"shut in\n").unwrap();
    match attempt.as_str() {
        "file" => drop(std::fs::File::open("/etc/passwd")),
        "socket" => drop(std::net::UdpSocket::bind("127.0.0.1:0")),
        "listing" => drop(std::fs::read_dir("/")),
        "connect" => drop(socket.connect("127.0.0.1:9")),
        "send" => drop(socket.send_to(b"secrets", "127.0.0.1:9")),
        "option" => drop(socket.set_broadcast(true)),
        "other option" => drop(socket.broadcast()),
        "statistics" => drop(spad::sys::packet::lost(&socket)),
        "ptrace" => drop(nix::sys::ptrace::traceme()),
        "exec" => drop(std::os::unix::process::CommandExt::exec(&mut Command::new("/bin/true"))),
        "user" => drop(rustix::thread::set_thread_uid(rustix::process::getuid())),
        "executable memory" => drop(executable()),
        "program" => drop(Command::new("/bin/true").spawn()),
        "thread" => drop(std::thread::Builder::new().spawn(|| ())),
        "stdout" => {
            drop(std::io::stdout().write_all(b"secrets\n").and_then(|()| std::io::stdout().flush()))
        }
        "signal" => drop(rustix::process::kill_process(
            rustix::process::getpid(),
            rustix::process::Signal::USR1,
        )),
        "memory" => drop(std::hint::black_box(vec![1_u8; 8 << 20])),
        "close" => drop(descriptor),
        "clock" => drop(spad::clock::Reading::now()),
        other => panic!("no such attempt: {other}"),
    }
    // Not through the test runner, which would use what is forbidden.
    std::io::stderr().write_all(b"still here\n").unwrap();
    std::process::exit(0);
}

/// Makes a mapping that code could be put into and run from.
fn executable() -> nix::Result<()> {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
    let length = std::num::NonZeroUsize::new(4096).unwrap();
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC;
    // SAFETY: the kernel chooses the place, and nothing refers to the mapping.
    unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }.map(drop)
}

#[test]
fn what_a_gatekeeper_does_not_need_ends_it() {
    for attempt in [
        "file",
        "listing",
        "socket",
        "connect",
        "send",
        "option",
        "other option",
        "program",
        "exec",
        "thread",
        "ptrace",
        "signal",
        "user",
        "stdout",
        "executable memory",
    ] {
        assert_eq!(signal_after(attempt), Some(FORBIDDEN), "{attempt}");
    }
}

#[test]
fn what_it_needs_it_has() {
    for attempt in ["memory", "clock", "close", "statistics"] {
        assert_eq!(signal_after(attempt), None, "{attempt}");
    }
}
