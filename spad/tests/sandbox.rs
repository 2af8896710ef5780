//! The gatekeeper's sandbox: what it forbids ends the process. Each attempt is
//! made in a copy of this test program.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{IoSlice, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg_addr};
use spad::gatekeeper::sandbox;
use spad::ipc::{Channel, ToWarden};

const ATTEMPT: &str = "SPAD_TEST_ATTEMPT";
/// `SIGSYS`: the signal of a forbidden system call.
const FORBIDDEN: i32 = 31;

/// Runs one attempt in a child.
fn output_of(test: &str, attempt: &str) -> Output {
    let program = std::env::current_exe().unwrap();
    Command::new(program)
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(ATTEMPT, attempt)
        .output()
        .unwrap()
}

fn said_by(test: &str, attempt: &str) -> String {
    String::from_utf8_lossy(&output_of(test, attempt).stderr).into_owned()
}

/// The signal that ended it, if one did.
fn signal_after(attempt: &str) -> Option<i32> {
    let child = output_of("attempt", attempt);
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("shut in"), "{attempt}: the sandbox was entered: {said}");
    child.status.signal()
}

#[test]
#[ignore = "run by the other tests, in a child"]
fn attempt() {
    let Ok(attempt) = std::env::var(ATTEMPT) else { return };
    let descriptor = std::fs::File::open("/dev/null").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap();
    let (channel, _other) = Channel::pair().unwrap();
    sandbox::enter(channel.as_fd()).unwrap();
    std::io::stderr().write_all(b"shut in\n").unwrap();
    match attempt.as_str() {
        "file" => drop(std::fs::File::open("/etc/passwd")),
        "socket" => drop(UdpSocket::bind("127.0.0.1:0")),
        "listing" => drop(std::fs::read_dir("/")),
        "connect" => drop(socket.connect("127.0.0.1:9")),
        "send" => drop(socket.send_to(b"secrets", "127.0.0.1:9")),
        "message" => drop(message(&socket, &own)),
        "message on the channel" => channel.send(&ToWarden::Listening.encode(), &[]).unwrap(),
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
        "close standard error" => drop(nix::unistd::close(2)),
        "clock" => drop(spad::clock::Reading::now()),
        other => panic!("no such attempt: {other}"),
    }
    // Not through the test runner, which would use what is forbidden.
    std::io::stderr().write_all(b"still here\n").unwrap();
    std::process::exit(0);
}

/// Sends by the call that the channel needs.
fn message(socket: &UdpSocket, to: &SocketAddr) -> rustix::io::Result<usize> {
    let slices = [IoSlice::new(b"secrets")];
    let mut control = SendAncillaryBuffer::default();
    sendmsg_addr(socket, to, &slices, &mut control, SendFlags::empty())
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
        "message",
        "option",
        "other option",
        "program",
        "exec",
        "thread",
        "ptrace",
        "signal",
        "user",
        "stdout",
        "close standard error",
        "executable memory",
    ] {
        assert_eq!(signal_after(attempt), Some(FORBIDDEN), "{attempt}");
    }
}

#[test]
fn what_it_needs_it_has() {
    for attempt in ["memory", "clock", "close", "statistics", "message on the channel"] {
        assert_eq!(signal_after(attempt), None, "{attempt}");
    }
}

/// What the other half refuses where a system call is not forbidden: files, ports, and names that
/// are in no file.
#[test]
#[ignore = "run by the next, in a child"]
fn reaches() {
    let Ok(attempt) = std::env::var(ATTEMPT) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = UnixAddr::from_abstract_name(format!("spad-test-{port}")).unwrap();
    let _named = UnixListener::bind_addr(&name).unwrap();
    if attempt == "shut in" {
        assert!(sandbox::reach_nothing().unwrap(), "by Landlock");
    }
    for (what, refused) in [
        ("a file", std::fs::File::open("/dev/null").is_err()),
        ("a listing", std::fs::read_dir("/").is_err()),
        ("a port", TcpListener::bind("127.0.0.1:0").is_err()),
        ("a connection", TcpStream::connect(("127.0.0.1", port)).is_err()),
        ("an abstract socket", UnixStream::connect_addr(&name).is_err()),
    ] {
        eprintln!("{what}: {}", if refused { "refused" } else { "there" });
    }
}

#[test]
fn nothing_is_reached_even_by_system_calls_that_were_allowed() {
    for (attempt, expected) in [("free", "there"), ("shut in", "refused")] {
        let said = said_by("reaches", attempt);
        let lines: Vec<_> = said.lines().filter_map(|line| line.split_once(": ")).collect();
        let named = lines.iter().filter(|(_, what)| ["there", "refused"].contains(what));
        assert_eq!(named.clone().count(), 5, "{said}");
        assert!(named.clone().all(|(_, what)| *what == expected), "{attempt}: {said}");
    }
}
