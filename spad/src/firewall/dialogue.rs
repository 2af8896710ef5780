//! Asking the kernel one thing at a time over netlink, whatever its subsystem.

use super::wire::{self, Answer, Message};
use netlink_sys::{Socket, SocketAddr};
use nix::libc::EINTR;
use std::io;

/// Larger than any datagram that the kernel makes of a list.
const DATAGRAM: usize = 64 * 1024;
/// Where a netlink message header keeps the sequence number.
const SEQUENCE: std::ops::Range<usize> = 8..12;

/// A netlink socket for questions. Every request carries a number of its own,
/// so that what is left of an answer that was cut short is never taken for part
/// of the next.
pub(crate) struct Dialogue {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Dialogue {
    /// A socket for this subsystem, one of `netlink_sys::protocols`.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; DATAGRAM] })
    }

    /// Sends a request, which has to ask for a list or an acknowledgement, and
    /// hands over the messages of the answer.
    pub(crate) fn ask(
        &mut self,
        mut request: Vec<u8>,
        mut take: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let place = request.get_mut(SEQUENCE).ok_or(io::ErrorKind::InvalidInput)?;
        place.copy_from_slice(&self.sequence.to_ne_bytes());
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
        loop {
            let len = self.receive()?;
            let messages = wire::messages(&self.buffer[..len]);
            for message in messages.filter(|m| m.sequence_number() == self.sequence) {
                match wire::answer(&message) {
                    Some(Answer { error, .. }) => return error.map_or(Ok(()), Err),
                    None => take(&message),
                }
            }
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        loop {
            match self.socket.recv(&mut &mut self.buffer[..], 0) {
                Err(e) if e.raw_os_error() == Some(EINTR) => {}
                result => return result,
            }
        }
    }
}
