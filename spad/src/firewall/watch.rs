//! Notices when somebody else changes our table: the kernel reports every
//! change of the packet filter to those who listen.

use super::apply::Firewall;
use super::error::FirewallError;
use super::foreign::{Attachment, TableName, table_of};
use super::numbers::{NFT_MSG_DELSETELEM, NFT_MSG_NEWSETELEM};
use super::wire::{self, Message};
use crate::capture::filter::Instruction;
use crate::sys::packet::attach_filter;
use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::libc::{EAGAIN, EINTR, ENOBUFS};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// `NFNLGRP_NFTABLES`.
const NFTABLES_GROUP: u32 = 7;
/// Where a netlink message header says who has caused it.
const PORT: u32 = 12;
const DATAGRAM: usize = 64 * 1024;
/// Others may load rulesets of some size before we come to look.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// What somebody else did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Table, chains, rules or sets were touched: call [`Firewall::verify`].
    Ruleset,
    /// Elements were added to or removed from one of our sets: compare
    /// [`Firewall::elements`] with the grants.
    Elements,
    /// Something changed in a table that we are attached to: call
    /// [`Firewall::attach`].
    Attached,
    /// Notifications were lost because we did not keep up: do both.
    Lost,
}

/// A socket on which the kernel reports changes of the packet filter.
pub struct Watch {
    socket: Socket,
    /// Tables of others that have a rule of ours.
    attached: Vec<TableName>,
}

impl Watch {
    /// Listens for changes to our table by anyone but `firewall`, from now on.
    /// Open it before the first [`Firewall::install`], so that nothing is missed.
    ///
    /// # Errors
    /// If the netlink socket cannot be made.
    pub fn open(firewall: &Firewall) -> Result<Self, FirewallError> {
        let failed = |source| FirewallError::Netlink { doing: "listening for changes", source };
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.set_non_blocking(true).map_err(failed)?;
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        // Our own changes are no news; thousands of grants a second would overflow it.
        attach_filter(&socket, &caused_by_others(firewall.port())).map_err(failed)?;
        socket.add_membership(NFTABLES_GROUP).map_err(failed)?;
        Ok(Self { socket, attached: Vec::new() })
    }

    /// Listens for changes to these tables of others as well, and to no others.
    pub fn follow(&mut self, attachment: &Attachment) {
        self.attached = attachment.chains().iter().map(|chain| chain.table.clone()).collect();
    }

    /// What has happened since the last call, each kind once; never blocks.
    /// Wait for the descriptor to become readable first.
    ///
    /// # Errors
    /// If the socket fails.
    pub fn events(&mut self) -> Result<Vec<Event>, FirewallError> {
        let mut events = BTreeSet::new();
        let mut buffer = vec![0; DATAGRAM];
        loop {
            match self.socket.recv(&mut &mut buffer[..], 0) {
                Ok(len) => {
                    events.extend(wire::messages(&buffer[..len]).filter_map(|m| self.event(&m)))
                }
                Err(e) if e.raw_os_error() == Some(EAGAIN) => break,
                Err(e) if e.raw_os_error() == Some(ENOBUFS) => drop(events.insert(Event::Lost)),
                Err(e) if e.raw_os_error() == Some(EINTR) => {}
                Err(source) => return Err(reading(source)),
            }
        }
        Ok(events.into_iter().collect())
    }

    fn event(&self, message: &Message<'_>) -> Option<Event> {
        let elements =
            matches!(message.message_type() & 0xff, NFT_MSG_NEWSETELEM | NFT_MSG_DELSETELEM);
        match (wire::is_about_us(message), elements) {
            (true, true) => Some(Event::Elements),
            (true, false) => Some(Event::Ruleset),
            (false, false) if self.is_attached(message) => Some(Event::Attached),
            (false, _) => None,
        }
    }

    fn is_attached(&self, message: &Message<'_>) -> bool {
        let table = (!self.attached.is_empty()).then(|| table_of(message)).flatten();
        table.is_some_and(|table| self.attached.contains(&table))
    }
}

/// A filter in the kernel that rejects datagrams about what the socket with this
/// port number has done. A datagram is about one transaction, by one socket.
fn caused_by_others(port: u32) -> [Instruction; 4] {
    let step = |code: u32, yes, k| Instruction {
        // Codes are sums of constants below 256.
        code: u16::try_from(code).unwrap_or_default(),
        yes,
        no: 0,
        k,
    };
    [
        step(BPF_LD | BPF_W | BPF_ABS, 0, PORT),
        // The filter takes it for a number in network byte order.
        step(BPF_JMP | BPF_JEQ | BPF_K, 1, u32::from_be_bytes(port.to_ne_bytes())),
        step(BPF_RET | BPF_K, 0, u32::MAX),
        step(BPF_RET | BPF_K, 0, 0),
    ]
}

fn reading(source: io::Error) -> FirewallError {
    FirewallError::Netlink { doing: "reading notifications", source }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
