//! Who has connected to public services with a rate, as the kernel remembers it.

use super::apply::Firewall;
use super::elements::{self, delete_if_there, elements_of};
use super::error::FirewallError;
use super::requests;
use super::rules::rates;
use super::transaction::Transaction;
use spa_proto::{Prefix, ServiceName};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A source that a service remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// An IPv4 address, or an IPv6 network.
    pub network: Prefix,
    /// When its count begins anew.
    pub left: Duration,
}

impl Source {
    /// As people write it.
    #[must_use]
    pub fn text(&self) -> String {
        match self.network.address() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(_) => self.network.to_string(),
        }
    }
}

impl Firewall {
    /// The sources that a public service with a rate remembers.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn rated(&self, service: ServiceName) -> Result<Vec<Source>, FirewallError> {
        let mut sources = Vec::new();
        for set in rates::set_names(service) {
            let found = elements::list(&self.channel, &set)?;
            sources.extend(found.iter().filter_map(|(key, left)| source(key, *left)));
        }
        Ok(sources)
    }

    /// Lets one source of a service, or all of them, begin anew.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn forget_rated(
        &mut self,
        service: ServiceName,
        source: Option<IpAddr>,
    ) -> Result<(), FirewallError> {
        let [v4, v6] = rates::set_names(service);
        match source.map(|source| rates::source(source).address()) {
            Some(IpAddr::V4(a)) => delete_if_there(&self.channel, &v4, a.octets().to_vec()),
            Some(IpAddr::V6(a)) => delete_if_there(&self.channel, &v6, a.octets().to_vec()),
            None => {
                let mut transaction = Transaction::new();
                for set in [v4, v6] {
                    transaction.push(elements_of(&set), requests::flush_set(&set))?;
                }
                self.channel.commit(transaction)
            }
        }
    }
}

fn source(key: &[u8], left: Option<Duration>) -> Option<Source> {
    let v4 = <[u8; 4]>::try_from(key).ok().map(|key| IpAddr::from(Ipv4Addr::from(key)));
    let v6 = <[u8; 16]>::try_from(key).ok().map(|key| IpAddr::from(Ipv6Addr::from(key)));
    Some(Source { network: rates::source(v4.or(v6)?), left: left.unwrap_or(Duration::MAX) })
}
