//! Packet sockets: what the safe wrappers do not cover.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_void, sock_filter, sock_fprog, sockaddr_ll, socklen_t, tpacket_stats};

use crate::capture::filter::Instruction;

/// Attaches a classic BPF program.
///
/// # Errors
/// Where the kernel does not take the program.
pub fn attach_filter(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let mut code: Vec<sock_filter> = program
        .iter()
        .map(|op| sock_filter { code: op.code, jt: op.yes, jf: op.no, k: op.k })
        .collect();
    let len = u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = sock_fprog { len, filter: code.as_mut_ptr() };
    set(socket, libc::SO_ATTACH_FILTER, &program)
}

/// Forbids to change or detach the filter, for good.
///
/// # Errors
/// None that a socket gives.
pub fn lock_filter(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    set(socket, libc::SO_LOCK_FILTER, &on)
}

/// Sets a socket option to a value that the kernel copies.
fn set<T>(socket: impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let len = socklen(size_of::<T>())?;
    // SAFETY: `value` is a live reference to a `T` of `len` bytes, which the
    // kernel only reads. The program behind a `sock_fprog` is alive as well:
    // its only maker is `attach_filter`, which owns it across this call.
    let done = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const *value).cast::<c_void>(), len)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many packets that the filter let through found no room since this was
/// last asked.
///
/// # Errors
/// None that a packet socket gives.
pub fn lost(socket: impl AsFd) -> io::Result<u32> {
    let fd = socket.as_fd().as_raw_fd();
    let mut counts = tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = socklen(size_of::<tpacket_stats>())?;
    // SAFETY: the kernel writes at most `len` bytes, which is how long `counts`
    // is, and any bytes are valid in its two integers.
    let done = unsafe {
        let counts = (&raw mut counts).cast::<c_void>();
        libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, counts, &raw mut len)
    };
    if done == 0 { Ok(counts.tp_drops) } else { Err(io::Error::last_os_error()) }
}

/// Starts to receive packets of this ethertype from all interfaces.
///
/// # Errors
/// Without memory.
pub fn bind(socket: impl AsFd, ethertype: u16) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` is a plain structure of integers, for which zero is valid.
    let mut address: sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(|_| io::ErrorKind::InvalidInput)?;
    address.sll_protocol = ethertype.to_be();
    let len = socklen(size_of::<sockaddr_ll>())?;
    // SAFETY: the address is a live `sockaddr_ll` of `len` bytes, which the
    // kernel only reads.
    let done = unsafe { libc::bind(socket.as_fd().as_raw_fd(), (&raw const address).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn socklen(size: usize) -> io::Result<socklen_t> {
    socklen_t::try_from(size).map_err(|_| io::ErrorKind::InvalidInput.into())
}
