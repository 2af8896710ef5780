//! What a client may do, as options: of `add`, `set` and rows of `add-many`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use spa_keys::hours::Hours;
use spa_keys::{AddressRule, Policy, cidr, date, duration};
use spa_proto::{GrantMode, Prefix, ServiceName, Timestamp};

/// Whatever is said replaces what was there.
#[derive(Args, Clone, Default)]
pub(crate) struct Rights {
    /// What it may knock for; the first is its default. A person's device may do without: then
    /// it may knock for whatever its person may
    #[arg(long = "service", value_name = "SERVICE", value_delimiter = ',', value_parser = service)]
    pub(crate) services: Vec<ServiceName>,

    /// How long it is let in if it does not say [default: as the service says]
    #[arg(long, value_name = "30s", value_parser = lifetime)]
    pub(crate) ttl: Option<Duration>,

    /// How long it is let in at most [default: as the service says]
    #[arg(long, value_name = "5m", value_parser = lifetime)]
    pub(crate) max_ttl: Option<Duration>,

    /// Until when it may knock: a day, up to its end, or a time such as 2026-12-31T18:00:00Z
    #[arg(long, value_name = "DATE", value_parser = future)]
    pub(crate) expires: Option<Timestamp>,

    /// For addresses in this network only; can be repeated
    #[arg(long = "from", value_name = "CIDR", value_delimiter = ',', value_parser = cidr::parse)]
    pub(crate) sources: Vec<Prefix>,

    /// At these times only, such as "mon-fri 08:00-18:00 Europe/Berlin"; UTC if no time zone is
    /// named; can be repeated. Grants end with them
    #[arg(long, value_name = "HOURS", value_delimiter = ',')]
    pub(crate) hours: Vec<Hours>,

    /// Whose address: this, which the client names; seen, which the server sees; or both [default: both]
    #[arg(long, value_name = "this|seen|both")]
    pub(crate) address: Option<AddressRule>,

    /// Grant modes it may ask for: window, any number of connections in the time; once, one
    /// connection; bound, from one source port [default: all]
    #[arg(long, value_name = "window,once,bound", value_delimiter = ',')]
    pub(crate) modes: Vec<GrantMode>,

    /// Widest IPv4 prefix it may be let in with, 8 to 32 bits, for carriers that change addresses
    /// [default: 32]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(8..=32))]
    pub(crate) widest_ipv4: Option<u8>,

    /// Widest IPv6 prefix it may be let in with, 32 to 128 bits; a network at home is 64 or 56
    /// [default: 128]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(32..=128))]
    pub(crate) widest_ipv6: Option<u8>,
}

/// What `set --clear` makes as if it had never been said.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Service,
    Ttl,
    MaxTtl,
    Expires,
    From,
    Hours,
    Address,
    Modes,
    WidestIpv4,
    WidestIpv6,
}

impl Rights {
    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        let lists = self.services.is_empty()
            && self.sources.is_empty()
            && self.hours.is_empty()
            && self.modes.is_empty();
        let times = self.ttl.is_none() && self.max_ttl.is_none() && self.expires.is_none();
        let widths = self.widest_ipv4.is_none() && self.widest_ipv6.is_none();
        lists && times && widths && self.address.is_none()
    }

    /// Puts what is said in place of what was there.
    pub(crate) fn apply(self, policy: &mut Policy, expires: &mut Option<Timestamp>) {
        replace(&mut policy.services, self.services);
        replace(&mut policy.sources, self.sources);
        replace(&mut policy.hours, self.hours);
        policy.ttl = self.ttl.or(policy.ttl);
        policy.max_ttl = self.max_ttl.or(policy.max_ttl);
        *expires = self.expires.or(*expires);
        policy.address = self.address.unwrap_or(policy.address);
        if !self.modes.is_empty() {
            policy.modes = self.modes.into_iter().collect();
        }
        policy.widest.v4 = self.widest_ipv4.unwrap_or(policy.widest.v4);
        policy.widest.v6 = self.widest_ipv6.unwrap_or(policy.widest.v6);
    }
}

impl Part {
    /// Makes this part what it is where nothing was ever said.
    pub(crate) fn clear(self, policy: &mut Policy, expires: &mut Option<Timestamp>, none: &Policy) {
        match self {
            Self::Service => policy.services.clone_from(&none.services),
            Self::Ttl => policy.ttl = none.ttl,
            Self::MaxTtl => policy.max_ttl = none.max_ttl,
            Self::Expires => *expires = None,
            Self::From => policy.sources.clone_from(&none.sources),
            Self::Hours => policy.hours.clone_from(&none.hours),
            Self::Address => policy.address = none.address,
            Self::Modes => policy.modes = none.modes,
            Self::WidestIpv4 => policy.widest.v4 = none.widest.v4,
            Self::WidestIpv6 => policy.widest.v6 = none.widest.v6,
        }
    }
}

fn replace<T>(old: &mut Vec<T>, new: Vec<T>) {
    if !new.is_empty() {
        *old = new;
    }
}

/// A record names services, never ports, which a knock can name too.
pub(crate) fn service(text: &str) -> Result<ServiceName, &'static str> {
    text.parse().map_err(
        |_| "expected at most 16 lower-case letters, digits and hyphens, the first a letter",
    )
}

pub(crate) fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration::parse(text).map_err(|error| error.to_string())?;
    if lifetime.is_zero() { Err("it cannot be 0".to_owned()) } else { Ok(lifetime) }
}

pub(crate) fn future(text: &str) -> Result<Timestamp, String> {
    let time = date::parse_end(text).map_err(|error| error.to_string())?;
    if time > date::now() { Ok(time) } else { Err("it is over already".to_owned()) }
}
