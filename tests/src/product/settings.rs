//! `spad.toml` as a value.

use std::fmt::Write;
use std::path::Path;

use super::KNOCK_PORT;

/// One `[service.NAME]`.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// Its port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// How long a grant lasts that asks for nothing else.
    pub ttl: &'static str,
    /// How long a grant lasts at most.
    pub max_ttl: &'static str,
}

impl Service {
    /// SSH on port 22, grants of 30 seconds.
    pub const SSH: Self =
        Self { name: "ssh", port: 22, protocol: "tcp", ttl: "30s", max_ttl: "5m" };
}

/// What the scenarios vary in `spad.toml`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where knocks are heard.
    pub interfaces: Vec<&'static str>,
    /// UDP port of the knocks.
    pub listen_port: u16,
    /// How far a client's clock may be off.
    pub tolerance: &'static str,
    /// Networks that need no knock.
    pub trusted: Vec<String>,
    /// What is protected.
    pub services: Vec<Service>,
    /// More keys at the top, as they stand in the file.
    pub top: String,
    /// More tables, as they stand in the file: `[firewall]`, other services.
    pub more: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interfaces: vec!["any"],
            listen_port: KNOCK_PORT,
            tolerance: "30s",
            trusted: vec![],
            services: vec![Service::SSH],
            top: String::new(),
            more: String::new(),
        }
    }
}

impl Settings {
    /// The defaults with other services.
    pub fn with_services(services: &[Service]) -> Self {
        Self { services: services.to_vec(), ..Self::default() }
    }

    /// The text of the file, for a server whose directories are in `dir`.
    pub fn to_toml(&self, dir: &Path) -> String {
        let dir = dir.display();
        let mut text = format!(
            "interfaces = {:?}\nlisten-port = {}\nkeys-dir = \"{dir}/keys\"\n\
             state-dir = \"{dir}/state\"\nrun-dir = \"/run/spad\"\ntolerance = \"{}\"\n\
             trusted = {:?}\n",
            self.interfaces, self.listen_port, self.tolerance, self.trusted,
        );
        text.push_str(&self.top);
        for service in &self.services {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n[service.{}]\nport = {}\nprotocol = \"{}\"\nttl = \"{}\"\nmax-ttl = \"{}\"\n",
                service.name, service.port, service.protocol, service.ttl, service.max_ttl,
            );
        }
        text.push('\n');
        text.push_str(&self.more);
        text
    }
}
