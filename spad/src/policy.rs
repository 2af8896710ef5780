//! Policy: what a verified knock may open. Pure; the warden applies it.

use std::net::IpAddr;
use std::time::Duration;

use spa_keys::{ClientRecord, Policy};
use spa_proto::{
    Address, Arrival, GrantMode, Mode, Prefix, Reason, Request, Service, Timestamp, VerifiedKnock,
};

use crate::config::{Config, FirewallConfig, ServiceConfig};
use crate::firewall::plan::Access;
use crate::firewall::{Element, Terms};

/// A limit in the kernel that lets one connection in has room for another after a week: no
/// grant for one lasts as long.
const LONGEST_ONCE: Duration = Duration::from_secs(7 * 24 * 3600 - 60);

/// What a knock was found to deserve. Only [`judge`] makes it.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    grants: Vec<Approved>,
}

/// One service opened for one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approved {
    /// What becomes an element of the set.
    pub element: Element,
    /// For how long.
    pub lasts: Duration,
}

impl Judgement {
    /// What to grant: at least one service, for one source, no element twice.
    #[must_use]
    pub fn grants(&self) -> &[Approved] {
        &self.grants
    }
}

/// Judges what the client has asked for against its record and the configuration.
///
/// `is_own` says whether an address is one of this host's.
///
/// # Errors
/// The [`Reason`] of the first rule that is broken.
pub fn judge(
    knock: &VerifiedKnock,
    record: &ClientRecord,
    config: &Config,
    now: Timestamp,
    is_own: impl FnOnce(IpAddr) -> bool,
) -> Result<Judgement, Reason> {
    let left = time_left(record, now)?;
    let request = knock.request();
    let source = source(request.address, record, knock.arrival().source)?;
    grantable(source, is_own)?;
    let ends = Ends {
        source: widened(source, request, record, &config.firewall)?,
        destination: destination(source, knock.arrival(), &config.firewall)?,
    };
    let mut grants: Vec<Approved> = Vec::new();
    for service in request.services.iter() {
        let approved = approve(service, record, config, request, ends, left)?;
        // By its name and by its port it is the same.
        match grants.iter_mut().find(|grant| grant.element == approved.element) {
            Some(grant) => grant.lasts = grant.lasts.max(approved.lasts),
            None => grants.push(approved),
        }
    }
    Ok(Judgement { grants })
}

/// From where to where.
#[derive(Clone, Copy)]
struct Ends {
    source: Prefix,
    destination: Option<IpAddr>,
}

/// How long the client may still come in: its record lasts, and its time of day.
fn time_left(record: &ClientRecord, now: Timestamp) -> Result<Duration, Reason> {
    if record.is_disabled() {
        return Err(Reason::ClientDisabled);
    }
    let ends = record.ends();
    if ends.is_some_and(|ends| now >= ends) {
        return Err(Reason::ClientExpired);
    }
    let left = ends.map_or(Duration::MAX, |ends| ends.since(now));
    record.hours_left(now).map(|hours| hours.min(left)).ok_or(Reason::TimeNotAllowed)
}

/// For which address: the one named, or the one seen, as far as the record allows.
fn source(asked: Address, record: &ClientRecord, seen: IpAddr) -> Result<IpAddr, Reason> {
    let explicit = matches!(asked, Address::Explicit(_));
    let allowed = record.policies().all(|policy| policy.address.allows(explicit));
    let source = match asked {
        _ if !allowed => return Err(Reason::AddressKind),
        Address::Explicit(address) => address,
        Address::Seen => seen,
        Address::SeenWithin(prefix) if prefix.contains(seen) => seen,
        Address::SeenWithin(_) => return Err(Reason::OutsidePrefix),
    };
    let known = record.policies().all(|policy| policy.has_source(source));
    if known { Ok(source) } else { Err(Reason::SourceNotAllowed) }
}

