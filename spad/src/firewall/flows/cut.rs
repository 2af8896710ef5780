//! Ending connections for good, whatever either side goes on sending.

use super::entry::{Entry, Handle};
use super::flow::Flow;
use super::tracker::{Tracker, failed};
use crate::firewall::error::FirewallError;
use crate::firewall::plan::Labels;
use crate::firewall::sockets::Sockets;
use nix::libc::ENOSPC;
use spa_proto::Protocol;
use std::net::IpAddr;

/// How many of the connections that were cut are remembered for [`Flows::release`].
const REMEMBERED: usize = 65_536;

/// The connections made through grants.
pub struct Flows {
    labels: Labels,
    tracker: Tracker,
    /// `None` where the kernel has no `sock_diag`.
    sockets: Option<Sockets>,
    /// Entries that were cut and may be forgotten once their source is welcome.
    dead: Vec<(IpAddr, Handle)>,
}

impl Flows {
    /// Opens sockets to connection tracking and to this host's TCP.
    ///
    /// # Errors
    /// Where the kernel has no connection tracking, or without `CAP_NET_ADMIN`.
    pub fn open(labels: Labels) -> Result<Self, FirewallError> {
        let mut tracker = Tracker::open()?;
        let cut = tracker.list(|found| labels.is_cut(found))?;
        let udp = cut.into_iter().filter(|entry| entry.protocol == Protocol::Udp.number());
        let dead = udp.map(|entry| (entry.original.source.ip(), entry.handle)).collect();
        Ok(Self { labels, tracker, sockets: Sockets::open().ok(), dead })
    }

    /// All flows that were opened through a grant and are not cut. The kernel
    /// walks through all of its entries for this, 3 µs each: what is to be cut
    /// is found faster among [`FlowWatch::flows`](super::FlowWatch::flows).
    ///
    /// # Errors
    /// If the netlink socket fails.
    pub fn list(&mut self) -> Result<Vec<Flow>, FirewallError> {
        let granted = self.tracker.list(|labels| self.labels.is_granted(labels))?;
        let open = granted.into_iter().filter(|entry| !entry.over);
        Ok(open.filter_map(Entry::into_flow).collect())
    }

    /// Cuts a connection: when this returns no packet of it passes any more.
    /// Returns the flow as it was, with its counts; `None` if it had ended, or
    /// was cut, before.
    ///
    /// # Errors
    /// If the kernel refuses, with the connection still open.
    pub fn cut(&mut self, flow: &Flow) -> Result<Option<Flow>, FirewallError> {
        match self.tracker.look_up(&flow.handle)? {
            Some((entry, labels)) if self.labels.is_granted(labels) => {
                self.end(&entry)?;
                Ok(entry.into_flow())
            }
            _ => Ok(None),
        }
    }

    /// Cuts what is half open: of that there may be so much that it is not looked
    /// at again. The server's own end gives up by itself.
    ///
    /// # Errors
    /// If the kernel refuses, with nothing done.
    pub fn cut_half_open(&mut self, flow: &Flow) -> Result<(), FirewallError> {
        if self.label_as_cut(&flow.handle)? && flow.protocol == Protocol::Udp {
            self.remember(flow.source.ip(), &flow.handle);
        }
        Ok(())
    }

    /// Ends what has no room with the others. What is half open still is forgotten:
    /// what answers then is one that nobody was granted, and whoever is granted
    /// something begins anew. Any other is cut: whether it was one.
    ///
    /// # Errors
    /// If the kernel refuses, with the connection still open.
    pub fn turn_away(&mut self, flow: &Flow) -> Result<bool, FirewallError> {
        match self.tracker.look_up(&flow.handle)? {
            Some((entry, labels)) if entry.established && self.labels.is_granted(labels) => {
                self.end(&entry).map(|()| true)
            }
            Some(_) => self.tracker.forget(&flow.handle).map(|_| false),
            None => Ok(false),
        }
    }

