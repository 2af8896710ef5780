//! The connections of who is banned, and of who is not any more.

use std::net::IpAddr;

use spa_proto::{Prefix, Protocol};
use tracing::warn;

use crate::bans::Ban;
use crate::firewall::FirewallError;
use crate::sessions::Session;
use crate::warden::Warden;
use crate::warden::sessions::Connections;

impl Warden {
    /// Ends every connection with an end in this network, whether made through a
    /// grant or not; how many.
    pub(super) fn cut_off(&mut self, network: &Prefix) -> Result<usize, FirewallError> {
        self.hear_flows();
        let of_them = |session: &Session| network.contains(session.ends.source.ip());
        self.ledger.sessions.condemn("banned", of_them);
        let Some(Connections { flows, .. }) = &mut self.connections else { return Ok(0) };
        let cut = flows.cut_peers(|peer| network.contains(peer));
        self.hear_flows();
        cut
    }

    /// Who is not banned any more is heard again, also on ports that they keep to.
    pub(super) fn free(&mut self, over: &[Ban]) {
        let Some(Connections { flows, .. }) = &mut self.connections else { return };
        let plan = self.config.plan();
        let shut = |number: u8, port: u16| {
            let known = [Protocol::Tcp, Protocol::Udp].into_iter().find(|it| it.number() == number);
            let ports = known.map(|protocol| plan.protected_ports(protocol)).unwrap_or_default();
            ports.iter().any(|ports| ports.contains(port))
        };
        let free = |peer: IpAddr| {
            over.iter().any(|ban| ban.network.contains(peer)) && !self.bans.is_banned(peer)
        };
        if let Err(error) = flows.free_peers(free, shut) {
            warn!(%error, "what was cut for a ban that is over may stay cut");
        }
    }
}
