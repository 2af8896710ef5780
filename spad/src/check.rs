//! What `spad check` looks at beyond the configuration itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use spa_keys::{ServerIdentity, Store};

use crate::config::{Config, Interfaces};
use spa_proto::ServiceName;

/// Everything that would keep spad from starting, or a client from being
/// served, each with what to do.
#[must_use]
pub fn faults(config: &Config) -> Vec<String> {
    let identity = ServerIdentity::load(&config.keys_dir).err().map(|error| error.to_string());
    identity.into_iter().chain(records(config)).collect()
}

/// Whether there is a way to the inner hosts that services are sent on to.
///
/// # Errors
/// The first that there is none to, with the key in the file at `path`.
pub fn targets(config: &Config, path: &Path) -> Result<(), String> {
    for (name, address) in inner_hosts(config) {
        route_to(address).map_err(|error| {
            let file = path.display();
            format!(
                "{file}: [service.{name}] target: no route to {address} ({error}): add one, or \
                 correct the target"
            )
        })?;
    }
    Ok(())
}

/// What is worth knowing, and no fault.
#[must_use]
pub fn notices(config: &Config) -> Vec<String> {
    [absent(config), forwarding(config)].concat()
}

fn absent(config: &Config) -> Vec<String> {
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

/// Asks the kernel's routing tables; nothing is sent.
fn route_to(address: IpAddr) -> io::Result<()> {
    const ANY_PORT: u16 = 9;
    let from: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((from, 0))?.connect((address, ANY_PORT))
}

fn records(config: &Config) -> Vec<String> {
    let store = Store::open(&config.keys_dir);
    if !store.clients_dir().exists() {
        return Vec::new();
    }
    match store.clients() {
        Ok(listing) => listing.broken.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}
