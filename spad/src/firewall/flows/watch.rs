//! Hears from the kernel when connections through a grant open and end.

use super::entry::{self, Entry, Handle};
use super::filter;
use super::flow::Flow;
use super::open::{OpenFlows, Room};
use super::tracker::{Tracker, failed};
use crate::firewall::error::FirewallError;
use crate::firewall::plan::Labels;
use crate::firewall::ruleset::PortRange;
use crate::firewall::wire::{self, Message};
use crate::sys::packet::attach_filter;
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::libc::{EAGAIN, EINTR, ENOBUFS};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::{BTreeSet, HashSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// `NFNLGRP_CONNTRACK_NEW`, `_UPDATE` and `_DESTROY`.
const GROUPS: [u32; 3] = [1, 2, 3];
const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
/// A notification is a few hundred bytes, one to a datagram.
const DATAGRAM: usize = 8 * 1024;
/// Some thousand connections may end at once, as when a grant is withdrawn.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// How many notifications are read in one call: whoever makes them must not keep
/// the caller from everything else.
const BATCH: usize = 1024;
/// How many connections that are over are remembered.
const LIMIT: usize = 65_536;

/// What has become of a connection through a grant. Every one that has
/// [`Begun`](Self::Begun) is [`Opened`](Self::Opened) or has
/// [`Failed`](Self::Failed) once; and every one that is opened, which one that was
/// there before may be at once, is [`Closed`](Self::Closed) or
/// [`Vanished`](Self::Vanished) once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// Somebody has sent a first packet from a granted address, whoever it belongs to.
    Begun(Flow),
    /// Nothing came of it.
    Failed(Flow),
    /// It is there: its client answers, or over UDP the service has answered.
    Opened(Flow),
    /// It has been closed, was cut or forgotten, just now if [`Flow::ended`] says nothing; with
    /// all that went through it.
    Closed(Flow),
    /// It has ended while notifications were lost: nobody knows when, nor what
    /// went through it.
    Vanished(Flow),
}

/// What was heard of connections.
#[derive(Debug, Default)]
pub struct News {
    /// One after the other.
    pub events: Vec<FlowEvent>,
    /// There was no room for these: nothing more will be told of them, and they
    /// are to be [turned away](super::Flows::turn_away) at once. If that fails,
    /// [`FlowWatch::doubt`] has it told again.
    pub crowded: Vec<Flow>,
    /// Why that is not all. What is missing is in the news of a later call of
    /// [`FlowWatch::events`].
    pub fault: Option<FirewallError>,
}

/// A socket on which the kernel reports connections, and those that are open.
pub struct FlowWatch {
    socket: Socket,
    tracker: Tracker,
    labels: Labels,
    ports: BTreeSet<PortRange>,
    open: OpenFlows,
    /// Entries of connections that are over, which a new one on the same ports
    /// may bring back to life.
    over: HashSet<Handle>,
    more: bool,
    /// Whether something was not heard, and not made up for since.
    behind: bool,
}

