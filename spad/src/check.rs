//! What `spad check` looks at beyond the configuration itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use spa_keys::{ClientName, ClientRecord, ServerIdentity, Store};

use crate::config::{Config, Interfaces};
use crate::control::report;
use crate::firewall::plan::Access;
use crate::firewall::{AttachError, Firewall, FirewallError, Mode, Obstacle, Survey};
use crate::hooks::Checked;
use crate::kept;
use crate::route;
use spa_proto::ServiceName;

/// Where the kernel lists the tables of the old iptables, if it has been used.
const LEGACY: [&str; 2] = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];

/// How many clients are named that have one thing in common.
const NAMED: usize = 5;

/// What `spad check` has to say.
#[derive(Debug, Default)]
pub struct Findings {
    /// What would keep spad from starting, or a client from being served, each
    /// with what to do.
    pub faults: Vec<String>,
    /// What is worth knowing, and no fault.
    pub notices: Vec<String>,
}

/// Whether there is a way to the inner hosts that services are sent on to.
///
/// # Errors
/// The first that there is none to, with the key in the file at `path`.
pub fn targets(config: &Config, path: &Path) -> Result<(), String> {
    for (name, address) in inner_hosts(config) {
        route::look_up(address).map_err(|error| {
            let file = path.display();
            format!(
                "{file}: [service.{name}] target: no route to {address} ({error}): add one, or \
                 correct the target"
            )
        })?;
    }
    Ok(())
}

/// Hooks, if there are any and nobody but root decides what they do.
///
/// # Errors
/// What is wrong with them in the file at `path`.
pub fn hooks(config: &Config, path: &Path) -> Result<Option<Checked>, String> {
    Checked::of(config).map_err(|what| format!("{}: {what}", path.display()))
}

/// The directory of the audit's file, if there is one: whoever can write there can put
/// another file in its place. One that is not there yet is no fault.
///
/// # Errors
/// Who could, and what to do, with the key in the file at `path`.
pub fn audit_dir(config: &Config, path: &Path) -> Result<(), String> {
    let dir = config.operations.audit_file.as_deref().and_then(Path::parent);
    let Some((dir, metadata)) = dir.and_then(|dir| Some((dir, std::fs::metadata(dir).ok()?)))
    else {
        return Ok(());
    };
    match kept::is_ours_alone(&metadata) {
        true => Ok(()),
        false => Err(format!(
            "{}: audit-file: others can write to {dir}: run chown root {dir} and chmod go-w {dir}, \
             or name a file elsewhere",
            path.display(),
            dir = dir.display()
        )),
    }
}

/// Looks at keys, records, interfaces, and at the chains of others.
#[must_use]
pub fn findings(config: &Config, path: &Path) -> Findings {
    let identity = ServerIdentity::load(&config.keys_dir);
    let ports = identity.as_ref().ok().and_then(|identity| ports(config, identity.port));
    let (unread, unserved) = records(config);
    let mut findings = Findings {
        faults: identity
            .err()
            .map(|error| error.to_string())
            .into_iter()
            .chain(unread)
            .chain(targets(config, path).err())
            .chain(hooks(config, path).err())
            .chain(audit_dir(config, path).err())
            .collect(),
        notices: ports
            .into_iter()
            .chain(unserved)
            .chain(interfaces(config))
            .chain(forwarding(config))
            .collect(),
    };
    match Firewall::open() {
        Ok(firewall) => others(&firewall, config, path, &mut findings),
        Err(error) => findings.notices.extend(report::Foreign::unreadable(&error).notices),
    }
    findings
}

/// Where clients knock at another port than the one that is heard.
fn ports(config: &Config, told: u16) -> Option<String> {
    let heard = config.listen_port;
    (told != heard).then(|| {
        format!(
            "tokens tell clients to knock at UDP port {told} (port in server.toml), and knocks are \
             heard at {heard} (listen-port): right only where something in between translates that"
        )
    })
}

fn interfaces(config: &Config) -> Vec<String> {
    let Interfaces::Named(names) = &config.interfaces else { return Vec::new() };
    let absent = |name: &&String| nix::net::if_::if_nametoindex(name.as_str()).is_err();
    let notice = |name| {
        format!("interface {name} is not there (yet): knocks are heard on it as soon as it comes")
    };
    names.iter().filter(absent).map(notice).collect()
}

/// What keeps this host from sending anything on to inner hosts.
#[must_use]
pub fn forwarding(config: &Config) -> Vec<String> {
    let families =
        [(true, "net.ipv4.ip_forward"), (false, "net.ipv6.conf.all.forwarding")].into_iter();
    let off = families.filter_map(|(v4, key)| {
        let (name, address) = inner_hosts(config).find(|(_, address)| address.is_ipv4() == v4)?;
        let file = Path::new("/proc/sys").join(key.replace('.', "/"));
        let setting = std::fs::read_to_string(file).ok()?;
        (setting.trim() == "0").then(|| {
            format!(
                "forwarding is switched off: nobody reaches {address}, the target of service \
                 '{name}'; switch it on with: sysctl -w {key}=1"
            )
        })
    });
    off.collect()
}

