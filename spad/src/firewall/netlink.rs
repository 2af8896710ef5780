//! The netlink socket: commits transactions, reads lists.
//!
//! The kernel works a transaction off inside the call that sends it, so that
//! all its answers lie in the socket when that call returns. They are read
//! until none is left, after failures too, before anything else is sent: no
//! answer is ever taken for another's.

use super::error::FirewallError;
use super::transaction::{Part, Subject, Transaction};
use super::wire::{self, Answer, Message};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::libc::{EAGAIN, EINTR, EINVAL, ENFILE, ENOBUFS, ENOENT, EPERM, MSG_DONTWAIT};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Larger than any datagram that the kernel makes of a list or of answers.
const DATAGRAM: usize = 64 * 1024;
/// Room for the answers to the largest transaction.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// What a socket may send that has not asked for more.
const SEND_BUFFER: usize = 200 * 1024;
/// How often a list is asked for again that somebody's change has cut through.
const LIST_ATTEMPTS: usize = 20;

/// One netlink socket. The kernel ties the ownership of a table to it.
pub(crate) struct Channel {
    socket: Socket,
    port: u32,
    /// For one datagram, kept between them; empty while one is being read.
    buffer: Mutex<Vec<u8>>,
    /// Whether answers may lie in the socket: something was sent since none was left.
    answered: AtomicBool,
}