/// Refuses what is never one distant host's address.
fn grantable(source: IpAddr, is_own: impl FnOnce(IpAddr) -> bool) -> Result<(), Reason> {
    let special = match source {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    let never = special || source.is_unspecified() || source.is_multicast() || source.is_loopback();
    if never || is_own(source) { Err(Reason::NotGrantable) } else { Ok(()) }
}

/// The source, or the prefix around it that was asked for: as wide as this
/// host has sets for, and never wider than asked or than the record allows.
fn widened(
    source: IpAddr,
    request: &Request,
    record: &ClientRecord,
    firewall: &FirewallConfig,
) -> Result<Prefix, Reason> {
    let exact = Prefix::of(source, u8::MAX);
    let Some(asked) = request.width else { return Ok(exact) };
    // Asked of an address that was not known to be of IPv4, which has no such width.
    if source.is_ipv4() && asked >= 32 {
        return Ok(exact);
    }
    let widths = if source.is_ipv4() { &firewall.widths4 } else { &firewall.widths6 };
    let bound = matches!(request.mode, Mode::Bound { .. });
    let widest = widths.iter().copied().filter(|width| *width >= asked).min();
    let wide_enough = |policy: &Policy| asked >= policy.widest.of(source);
    let allowed = !bound && record.policies().all(wide_enough);
    let prefix = Prefix::of(source, widest.filter(|_| allowed).ok_or(Reason::WidthNotAllowed)?);
    let known = record.policies().all(|policy| policy.covers(&prefix));
    if known { Ok(prefix) } else { Err(Reason::SourceNotAllowed) }
}

/// Where grants are for the address that was knocked at, the source must be of
/// its family.
fn destination(
    source: IpAddr,
    arrival: Arrival,
    firewall: &FirewallConfig,
) -> Result<Option<IpAddr>, Reason> {
    match firewall.destination {
        false => Ok(None),
        true if source.is_ipv4() == arrival.destination.is_ipv4() => Ok(Some(arrival.destination)),
        true => Err(Reason::NotGrantable),
    }
}

fn approve(
    asked: Service,
    record: &ClientRecord,
    config: &Config,
    request: &Request,
    ends: Ends,
    left: Duration,
) -> Result<Approved, Reason> {
    let known = config.service(asked).filter(|(_, service)| service.access == Access::Knock);
    let (name, service) = known.ok_or(Reason::UnknownService)?;
    if !record.may_open(&name) {
        return Err(Reason::ServiceNotAllowed);
    }
    if !service.serves(ends.source) {
        return Err(Reason::NotGrantable);
    }
    let terms = terms(request.mode, record, service)?;
    let asked = request.seconds.map(|seconds| Duration::from_secs(u32::from(seconds).into()));
    let lasts = service.lasting.granted(asked, record).min(left);
    let lasts = if terms == Terms::Once { lasts.min(LONGEST_ONCE) } else { lasts };
    let Ends { source, destination } = ends;
    Ok(Approved { element: Element { service: name, source, destination, terms }, lasts })
}

/// As asked for; else as the service has it, or where the record does not allow
/// that, as the record does.
fn terms(asked: Mode, record: &ClientRecord, service: &ServiceConfig) -> Result<Terms, Reason> {
    let may = |mode: &GrantMode| record.policies().all(|policy| policy.modes.contains(*mode));
    let default = || {
        let modes = [service.mode, GrantMode::Once, GrantMode::Window];
        modes.into_iter().find(may)
    };
    let (mode, terms) = match asked {
        Mode::Bound { source_port } => (GrantMode::Bound, Terms::Bound(source_port)),
        Mode::Window => (GrantMode::Window, Terms::Window),
        Mode::Once => (GrantMode::Once, Terms::Once),
        Mode::Default => match default() {
            Some(GrantMode::Window) => (GrantMode::Window, Terms::Window),
            Some(GrantMode::Once) => (GrantMode::Once, Terms::Once),
            _ => return Err(Reason::ModeNotAllowed),
        },
    };
    if may(&mode) { Ok(terms) } else { Err(Reason::ModeNotAllowed) }
}

#[cfg(test)]
mod tests;
