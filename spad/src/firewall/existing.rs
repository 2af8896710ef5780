//! What is there before the first ruleset: TCP connections to protected ports
//! live on, wherever they are found, in conntrack or among this host's own
//! sockets; UDP flows begin anew, but for those that have a label.

use super::conntrack::{self, Flow};
use super::element::Connection;
use super::error::FirewallError;
use super::netlink::Channel;
use super::ruleset::PortRange;
use spa_proto::Protocol;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};

const IPV4_SOCKETS: &str = "/proc/thread-self/net/tcp";
const IPV6_SOCKETS: &str = "/proc/thread-self/net/tcp6";
/// ESTABLISHED, FIN_WAIT1, FIN_WAIT2 and CLOSE_WAIT: one side at least still talks.
const TALKING: [&str; 4] = ["01", "04", "05", "08"];

/// The connections found, and what could not be looked at.
pub(crate) fn connections(
    channel: &Channel,
    ports: &[PortRange],
) -> (BTreeSet<Connection>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut found = BTreeSet::new();
    match conntrack::flows(channel, |flow| flow.established) {
        Ok(flows) => found.extend(flows.into_iter().map(|flow| flow.ends)),
        Err(e) => warnings.push(format!("connections in conntrack were not looked at: {e}")),
    }
    for path in [IPV4_SOCKETS, IPV6_SOCKETS] {
        match fs::read_to_string(path) {
            Ok(table) => found.extend(table.lines().filter_map(socket)),
            Err(e) => warnings.push(format!("connections in {path} were not looked at: {e}")),
        }
    }
    found.retain(|connection| is_to(connection, ports));
    (found, warnings)
}

/// Makes conntrack forget the UDP flows to these ports that have no label, also those through and
/// out of this host: their next packet begins them anew. It cannot put one on an entry that was
/// made while labels were not in use, so that such a flow would end with its grant. One that has
/// a label has room for ours: it was granted, or cut, before.
pub(crate) fn forget_udp(channel: &Channel, ports: &[PortRange]) -> Result<(), FirewallError> {
    let udp = Protocol::Udp.number();
    let wanted = |f: &Flow| f.protocol == udp && !f.labelled && is_to(&f.ends, ports);
    let flows = conntrack::flows(channel, wanted)?;
    flows.into_iter().try_for_each(|flow| conntrack::forget(channel, flow))
}

/// Whether a connection is to one of these ports.
pub(crate) fn is_to(connection: &Connection, ports: &[PortRange]) -> bool {
    ports.iter().any(|range| range.contains(connection.destination.port()))
}

/// A line of /proc/net/tcp: number, local end, remote end, state, …
fn socket(line: &str) -> Option<Connection> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    if !TALKING.contains(&state) {
        return None;
    }
    Some(Connection { source: end(remote)?, destination: end(local)? })
}

/// An end of a socket as /proc/net has it: address and port in hexadecimal; the address in words of host byte order.
pub(crate) fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u8>> = address
        .as_bytes()
        .chunks(8)
        .map(word)
        .collect::<Option<Vec<_>>>()
        .map(|words| words.concat());
    let address = match words?.as_slice() {
        bytes if bytes.len() == 4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        bytes => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(address, port))
}

fn word(digits: &[u8]) -> Option<[u8; 4]> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_as_the_kernel_prints_them() {
        let v4 =
            "   1: 0100000A:0016 0200000A:C350 01 00000000:00000000 00:00000000 00000000 0 0 1";
        let found = socket(v4).map(|c| (c.source.to_string(), c.destination.to_string()));
        assert_eq!(found, Some(("10.0.0.2:50000".into(), "10.0.0.1:22".into())));
    }

    #[test]
    fn ipv4_in_an_ipv6_socket_is_ipv4() {
        let mapped = "   0: 0000000000000000FFFF00000100000A:0016 0000000000000000FFFF00000200000A:C350 08 0";
        let found = socket(mapped).map(|c| c.source.to_string());
        assert_eq!(found, Some("10.0.0.2:50000".into()));
    }

    #[test]
    fn sockets_that_listen_or_open_are_none() {
        for state in ["0A", "02", "03", "06"] {
            assert_eq!(socket(&format!("0: 0100000A:0016 0200000A:C350 {state} 0")), None);
        }
    }

    #[test]
    fn nonsense_is_none() {
        for line in
            ["", "  sl  local_address rem_address   st", "0: x:y z 01", "0: 01:0016 02:C350 01"]
        {
            assert_eq!(socket(line), None, "{line}");
        }
    }
}
