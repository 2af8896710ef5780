//! Who listens on this host, and what that says about what is shut: a service that is
//! shut and not there, and ssh on a port that no service has.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::IpAddr;

use spa_proto::{Protocol, Service, ServiceName};

use crate::config::{Config, ServiceConfig};
use crate::firewall::plan::{Access, Ports};
use crate::firewall::{Mode, end};

/// As the kernel lists sockets, for each protocol and family.
const TABLES: [(Protocol, &str); 4] = [
    (Protocol::Tcp, "tcp"),
    (Protocol::Tcp, "tcp6"),
    (Protocol::Udp, "udp"),
    (Protocol::Udp, "udp6"),
];
/// `TCP_LISTEN`, and what a UDP socket is in that no one end is given to.
const LISTENING: [(Protocol, &str); 2] = [(Protocol::Tcp, "0A"), (Protocol::Udp, "07")];
/// What ssh's daemons are called.
const SSH: [&str; 2] = ["sshd", "dropbear"];
/// Where ssh is, whoever listens for it.
const SSH_PORT: u16 = 22;

/// A socket that waits for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    /// The name of the program, where it is known.
    program: Option<String>,
}

/// All of this host, as far as they can be seen.
pub(crate) fn here() -> Vec<Listener> {
    let programs = programs();
    let read = |(protocol, table): (Protocol, &str)| {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        text.lines().filter_map(|line| listener(protocol, line, &programs)).collect::<Vec<_>>()
    };
    TABLES.into_iter().flat_map(read).collect()
}

/// A line of /proc/net/tcp or udp: number, local end, remote end, state, five more, inode, …
fn listener(protocol: Protocol, line: &str, programs: &HashMap<u64, String>) -> Option<Listener> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let (local, state) = (end(fields.get(1)?)?, *fields.get(3)?);
    let inode = fields.get(9)?.parse::<u64>().ok()?;
    LISTENING.contains(&(protocol, state)).then(|| Listener {
        protocol,
        address: local.ip(),
        port: local.port(),
        program: programs.get(&inode).cloned(),
    })
}

/// Whose each socket is, by inode.
fn programs() -> HashMap<u64, String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let sockets = processes.flat_map(|process| {
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let links = open.filter_map(|open| fs::read_link(open.path()).ok());
        let inodes = links.filter_map(|link| socket(link.to_str()?));
        inodes.map(|inode| (inode, name.trim_end().to_owned())).collect::<Vec<_>>()
    });
    sockets.collect()
}

/// `socket:[4711]`.
fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// What is worth knowing; `own` is the port that the caller's own session came in by.
pub(crate) fn advice(config: &Config, listeners: &[Listener], own: Option<u16>) -> Vec<String> {
    // Who listens on the loopback interface alone, nobody else reaches.
    let heard: Vec<_> = listeners.iter().filter(|one| !one.address.is_loopback()).collect();
    let idle = idle(config, &heard).map(|(name, ports)| {
        format!("nobody listens on {ports} now, which service '{name}' shuts: unless it is passed on elsewhere, as \
             to a container, a grant opens nothing there")
    });
    let ssh = unprotected_ssh(config, &heard, own);
    idle.chain(ssh.iter().filter_map(|port| astray(config, *port))).collect()
}

/// Single ports of services of this host itself that nobody listens on. Of a range, only
/// what is in use is open at any time.
fn idle<'a>(
    config: &'a Config,
    heard: &'a [&Listener],
) -> impl Iterator<Item = (&'a ServiceName, Ports)> {
    let own = |(_, service): &(_, &ServiceConfig)| {
        service.access == Access::Knock && service.target.is_none()
    };
    let ports = config
        .services
        .iter()
        .filter(own)
        .flat_map(|(name, service)| service.ports.iter().map(move |ports| (name, *ports)));
    ports.filter(|(_, ports)| {
        let on = |one: &&Listener| one.protocol == ports.protocol && ports.range.contains(one.port);
        ports.range.first() == ports.range.last() && !heard.iter().any(on)
    })
}

/// Ports that ssh can be reached by and that no service has.
fn unprotected_ssh(config: &Config, heard: &[&Listener], own: Option<u16>) -> BTreeSet<u16> {
    let is_ssh = |one: &&&Listener| {
        let named = one.program.as_deref().is_some_and(|program| SSH.contains(&program));
        one.protocol == Protocol::Tcp && (named || one.port == SSH_PORT)
    };
    let ports = heard.iter().filter(is_ssh).map(|one| one.port).chain(own);
    ports.filter(|port| config.service(Service::Port(Protocol::Tcp, *port)).is_none()).collect()
}

