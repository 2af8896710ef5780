//! Does what a gatekeeper does until the first knock comes, but remembers nothing that it is told
//! was used already, and is in no sandbox.

use std::env;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use spa_proto::{Gate, Kid, SignedRequest};
use spa_tests::Result;
use spa_tests::lab::fail;
use spad::capture::{Family, decode};
use spad::clock;
use spad::ipc::{Channel, ToGate, ToWarden};
use spad::privileges::{Identity, gatekeeper};

use super::attack::Attack;

/// A gatekeeper in other hands.
pub(crate) struct Hostile {
    pub(crate) channel: Channel,
    /// Every client it was told of.
    pub(crate) kids: Vec<Kid>,
    attack: Attack,
    gate: Option<Gate>,
    port: u16,
    sockets: Vec<(Family, OwnedFd)>,
}

/// Until the warden has enough of it.
pub(crate) fn serve() -> Result {
    let attack: Attack = env::var("SPA_LAB_ATTACK")?.parse()?;
    if attack == Attack::Die {
        return Ok(());
    }
    let channel = Channel::from_fd(io::stdin().as_fd().try_clone_to_owned()?);
    gatekeeper::drop_all(identity()?)?;
    let (kids, sockets) = (Vec::new(), Vec::new());
    let mut hostile = Hostile { channel, kids, attack, gate: None, port: 0, sockets };
    loop {
        hostile.turn(PollTimeout::NONE)?;
    }
}

/// As whom the warden wants it to run.
fn identity() -> Result<Option<Identity>> {
    let words: Vec<String> = env::args().skip(2).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--uid", uid, "--gid", gid] => Ok(Some(Identity { uid: uid.parse()?, gid: gid.parse()? })),
        [] => Ok(None),
        _ => fail(format!("not the arguments of a gatekeeper: {words:?}")),
    }
}

impl Hostile {
    /// Deals with what has come.
    pub(crate) fn turn(&mut self, patience: PollTimeout) -> Result {
        for ready in self.wait(patience)? {
            match ready.checked_sub(1) {
                None => self.obey()?,
                Some(socket) => self.hear(socket)?,
            }
        }
        Ok(())
    }

    /// Which of the channel and the sockets can be read.
    fn wait(&self, patience: PollTimeout) -> Result<Vec<usize>> {
        let fds = [self.channel.as_fd()].into_iter();
        let fds = fds.chain(self.sockets.iter().map(|(_, socket)| socket.as_fd()));
        let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        poll(&mut fds, patience)?;
        let ready = fds.iter().enumerate().filter(|(_, fd)| fd.any().unwrap_or(false));
        Ok(ready.map(|(at, _)| at).collect())
    }

    fn obey(&mut self) -> Result {
        let Some((frame, sockets)) = self.channel.receive_with_sockets()? else {
            return fail("the warden has closed the channel");
        };
        match ToGate::decode(&frame) {
            Some(ToGate::Serve { current, former, settings }) => {
                let settings = self.attack.settings(settings);
                self.gate = Some(Gate::of(current, former, settings, clock::monotonic()));
            }
            Some(ToGate::Insert { clients, .. }) => {
                for (kid, keys) in clients {
                    self.kids.push(kid);
                    self.gate.iter_mut().for_each(|gate| gate.insert(kid, keys.clone()));
                }
            }
            Some(ToGate::Listen { port }) => {
                self.port = port;
                self.sockets = Family::BOTH.into_iter().zip(sockets).collect();
                self.say(&ToWarden::Listening)?;
            }
            Some(ToGate::Report) => self.say(&ToWarden::Counters(self.attack.counters()))?,
            Some(ToGate::Remove(_) | ToGate::Recall { .. }) => {}
            None => return fail("not a message of the warden"),
        }
        Ok(())
    }

    pub(crate) fn say(&self, message: &ToWarden) -> Result {
        Ok(self.channel.send(&message.encode(), &[])?)
    }

    fn hear(&mut self, socket: usize) -> Result {
        let mut packet = [0; 512];
        let Some((family, socket)) = self.sockets.get(socket) else { return Ok(()) };
        let Ok(len) = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) else {
            return Ok(());
        };
        match judge(self.gate.as_mut(), self.port, *family, &packet[..len]) {
            Some(request) => self.attack.clone().begin(self, &request),
            None => Ok(()),
        }
    }
}

fn judge(
    gate: Option<&mut Gate>,
    port: u16,
    family: Family,
    packet: &[u8],
) -> Option<SignedRequest> {
    let (arrival, datagram) = decode::knock(packet, family, port)?;
    gate?.admit(datagram, arrival, clock::wall(), clock::monotonic()).ok()
}
