//! One end of the socket pair.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::message::{FRAME_LEN, Frame, blank};
use rustix::cmsg_space;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

/// How many descriptors can come with one message.
pub const MAX_SOCKETS: usize = 2;

/// One end of the channel: whole frames, in order, or nothing.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends of a new channel, neither inherited by a program that is executed.
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Takes an end that was inherited.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor, to be inherited.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Makes sends and receives return at once.
    ///
    /// # Errors
    /// None that a socket gives.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, true)?)
    }

    /// Sends one frame, with descriptors if there are any.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where the other side is behind and this
    /// end does not block; otherwise the other side is gone.
    pub fn send(&self, frame: &Frame, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(Errno::TOOBIG.into());
        }
        let slices = [IoSlice::new(frame.as_slice())];
        let mut send = || sendmsg(&self.0, &slices, &mut control, SendFlags::NOSIGNAL);
        if retry_on_intr(&mut send)? == FRAME_LEN {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Receives one frame; `None` once the other side is gone. A message with
    /// descriptors is refused: none of them comes into this process.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where there is none and this end does not
    /// block; [`io::ErrorKind::InvalidData`] where what came is no frame.
    pub fn receive(&self) -> io::Result<Option<Frame>> {
        self.take(&mut RecvAncillaryBuffer::default())
    }

    /// Receives one frame and the descriptors that come with it.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn receive_with_sockets(&self) -> io::Result<Option<(Frame, Vec<OwnedFd>)>> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let frame = self.take(&mut control)?;
        Ok(frame.map(|frame| (frame, sockets(&mut control))))
    }

    fn take(&self, control: &mut RecvAncillaryBuffer<'_>) -> io::Result<Option<Frame>> {
        let mut frame = blank();
        // One byte more than a frame, so that a longer one shows.
        let mut beyond = [0; 1];
        let mut slices = [IoSliceMut::new(frame.as_mut_slice()), IoSliceMut::new(&mut beyond)];
        let mut receive = || recvmsg(&self.0, &mut slices, control, RecvFlags::CMSG_CLOEXEC);
        let message = retry_on_intr(&mut receive)?;
        let whole = !message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        match message.bytes {
            0 => Ok(None),
            FRAME_LEN if whole => Ok(Some(frame)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn sockets(control: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    rights.flatten().collect()
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8) -> Frame {
        let mut frame = blank();
        frame[0] = first;
        frame
    }

    #[test]
    fn frames_come_whole_and_in_order() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&frame(1), &[]).unwrap();
        one.send(&frame(2), &[one.as_fd(), one.as_fd()]).unwrap();
        let (first, none) = other.receive_with_sockets().unwrap().unwrap();
        let (second, two) = other.receive_with_sockets().unwrap().unwrap();
        assert_eq!((first[0], none.len(), second[0], two.len()), (1, 0, 2, 2));
        drop((one, two));
        assert!(other.receive().unwrap().is_none(), "the other side is gone");
    }

    #[test]
    fn descriptors_that_nobody_wants_are_an_error() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&frame(1), &[one.as_fd()]).unwrap();
        assert_eq!(other.receive().err().unwrap().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let (one, other) = Channel::pair().unwrap();
        for len in [1, FRAME_LEN - 1, FRAME_LEN + 1, 4 * FRAME_LEN] {
            rustix::net::send(&one, &vec![1; len], SendFlags::empty()).unwrap();
            let error = other.receive().err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{len}");
        }
    }
}