/// What becomes of such a port.
fn astray(config: &Config, port: u16) -> Option<String> {
    let fate = match config.firewall.mode {
        Mode::Guard => "it STAYS OPEN to everybody",
        Mode::Managed => "mode managed drops it for everybody, knock or not",
        // What is shut there, others shut.
        Mode::Attach => return None,
    };
    Some(format!(
        "ssh is on port {port}, which no service has: {fate}; add it to a service's ports"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(protocol: Protocol, address: &str, port: u16, program: &str) -> Listener {
        let program = (!program.is_empty()).then(|| program.to_owned());
        Listener { protocol, address: address.parse().unwrap(), port, program }
    }

    fn said(mode: &str, listeners: &[Listener], own: Option<u16>) -> String {
        let text = format!(
            "[firewall]\nmode = \"{mode}\"\n[service.ssh]\nport = 22\n\
             [service.mosh]\nports = [\"udp/60000-61000\"]\n[service.vpn]\nport = 500\nprotocol = \"udp\"\n\
             [service.nas]\nport = 4443\ntarget = \"10.0.0.5:443\"\n\
             [service.web]\nport = 443\npublic = true\n"
        );
        advice(&Config::parse(&text).unwrap(), listeners, own).join("\n")
    }

    #[test]
    fn a_port_that_is_shut_and_that_nobody_listens_on_is_told() {
        use Protocol::{Tcp, Udp};
        let both = [on(Tcp, "::", 22, "sshd"), on(Udp, "0.0.0.0", 500, "")];
        assert_eq!(said("guard", &both, None), "", "neither ranges, inner hosts' nor public ones");
        let text = said("guard", &both[..1], None);
        assert!(
            text.contains("udp/500 now, which service 'vpn'")
                && !text.contains("22")
                && text.contains("unless"),
            "{text}"
        );
        let local = [on(Tcp, "127.0.0.1", 22, "sshd"), on(Tcp, "0.0.0.0", 500, "")];
        assert_eq!(said("guard", &local, None).matches("nobody listens").count(), 2);
    }

    #[test]
    fn ssh_on_a_port_that_no_service_has_is_told() {
        use Protocol::{Tcp, Udp};
        let mut all = vec![on(Tcp, "::", 22, "sshd"), on(Udp, "::", 500, "")];
        all.push(on(Tcp, "0.0.0.0", 2222, "sshd"));
        all.push(on(Tcp, "::", 2222, "sshd"));
        all.push(on(Tcp, "::1", 2223, "sshd"));
        let text = said("guard", &all, None);
        assert_eq!(text.matches("ssh is on port").count(), 1, "{text}");
        assert!(text.contains("port 2222, which no service has: it STAYS OPEN"), "{text}");
        assert!(said("managed", &all, None).contains("knock or not"));
        assert_eq!(said("guard", &all[..2], Some(22)), "", "the caller's own, protected");
        assert!(said("guard", &all[..2], Some(2022)).contains("port 2022"));
        assert_eq!(said("guard", &all[..2], Some(443)), "", "public on purpose");
    }

    #[test]
    fn listeners_are_read_as_the_kernel_prints_them() {
        let programs = HashMap::from([(4711, "sshd".to_owned())]);
        let read = |protocol, line| listener(protocol, line, &programs);
        let line = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        assert_eq!(read(Protocol::Tcp, line), Some(on(Protocol::Tcp, "0.0.0.0", 22, "sshd")));
        assert_eq!(read(Protocol::Udp, line), None, "that is no state of a UDP socket");
        let talks = line.replace(" 0A ", " 01 ");
        assert_eq!(read(Protocol::Tcp, &talks), None);
        let udp = line.replace(" 0A ", " 07 ").replace("4711", "4712");
        assert_eq!(read(Protocol::Udp, &udp), Some(on(Protocol::Udp, "0.0.0.0", 22, "")));
        assert_eq!((socket("socket:[4711]"), socket("/dev/null")), (Some(4711), None));
    }

    #[test]
    fn a_socket_of_this_very_program_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found =
            here().into_iter().find(|one| one.port == port && one.protocol == Protocol::Tcp);
        assert!(found.is_some_and(|one| one.program.is_some()));
    }
}
