//! What can be said between the gatekeeper and the warden.

use spa_proto::{
    ClientKeys, Cloak, GateSettings, Generation, Kid, Nonce, RING_LEN, Rate, Reason,
    SIGNED_REQUEST_LEN, ServerKeys, ServerSecret, SignedRequest, Timestamp, Tolerance,
};
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use zeroize::Zeroizing;

use crate::fields::{Reader, millis};

/// Length of every message, in bytes.
pub const FRAME_LEN: usize = 512;

const _: () = assert!(8 * Reason::COUNT < FRAME_LEN && SIGNED_REQUEST_LEN < FRAME_LEN);

/// How many clients one [`ToGate::Insert`] has room for.
pub const INSERT_LEN: usize = 3;

/// A message as it travels; wiped when dropped, since some carry keys, and in a
/// box, so that a queue keeps no copy. It cannot be printed.
pub struct Frame(Box<Zeroizing<[u8; FRAME_LEN]>>);

impl From<[u8; FRAME_LEN]> for Frame {
    fn from(bytes: [u8; FRAME_LEN]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }
}

impl Deref for Frame {
    type Target = [u8; FRAME_LEN];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// A frame of zeros.
pub(super) fn blank() -> Frame {
    [0; FRAME_LEN].into()
}

/// From the warden, which alone reads keys, to the gatekeeper.
pub enum ToGate {
    /// Make a new gate of this server, without clients, for the next [`Self::Listen`].
    Serve {
        /// The server's keys.
        current: ServerKeys,
        /// Those from before, while they work as well.
        former: Option<ServerKeys>,
        /// Tolerance and budgets.
        settings: GateSettings,
    },
    /// Let clients in, or replace their keys. Only derived keys: the pre-shared key
    /// itself stays with the warden.
    Insert {
        /// Whether these are for the server's former keys.
        former: bool,
        /// At most [`INSERT_LEN`].
        clients: Vec<(Kid, ClientKeys)>,
    },
    /// Forget a client.
    Remove(Kid),
    /// What a client has used already.
    Recall {
        /// The client's key-id.
        kid: Kid,
        /// Everything at or under this time.
        floor: Timestamp,
        /// These, exactly; at most [`RING_LEN`].
        used: Vec<(Timestamp, Nonce)>,
    },
    /// From now on use the gate made since [`Self::Serve`], if there is one, and
    /// listen on the packet sockets that come with this message.
    Listen {
        /// The UDP port that the sockets hear.
        port: u16,
    },
    /// Say the counters.
    Report,
}

/// From the gatekeeper, which alone sees network bytes, to the warden.
pub enum ToWarden {
    /// It now listens on the sockets it was given.
    Listening,
    /// A request that has passed the gate.
    Request(SignedRequest),
    /// How often the gate gave each reason since it started.
    Counters([u64; Reason::COUNT]),
}

impl ToGate {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Frame {
        match self {
            Self::Serve { current, former, settings } => {
                let settings = Writer::new(1)
                    .put(&millis(settings.tolerance.as_duration()).to_be_bytes())
                    .rate(settings.client_rate)
                    .rate(settings.global_rate);
                let sets = [Some(current), former.as_ref()].into_iter().flatten();
                let head = settings.put(&[count(sets.clone().count())]);
                sets.fold(head, Writer::server_keys)
            }
            Self::Insert { former, clients } => {
                let clients = &clients[..clients.len().min(INSERT_LEN)];
                let head = Writer::new(2).put(&[u8::from(*former), count(clients.len())]);
                let each = clients.iter();
                each.fold(head, |out, (kid, keys)| out.put(kid.as_bytes()).put(&*keys.to_bytes()))
            }
            Self::Remove(kid) => Writer::new(3).put(kid.as_bytes()),
            Self::Recall { kid, floor, used } => {
                let used = &used[..used.len().min(RING_LEN)];
                let head =
                    Writer::new(4).put(kid.as_bytes()).time(*floor).put(&[count(used.len())]);
                used.iter().fold(head, |out, (time, nonce)| out.time(*time).put(nonce.as_bytes()))
            }
            Self::Listen { port } => Writer::new(5).put(&port.to_be_bytes()),
            Self::Report => Writer::new(6),
        }
        .frame
    }

