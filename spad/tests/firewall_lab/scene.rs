//! A client, a server, and what one tries with the other.

use super::{Host, Net, Probe, cable};
use std::net::IpAddr;
use std::time::Duration;

pub const MINUTE: Duration = Duration::from_secs(60);
pub const SERVER: [&str; 2] = ["10.0.1.1:22", "[2001:db8:1::1]:22"];
pub const CLIENT: [&str; 2] = ["10.0.1.2", "2001:db8:1::2"];

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The client and the server, by family.
pub fn ends() -> [(IpAddr, IpAddr); 2] {
    [(ip("10.0.1.2"), ip("10.0.1.1")), (ip("2001:db8:1::2"), ip("2001:db8:1::1"))]
}

/// So that the client's kernel does not answer the answers.
pub fn make_deaf(host: &Host) {
    host.nft("table inet deaf { chain pre { type filter hook prerouting priority -400; \n tcp sport 22 drop \n }\n }\n");
}

/// How many of the packets that the client sends get past the server's rules.
pub fn arrived(net: &Net, probe: &Probe<'_>, packets: &[Vec<u8>]) -> u64 {
    let before = probe.count("tcp");
    net.send(probe, &net.client, packets);
    probe.count("tcp") - before
}

/// A host behind the server, which routes for it.
pub fn inner_host(net: &Net) -> Host {
    let inner = Host::new();
    let addresses = ["10.0.9.1/24 2001:db8:9::1/64", "10.0.9.2/24 2001:db8:9::2/64"];
    cable((&net.server, "s9", addresses[0]), (&inner, "c0", addresses[1]));
    inner.sh("ip route add default via 10.0.9.1; ip -6 route add default via 2001:db8:9::1");
    net.server.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    inner
}