impl Channel {
    pub(crate) fn open() -> Result<Self, FirewallError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(FirewallError::NoNfTables)?;
        let address = socket.bind_auto().map_err(failed("binding a socket"))?;
        // Without the privilege the usual limit stays; it nearly always is enough.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        Ok(Self {
            socket,
            port: address.port_number(),
            buffer: Mutex::default(),
            answered: AtomicBool::default(),
        })
    }

    /// The number by which the kernel knows this socket.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Does all of the transaction or nothing of it.
    pub(crate) fn commit(&self, transaction: Transaction) -> Result<(), FirewallError> {
        let (bytes, parts) = transaction.finish();
        self.send(&bytes)?;
        check(&parts, self.answers()?)
    }

    /// Asks for one thing outside of a transaction; that it is not there is no error.
    pub(crate) fn request(&self, message: &[u8]) -> Result<(), FirewallError> {
        self.send(message)?;
        match self.answers()?.into_iter().find_map(|answer| answer.error) {
            Some(e) if e.raw_os_error() != Some(ENOENT) => Err(failed("a request")(e)),
            _ => Ok(()),
        }
    }

    /// Asks what the kernel has under one key; `None` if that cannot be asked,
    /// and an empty list if there is nothing.
    pub(crate) fn look_up(&self, message: &[u8]) -> Result<Option<Vec<u8>>, FirewallError> {
        self.send(message)?;
        let found = match self.receive(MSG_DONTWAIT, <[u8]>::to_vec) {
            Ok(datagram) => datagram,
            Err(e) if e.raw_os_error() == Some(EAGAIN) => return Ok(None),
            Err(e) => return Err(failed("asking for an element")(e)),
        };
        let error = wire::messages(&found).find_map(|m| wire::answer(&m)).and_then(|a| a.error);
        match error.map(|e| e.raw_os_error()) {
            None => Ok(Some(found)),
            Some(Some(ENOENT)) => Ok(Some(Vec::new())),
            Some(_) => Ok(None),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), FirewallError> {
        if self.answered.load(Ordering::Relaxed) {
            self.answers()?;
        }
        self.answered.store(true, Ordering::Relaxed);
        if bytes.len() > SEND_BUFFER {
            let room = bytes.len() * 2;
            // As far as we may; if it is not enough, sending says so.
            let _ = setsockopt(&self.socket, sockopt::SndBuf, &room);
            let _ = setsockopt(&self.socket, sockopt::SndBufForce, &room);
        }
        retry(|| self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0))
            .map(drop)
            .map_err(failed("sending"))
    }

    /// Receives one datagram, and gives what `read` makes of it.
    fn receive<T>(&self, flags: i32, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let mut buffer = std::mem::take(&mut *self.buffer());
        buffer.resize(DATAGRAM, 0);
        let received = retry(|| self.socket.recv(&mut &mut buffer[..], flags));
        let result = received.map(|len| read(buffer.get(..len).unwrap_or(&buffer)));
        *self.buffer() = buffer;
        result
    }

    fn buffer(&self) -> MutexGuard<'_, Vec<u8>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads answers until there are none.
    fn answers(&self) -> Result<Vec<Answer>, FirewallError> {
        let mut answers = Vec::new();
        let mut lost = None;
        loop {
            let read = |datagram: &[u8]| {
                answers.extend(wire::messages(datagram).filter_map(|m| wire::answer(&m)));
            };
            match self.receive(MSG_DONTWAIT, read) {
                Ok(()) => {}
                Err(e) if e.raw_os_error() == Some(EAGAIN) => break,
                Err(e) if e.raw_os_error() == Some(ENOBUFS) => lost = Some(e),
                Err(e) => return Err(failed("reading answers")(e)),
            }
        }
        self.answered.store(false, Ordering::Relaxed);
        lost.map_or(Ok(answers), |e| Err(failed("reading answers")(e)))
    }

    /// Asks for a list; `take` makes of each of its messages what is wanted,
    /// or nothing.
    pub(crate) fn list<T>(
        &self,
        family: NetfilterProtoFamily,
        request: impl Into<NetfilterMessageInner>,
        mut take: impl FnMut(Message<'_>) -> Result<Option<T>, FirewallError>,
    ) -> Result<Vec<T>, FirewallError> {
        let request = wire::message(family, request, NLM_F_DUMP);
        for _ in 0..LIST_ATTEMPTS {
            self.send(&request)?;
            if let Some(list) = self.read_list(&mut take)? {
                return Ok(list);
            }
        }
        let why = "the ruleset changes too fast to be listed";
        Err(FirewallError::BadAnswer(why.to_owned()))
    }

    /// `None` if the list is not of one moment.
    fn read_list<T>(
        &self,
        take: &mut impl FnMut(Message<'_>) -> Result<Option<T>, FirewallError>,
    ) -> Result<Option<Vec<T>>, FirewallError> {
        let mut list = Vec::new();
        let mut whole = true;
        let mut read = |datagram: &[u8]| {
            for message in wire::messages(datagram) {
                whole &= message.flags() & NLM_F_DUMP_INTR == 0;
                match wire::answer(&message) {
                    Some(Answer { error: None, .. }) => return Ok(true),
                    Some(Answer { error: Some(e), .. }) => return Err(not_listed(e)),
                    None => list.extend(take(message)?),
                }
            }
            Ok(false)
        };
        while !self.receive(0, &mut read).map_err(failed("reading a list"))?? {}
        Ok(whole.then_some(list))
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.raw_os_error() == Some(EINTR) => {}
            result => return result,
        }
    }
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> FirewallError {
    move |source| FirewallError::Netlink { doing, source }
}

fn not_listed(error: io::Error) -> FirewallError {
    match error.raw_os_error() {
        Some(EPERM) => FirewallError::NoPermission,
        // The netfilter layer knows no subsystem of that number.
        Some(EINVAL) => FirewallError::NoNfTables(error),
        _ => failed("listing")(error),
    }
}

/// No errors, and an answer to each message that asked for one.
fn check(parts: &[Part], answers: Vec<Answer>) -> Result<(), FirewallError> {
    let mut acknowledged = HashSet::new();
    for Answer { sequence, error } in answers {
        match error {
            None => drop(acknowledged.insert(sequence)),
            Some(error) => return Err(refused(parts, sequence, error)),
        }
    }
    match parts.iter().find(|p| p.acknowledged && !acknowledged.contains(&p.sequence)) {
        Some(part) => Err(FirewallError::BadAnswer(format!("none about {}", part.subject))),
        None => Ok(()),
    }
}

fn refused(parts: &[Part], sequence: u32, source: io::Error) -> FirewallError {
    let subject = parts.iter().find(|p| p.sequence == sequence).map(|p| &p.subject);
    match (subject.unwrap_or(&Subject::Whole), source.raw_os_error()) {
        (Subject::Elements(set), Some(ENFILE)) => FirewallError::SetFull { set: set.clone() },
        (Subject::Whole, Some(EPERM)) => FirewallError::NoPermission,
        (subject, _) => FirewallError::Refused { what: subject.to_string(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR};
    use nix::libc::{EBUSY, ENOMEM, ENOSPC};

    fn parts() -> Vec<Part> {
        let part = |sequence, subject| Part { sequence, subject, acknowledged: true };
        vec![part(1, Subject::Whole), part(2, Subject::Elements("window4_ssh".into()))]
    }

    fn answer(sequence: u32, error: Option<i32>) -> Answer {
        Answer { sequence, error: error.map(io::Error::from_raw_os_error) }
    }

    /// What a kernel on its own cannot be brought to say, next to what it can.
    #[test]
    fn each_refusal_names_its_part_and_none_passes_for_success() {
        for (error, said) in [
            (ENFILE, "set 'window4_ssh' is full"),
            (ENOSPC, "refused an element of set 'window4_ssh': No space left"),
            (ENOMEM, "refused an element of set 'window4_ssh': Cannot allocate"),
            (EBUSY, "refused an element of set 'window4_ssh': Device or resource busy"),
            (ENOENT, "refused an element of set 'window4_ssh': No such file"),
        ] {
            let refused = check(&parts(), vec![answer(1, None), answer(2, Some(error))]);
            let text = refused.unwrap_err().to_string();
            assert!(text.contains(said), "{text}");
        }
        let whole = check(&parts(), vec![answer(1, Some(EPERM))]).unwrap_err();
        assert!(matches!(whole, FirewallError::NoPermission), "{whole}");
        let whole = check(&parts(), vec![answer(1, Some(ENOBUFS))]).unwrap_err();
        assert!(matches!(whole, FirewallError::Refused { .. }), "{whole}");
    }

    #[test]
    fn an_error_that_does_not_say_which_is_one() {
        let bare = |kind: u16| {
            let mut message = [0; 16];
            message[0] = 16;
            message[4..6].copy_from_slice(&kind.to_ne_bytes());
            let answer = wire::messages(&message).next().and_then(|m| wire::answer(&m));
            answer.unwrap().error.is_some()
        };
        assert!(bare(NLMSG_ERROR) && !bare(NLMSG_DONE));
    }

    #[test]
    fn an_answer_that_is_missing_is_no_success() {
        assert!(check(&parts(), vec![answer(1, None), answer(2, None)]).is_ok());
        assert!(check(&parts(), vec![answer(1, None)]).is_err());
        assert!(check(&parts(), vec![]).is_err());
        let stranger = check(&parts(), vec![answer(7, Some(EBUSY))]).unwrap_err();
        assert!(matches!(stranger, FirewallError::Refused { .. }), "{stranger}");
    }
}
