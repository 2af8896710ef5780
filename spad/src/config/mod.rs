//! `spad.toml`: read, checked, and turned into types that cannot be wrong.

mod hooks;
mod known;
mod managed;
pub mod operations;
mod packet_filter;
mod parse;
mod service;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::firewall::plan::{self, Access, Labels, Managed, Mode, Plan, Ports, Target};
use crate::firewall::{Attachment, ChainName, Element, Options, Ruleset, rules};
use crate::kept;
pub use hooks::{HookCommand, HooksConfig};
use operations::Operations;
use rustix::process::getuid;
use spa_keys::Lasting;
use spa_keys::files::FileError;
use spa_proto::{GrantMode, Prefix, Service, ServiceName, Tolerance};

/// What an administrator has written, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where knocks are heard.
    pub interfaces: Interfaces,
    /// UDP port of the knocks; stays closed.
    pub listen_port: u16,
    /// Server key and client records.
    pub keys_dir: PathBuf,
    /// What must survive a crash of the machine.
    pub state_dir: PathBuf,
    /// What must survive a crash of the daemon: journal, lock, control socket.
    pub run_dir: PathBuf,
    /// How far a knock's time may be off.
    pub tolerance: Tolerance,
    /// Networks that need no knock.
    pub trusted: Vec<Prefix>,
    /// When the ruleset is in force.
    pub enforce: Enforce,
    /// Who the gatekeeper runs as.
    pub user: String,
    /// For those who operate the host.
    pub operations: Operations,
    /// How the packet filter is used.
    pub firewall: FirewallConfig,
    /// What is let in and through besides, in mode `managed`.
    pub managed: Managed,
    /// What is run when a grant is made and when it ends.
    pub hooks: Option<HooksConfig>,
    /// What is protected, by name; at least one.
    pub services: BTreeMap<ServiceName, ServiceConfig>,
}

/// Where knocks are heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// On every interface, those that come later included.
    Any,
    /// On those of these names, whenever they are there.
    Named(Vec<String>),
}

/// When the ruleset is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforce {
    /// As soon as spad runs.
    Always,
    /// Once an administrator has said so, and from then on.
    WhenEnabled,
}

/// How the packet filter is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallConfig {
    /// How much of it is ours.
    pub mode: Mode,
    /// Whether our table is to be owned, where the kernel knows how to.
    pub own: bool,
    /// Bits of the conntrack label that are ours.
    pub labels: Labels,
    /// Bit of the packet mark that is ours in mode `attach`.
    pub mark_bit: u8,
    /// How many grants there can be at once in each set: for each service,
    /// family, grant mode and width.
    pub set_size: u32,
    /// Whether a grant is for the address of this host that was knocked at.
    pub destination: bool,
    /// Widths of grants for more than one IPv4 address, the narrowest first.
    pub widths4: Vec<u8>,
    /// The same for IPv6.
    pub widths6: Vec<u8>,
    /// Whether a ban holds against a valid knock too.
    pub absolute_bans: bool,
    /// The chains of others that accept what is granted, in mode `attach`.
    pub attach: Vec<ChainName>,
}

impl Default for FirewallConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Guard,
            own: true,
            labels: Labels { granted: 95, cut: 94 },
            mark_bit: 30,
            set_size: 131_072,
            destination: true,
            widths4: vec![24],
            widths6: vec![64],
            absolute_bans: false,
            attach: Vec::new(),
        }
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Its ports; one at least, and no other service has any of them.
    pub ports: Vec<Ports>,
    /// How long grants last.
    pub lasting: Lasting,
    /// How a grant can be used that does not ask for a mode.
    pub mode: GrantMode,
    /// Who may connect.
    pub access: Access,
    /// The inner host behind it.
    pub target: Option<Target>,
    /// Whether connections end with the grant that they were made through.
    pub cut_on_expiry: bool,
}

impl ServiceConfig {
    /// Whether sources of this family get where they should: where an inner host
    /// has an address of the other one alone, they would be let in to this host.
    #[must_use]
    pub fn serves(&self, source: Prefix) -> bool {
        let v4 = source.address().is_ipv4();
        self.target.is_none_or(|target| target.addresses().any(|inner| inner.is_ipv4() == v4))
    }
}

/// Where spad keeps what it needs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// What must survive a crash of the machine.
    pub state: PathBuf,
    /// What must survive a crash of the daemon.
    pub run: PathBuf,
}

