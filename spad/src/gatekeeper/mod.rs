//! The process that sees network bytes, and nothing else.
//!
//! It has a packet socket that is already filtered and locked, the channel to
//! the warden, the clients' symmetric keys, and no privileges. What passes its
//! gate goes to the warden as one fixed-size message; all else is counted.

mod pace;
pub mod sandbox;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use spa_proto::{Gate, Monotonic, Reason, SignedRequest, Timestamp};

use crate::capture::{Family, decode};
use crate::clock;
use crate::ipc::{Channel, ToGate, ToWarden};
use crate::sys::{memory, packet};
use crate::wipe;
use pace::Pace;

/// How many packets are taken from one socket before the other and the channel
/// are looked at. With knocks that pass, some milliseconds.
const BATCH: usize = 64;
/// More batches than can wait in a socket are not taken before it is replaced: in
/// a flood there is no last one.
const WAITING: usize = 400;
/// What is waited for: the channel, and a socket for each family.
const ALL: usize = 1 + Family::BOTH.len();
/// A knock's IP packet has at most 60 + 8 + 336 bytes.
const LARGEST: usize = 512;

/// Serves until the warden closes the channel.
///
/// # Errors
/// Where the channel fails or the warden says what no warden says: then it is
/// better to end, and be started anew.
pub fn run(channel: Channel) -> io::Result<()> {
    let mut keeper = Gatekeeper::new(channel);
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
    pace: Pace,
    counters: [u64; Reason::COUNT],
}

impl Gatekeeper {
    /// Without a gate and without sockets: it hears nothing yet.
    fn new(channel: Channel) -> Self {
        Self {
            channel,
            port: 0,
            gate: None,
            next: None,
            sockets: Vec::new(),
            pace: Pace::new(clock::monotonic()),
            counters: [0; Reason::COUNT],
        }
    }

    /// Sleeps until there is something to do, and does it; false at the end.
    fn turn(&mut self) -> io::Result<bool> {
        let [told, ready @ ..] = self.wait()?;
        let (mut heard, mut more) = (0, false);
        for (at, ready) in ready.into_iter().enumerate() {
            if ready {
                let count = self.hear(at)?;
                heard += count;
                more |= count == BATCH;
            }
        }
        self.pace.note(heard, more, clock::monotonic());
        if told { wipe::stack_after(|| self.obey()) } else { Ok(true) }
    }

    /// What can be read: the channel, then the sockets. In a crowd the sockets are
    /// not asked: there will be something.
    fn wait(&self) -> io::Result<[bool; ALL]> {
        let moment = Timespec { tv_sec: 0, tv_nsec: pace::MOMENT.subsec_nanos().into() };
        let (asked, limit) = if self.pace.gather() { (1, Some(&moment)) } else { (ALL, None) };
        let fd = |at| PollFd::from_borrowed_fd(self.descriptor(at), PollFlags::IN);
        let mut fds: [PollFd<'_>; ALL] = std::array::from_fn(fd);
        rustix::io::retry_on_intr(|| poll(&mut fds[..asked], limit))?;
        Ok(std::array::from_fn(|at| at >= asked || !fds[at].revents().is_empty()))
    }

    /// The channel, then the sockets; in place of a socket that is not there, the
    /// channel again.
    fn descriptor(&self, at: usize) -> BorrowedFd<'_> {
        let socket = at.checked_sub(1).and_then(|at| self.sockets.get(at));
        socket.map_or_else(|| self.channel.as_fd(), |(_, socket)| socket.as_fd())
    }

