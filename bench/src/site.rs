//! Hosts on one bridged network: whoever asks, and the servers that are asked.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use spa_tests::Result;
use spa_tests::lab::{Host, Lab, Running};

/// UDP port of the knocks, of ours and of the peers.
pub(crate) const KNOCK_PORT: u16 = 62_201;
/// TCP port that is shut.
pub(crate) const SERVICE_PORT: u16 = 22;
/// Addresses of the client, of each family.
const ADDRESSES: u16 = 1000;

/// All of it. Whoever was let in once is never asked again: each try has an address of its own.
pub(crate) struct Site {
    // In this order: what runs on hosts ends before them, and they before the lab.
    _services: Vec<Running>,
    /// Where senders are.
    pub(crate) client: Host,
    /// Where servers are, in the order of their names.
    pub(crate) servers: Vec<Host>,
    _lab: Lab,
    used: [AtomicU16; 2],
}

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Site {
    /// A client, and servers with these names, each with something on its [`SERVICE_PORT`].
    pub(crate) fn new(names: &[&str]) -> Result<Self> {
        let lab = Lab::new()?;
        let client = lab.host("client")?;
        let servers = names.iter().map(|name| lab.host(name)).collect::<Result<Vec<_>>>()?;
        let hosts: Vec<_> = servers.iter().chain([&client]).collect();
        lab.lan(&hosts)?;
        let services =
            servers.iter().map(|host| host.echo_tcp(SERVICE_PORT)).collect::<Result<_>>()?;
        let site =
            Self { _services: services, client, servers, _lab: lab, used: Default::default() };
        site.widen()?;
        Ok(site)
    }

    /// Gives the client its addresses. Who has which is written down on both sides, so that
    /// nobody has to ask while it counts.
    fn widen(&self) -> Result {
        let mut own = String::new();
        for number in 0..ADDRESSES {
            // Writing to a String cannot fail.
            let _ = writeln!(own, "address add {}/16 dev eth0", v4(number));
            let _ = writeln!(own, "address add {}/64 dev eth0 nodad", v6(number));
        }
        self.client.ip(&own)?;
        let theirs = neighbours((0..ADDRESSES).flat_map(|n| [v4(n), v6(n)]), &link(&self.client)?);
        for server in &self.servers {
            server.ip(&format!("address add {}/16 dev eth0\n{theirs}", wide(server)?))?;
            let addresses = server.addresses().into_iter().chain([wide(server)?]);
            self.client.ip(&neighbours(addresses, &link(server)?))?;
        }
        Ok(())
    }

    /// An address that nobody has knocked for.
    pub(crate) fn fresh(&self, family: Family) -> IpAddr {
        let (used, address): (_, fn(u16) -> IpAddr) = match family {
            Family::V4 => (&self.used[0], v4),
            Family::V6 => (&self.used[1], v6),
        };
        address(used.fetch_add(1, Ordering::Relaxed) % ADDRESSES)
    }

    /// A server's address.
    pub(crate) fn address(&self, server: usize, family: Family) -> Result<IpAddr> {
        let host = &self.servers[server];
        if family == Family::V4 { wide(host) } else { host.v6() }
    }

    /// Where a server's knocks go.
    pub(crate) fn knock(&self, server: usize, family: Family) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.address(server, family)?, KNOCK_PORT))
    }

    /// What a server lets in.
    pub(crate) fn service(&self, server: usize, family: Family) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.address(server, family)?, SERVICE_PORT))
    }
}

/// In 10.7.0.0/16, as the client's addresses are.
fn wide(server: &Host) -> Result<IpAddr> {
    let IpAddr::V4(first) = server.v4()? else { return server.v4() };
    Ok(Ipv4Addr::new(10, 7, 255, first.octets()[3]).into())
}

fn v4(number: u16) -> IpAddr {
    let [high, low] = (number + 1).to_be_bytes();
    Ipv4Addr::new(10, 7, high, low).into()
}

fn v6(number: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 7, number + 1).into()
}

/// The hardware address of a host's first interface.
fn link(host: &Host) -> Result<String> {
    let text = host.run(["cat", "/sys/class/net/eth0/address"])?.ok()?;
    Ok(text.text().to_owned())
}

fn neighbours(addresses: impl IntoIterator<Item = IpAddr>, link: &str) -> String {
    let lines = addresses.into_iter().map(|address| {
        format!("neighbour replace {address} lladdr {link} dev eth0 nud permanent\n")
    });
    lines.collect()
}
