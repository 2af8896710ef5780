//! Which chains of others would still drop what a grant lets in. An accept in
//! one base chain does not overrule a drop in another.

use super::name::ChainName;
use super::packet::Packet;
use super::read::{self, BaseChain, SetsOf};
use super::walk::Way;
use crate::firewall::apply::Firewall;
use crate::firewall::error::FirewallError;
use crate::firewall::netlink::Channel;
use crate::firewall::plan::{Mode, Plan, Service};
use crate::firewall::rules::attach;
use crate::firewall::ruleset::Stage;
use spa_proto::ServiceName;
use std::net::IpAddr;

/// What was found in the chains of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Chains that may drop what is granted, in the order in which packets meet
    /// them.
    pub obstacles: Vec<Obstacle>,
    /// In mode `attach`: services that no chain seems to drop without a grant,
    /// each with the family of addresses.
    pub unguarded: Vec<(ServiceName, &'static str)>,
}

/// A base chain that may drop what is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The chain.
    pub chain: ChainName,
    /// Where the kernel calls it: input, or forward for inner hosts' services.
    pub stage: Stage,
    /// When: lower is earlier.
    pub priority: i32,
    /// Whether its policy is to drop.
    pub policy_drops: bool,
    /// The services that it may drop.
    pub services: Vec<ServiceName>,
}

impl Obstacle {
    /// `input` or `forward`.
    #[must_use]
    pub fn hook(&self) -> &'static str {
        if self.stage == Stage::Forward { "forward" } else { "input" }
    }

    /// `drop` or `accept`.
    #[must_use]
    pub fn policy(&self) -> &'static str {
        if self.policy_drops { "drop" } else { "accept" }
    }
}

impl Firewall {
    /// Reads the chains of others, and lets a first packet of each protected
    /// service go through them.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn survey(&self, plan: &Plan) -> Result<Survey, FirewallError> {
        let mut seen = Vec::new();
        for chain in read::base_chains(&self.channel)? {
            seen.extend(dropped(&self.channel, &chain, plan)?);
        }
        let unguarded = if plan.mode == Mode::Attach { unguarded(plan, &seen) } else { Vec::new() };
        let obstacles = seen.into_iter().filter_map(|seen| seen.obstacle).collect();
        Ok(Survey { obstacles, unguarded })
    }
}

/// What a chain does to the packets of all services.
struct Seen {
    obstacle: Option<Obstacle>,
    /// Those that it drops without a grant: the service, and whether over IPv6.
    strangers: Vec<(ServiceName, bool)>,
}

fn dropped(
    channel: &Channel,
    chain: &BaseChain,
    plan: &Plan,
) -> Result<Option<Seen>, FirewallError> {
    let services = || plan.protected().map(|service| (service, packets(chain, plan, service)));
    if services().all(|(_, packets)| packets.is_empty()) {
        return Ok(None);
    }
    let sets = SetsOf { channel, table: chain.name.table.clone() };
    let table = read::table(&chain.name.table, &sets)?;
    let drops = |packet: &Packet| match table.walk(&chain.name.chain, packet) {
        Way::Accepted => false,
        Way::Dropped => true,
        Way::Through => chain.drops,
    };
    let dropped = services().filter(|(_, packets)| packets.iter().any(drops));
    let dropped: Vec<_> = dropped.map(|(service, _)| service.name).collect();
    let stranger = |packet: &Packet| drops(&Packet { mark: Some(0), ..*packet });
    let strangers = services().flat_map(|(service, packets)| {
        packets
            .into_iter()
            .filter(stranger)
            .map(|packet| (service.name, packet.v6))
            .collect::<Vec<_>>()
    });
    let strangers = strangers.collect();
    let obstacle = (!dropped.is_empty()).then(|| chain.obstacle(dropped));
    Ok(Some(Seen { obstacle, strangers }))
}

impl BaseChain {
    fn obstacle(&self, services: Vec<ServiceName>) -> Obstacle {
        let Self { name, stage, priority, drops } = self.clone();
        Obstacle { chain: name, stage, priority, policy_drops: drops, services }
    }
}

/// In mode `attach` spad drops nothing for want of a grant.
fn unguarded(plan: &Plan, seen: &[Seen]) -> Vec<(ServiceName, &'static str)> {
    let guarded = |what: (ServiceName, bool)| seen.iter().any(|s| s.strangers.contains(&what));
    let families = |service: &Service| {
        let name = service.name;
        [(name, false), (name, true)]
    };
    let open = plan.protected().flat_map(families).filter(|what| !guarded(*what));
    open.map(|(name, v6)| (name, if v6 { "IPv6" } else { "IPv4" })).collect()
}

/// The packets that begin a connection to a service through a grant, as a chain
/// gets to see them: for the first and the last port of each range.
pub(super) fn packets(chain: &BaseChain, plan: &Plan, service: &Service) -> Vec<Packet> {
    let mark = (plan.mode == Mode::Attach).then(|| attach::mark(plan));
    let families = [false, true].into_iter().filter(|v6| chain.name.table.family.has(*v6));
    let packet = |v6: bool| {
        let inner = inner_host(service, v6);
        // Those of inner hosts are forwarded, all others are for this host.
        let passes = inner.is_some() == (chain.stage == Stage::Forward);
        let ports = service.ports.iter().filter(move |_| passes);
        ports.flat_map(move |ports| {
            let of_target = service.target.filter(|_| inner.is_some()).and_then(|t| t.port);
            let ends = [ports.range.first(), ports.range.last()];
            ends.map(|port| Packet {
                v6,
                protocol: ports.protocol,
                port: of_target.unwrap_or(port),
                mark,
                inner,
            })
        })
    };
    families.flat_map(packet).collect()
}

fn inner_host(service: &Service, v6: bool) -> Option<IpAddr> {
    service.target?.addresses().find(|address| address.is_ipv6() == v6)
}
