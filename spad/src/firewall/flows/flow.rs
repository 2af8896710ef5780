//! What a flow is.

use super::entry::Handle;
use crate::firewall::plan::Labels;
use spa_proto::{Protocol, Timestamp};
use std::net::SocketAddr;

impl Labels {
    pub(super) fn is_granted(self, labels: u128) -> bool {
        labels & bit(self.granted) != 0 && !self.is_cut(labels)
    }

    pub(super) fn is_cut(self, labels: u128) -> bool {
        labels & bit(self.cut) != 0
    }

    /// The labels of a connection that is cut.
    pub(super) fn cut_only(self) -> u128 {
        bit(self.cut)
    }

    /// All that are ours.
    pub(super) fn ours(self) -> u128 {
        bit(self.cut) | bit(self.granted)
    }
}

fn bit(number: u8) -> u128 {
    1_u128.checked_shl(number.into()).unwrap_or(0)
}

/// One connection that was opened through a grant; for UDP, what conntrack
/// takes for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Conntrack's number for it; not unique among very many.
    pub id: u32,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The client.
    pub source: SocketAddr,
    /// The service, as the client addresses it.
    pub destination: SocketAddr,
    /// Who answers: the service itself, behind any destination NAT.
    pub reply_source: SocketAddr,
    /// Whom the service sees, behind any source NAT.
    pub reply_destination: SocketAddr,
    /// When it began, by the wall clock; `None` where conntrack took no note.
    pub started: Option<Timestamp>,
    /// When it ended, likewise; `None` as long as it has not.
    pub ended: Option<Timestamp>,
    /// What went through it; zero for a flow that conntrack does not count for.
    pub traffic: Traffic,
    pub(super) handle: Handle,
}

/// What went through a connection, IP headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From client to service.
    pub to_server: Count,
    /// From service to client.
    pub to_client: Count,
}

/// One direction of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// IP packets.
    pub packets: u64,
    /// Bytes in them.
    pub bytes: u64,
}