impl FlowWatch {
    /// Listens from now on; `ports` are those of the services, as clients
    /// address them. Call [`Self::resynchronise`] for those that are open already.
    ///
    /// # Errors
    /// If the netlink sockets cannot be made.
    pub fn open(labels: Labels, ports: &[PortRange], room: Room) -> Result<Self, FirewallError> {
        let failed = || failed("listening for connections");
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed())?;
        socket.bind_auto().map_err(failed())?;
        socket.set_non_blocking(true).map_err(failed())?;
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        let (tracker, open) = (Tracker::open()?, OpenFlows::new(room));
        let mut watch = Self {
            socket,
            tracker,
            labels,
            ports: BTreeSet::new(),
            open,
            over: HashSet::new(),
            more: false,
            behind: false,
        };
        watch.set_ports(ports)?;
        for group in GROUPS {
            watch.socket.add_membership(group).map_err(failed())?;
        }
        Ok(watch)
    }

    /// From now on the services have these ports. What is open stays watched.
    ///
    /// # Errors
    /// If the kernel does not take the filter.
    pub fn set_ports(&mut self, ports: &[PortRange]) -> Result<(), FirewallError> {
        self.ports = ports.iter().copied().collect();
        let flows = self.open.iter().chain(self.open.half_open());
        let elsewhere: Vec<_> = flows.map(|flow| flow.destination.port()).collect();
        for port in elsewhere {
            self.cover(port);
        }
        self.attach().inspect_err(|_| self.behind = true)
    }

    /// What has happened since the last call, or the first part of it if
    /// [`Self::has_more`]; never blocks. Wait for the descriptor to become
    /// readable first. After a loss of notifications, or a failure, it compares
    /// what it knows with what is there, with each call until that has succeeded.
    pub fn events(&mut self) -> News {
        let mut news = self.read();
        if self.behind {
            self.catch_up(&mut news);
        }
        news
    }

    /// As [`Self::events`], but without comparing: that takes its time beside very
    /// many connections. See [`Self::is_behind`] and [`Self::resynchronise`].
    pub fn read(&mut self) -> News {
        let mut news = News::default();
        let mut buffer = vec![0; DATAGRAM];
        self.more = true;
        for _ in 0..BATCH {
            match self.socket.recv(&mut &mut buffer[..], 0) {
                Ok(len) => {
                    for message in wire::messages(&buffer[..len.min(DATAGRAM)]) {
                        self.hear(&message, &mut news);
                    }
                }
                Err(e) if e.raw_os_error() == Some(EAGAIN) => {
                    self.more = false;
                    break;
                }
                Err(e) if e.raw_os_error() == Some(ENOBUFS) => self.behind = true,
                Err(e) if e.raw_os_error() == Some(EINTR) => {}
                Err(e) => {
                    self.more = false;
                    self.miss(failed("reading notifications")(e), &mut news);
                    break;
                }
            }
        }
        news
    }

    /// Whether the last call of [`Self::events`] may have left something unread.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// Whether something is missing that no call of [`Self::events`] has told yet.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Compares what is known to be open with what is.
    pub fn resynchronise(&mut self) -> News {
        let mut news = News::default();
        self.catch_up(&mut news);
        news
    }

    fn catch_up(&mut self, news: &mut News) {
        self.behind = true;
        let granted = match self.tracker.list(|labels| self.labels.is_granted(labels)) {
            Ok(granted) => granted,
            Err(error) => return self.miss(error, news),
        };
        let heard = news.events.len();
        self.open.reconcile(granted, news);
        let elsewhere = self.cover_ends_of(news, heard);
        // Also for a port that it could not be set for before.
        let caught_up = self.attach().and_then(|()| self.look_at(&elsewhere, news));
        match caught_up {
            Ok(()) => (self.behind, news.fault) = (false, None),
            Err(error) => self.miss(error, news),
        }
    }

    fn miss(&mut self, error: FirewallError, news: &mut News) {
        self.behind = true;
        news.fault = Some(error);
    }

    fn hear(&mut self, message: &Message<'_>, news: &mut News) {
        let heard = news.events.len();
        let followed = self.event(message, news).and_then(|()| self.follow(heard, news));
        if let Err(error) = followed {
            self.miss(error, news);
        }
    }

    /// The connections that are open, as of the last call of [`Self::events`],
    /// without what went through them.
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.open.iter()
    }

    /// Those that were begun and are not open yet, likewise.
    pub fn half_open(&self) -> impl Iterator<Item = &Flow> {
        self.open.half_open()
    }

    /// Whether there is no room for one that opens now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.open.is_full()
    }

    /// Something is to be compared that the news was complete without.
    pub fn doubt(&mut self) {
        self.behind = true;
    }

    fn event(&mut self, message: &Message<'_>, news: &mut News) -> Result<(), FirewallError> {
        if message.message_type() >> 8 != NFNL_SUBSYS_CTNETLINK {
            return Ok(());
        }
        let labels = entry::labels(message);
        let Some(entry) = Entry::read(message) else { return Ok(()) };
        if message.message_type() & 0xff == IPCTNL_MSG_CT_DELETE {
            self.over.remove(&entry.handle);
            self.open.ended(entry, news);
            return Ok(());
        }
        if self.labels.is_cut(labels) || entry.over {
            return self.cut_or_closed(&entry, news);
        }
        if self.over.contains(&entry.handle) {
            return self.begun_anew(&entry, news);
        }
        // Of one that comes about the labels are not told again.
        if self.labels.is_granted(labels) || self.open.is_half_open(&entry.handle) {
            self.open.seen(entry, news);
        }
        Ok(())
    }

    /// Its entry lives on, and its counters with it: the connection ends here.
    fn cut_or_closed(&mut self, entry: &Entry, news: &mut News) -> Result<(), FirewallError> {
        if !self.open.contains(&entry.handle) {
            return Ok(());
        }
        if !entry.established && self.open.is_half_open(&entry.handle) {
            // One that was refused may be begun anew for as long as its entry is there.
            if !entry.over {
                self.open.vanished(&entry.handle, news);
            }
            return Ok(());
        }
        if entry.over {
            // Only where news of their end was lost can there be as many.
            if self.over.len() >= LIMIT {
                self.over.clear();
            }
            self.over.insert(entry.handle.clone());
        }
        // If it is gone already, the notification of its end is on its way.
        if let Some((entry, _)) = self.tracker.look_up(&entry.handle)? {
            self.open.ended(entry, news);
        }
        Ok(())
    }

    /// The news of such a connection does not say what labels it has.
    fn begun_anew(&mut self, entry: &Entry, news: &mut News) -> Result<(), FirewallError> {
        let Some((entry, labels)) = self.tracker.look_up(&entry.handle)? else { return Ok(()) };
        if !entry.over && self.labels.is_granted(labels) {
            self.over.remove(&entry.handle);
            self.open.seen(entry, news);
        }
        Ok(())
    }

    /// Sees to it that what becomes of new flows will pass the filter: their port is
    /// another than a service's where somebody redirects one to the other.
    fn follow(&mut self, heard: usize, news: &mut News) -> Result<(), FirewallError> {
        let elsewhere = self.cover_ends_of(news, heard);
        if elsewhere.is_empty() {
            return Ok(());
        }
        self.attach()?;
        self.look_at(&elsewhere, news)
    }

    /// Of the events after those that were heard before, the flows for which the
    /// filter has to be set.
    fn cover_ends_of(&mut self, news: &News, heard: usize) -> Vec<Handle> {
        let fresh = news.events.iter().skip(heard).filter_map(|event| match event {
            FlowEvent::Begun(flow) | FlowEvent::Opened(flow) => Some(flow),
            FlowEvent::Failed(_) | FlowEvent::Closed(_) | FlowEvent::Vanished(_) => None,
        });
        let elsewhere = fresh.filter(|flow| self.cover(flow.destination.port()));
        elsewhere.map(|flow| flow.handle.clone()).collect()
    }

    /// What has become of these, while the filter kept it back.
    fn look_at(&mut self, flows: &[Handle], news: &mut News) -> Result<(), FirewallError> {
        for handle in flows {
            match self.tracker.look_up(handle)? {
                Some((entry, labels)) if entry.over || self.labels.is_cut(labels) => {
                    self.cut_or_closed(&entry, news)?;
                }
                Some((entry, _)) => self.open.seen(entry, news),
                None => self.open.vanished(handle, news),
            }
        }
        Ok(())
    }

    fn cover(&mut self, port: u16) -> bool {
        let covered = self.ports.iter().any(|range| range.contains(port));
        !covered && self.ports.insert(PortRange::single(port))
    }

    fn attach(&self) -> Result<(), FirewallError> {
        attach_filter(&self.socket, &filter::program(&self.ports))
            .map_err(failed("filtering notifications"))
    }
}

impl AsFd for FlowWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for FlowWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