    /// From bytes; `None` unless [`Self::encode`] writes exactly these.
    #[must_use]
    pub fn decode(frame: &Frame) -> Option<Self> {
        let mut reader = Reader { rest: frame.as_slice() };
        let message = match reader.take::<1>()?[0] {
            1 => {
                let settings = GateSettings {
                    tolerance: Tolerance::new(Duration::from_millis(reader.number()?)),
                    client_rate: reader.rate()?,
                    global_rate: reader.rate()?,
                };
                let sets = usize::from(reader.take::<1>()?[0]);
                let current = reader.server_keys()?;
                let former = match sets {
                    1 => None,
                    2 => Some(reader.server_keys()?),
                    _ => return None,
                };
                Self::Serve { current, former, settings }
            }
            2 => Self::Insert { former: reader.flag()?, clients: reader.clients()? },
            3 => Self::Remove(reader.kid()?),
            4 => Self::Recall { kid: reader.kid()?, floor: reader.time()?, used: reader.used()? },
            5 => Self::Listen { port: u16::from_be_bytes(reader.take()?) },
            6 => Self::Report,
            _ => return None,
        };
        reader.is_done().then_some(message)
    }
}

impl ToWarden {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Frame {
        match self {
            Self::Listening => Writer::new(1),
            Self::Request(request) => Writer::new(2).put(&request.to_bytes()),
            Self::Counters(counters) => {
                counters.iter().fold(Writer::new(3), |out, counter| out.put(&counter.to_be_bytes()))
            }
        }
        .frame
    }

    /// From bytes; `None` unless [`Self::encode`] writes exactly these.
    #[must_use]
    pub fn decode(frame: &Frame) -> Option<Self> {
        let mut reader = Reader { rest: frame.as_slice() };
        let message = match reader.take::<1>()?[0] {
            1 => Self::Listening,
            2 => Self::Request(SignedRequest::from_bytes(&reader.take::<SIGNED_REQUEST_LEN>()?)?),
            3 => {
                let mut counters = [0; Reason::COUNT];
                for counter in &mut counters {
                    *counter = reader.number()?;
                }
                Self::Counters(counters)
            }
            _ => return None,
        };
        reader.is_done().then_some(message)
    }
}

/// Fills a frame from the front. The longest messages, an insert of 3 clients
/// and a recall of 16 knocks, have 435 and 410 bytes.
struct Writer {
    frame: Frame,
    at: usize,
}

impl Writer {
    fn new(kind: u8) -> Self {
        Self { frame: blank(), at: 0 }.put(&[kind])
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        let end = self.at + bytes.len();
        self.frame[self.at..end].copy_from_slice(bytes);
        self.at = end;
        self
    }

    fn time(self, time: Timestamp) -> Self {
        self.put(&time.as_millis().to_be_bytes())
    }

    fn server_keys(self, keys: &ServerKeys) -> Self {
        self.put(&keys.generation.number().to_be_bytes())
            .put(&*keys.secret.expose())
            .put(keys.cloak.expose())
    }

    fn rate(self, rate: Rate) -> Self {
        self.put(&rate.burst.to_be_bytes()).put(&rate.per_second.to_be_bytes())
    }
}

impl Reader<'_> {
    fn time(&mut self) -> Option<Timestamp> {
        self.number().map(Timestamp::from_millis)
    }

    fn kid(&mut self) -> Option<Kid> {
        self.take().map(Kid::from_bytes)
    }

    fn rate(&mut self) -> Option<Rate> {
        let burst = u32::from_be_bytes(self.take()?);
        Some(Rate { burst, per_second: u32::from_be_bytes(self.take()?) })
    }

    fn flag(&mut self) -> Option<bool> {
        let [flag] = self.take::<1>()?;
        (flag <= 1).then_some(flag == 1)
    }

