//! The process that sees network bytes, and nothing else.
//!
//! It has a packet socket that is already filtered and locked, the channel to
//! the warden, the clients' symmetric keys, and no privileges. What passes its
//! gate goes to the warden as one fixed-size message; all else is counted.

pub mod sandbox;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use spa_proto::{Gate, Reason, SignedRequest};

use crate::capture::{Family, decode};
use crate::clock;
use crate::ipc::{Channel, ToGate, ToWarden};
use crate::sys::memory;
use crate::wipe;

/// How many packets are taken from one socket before the channel is looked at.
const BATCH: usize = 256;
/// A knock's IP packet has at most 60 + 8 + 336 bytes.
const LARGEST: usize = 512;

/// Serves until the warden closes the channel.
///
/// # Errors
/// Where the channel fails or the warden says what no warden says: then it is
/// better to end, and be started anew.
pub fn run(channel: Channel) -> io::Result<()> {
    let mut keeper = Gatekeeper {
        channel,
        port: 0,
        gate: None,
        next: None,
        sockets: Vec::new(),
        counters: [0; Reason::COUNT],
    };
    while keeper.turn()? {}
    Ok(())
}

struct Gatekeeper {
    channel: Channel,
    port: u16,
    gate: Option<Gate>,
    /// Being filled; takes over with the next sockets, so that a reload leaves
    /// no moment without clients.
    next: Option<Gate>,
    sockets: Vec<(Family, OwnedFd)>,
    counters: [u64; Reason::COUNT],
}

impl Gatekeeper {
    /// Sleeps until there is something to do, and does it; false at the end.
    fn turn(&mut self) -> io::Result<bool> {
        let ready = self.wait()?;
        for (at, ready) in ready.iter().skip(1).enumerate() {
            if *ready {
                self.hear(at)?;
            }
        }
        if ready.first() == Some(&true) { wipe::stack_after(|| self.obey()) } else { Ok(true) }
    }

    /// Which descriptors can be read: the channel, then the sockets.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let fds = std::iter::once(self.channel.as_fd());
        let fds = fds.chain(self.sockets.iter().map(|(_, socket)| socket.as_fd()));
        let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
        Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
    }

    /// Takes packets from one socket.
    fn hear(&mut self, at: usize) -> io::Result<()> {
        let mut packet = [0; LARGEST];
        for _ in 0..BATCH {
            let Some((family, socket)) = self.sockets.get(at) else { break };
            match rustix::net::recv(socket, &mut packet, RecvFlags::TRUNC) {
                Ok((_, len)) => {
                    let whole = packet.get(..len).unwrap_or_default();
                    let verdict = judge(self.gate.as_mut(), self.port, *family, whole);
                    self.conclude(verdict)?;
                }
                Err(Errno::AGAIN) => break,
                // An interface that goes down says so here, once; the socket lives on.
                Err(Errno::NETDOWN | Errno::NODEV | Errno::NXIO | Errno::INTR | Errno::NOBUFS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn conclude(&mut self, verdict: Result<SignedRequest, Reason>) -> io::Result<()> {
        match verdict {
            Ok(request) => self.channel.send(&ToWarden::Request(request).encode(), &[]),
            Err(reason) => {
                if let Some(counter) = self.counters.get_mut(reason.index()) {
                    *counter += 1;
                }
                Ok(())
            }
        }
    }

    /// Takes one message from the warden.
    fn obey(&mut self) -> io::Result<bool> {
        let Some((frame, sockets)) = self.channel.receive_with_sockets()? else { return Ok(false) };
        match ToGate::decode(&frame).ok_or(io::ErrorKind::InvalidData)? {
            ToGate::Serve { secret, cloak, settings } => {
                let mut gate = Gate::new(secret, cloak, settings, clock::monotonic());
                gate.prepare(clock::wall());
                self.next = Some(gate);
            }
            ToGate::Listen { port } => self.listen(port, sockets)?,
            ToGate::Report => {
                self.gate.iter_mut().for_each(|gate| gate.prepare(clock::wall()));
                self.channel.send(&ToWarden::Counters(self.counters).encode(), &[])?;
            }
            about_a_client => self.enrol(about_a_client),
        }
        Ok(true)
    }

    fn enrol(&mut self, message: ToGate) {
        let Some(gate) = self.next.as_mut().or(self.gate.as_mut()) else { return };
        match message {
            ToGate::Insert(clients) => {
                clients.into_iter().for_each(|(kid, keys)| gate.insert(kid, keys));
            }
            ToGate::Remove(kid) => gate.remove(&kid),
            ToGate::Recall { kid, floor, used } => gate.recall(&kid, floor, used),
            ToGate::Serve { .. } | ToGate::Listen { .. } | ToGate::Report => {}
        }
    }

    /// New sockets take the place of the old ones, one for each family.
    fn listen(&mut self, port: u16, sockets: Vec<OwnedFd>) -> io::Result<()> {
        if let Some(mut next) = self.next.take() {
            self.gate.take().into_iter().for_each(|former| next.succeed(former));
            self.gate = Some(next);
            memory::give_back();
        }
        self.port = port;
        self.sockets = Family::BOTH.into_iter().zip(sockets).collect();
        self.channel.send(&ToWarden::Listening.encode(), &[])
    }
}

/// One packet's way through decoding and gate.
fn judge(
    gate: Option<&mut Gate>,
    port: u16,
    family: Family,
    packet: &[u8],
) -> Result<SignedRequest, Reason> {
    let (arrival, datagram) = decode::knock(packet, family, port).ok_or(Reason::Addressing)?;
    let gate = gate.ok_or(Reason::UnknownClient)?;
    gate.admit(datagram, arrival, clock::wall(), clock::monotonic())
}
