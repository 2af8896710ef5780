//! The tables `[service.NAME]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use spa_keys::Lasting;
use spa_proto::{GrantMode, Protocol, ServiceName};
use toml::Spanned;
use toml::de::DeTable;

use super::value::{Fault, Value, choice, duration, flag, parsed, port, protocol, string};
use super::{ServiceConfig, known};
use crate::firewall::plan::{Access, Ports, Target};
use crate::firewall::ruleset::{Limit, PortRange, Unit};

type Services = BTreeMap<ServiceName, ServiceConfig>;

/// All services.
pub(super) fn all(top: &DeTable<'_>) -> Result<Services, Fault> {
    let none = || Fault {
        span: None,
        what: "nothing to protect: add at least one service, such as\n\n[service.ssh]\nport = 22\n"
            .into(),
    };
    let mut services = Services::new();
    for (key, value) in known::table(top.get("service").ok_or_else(none)?)? {
        let (name, table) = (parsed(key.get_ref(), key.span())?, known::table(value)?);
        let service = one(key.span(), table)?;
        apart(&services, &service, span_of_ports(table))?;
        services.insert(name, service);
    }
    if services.is_empty() { Err(none()) } else { Ok(services) }
}

/// Where the target of a service is written.
pub(super) fn target_span(top: &DeTable<'_>, name: &ServiceName) -> Range<usize> {
    let target = table_of(top, name).and_then(|table| table.get("target"));
    target.map_or(0..0, Spanned::span)
}

/// Where the ports of a service are written.
pub(super) fn ports_span(top: &DeTable<'_>, name: &ServiceName) -> Range<usize> {
    table_of(top, name).map_or(0..0, span_of_ports)
}

fn table_of<'a, 'i>(top: &'a DeTable<'i>, name: &ServiceName) -> Option<&'a DeTable<'i>> {
    let services = top.get("service")?.get_ref().as_table()?;
    services.get(name.as_str())?.get_ref().as_table()
}

fn span_of_ports(table: &DeTable<'_>) -> Range<usize> {
    table.get("port").or_else(|| table.get("ports")).map_or(0..0, Spanned::span)
}

/// No port belongs to two services: a knock for one would open the other.
fn apart(services: &Services, new: &ServiceConfig, span: Range<usize>) -> Result<(), Fault> {
    for (name, service) in services {
        for ports in &new.ports {
            if let Some(taken) = service.ports.iter().find(|other| overlap(ports, other)) {
                return Err(Fault::at(span, format!("service '{name}' has {taken} already")));
            }
        }
    }
    Ok(())
}

fn overlap(one: &Ports, other: &Ports) -> bool {
    one.protocol == other.protocol
        && one.range.first() <= other.range.last()
        && other.range.first() <= one.range.last()
}

fn one(heading: Range<usize>, table: &DeTable<'_>) -> Result<ServiceConfig, Fault> {
    known::check(table, known::SERVICE)?;
    let time = |key| table.get(key).map(duration).transpose();
    let service = ServiceConfig {
        ports: ports(heading, table)?,
        lasting: Lasting::new(time("ttl")?, time("max-ttl")?),
        mode: table.get("mode").map_or(Ok(GrantMode::Window), mode)?,
        access: access(table)?,
        target: target(table)?,
        cut_on_expiry: table.get("cut-on-expiry").map_or(Ok(false), flag)?,
    };
    ordered(&service, table)?;
    only_with_knock(&service, table)?;
    Ok(service)
}

/// A duration that lasts longer than the longest is a mistake in one of them.
fn ordered(service: &ServiceConfig, table: &DeTable<'_>) -> Result<(), Fault> {
    if service.lasting.ttl <= service.lasting.max_ttl {
        return Ok(());
    }
    match (table.get("ttl"), table.get("max-ttl")) {
        (Some(ttl), _) => Err(Fault::at(ttl.span(), "ttl is longer than max-ttl".into())),
        (None, most) => {
            let span = most.map_or(0..0, Spanned::span);
            Err(Fault::at(span, "max-ttl is shorter than ttl, which is 30s by default".into()))
        }
    }
}

/// Keys that say something about grants mean nothing where there are none.
fn only_with_knock(service: &ServiceConfig, table: &DeTable<'_>) -> Result<(), Fault> {
    if service.access == Access::Knock {
        return Ok(());
    }
    let keys = ["ttl", "max-ttl", "mode", "cut-on-expiry"];
    match keys.iter().find_map(|key| Some((key, table.get(*key)?))) {
        Some((key, value)) => {
            let what = format!("{key} is about grants, and a public service needs none");
            Err(Fault::at(value.span(), what))
        }
        None => Ok(()),
    }
}

/// Not `bound`: for that the client has to name a port.
fn mode(value: &Value<'_>) -> Result<GrantMode, Fault> {
    choice(value, &[("window", GrantMode::Window), ("once", GrantMode::Once)])
}