    fn server_keys(&mut self) -> Option<ServerKeys> {
        Some(ServerKeys {
            generation: Generation::new(u32::from_be_bytes(self.take()?)),
            secret: ServerSecret::from_bytes(self.take()?),
            cloak: Cloak::from_bytes(self.take()?),
        })
    }

    fn clients(&mut self) -> Option<Vec<(Kid, ClientKeys)>> {
        let [count] = self.take::<1>()?;
        let entry = |_| Some((self.kid()?, ClientKeys::from_bytes(&self.take()?)));
        (usize::from(count) <= INSERT_LEN).then(|| (0..count).map(entry).collect())?
    }

    fn used(&mut self) -> Option<Vec<(Timestamp, Nonce)>> {
        let [count] = self.take::<1>()?;
        let entry = |_| Some((self.time()?, Nonce::from_bytes(self.take()?)));
        (usize::from(count) <= RING_LEN).then(|| (0..count).map(entry).collect())?
    }

    fn is_done(&self) -> bool {
        self.rest.iter().all(|byte| *byte == 0)
    }
}

fn count(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printable::assert_not_printable;
    use spa_proto::{Psk, ServerPublic};

    const KID: Kid = Kid::from_bytes([3; 16]);

    fn client_keys() -> ClientKeys {
        ClientKeys::derive(&Psk::from_bytes([1; 32]), &ServerPublic::from_bytes([2; 32]), &KID)
    }

    fn longest() -> ToGate {
        let used = vec![(Timestamp::from_millis(9), Nonce::from_bytes([8; 16])); RING_LEN];
        ToGate::Recall { kid: KID, floor: Timestamp::from_millis(7), used }
    }

    #[test]
    fn no_message_can_be_printed() {
        assert_not_printable![Frame, ToGate, ToWarden];
    }

    #[test]
    fn messages_to_the_gate_survive() {
        let keys = |number: u8| ServerKeys {
            generation: Generation::new(number.into()),
            secret: ServerSecret::from_bytes([number; 32]),
            cloak: Cloak::from_bytes([number; 16]),
        };
        let settings = GateSettings::default();
        for message in [
            ToGate::Serve { current: keys(5), former: None, settings },
            ToGate::Serve { current: keys(6), former: Some(keys(7)), settings },
            ToGate::Insert { former: false, clients: vec![(KID, client_keys())] },
            ToGate::Insert { former: true, clients: vec![(KID, client_keys()); INSERT_LEN] },
            ToGate::Remove(KID),
            longest(),
            ToGate::Listen { port: 62201 },
            ToGate::Report,
        ] {
            let frame = message.encode();
            assert!(*ToGate::decode(&frame).unwrap().encode() == *frame);
        }
    }

    #[test]
    fn messages_to_the_warden_survive() {
        let mut counters = [0; Reason::COUNT];
        counters[3] = 77;
        for message in [ToWarden::Listening, ToWarden::Counters(counters)] {
            let frame = message.encode();
            assert!(*ToWarden::decode(&frame).unwrap().encode() == *frame);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let mut frame = longest().encode();
        frame[25] = 17;
        assert!(ToGate::decode(&frame).is_none(), "more than the ring holds");
        let clients = vec![(KID, client_keys()); INSERT_LEN];
        let mut frame = ToGate::Insert { former: false, clients }.encode();
        frame[2] = 4;
        assert!(ToGate::decode(&frame).is_none(), "more than there is room for");
        frame[2] = 2;
        assert!(ToGate::decode(&frame).is_none(), "one that is not counted");
        (frame[1], frame[2]) = (2, 3);
        assert!(ToGate::decode(&frame).is_none(), "neither these keys nor those");
        let mut frame = ToGate::Listen { port: 1 }.encode();
        frame[FRAME_LEN - 1] = 1;
        assert!(ToGate::decode(&frame).is_none(), "something behind the message");
        for kind in [0, 7, 255] {
            let mut frame = blank();
            frame[0] = kind;
            assert!(ToGate::decode(&frame).is_none() && ToWarden::decode(&frame).is_none());
        }
        let mut frame = blank();
        frame[0] = 2;
        assert!(ToWarden::decode(&frame).is_none(), "a request between no addresses");
    }
}
