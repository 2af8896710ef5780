//! What a client may do: of its own, and as one of a person's devices.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use spa_proto::{Prefix, ServiceName, Timestamp};

use crate::hours::Hours;
use crate::limits::{Modes, Widest};
use crate::record::{AddressRule, ClientName};

/// What a client may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// What it may knock for, the default first, none twice. Empty for a person:
    /// whatever its devices may; for a device: whatever its person may.
    pub services: Vec<ServiceName>,
    /// How long its grants last if it does not say, in place of the service's own.
    pub ttl: Option<Duration>,
    /// How long they last at most, in place of the service's own.
    pub max_ttl: Option<Duration>,
    /// For which addresses; empty: any.
    pub sources: Vec<Prefix>,
    /// At which times; empty: any.
    pub hours: Vec<Hours>,
    /// For which kind of address.
    pub address: AddressRule,
    /// Which grant modes it may ask for.
    pub modes: Modes,
    /// How wide a prefix it may be granted.
    pub widest: Widest,
}

/// A person: what all of its devices may do, each as far as its own record
/// allows it too. There need not be one for every device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Its name, without a device.
    pub name: ClientName,
    /// When it was first written down.
    pub created: Timestamp,
    /// Up to when any of its devices may knock.
    pub expires: Option<Timestamp>,
    /// Since when none of them may.
    pub disabled: Option<Timestamp>,
    /// What all of them may do.
    pub policy: Policy,
}

impl Person {
    /// Without any limit.
    #[must_use]
    pub fn new(name: ClientName, created: Timestamp) -> Self {
        let policy = Policy { widest: Widest::ANY, ..Policy::default() };
        Self { name, created, expires: None, disabled: None, policy }
    }

    /// In place of one that cannot be read: none of its devices may do anything.
    #[must_use]
    pub fn shut(name: ClientName) -> Self {
        let disabled = Some(Timestamp::ZERO);
        Self { disabled, ..Self::new(name, Timestamp::ZERO) }
    }
}

impl Policy {
    /// Whether an address may be let in.
    #[must_use]
    pub fn has_source(&self, address: IpAddr) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|net| net.contains(address))
    }

    /// Whether all of a prefix may be let in.
    #[must_use]
    pub fn covers(&self, prefix: &Prefix) -> bool {
        let around = |net: &Prefix| {
            net.prefix_len() <= prefix.prefix_len() && net.contains(prefix.address())
        };
        self.sources.is_empty() || self.sources.iter().any(around)
    }

    /// What no policy may say, whoever writes it.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut seen = HashSet::new();
        if !self.services.iter().all(|service| seen.insert(service)) {
            return Err("services names one twice");
        }
        let zero = |time: Option<Duration>| time.is_some_and(|time| time.is_zero());
        if zero(self.ttl) || zero(self.max_ttl) {
            return Err("ttl and max-ttl cannot be 0");
        }
        if self.ttl.zip(self.max_ttl).is_some_and(|(ttl, max)| ttl > max) {
            return Err("ttl is longer than max-ttl");
        }
        if self.modes.is_empty() {
            return Err("modes is empty: leave it out to allow all");
        }
        self.widest.check()
    }

    /// As [`Self::check`], for the client of this name.
    pub(crate) fn check_for(&self, name: &ClientName) -> Result<(), &'static str> {
        if self.services.is_empty() && name.device().is_none() {
            return Err("services is empty: a client needs at least one, such as --service ssh");
        }
        self.check()
    }
}

/// Whether policies that hold together allow a service: each that names any
/// names it, and one does.
pub(crate) fn allow<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    service: &ServiceName,
) -> bool {
    let naming = policies.into_iter().filter(|policy| !policy.services.is_empty());
    let mut naming = naming.peekable();
    naming.peek().is_some() && naming.all(|policy| policy.services.contains(service))
}

/// The services that policies allow together, in the order of the first that names any.
pub(crate) fn services<'a>(policies: impl Iterator<Item = &'a Policy> + Clone) -> Vec<ServiceName> {
    let named = policies.clone().find(|policy| !policy.services.is_empty());
    let services = named.map(|policy| policy.services.as_slice()).unwrap_or_default();
    services.iter().filter(|service| allow(policies.clone(), service)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_contradict_themselves() {
        let (ssh, web) = ("ssh".parse().unwrap(), "web".parse().unwrap());
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let policy = |services: &[_], ttl, max_ttl| Policy {
            services: services.to_vec(),
            ttl,
            max_ttl,
            ..Policy::default()
        };
        let (alice, phone) = ("alice".parse().unwrap(), "alice/phone".parse().unwrap());
        let check = |policy: Policy| policy.check_for(&alice);
        assert_eq!(check(policy(&[ssh, web], seconds(30), seconds(30))), Ok(()));
        assert!(check(policy(&[], None, None)).is_err());
        assert_eq!(policy(&[], None, None).check_for(&phone), Ok(()), "what its person may");
        assert!(check(policy(&[ssh, web, ssh], None, None)).is_err());
        assert!(check(policy(&[ssh], seconds(0), None)).is_err());
        assert!(check(policy(&[ssh], None, seconds(0))).is_err());
        assert!(check(policy(&[ssh], seconds(31), seconds(30))).is_err());
        let none = Modes::from_iter([]);
        assert!(check(Policy { modes: none, ..policy(&[ssh], None, None) }).is_err());
        let wide = Widest { v4: 0, v6: 128 };
        assert!(check(Policy { widest: wide, ..policy(&[ssh], None, None) }).is_err());
    }
}