    /// Cuts every connection, through a grant or not and of whatever protocol,
    /// that somebody in `banned` has opened or was called by. Returns how many
    /// there were.
    ///
    /// # Errors
    /// If the kernel refuses one; the others are cut all the same.
    pub fn cut_peers(&mut self, banned: impl Fn(IpAddr) -> bool) -> Result<usize, FirewallError> {
        let mut alive = self.tracker.list(|labels| !self.labels.is_cut(labels))?;
        alive.retain(|entry| !entry.over && entry.has_end(&banned));
        let ended: Vec<_> = alive.iter().map(|entry| self.end(entry)).collect();
        ended.into_iter().collect::<Result<Vec<()>, _>>().map(|all| all.len())
    }

    /// Forgets what was cut of somebody who is `free` again, so that their programs are heard
    /// that keep to their ports, or have none, as ping does: to be called when a ban is over. Not
    /// what came to a port that is `shut`, whose server would send again; nor TCP, which begins
    /// anew by itself. Returns how many entries were forgotten.
    ///
    /// # Errors
    /// If the kernel refuses one; the others are forgotten all the same.
    pub fn free_peers(
        &mut self,
        free: impl Fn(IpAddr) -> bool,
        shut: impl Fn(u8, u16) -> bool,
    ) -> Result<usize, FirewallError> {
        let mut cut = self.tracker.list(|labels| self.labels.is_cut(labels))?;
        cut.retain(|entry| {
            let (protocol, port) = (entry.protocol, entry.original.destination.port());
            protocol != Protocol::Tcp.number() && entry.has_end(&free) && !shut(protocol, port)
        });
        let forgotten: Vec<_> =
            cut.iter().map(|entry| self.tracker.forget(&entry.handle)).collect();
        let all = forgotten.into_iter().collect::<Result<Vec<bool>, _>>()?;
        Ok(all.into_iter().filter(|forgotten| *forgotten).count())
    }

    /// Lets sources that are `welcome` begin anew on the ports that their cut
    /// connections had: to be called when they are granted something. Otherwise
    /// a client with a fixed port, as many that speak UDP have, would stay shut
    /// out for as long as it tries. What could still have a server that sends is
    /// left alone. Returns how many entries were forgotten.
    ///
    /// # Errors
    /// If the netlink socket fails.
    pub fn release(&mut self, welcome: impl Fn(IpAddr) -> bool) -> Result<usize, FirewallError> {
        let mut forgotten = 0;
        for (_, handle) in self.dead.extract_if(.., |(source, _)| welcome(*source)) {
            forgotten += usize::from(self.tracker.forget(&handle)?);
        }
        Ok(forgotten)
    }

    /// The server's own end first, so that its reset still passes.
    fn end(&mut self, entry: &Entry) -> Result<(), FirewallError> {
        let server_gone = self.end_socket(entry);
        let there = self.label_as_cut(&entry.handle)?;
        if there && (server_gone || entry.protocol == Protocol::Udp.number()) {
            self.remember(entry.original.source.ip(), &entry.handle);
        }
        Ok(())
    }

    /// Whether it is there still, with that label.
    fn label_as_cut(&mut self, handle: &Handle) -> Result<bool, FirewallError> {
        match self.tracker.relabel(handle, self.labels.cut_only(), self.labels.ours()) {
            Err(e) if e.raw_os_error() == Some(ENOSPC) => {
                self.tracker.forget(handle).map(|_| false)
            }
            relabelled => relabelled.map_err(failed("cutting a connection")),
        }
    }

    /// A UDP server's socket serves others as well: that is left alone.
    fn end_socket(&mut self, entry: &Entry) -> bool {
        let tcp = entry.protocol == Protocol::Tcp.number();
        let (local, remote) = (entry.reply.source, entry.reply.destination);
        tcp && self.sockets.as_mut().is_some_and(|sockets| sockets.end(local, remote))
    }

    /// The oldest go first: conntrack has most likely forgotten them as well.
    fn remember(&mut self, source: IpAddr, handle: &Handle) {
        if self.dead.len() >= REMEMBERED {
            self.dead.drain(..REMEMBERED / 2);
        }
        self.dead.push((source, handle.clone()));
    }
}