fn inner_hosts(config: &Config) -> impl Iterator<Item = (&ServiceName, IpAddr)> {
    let targets =
        config.services.iter().filter_map(|(name, service)| Some((name, service.target?)));
    targets.flat_map(|(name, target)| target.addresses().map(move |address| (name, address)))
}

/// What is wrong with records; and what clients may knock for that nobody is let in to by a knock.
fn records(config: &Config) -> (Vec<String>, Vec<String>) {
    let store = Store::open(&config.keys_dir);
    if !store.clients_dir().exists() {
        return Default::default();
    }
    match store.clients() {
        Ok(listing) => {
            let broken = listing.broken.iter().map(ToString::to_string).collect();
            (broken, unserved(config, &listing.records))
        }
        Err(error) => (vec![error.to_string()], Vec::new()),
    }
}

fn unserved(config: &Config, records: &[ClientRecord]) -> Vec<String> {
    let opens = |name: &ServiceName| {
        config.services.get(name).is_some_and(|service| service.access == Access::Knock)
    };
    let mut clients: BTreeMap<ServiceName, Vec<&ClientName>> = BTreeMap::new();
    for record in records {
        for service in record.services().into_iter().filter(|service| !opens(service)) {
            clients.entry(service).or_default().push(&record.name);
        }
    }
    let notice = |(service, clients): (ServiceName, Vec<&ClientName>)| {
        let named: Vec<_> = clients.iter().take(NAMED).map(|name| name.as_str()).collect();
        let more = match clients.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = named.join(", ");
        format!(
            "no knock opens '{service}' here, for which {named}{more} may knock: unknown-service"
        )
    };
    clients.into_iter().map(notice).collect()
}

fn others(firewall: &Firewall, config: &Config, path: &Path, findings: &mut Findings) {
    if let Err(error) = firewall.attachable(&config.attachment()) {
        findings.faults.push(not_attachable(path, &error));
    }
    match foreign(firewall, config) {
        Ok(foreign) => {
            findings.notices.extend(foreign.chains.iter().map(ToString::to_string));
            findings.notices.extend(foreign.notices);
        }
        Err(error) => findings.notices.extend(report::Foreign::unreadable(&error).notices),
    }
}

/// The same words wherever it is found out.
#[must_use]
pub fn not_attachable(path: &Path, error: &AttachError) -> String {
    format!("{}: attach in [firewall]: {error}", path.display())
}

/// What the chains of others would do to the services, and what to do about it.
///
/// # Errors
/// If they cannot be listed.
pub fn foreign(firewall: &Firewall, config: &Config) -> Result<report::Foreign, FirewallError> {
    let Survey { mut obstacles, unguarded } = firewall.survey(&config.plan())?;
    // Those have our rule, or will; if they lack it, that is said elsewhere.
    obstacles.retain(|obstacle| !config.firewall.attach.contains(&obstacle.chain));
    let open = unguarded.iter().map(|(service, family)| {
        format!("no chain of others seems to drop {service} over {family} for those without a grant, and in mode attach spad does not either")
    });
    let notices = advice(config, &obstacles).into_iter().chain(open).chain(legacy()).collect();
    Ok(report::Foreign { chains: obstacles.iter().map(obstacle).collect(), notices })
}

fn obstacle(obstacle: &Obstacle) -> report::ForeignChain {
    report::ForeignChain {
        chain: obstacle.chain.to_string(),
        hook: obstacle.hook().into(),
        priority: obstacle.priority,
        policy: obstacle.policy().into(),
        services: obstacle.services.iter().map(ToString::to_string).collect(),
    }
}

/// How what is granted gets through these chains.
fn advice(config: &Config, obstacles: &[Obstacle]) -> Option<String> {
    let chains = config.firewall.attach.iter().chain(obstacles.iter().map(|o| &o.chain));
    let chains: Vec<_> = chains.map(|chain| format!("\"{chain}\"")).collect();
    let line = format!("attach = [{}]", chains.join(", "));
    match config.firewall.mode {
        _ if obstacles.is_empty() => None,
        Mode::Guard => Some(format!(
            "for grants to pass these chains, write in [firewall]: mode = \"attach\" and {line}"
        )),
        Mode::Attach => Some(format!("for grants to pass them all, write in [firewall]: {line}")),
        Mode::Managed => Some(
            "mode managed is meant to be the only ruleset: take the others out of use".to_owned(),
        ),
    }
}

/// The old iptables keeps its rules where nftables cannot see them.
fn legacy() -> Option<String> {
    let lists = LEGACY.map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let tables: Vec<_> = lists.iter().flat_map(|list| list.split_whitespace()).collect();
    (!tables.is_empty()).then(|| {
        format!(
            "iptables-legacy has tables ({}), whose rules cannot be seen from here: look with iptables-legacy-save",
            tables.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn where_others_can_write_is_no_place_for_the_audit() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.jsonl");
        let text = format!("audit-file = {file:?}\n[service.ssh]\nport = 22\n");
        let config = Config::parse(&text).unwrap();
        let judged = || audit_dir(&config, Path::new("/etc/spad/spad.toml"));
        assert_eq!(judged(), Ok(()));
        let allow = |mode| std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode));
        allow(0o770).unwrap();
        assert!(judged().unwrap_err().contains("chmod go-w"), "{:?}", judged());
        allow(0o750).unwrap();
        assert_eq!(judged(), Ok(()));
    }
}
