//! From TOML to [`Config`], value by value, so that each fault has its line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use spa_proto::{Prefix, Protocol, ServiceName, Tolerance};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::known;
use super::{Config, Interfaces, ServiceConfig};
use crate::capture::filter::MAX_INTERFACES;

const RUN_DIR: &str = "/run/spad";

type Value<'i> = Spanned<DeValue<'i>>;

/// What is wrong, and at which bytes of the text.
pub(super) struct Fault {
    span: Option<Range<usize>>,
    pub(super) what: String,
}

impl Fault {
    pub(super) fn at(span: Range<usize>, what: String) -> Self {
        Self { span: Some(span), what }
    }

    /// Number of the line, from 1.
    pub(super) fn line(&self, text: &str) -> Option<usize> {
        let before = text.as_bytes().get(..self.span.as_ref()?.start)?;
        Some(before.iter().filter(|byte| **byte == b'\n').count() + 1)
    }
}

pub(super) fn config(text: &str) -> Result<Config, Fault> {
    let parsed = DeTable::parse(text)
        .map_err(|error| Fault { span: error.span(), what: error.message().to_owned() })?;
    let top = parsed.get_ref();
    known::check(top, known::TOP)?;
    let config = Config {
        interfaces: top.get("interfaces").map_or(Ok(Interfaces::Any), interfaces)?,
        listen_port: top.get("listen-port").map_or(Ok(62201), port)?,
        keys_dir: directory(top, "keys-dir", "/etc/spad/keys")?,
        state_dir: directory(top, "state-dir", "/var/lib/spad")?,
        run_dir: directory(top, "run-dir", RUN_DIR)?,
        tolerance: top.get("tolerance").map_or(Ok(Tolerance::DEFAULT), tolerance)?,
        trusted: top.get("trusted").map_or(Ok(Vec::new()), |list| each(list, network))?,
        user: top.get("user").map_or(Ok("spad".into()), |value| Ok(string(value)?.to_owned()))?,
        services: services(top)?,
    };
    apart_from_knocks(&config, top)?;
    Ok(config)
}

/// The run directory, from whatever of the file can be understood.
pub(super) fn run_dir(text: &str) -> PathBuf {
    let (parsed, _) = DeTable::parse_recoverable(text);
    directory(parsed.get_ref(), "run-dir", RUN_DIR).unwrap_or_else(|_| RUN_DIR.into())
}

fn services(top: &DeTable<'_>) -> Result<BTreeMap<ServiceName, ServiceConfig>, Fault> {
    let none = || Fault {
        span: None,
        what: "nothing to protect: add at least one service, such as\n\n[service.ssh]\nport = 22\n"
            .into(),
    };
    let mut services: BTreeMap<ServiceName, ServiceConfig> = BTreeMap::new();
    for (key, value) in known::table(top.get("service").ok_or_else(none)?)? {
        let name = parsed(key.get_ref(), key.span())?;
        let service = service(key.span(), known::table(value)?)?;
        if let Some((other, _)) = services.iter().find(|(_, other)| same_port(other, &service)) {
            let what =
                format!("service '{other}' has {}/{} already", service.protocol, service.port);
            return Err(Fault::at(port_span(known::table(value)?), what));
        }
        services.insert(name, service);
    }
    if services.is_empty() { Err(none()) } else { Ok(services) }
}

fn service(heading: Range<usize>, table: &DeTable<'_>) -> Result<ServiceConfig, Fault> {
    known::check(table, known::SERVICE)?;
    let missing = || Fault::at(heading, "port is missing: add a line such as port = 22".into());
    let ttl = table.get("ttl").map_or(Ok(Duration::from_secs(30)), duration)?;
    let most = Duration::from_secs(300).max(ttl);
    let service = ServiceConfig {
        protocol: table.get("protocol").map_or(Ok(Protocol::Tcp), protocol)?,
        port: port(table.get("port").ok_or_else(missing)?)?,
        ttl,
        max_ttl: table.get("max-ttl").map_or(Ok(most), duration)?,
    };
    match table.get("ttl").filter(|_| ttl > service.max_ttl) {
        Some(value) => Err(Fault::at(value.span(), "ttl is longer than max-ttl".into())),
        None if ttl > service.max_ttl => {
            let span = table.get("max-ttl").map_or(0..0, Spanned::span);
            Err(Fault::at(span, "max-ttl is shorter than ttl, which is 30s by default".into()))
        }
        None => Ok(service),
    }
}

fn same_port(one: &ServiceConfig, other: &ServiceConfig) -> bool {
    (one.protocol, one.port) == (other.protocol, other.port)
}