/// `port = 22`, or `ports = [22, "5000-5100", "udp/53"]`.
fn ports(heading: Range<usize>, table: &DeTable<'_>) -> Result<Vec<Ports>, Fault> {
    let default = table.get("protocol").map_or(Ok(Protocol::Tcp), protocol)?;
    match (table.get("port"), table.get("ports")) {
        (Some(value), None) => Ok(vec![single(default, value)?]),
        (None, Some(list)) => several(default, list),
        (Some(_), Some(list)) => {
            Err(Fault::at(list.span(), "port and ports: write one of them".into()))
        }
        (None, None) => {
            Err(Fault::at(heading, "port is missing: add a line such as port = 22".into()))
        }
    }
}

fn single(protocol: Protocol, value: &Value<'_>) -> Result<Ports, Fault> {
    Ok(Ports { protocol, range: PortRange::single(port(value)?) })
}

fn several(default: Protocol, list: &Value<'_>) -> Result<Vec<Ports>, Fault> {
    let mut all: Vec<Ports> = Vec::new();
    for (value, ports) in
        super::value::each(list, |value| Ok((value.span(), entry(default, value)?)))?
    {
        if let Some(twice) = all.iter().find(|other| overlap(&ports, other)) {
            return Err(Fault::at(value, format!("{ports} overlaps with {twice}")));
        }
        all.push(ports);
    }
    match all.is_empty() {
        true => Err(Fault::at(list.span(), "no port: name at least one".into())),
        false => Ok(all),
    }
}

fn entry(default: Protocol, value: &Value<'_>) -> Result<Ports, Fault> {
    let Ok(text) = string(value) else { return single(default, value) };
    let wrong = || {
        let what = "expected a port, a range such as \"5000-5100\", or either behind \"udp/\"";
        Fault::at(value.span(), what.into())
    };
    let (protocol, ports) = match text.split_once('/') {
        Some((protocol, ports)) => (protocol.parse().map_err(|_| wrong())?, ports),
        None => (default, text),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
    let turned = || Fault::at(value.span(), format!("the range {ports} is turned round"));
    let range = PortRange::new(number(first)?, number(last)?).ok_or_else(turned)?;
    Ok(Ports { protocol, range })
}

fn access(table: &DeTable<'_>) -> Result<Access, Fault> {
    let public = table.get("public").map_or(Ok(false), flag)?;
    match (public, table.get("rate")) {
        (true, value) => Ok(Access::Public(value.map(rate).transpose()?)),
        (false, None) => Ok(Access::Knock),
        (false, Some(value)) => {
            Err(Fault::at(value.span(), "rate is for services with public = true".into()))
        }
    }
}

/// `"5 per 60s"`.
fn rate(value: &Value<'_>) -> Result<Limit, Fault> {
    let wrong = || {
        let what = "expected a rate such as \"5 per 60s\": 1 to 10000, per 1s, 60s, 1h, 1d or 7d";
        Fault::at(value.span(), what.into())
    };
    let (count, time) = string(value)?.split_once(" per ").ok_or_else(wrong)?;
    let count = count.parse::<u32>().ok().filter(|n| (1..=10_000).contains(n)).ok_or_else(wrong)?;
    let time = spa_keys::duration::parse(time).map_err(|_| wrong())?;
    let is = |unit: &Unit| Duration::from_secs(unit.seconds().into()) == time;
    let unit = Unit::ALL.into_iter().find(is).ok_or_else(wrong)?;
    Ok(Limit { count, unit, burst: count })
}

/// `target = "10.0.0.5:443"`, or a list of one for each family.
fn target(table: &DeTable<'_>) -> Result<Option<Target>, Fault> {
    let source_nat = table.get("source-nat").map_or(Ok(false), flag)?;
    let Some(value) = table.get("target") else {
        let alone = table.get("source-nat").filter(|_| source_nat);
        let what = || "source-nat is for services with a target".to_owned();
        return alone.map_or(Ok(None), |value| Err(Fault::at(value.span(), what())));
    };
    let ends = match value.get_ref().as_array() {
        Some(list) => list.iter().map(end).collect::<Result<Vec<_>, _>>()?,
        None => vec![end(value)?],
    };
    let mut target = Target { v4: None, v6: None, port: None, source_nat };
    for (at, (address, port)) in ends.iter().enumerate() {
        let twice = match address {
            IpAddr::V4(v4) => target.v4.replace(*v4).is_some(),
            IpAddr::V6(v6) => target.v6.replace(*v6).is_some(),
        };
        if twice || (at > 0 && target.port != *port) {
            let what = "expected at most one target for IPv4 and one for IPv6, with the same port";
            return Err(Fault::at(value.span(), what.into()));
        }
        target.port = *port;
    }
    Ok(Some(target))
}

/// An address, with or without a port.
fn end(value: &Value<'_>) -> Result<(IpAddr, Option<u16>), Fault> {
    let text = string(value)?;
    let with_port = text.parse::<SocketAddr>().ok().filter(|end| end.port() != 0);
    let end = with_port.map(|end| (end.ip(), Some(end.port())));
    let end = end.or_else(|| Some((text.parse().ok()?, None)));
    let usable = |(address, _): &(IpAddr, _)| {
        !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
    };
    end.filter(usable).ok_or_else(|| {
        let what = "expected an inner host such as \"10.0.0.5:443\" or \"[2001:db8::5]:443\"";
        Fault::at(value.span(), what.into())
    })
}
