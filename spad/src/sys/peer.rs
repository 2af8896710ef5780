//! Who is at the other end of a Unix socket, where the safe wrappers do not tell.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_void, gid_t, socklen_t};

/// Room for so many groups at first.
const USUAL: usize = 64;

/// The supplementary groups that the other end had when it connected.
///
/// # Errors
/// On what is no connected Unix socket, and before Linux 4.13.
pub fn groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let fd = socket.as_fd().as_raw_fd();
    let mut groups: Vec<gid_t> = vec![0; USUAL];
    loop {
        let room = groups.len() * size_of::<gid_t>();
        let mut len = socklen_t::try_from(room).map_err(|_| io::ErrorKind::InvalidInput)?;
        let place = groups.as_mut_ptr().cast::<c_void>();
        // SAFETY: the kernel writes at most `len` bytes, for which there is room at
        // `place`, and any bytes are valid group ids. It sets `len` to what it has.
        let done = unsafe {
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERGROUPS, place, &raw mut len)
        };
        let count = usize::try_from(len).unwrap_or(0) / size_of::<gid_t>();
        match io::Error::last_os_error() {
            _ if done == 0 => {
                groups.truncate(count);
                return Ok(groups);
            }
            error if error.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => {
                groups.resize(count, 0);
            }
            error => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn of_a_socket_of_our_own_they_are_ours() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut own: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        let mut told = groups(&one).unwrap();
        own.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, own);
        assert!(groups(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