fn port_span(table: &DeTable<'_>) -> Range<usize> {
    table.get("port").map_or(0..0, Spanned::span)
}

/// A UDP service on the knock port could be neither heard nor shut.
fn apart_from_knocks(config: &Config, top: &DeTable<'_>) -> Result<(), Fault> {
    let clash = |service: &ServiceConfig| {
        service.protocol == Protocol::Udp && service.port == config.listen_port
    };
    let Some((name, _)) = config.services.iter().find(|(_, service)| clash(service)) else {
        return Ok(());
    };
    let tables = top.get("service").and_then(|value| value.get_ref().as_table());
    let table = tables.and_then(|tables| tables.get(name.as_str())?.get_ref().as_table());
    Err(Fault::at(
        table.map_or(0..0, port_span),
        format!("service '{name}' is on udp/{}, which is the listen-port", config.listen_port),
    ))
}

fn interfaces(value: &Value<'_>) -> Result<Interfaces, Fault> {
    let names = each(value, interface)?;
    let any = names.iter().any(|name| name == "any");
    if names.len() > MAX_INTERFACES {
        let what = format!("more than {MAX_INTERFACES} interfaces: write [\"any\"]");
        return Err(Fault::at(value.span(), what));
    }
    match names.len() {
        1 if any => Ok(Interfaces::Any),
        0 => Err(Fault::at(
            value.span(),
            "no interface: name at least one, or write [\"any\"]".into(),
        )),
        _ if any => {
            Err(Fault::at(value.span(), "\"any\" stands alone: leave the other names out".into()))
        }
        _ => Ok(Interfaces::Named(names)),
    }
}

fn interface(value: &Value<'_>) -> Result<String, Fault> {
    let name = string(value)?;
    let fits = (1..16).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    if fits {
        Ok(name.to_owned())
    } else {
        Err(Fault::at(value.span(), format!("{name:?} is no name of an interface")))
    }
}

fn directory(top: &DeTable<'_>, key: &str, default: &str) -> Result<PathBuf, Fault> {
    let Some(value) = top.get(key) else { return Ok(default.into()) };
    let path = Path::new(string(value)?);
    let relative = || Fault::at(value.span(), format!("{key} must be an absolute path"));
    path.is_absolute().then(|| path.to_owned()).ok_or_else(relative)
}

fn tolerance(value: &Value<'_>) -> Result<Tolerance, Fault> {
    let duration = duration(value)?;
    let odd = duration.is_zero() || duration > Duration::from_secs(3600);
    let wrong = || Fault::at(value.span(), "tolerance must be from 1s to 1h".into());
    (!odd).then_some(Tolerance::new(duration)).ok_or_else(wrong)
}

fn protocol(value: &Value<'_>) -> Result<Protocol, Fault> {
    let wrong = |_| Fault::at(value.span(), "expected protocol = \"tcp\" or \"udp\"".into());
    string(value)?.parse().map_err(wrong)
}

fn network(value: &Value<'_>) -> Result<Prefix, Fault> {
    spa_keys::cidr::parse(string(value)?)
        .map_err(|error| Fault::at(value.span(), error.to_string()))
}

fn duration(value: &Value<'_>) -> Result<Duration, Fault> {
    let text = value.get_ref().as_str();
    let text =
        text.ok_or_else(|| Fault::at(value.span(), "expected a duration such as \"30s\"".into()))?;
    spa_keys::duration::parse(text).map_err(|error| Fault::at(value.span(), error.to_string()))
}

fn port(value: &Value<'_>) -> Result<u16, Fault> {
    let number = value.get_ref().as_integer().and_then(|int| {
        u16::from_str_radix(int.as_str(), int.radix()).ok().filter(|port| *port != 0)
    });
    number.ok_or_else(|| Fault::at(value.span(), "expected a port number, 1 to 65535".into()))
}

fn each<T>(
    list: &Value<'_>,
    read: impl Fn(&Value<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let wrong = || Fault::at(list.span(), "expected a list, such as [\"…\"]".into());
    list.get_ref().as_array().ok_or_else(wrong)?.iter().map(read).collect()
}

fn string<'a>(value: &'a Value<'_>) -> Result<&'a str, Fault> {
    let wrong = || Fault::at(value.span(), "expected a text in quotes".into());
    value.get_ref().as_str().ok_or_else(wrong)
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(text: &str, span: Range<usize>) -> Result<T, Fault> {
    text.parse().map_err(|error: T::Err| Fault::at(span, error.to_string()))
}
