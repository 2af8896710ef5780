//! Which of spad's services a port is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use spa_proto::ServiceName;

/// A protocol and a port, as fwknop writes them: `tcp/22`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    protocol: &'static str,
    number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.number)
    }
}

impl Port {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (protocol, number) = text.trim().split_once('/')?;
        let protocol = ["tcp", "udp"].into_iter().find(|one| protocol.eq_ignore_ascii_case(one))?;
        Some(Self { protocol, number: number.parse().ok().filter(|number| *number > 0)? })
    }

    /// What people call it.
    fn usual_name(self) -> String {
        let known = [
            ("tcp/22", "ssh"),
            ("tcp/25", "smtp"),
            ("udp/53", "dns"),
            ("tcp/80", "http"),
            ("tcp/443", "https"),
            ("tcp/993", "imaps"),
            ("udp/1194", "openvpn"),
            ("tcp/3306", "mysql"),
            ("tcp/3389", "rdp"),
            ("tcp/5432", "postgres"),
            ("tcp/5900", "vnc"),
            ("udp/51820", "wireguard"),
        ];
        let text = self.to_string();
        let found = known.into_iter().find(|(port, _)| *port == text);
        found.map_or_else(|| text.replace('/', "-"), |(_, name)| name.to_owned())
    }
}

/// The services of a configuration that are one port each, and those that it lacks.
#[derive(Debug, Default)]
pub(crate) struct Services {
    names: BTreeSet<String>,
    by_port: BTreeMap<Port, ServiceName>,
    missing: BTreeMap<Port, ServiceName>,
}

impl Services {
    /// Reads them out of `spad.toml`, of which the rest is left to `spad check`.
    ///
    /// # Errors
    /// Where it is no TOML.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let services = table.get("service").and_then(toml::Value::as_table);
        let mut all = Self::default();
        for (name, service) in services.into_iter().flatten() {
            all.names.insert(name.clone());
            if let Some((port, name)) = only_port(service).zip(name.parse().ok()) {
                all.by_port.insert(port, name);
            }
        }
        Ok(all)
    }

    /// The service that is this port and nothing else; one that is to be configured
    /// where there is none. A wider one would open more than fwknop did.
    pub(super) fn of(&mut self, port: Port) -> Option<ServiceName> {
        if let Some(name) = self.by_port.get(&port).or_else(|| self.missing.get(&port)) {
            return Some(*name);
        }
        let names = [port.usual_name(), port.to_string().replace('/', "-")];
        let name = names.into_iter().find(|name| !self.names.contains(name))?;
        self.names.insert(name.clone());
        let name = name.parse().ok()?;
        self.missing.insert(port, name);
        Some(name)
    }

    /// The one port of this machine that a service is; `None` for all others.
    pub(super) fn port_of(&self, service: &ServiceName) -> Option<Port> {
        self.by_port.iter().find(|(_, name)| *name == service).map(|(port, _)| *port)
    }

    /// What is to be written into `spad.toml`.
    pub(crate) fn missing(&self) -> String {
        let lines = self.missing.iter().map(|(port, name)| {
            let protocol = if port.protocol == "tcp" { "" } else { "protocol = \"udp\"\n" };
            format!("[service.{name}]\nport = {}\n{protocol}", port.number)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// The port of a service that has one, here and not on an inner host.
fn only_port(service: &toml::Value) -> Option<Port> {
    if service.get("target").is_some() {
        return None;
    }
    let protocol = service.get("protocol").and_then(toml::Value::as_str).unwrap_or("tcp");
    let listed = service.get("ports").and_then(toml::Value::as_array);
    let port = match (service.get("port"), listed.map(Vec::as_slice)) {
        (Some(port), None) => port,
        (None, Some([port])) => port,
        _ => return None,
    };
    let text = port.as_str().map_or_else(|| port.to_string(), str::to_owned);
    if text.contains('/') { Port::parse(&text) } else { Port::parse(&format!("{protocol}/{text}")) }
}
