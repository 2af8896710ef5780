//! What `spad check` looks at beyond the configuration itself.

use spa_keys::{ServerIdentity, Store};

use crate::config::{Config, Interfaces};

/// Everything that would keep spad from starting, or a client from being
/// served, each with what to do.
#[must_use]
pub fn faults(config: &Config) -> Vec<String> {
    let identity = ServerIdentity::load(&config.keys_dir).err().map(|error| error.to_string());
    identity.into_iter().chain(records(config)).collect()
}

/// What is worth knowing, and no fault.
#[must_use]
pub fn notices(config: &Config) -> Vec<String> {
    let Interfaces::Named(names) = &config.interfaces else { return Vec::new() };
    let absent = |name: &&String| nix::net::if_::if_nametoindex(name.as_str()).is_err();
    let notice = |name| {
        format!("interface {name} is not there (yet): knocks are heard on it as soon as it comes")
    };
    names.iter().filter(absent).map(notice).collect()
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
