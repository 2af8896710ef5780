//! Ends the connections of sources that were banned.

use super::apply::Firewall;
use super::conntrack;
use super::error::FirewallError;
use super::plan::Labels;
use nix::libc::ENOSPC;
use std::net::IpAddr;

impl Firewall {
    /// Cuts every connection that one of the `banned` has made or was called
    /// by, through a grant or not: when this returns no packet of it passes any
    /// more, whoever keeps sending. Returns how many there were.
    ///
    /// # Errors
    /// If connections cannot be listed, or one cannot be cut; the others are
    /// cut all the same.
    pub fn cut_source(
        &mut self,
        labels: Labels,
        banned: impl Fn(IpAddr) -> bool,
    ) -> Result<usize, FirewallError> {
        let flows = conntrack::flows(&self.channel, |flow| {
            banned(flow.ends.source.ip()) || banned(flow.ends.destination.ip())
        })?;
        let (cut, granted) = (1 << labels.cut, 1 << labels.granted);
        let ended: Vec<_> = flows
            .into_iter()
            .map(|flow| match conntrack::relabel(&self.channel, &flow, cut, cut | granted) {
                // From before labels were in use: it has none, and the rules see to it.
                Err(error) if is_without_labels(&error) => conntrack::forget(&self.channel, flow),
                relabelled => relabelled,
            })
            .collect();
        ended.into_iter().collect::<Result<Vec<()>, _>>().map(|all| all.len())
    }
}

fn is_without_labels(error: &FirewallError) -> bool {
    let FirewallError::Netlink { source, .. } = error else { return false };
    source.raw_os_error() == Some(ENOSPC)
}