/// Why a configuration is not used.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    line: Option<usize>,
    what: String,
    /// Whether whoever asks has no right to read it.
    denied: bool,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`] says the file, the line, what was expected and what to do.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let fault = |(line, what)| ConfigError { path: path.to_owned(), line, what, denied: false };
        let text = read(path)?;
        only_ours(path).map_err(|what| fault((None, what)))?;
        Self::parse(&text).map_err(fault)
    }

    /// The run directory that the file names, or the default, however broken the
    /// rest is: a spad that runs can still be asked. The default also for those who have
    /// no right to read the file: a control-group may ask all the same.
    ///
    /// # Errors
    /// Where the file cannot be read for another reason.
    pub fn run_dir(path: &Path) -> Result<PathBuf, ConfigError> {
        match read(path) {
            Err(error) if error.denied => Ok(parse::run_dir("")),
            text => Ok(parse::run_dir(&text?)),
        }
    }

    /// The file that audit lines go to, whatever else is there.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn audit_file(path: &Path) -> Result<Option<PathBuf>, ConfigError> {
        Ok(parse::audit_file(&read(path)?))
    }

    /// Both directories, likewise; the defaults where the file cannot be read.
    #[must_use]
    pub fn directories(path: &Path) -> Directories {
        Self::directories_in(&read(path).unwrap_or_default())
    }

    /// The same of a text, whatever else is in it.
    #[must_use]
    pub fn directories_in(text: &str) -> Directories {
        Directories { state: parse::state_dir(text), run: parse::run_dir(text) }
    }

    /// Checks a text.
    ///
    /// # Errors
    /// The line, from 1, where there is one, and what is wrong.
    pub fn parse(text: &str) -> Result<Self, (Option<usize>, String)> {
        parse::config(text).map_err(|fault| (fault.line(text), fault.what))
    }

    /// What this configuration asks of the packet filter.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let firewall = &self.firewall;
        Plan {
            mode: firewall.mode,
            knock_port: self.listen_port,
            services: self.services.iter().map(planned).collect(),
            trusted: self.trusted.clone(),
            labels: firewall.labels,
            mark_bit: firewall.mark_bit,
            set_size: firewall.set_size,
            destination: firewall.destination,
            widths4: firewall.widths4.clone(),
            widths6: firewall.widths6.clone(),
            absolute_bans: firewall.absolute_bans,
            managed: self.managed.clone(),
        }
    }

    /// Its directories.
    #[must_use]
    pub fn own_directories(&self) -> Directories {
        Directories { state: self.state_dir.clone(), run: self.run_dir.clone() }
    }

    /// The ruleset of that.
    #[must_use]
    pub fn ruleset(&self) -> Ruleset {
        rules::ruleset(&self.plan())
    }

    /// Where other people's chains are to accept what is granted.
    #[must_use]
    pub fn attachment(&self) -> Attachment {
        Attachment::new(self.firewall.attach.clone(), self.plan())
    }

    /// How the table is to be held.
    #[must_use]
    pub fn options(&self) -> Options {
        Options { own: self.firewall.own, ..Options::default() }
    }

    /// Whether a grant is still for something that can be granted here.
    #[must_use]
    pub fn offers(&self, element: &Element) -> bool {
        let (source, firewall) = (element.source, &self.firewall);
        let protected =
            |service: &ServiceConfig| service.access == Access::Knock && service.serves(source);
        let width = source.prefix_len();
        let known = match source.address().is_ipv4() {
            true => width == 32 || firewall.widths4.contains(&width),
            false => width == 128 || firewall.widths6.contains(&width),
        };
        self.services.get(&element.service).is_some_and(protected)
            && known
            && element.destination.is_some() == firewall.destination
    }

    /// The service that a knock names, by name or by protocol and port.
    #[must_use]
    pub fn service(&self, asked: Service) -> Option<(ServiceName, &ServiceConfig)> {
        let named = |(name, service): &(&ServiceName, &ServiceConfig)| match asked {
            Service::Named(asked) => asked == **name,
            Service::Port(protocol, port) => service
                .ports
                .iter()
                .any(|ports| ports.protocol == protocol && ports.range.contains(port)),
        };
        self.services.iter().find(named).map(|(name, service)| (*name, service))
    }

    /// Names of the services that need a knock.
    pub fn protected(&self) -> impl Iterator<Item = &ServiceName> {
        let knock = |(_, service): &(_, &ServiceConfig)| service.access == Access::Knock;
        self.services.iter().filter(knock).map(|(name, _)| name)
    }

    /// The services that need a knock with their ports, as `ssh (tcp/22)`.
    #[must_use]
    pub fn protected_ports(&self) -> Vec<String> {
        self.protected().map(|name| self.with_ports(name)).collect()
    }

    /// A service as `ssh (tcp/22)`.
    #[must_use]
    pub fn with_ports(&self, name: &ServiceName) -> String {
        format!("{name} ({})", self.ports(name).join(", "))
    }

    /// The ports of a service, as people write them; none if it is not there.
    #[must_use]
    pub fn ports(&self, service: &ServiceName) -> Vec<String> {
        let ports = self.services.get(service).map(|service| service.ports.as_slice());
        ports.unwrap_or_default().iter().map(Ports::to_string).collect()
    }
}

fn planned((name, service): (&ServiceName, &ServiceConfig)) -> plan::Service {
    plan::Service {
        name: *name,
        ports: service.ports.clone(),
        access: service.access,
        target: service.target,
    }
}

/// Who can write the configuration decides what is shut.
fn only_ours(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|e| format!("cannot be looked at: {e}"))?;
    let path = path.display();
    match kept::is_ours_alone(&metadata) {
        true => Ok(()),
        false => {
            Err(format!("others can write to it: run chown root {path} and chmod go-w {path}"))
        }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let fail = |error: std::io::Error| ConfigError {
        path: path.to_owned(),
        line: None,
        denied: error.kind() == std::io::ErrorKind::PermissionDenied && !getuid().is_root(),
        what: FileError::foreign(path, &error)
            .map_or_else(|| format!("cannot be read: {error}"), |foreign| foreign.to_string()),
    };
    std::fs::read_to_string(path).map_err(fail)
}

impl ConfigError {
    /// Whether whoever asks has no right to read the file.
    #[must_use]
    pub fn denied(&self) -> bool {
        self.denied
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
