//! What a ruleset is built from: the firewall's side of the configuration.

use super::element::Terms;
use super::grant_set::GrantSet;
use super::ruleset::{Limit, PortRange};
use spa_proto::{Prefix, Protocol, ServiceName};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How much of the host's packet filter is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The protected services; nothing is said about the rest.
    #[default]
    Guard,
    /// All of it.
    Managed,
    /// Nothing is dropped: granted packets carry a mark, which rules in other
    /// people's chains accept.
    Attach,
}

/// What a ruleset is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How much is ours.
    pub mode: Mode,
    /// UDP port on which knocks are heard.
    pub knock_port: u16,
    /// The services.
    pub services: Vec<Service>,
    /// Networks that need no knock.
    pub trusted: Vec<Prefix>,
    /// Bits of the conntrack label that nobody else on the host may set.
    pub labels: Labels,
    /// Bit of the packet mark by which other people's chains know granted
    /// packets, in [`Mode::Attach`].
    pub mark_bit: u8,
    /// How many elements each of the grant sets can hold.
    pub set_size: u32,
    /// Whether a grant is for the address of this host that was knocked at.
    pub destination: bool,
    /// Widths of grants for more than one address: 1 to 31 for IPv4.
    pub widths4: Vec<u8>,
    /// The same for IPv6: 1 to 127.
    pub widths6: Vec<u8>,
    /// Whether a ban holds against a valid knock too.
    pub absolute_bans: bool,
    /// What there is besides the services, in [`Mode::Managed`].
    pub managed: Managed,
}

/// The rest of a host whose packet filter is all ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    /// Interfaces through which a packet may come in only if its source is
    /// reached through the same one.
    pub strict: Vec<String>,
    /// Interfaces of the networks behind this host.
    pub inside: Vec<String>,
    /// Interfaces through which those reach everybody else.
    pub outside: Vec<String>,
    /// As what they appear there over IPv4.
    pub source4: Source,
    /// The same over IPv6.
    pub source6: Source,
    /// Helpers of connection tracking.
    pub helpers: Vec<KnownHelper>,
}

/// As what forwarded connections appear outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// With their own addresses.
    #[default]
    Own,
    /// With the address of the interface that they leave by.
    Interface,
    /// With this address, which is of the family in question.
    Address(IpAddr),
}

/// A helper of connection tracking: it reads along with the connections to one
/// port, and lets in the further ones that they announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownHelper {
    /// What the kernel calls it.
    pub name: &'static str,
    /// The port that it works on.
    pub port: Ports,
}

/// Bits of the conntrack label that are ours, 0 to 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Marks connections that were made through a grant.
    pub granted: u8,
    /// Marks connections that were cut.
    pub cut: u8,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name in the configuration.
    pub name: ServiceName,
    /// Its ports; one at least.
    pub ports: Vec<Ports>,
    /// Who may connect.
    pub access: Access,
    /// The inner host that connections to it are sent to.
    pub target: Option<Target>,
}

/// Ports of one transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub range: PortRange,
}

/// Who may connect to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever has knocked.
    Knock,
    /// Everyone, but no source more often than that.
    Public(Option<Limit>),
}

/// Where connections to a service of an inner host go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// For those over IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For those over IPv6.
    pub v6: Option<Ipv6Addr>,
    /// To which port; `None` for the one that the client has addressed.
    pub port: Option<u16>,
    /// Whether the inner host is to see this host's address as the source.
    pub source_nat: bool,
}

impl Mode {
    /// `guard`, `managed` or `attach`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Managed => "managed",
            Self::Attach => "attach",
        }
    }
}

impl KnownHelper {
    /// All that can be asked for.
    pub const ALL: [Self; 5] = [
        Self::on("ftp", Protocol::Tcp, 21),
        Self::on("irc", Protocol::Tcp, 6667),
        Self::on("pptp", Protocol::Tcp, 1723),
        Self::on("sip", Protocol::Udp, 5060),
        Self::on("tftp", Protocol::Udp, 69),
    ];

    const fn on(name: &'static str, protocol: Protocol, port: u16) -> Self {
        Self { name, port: Ports { protocol, range: PortRange::single(port) } }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.range)
    }
}

impl Target {
    /// The inner host's addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v6 = self.v6.map(IpAddr::from);
        self.v4.map(IpAddr::from).into_iter().chain(v6)
    }
}

impl Plan {
    /// The services that need a knock.
    pub(crate) fn protected(&self) -> impl Iterator<Item = &Service> + Clone {
        self.services.iter().filter(|service| service.access == Access::Knock)
    }

    /// Ports of the protected services, of one protocol.
    pub(crate) fn protected_ports(&self, protocol: Protocol) -> Vec<PortRange> {
        let ports = self.protected().flat_map(|service| &service.ports);
        ports.filter(|ports| ports.protocol == protocol).map(|ports| ports.range).collect()
    }

    /// The sets that hold grants for a service, in the order of the rules.
    #[must_use]
    pub fn grant_sets(&self, service: ServiceName) -> Vec<GrantSet> {
        let set = |terms, v4, width| GrantSet {
            service,
            terms,
            v4,
            width,
            destination: self.destination,
        };
        let family = |v4, full, widths: &[u8]| {
            let exact = [Terms::Window, Terms::Once, Terms::Bound(0)];
            let exact = exact.map(|terms| set(terms, v4, full));
            let wide = widths
                .iter()
                .flat_map(|width| [Terms::Window, Terms::Once].map(|terms| set(terms, v4, *width)));
            exact.into_iter().chain(wide).collect::<Vec<_>>()
        };
        let mut sets =
            [family(true, 32, &self.widths4), family(false, 128, &self.widths6)].concat();
        // What can be used up comes last, so that nothing is used up for a packet
        // that another grant lets in.
        sets.sort_by_key(|set| set.terms == Terms::Once);
        sets
    }
}