    /// Takes packets from one socket; how many there were.
    fn hear(&mut self, at: usize) -> io::Result<usize> {
        let mut packet = [0; LARGEST];
        let mut now = Now::read();
        for count in 0..BATCH {
            let Some((family, socket)) = self.sockets.get(at) else { return Ok(count) };
            match rustix::net::recv(socket, &mut packet, RecvFlags::TRUNC) {
                Ok((_, len)) => {
                    let whole = packet.get(..len).unwrap_or_default();
                    match judge(self.gate.as_mut(), self.port, *family, whole, now) {
                        Ok(request) => {
                            let enrols = request.enrols();
                            // Waits while the warden is behind, and packets wait in the
                            // sockets meanwhile; the warden never waits for this process.
                            self.channel.send(&ToWarden::Request(request).encode(), &[])?;
                            if enrols {
                                wipe::stack();
                            }
                            now = Now::read();
                        }
                        Err(reason) => self.count(reason, 1),
                    }
                }
                Err(Errno::AGAIN) => return Ok(count),
                // An interface that goes down says so here, once; the socket lives on.
                Err(Errno::NETDOWN | Errno::NODEV | Errno::NXIO | Errno::INTR | Errno::NOBUFS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(BATCH)
    }

    fn count(&mut self, reason: Reason, times: u64) {
        if let Some(counter) = self.counters.get_mut(reason.index()) {
            *counter += times;
        }
    }

    /// Counts what the kernel had no room for.
    fn count_lost(&mut self) {
        let lost = self.sockets.iter().map(|(_, socket)| packet::lost(socket).unwrap_or(0));
        self.count(Reason::Lost, lost.map(u64::from).sum());
    }

    /// Takes one message from the warden.
    fn obey(&mut self) -> io::Result<bool> {
        let Some((frame, sockets)) = self.channel.receive_with_sockets()? else { return Ok(false) };
        match ToGate::decode(&frame).ok_or(io::ErrorKind::InvalidData)? {
            ToGate::Serve { current, former, settings } => {
                let mut gate = Gate::of(current, former, settings, clock::monotonic());
                gate.prepare(clock::wall());
                self.next = Some(gate);
            }
            ToGate::Listen { port } => self.listen(port, sockets)?,
            ToGate::Report => {
                self.count_lost();
                self.gate.iter_mut().for_each(|gate| gate.prepare(clock::wall()));
                self.channel.send(&ToWarden::Counters(self.counters).encode(), &[])?;
            }
            // The one in force must not wait for the other.
            ToGate::Remove(kid) => {
                self.gate.iter_mut().chain(&mut self.next).for_each(|gate| gate.remove(&kid));
            }
            about_a_client => self.enrol(about_a_client),
        }
        Ok(true)
    }

    fn enrol(&mut self, message: ToGate) {
        let Some(gate) = self.next.as_mut().or(self.gate.as_mut()) else { return };
        match message {
            ToGate::Insert { former: false, clients } => {
                clients.into_iter().for_each(|(kid, keys)| gate.insert(kid, keys));
            }
            ToGate::Insert { former: true, clients } => {
                clients.into_iter().for_each(|(kid, keys)| gate.insert_former(kid, keys));
            }
            ToGate::Recall { kid, floor, used } => gate.recall(&kid, floor, used),
            ToGate::Serve { .. } | ToGate::Listen { .. } | ToGate::Report | ToGate::Remove(_) => {}
        }
    }

    /// New sockets take the place of the old ones, one for each family. What waits
    /// in those was in time, and some of it only they have.
    fn listen(&mut self, port: u16, sockets: Vec<OwnedFd>) -> io::Result<()> {
        for at in 0..self.sockets.len() {
            for _ in 0..WAITING {
                if self.hear(at)? < BATCH {
                    break;
                }
            }
        }
        self.count_lost();
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

/// When packets are judged. Those of a batch that are refused share a reading, since
/// that is over in microseconds and what the gate looks at is seconds; after one
/// that passed, which takes longer and may wait for the warden, there is a new one.
#[derive(Clone, Copy)]
struct Now {
    wall: Timestamp,
    clock: Monotonic,
}

impl Now {
    fn read() -> Self {
        Self { wall: clock::wall(), clock: clock::monotonic() }
    }
}

/// One packet's way through decoding and gate.
fn judge(
    gate: Option<&mut Gate>,
    port: u16,
    family: Family,
    packet: &[u8],
    now: Now,
) -> Result<SignedRequest, Reason> {
    let (arrival, datagram) = decode::knock(packet, family, port).ok_or(Reason::Addressing)?;
    let gate = gate.ok_or(Reason::UnknownClient)?;
    gate.admit(datagram, arrival, now.wall, now.clock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::Frame;
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
    use spa_proto::{
        Address, Arrival, ClientKeys, Cloak, Credentials, Entropy, GateSettings, Generation, Kid,
        Kind, Mode, Psk, Request, ServerKeys, ServerSecret, Services, SigningKey, seal,
    };

    /// A gatekeeper, the warden's end of its channel, and who sends to its sockets.
    struct Room {
        keeper: Gatekeeper,
        warden: Channel,
        senders: Vec<OwnedFd>,
    }

    /// A pair of sockets that keep messages apart, as packet sockets do.
    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    fn room() -> Room {
        let (warden, channel) = Channel::pair().unwrap();
        let (senders, sockets): (Vec<_>, Vec<_>) = Family::BOTH.map(|_| pair()).into_iter().unzip();
        let mut keeper = Gatekeeper::new(channel);
        keeper.listen(62201, sockets).unwrap();
        assert!(matches!(said(&warden), Some(ToWarden::Listening)));
        Room { keeper, warden, senders }
    }

    fn said(warden: &Channel) -> Option<ToWarden> {
        let frame: Frame = warden.receive().unwrap().unwrap();
        ToWarden::decode(&frame)
    }

    fn junk(sender: &OwnedFd, count: usize) {
        (0..count).for_each(|_| assert_eq!(send(sender, &[7], SendFlags::empty()).unwrap(), 1));
    }

    /// How many packets were refused until the next answer to a question.
    fn refused(warden: &Channel) -> u64 {
        match said(warden) {
            Some(ToWarden::Counters(counters)) => counters.iter().sum(),
            _ => panic!("no counters"),
        }
    }

    #[test]
    fn each_family_and_the_warden_have_their_turn_however_much_comes() {
        for crowd in [false, true] {
            let Room { mut keeper, warden, senders } = room();
            if crowd {
                keeper.pace.note(BATCH, false, clock::monotonic());
            }
            assert_eq!(keeper.pace.gather(), crowd);
            senders.iter().for_each(|sender| junk(sender, BATCH + 20));
            warden.send(&ToGate::Report.encode(), &[]).unwrap();
            warden.send(&ToGate::Report.encode(), &[]).unwrap();
            keeper.turn().unwrap();
            assert_eq!(refused(&warden), 2 * 64, "a batch of each");
            keeper.turn().unwrap();
            assert_eq!(refused(&warden), 2 * 84, "and the rest");
            drop(warden);
            assert!(!keeper.turn().unwrap(), "the warden is gone");
        }
    }

    #[test]
    fn a_crowd_is_over_when_nothing_comes() {
        let Room { mut keeper, warden: _warden, senders } = room();
        keeper.pace.note(BATCH, false, clock::monotonic());
        junk(&senders[0], 1);
        keeper.turn().unwrap();
        assert!(keeper.pace.gather());
        // Returns although nobody says anything.
        keeper.turn().unwrap();
        assert!(!keeper.pace.gather());
    }

    #[test]
    fn a_revoked_client_is_gone_from_the_gate_in_force_while_the_next_is_filled() {
        let Room { mut keeper, warden, .. } = room();
        let (server, cloak) = (ServerSecret::from_bytes([3; 32]), Cloak::from_bytes([4; 16]));
        let kid = Kid::from_bytes([5; 16]);
        let client = Credentials {
            server: server.public(),
            kid,
            cloak: cloak.clone(),
            keys: ClientKeys::derive(&Psk::from_bytes([6; 32]), &server.public(), &kid),
            signing: SigningKey::from_seed(&[7; 32]),
        };
        let serve = || {
            let generation = Generation::new(1);
            let (secret, cloak) = (server.clone(), cloak.clone());
            let current = ServerKeys { generation, secret, cloak };
            ToGate::Serve { current, former: None, settings: GateSettings::default() }
        };
        let insert = || {
            let clients = vec![(kid, client.keys.clone())];
            ToGate::Insert { former: false, clients }
        };
        let tell = |keeper: &mut Gatekeeper, message: ToGate| {
            warden.send(&message.encode(), &[]).unwrap();
            assert!(keeper.obey().unwrap());
        };
        let verdict = |keeper: &mut Gatekeeper, number: u8| {
            let Now { wall, clock } = Now::read();
            let request = Request {
                kind: Kind::Knock,
                mode: Mode::Default,
                address: Address::Seen,
                width: None,
                seconds: None,
                services: Services::new(["ssh".parse().unwrap()]).unwrap(),
            };
            let entropy = Entropy::from_bytes([number; 32]);
            let knock = seal(&client, &request, wall, &entropy).unwrap();
            let [source, destination] = [[192, 0, 2, 7].into(), [192, 0, 2, 1].into()];
            let gate = keeper.gate.as_mut().unwrap();
            gate.admit(&knock, Arrival { source, destination }, wall, clock).err()
        };

        tell(&mut keeper, serve());
        tell(&mut keeper, insert());
        keeper.listen(62201, vec![pair().0, pair().0]).unwrap();
        assert_eq!(verdict(&mut keeper, 1), None);
        // A reload, and in the middle of it a revocation.
        tell(&mut keeper, serve());
        tell(&mut keeper, insert());
        assert_eq!(verdict(&mut keeper, 2), None);
        tell(&mut keeper, ToGate::Remove(kid));
        assert_eq!(verdict(&mut keeper, 3), Some(Reason::UnknownClient));
        keeper.listen(62201, vec![pair().0, pair().0]).unwrap();
        assert_eq!(verdict(&mut keeper, 4), Some(Reason::UnknownClient));
    }

    #[test]
    fn what_waits_is_heard_before_sockets_are_replaced() {
        let Room { mut keeper, warden, senders } = room();
        junk(&senders[1], 2 * BATCH + 1);
        keeper.listen(62201, vec![pair().0, pair().0]).unwrap();
        assert!(matches!(said(&warden), Some(ToWarden::Listening)));
        warden.send(&ToGate::Report.encode(), &[]).unwrap();
        keeper.obey().unwrap();
        assert_eq!(refused(&warden), 2 * 64 + 1);
    }
}
