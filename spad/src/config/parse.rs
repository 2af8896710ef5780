//! From TOML to [`Config`]: the keys at the top, and what holds between tables.

use std::path::PathBuf;
use std::time::Duration;

use spa_proto::{Protocol, Tolerance};
use toml::de::DeTable;

use super::value::{Fault, Value, choice, directory, duration, each, network, port, string};
use super::{
    Config, Enforce, Interfaces, hooks, known, managed, operations, packet_filter, service,
};
use crate::capture::filter::MAX_INTERFACES;
use crate::firewall::plan::Ports;

const RUN_DIR: &str = "/run/spad";
const STATE_DIR: &str = "/var/lib/spad";

pub(super) fn config(text: &str) -> Result<Config, Fault> {
    let parsed = DeTable::parse(text)
        .map_err(|error| Fault { span: error.span(), what: error.message().to_owned() })?;
    let top = parsed.get_ref();
    known::check(top, known::TOP)?;
    let user = top.get("user").map_or(Ok("spad"), string)?;
    let config = Config {
        interfaces: top.get("interfaces").map_or(Ok(Interfaces::Any), interfaces)?,
        listen_port: top.get("listen-port").map_or(Ok(62201), port)?,
        keys_dir: directory(top, "keys-dir", "/etc/spad/keys")?,
        state_dir: directory(top, "state-dir", STATE_DIR)?,
        run_dir: directory(top, "run-dir", RUN_DIR)?,
        tolerance: top.get("tolerance").map_or(Ok(Tolerance::DEFAULT), tolerance)?,
        trusted: top.get("trusted").map_or(Ok(Vec::new()), |list| each(list, network))?,
        enforce: top.get("enforce").map_or(Ok(Enforce::Always), enforce)?,
        user: user.to_owned(),
        operations: operations::read(top)?,
        firewall: packet_filter::read(top)?,
        managed: managed::read(top)?,
        hooks: hooks::read(top, user)?,
        services: service::all(top)?,
    };
    apart_from_knocks(&config, top)?;
    managed::fits_mode(&config, top)?;
    Ok(config)
}

/// The run directory, from whatever of the file can be understood.
pub(super) fn run_dir(text: &str) -> PathBuf {
    recovered(text, "run-dir", RUN_DIR)
}

/// The state directory, likewise.
pub(super) fn state_dir(text: &str) -> PathBuf {
    recovered(text, "state-dir", STATE_DIR)
}

/// The audit's file, likewise.
pub(super) fn audit_file(text: &str) -> Option<PathBuf> {
    let (parsed, _) = DeTable::parse_recoverable(text);
    operations::audit_file(parsed.get_ref()).ok().flatten()
}

fn recovered(text: &str, key: &str, default: &str) -> PathBuf {
    let (parsed, _) = DeTable::parse_recoverable(text);
    directory(parsed.get_ref(), key, default).unwrap_or_else(|_| default.into())
}

/// A UDP service on the knock port could be neither heard nor shut.
fn apart_from_knocks(config: &Config, top: &DeTable<'_>) -> Result<(), Fault> {
    let clash =
        |ports: &Ports| ports.protocol == Protocol::Udp && ports.range.contains(config.listen_port);
    let services = config.services.iter();
    let Some((name, _)) = services.clone().find(|(_, service)| service.ports.iter().any(clash))
    else {
        return Ok(());
    };
    let what =
        format!("service '{name}' is on udp/{}, which is the listen-port", config.listen_port);
    Err(Fault::at(service::ports_span(top, name), what))
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

pub(super) fn interface(value: &Value<'_>) -> Result<String, Fault> {
    let name = string(value)?;
    let fits = (1..16).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    if fits {
        Ok(name.to_owned())
    } else {
        Err(Fault::at(value.span(), format!("{name:?} is no name of an interface")))
    }
}

fn enforce(value: &Value<'_>) -> Result<Enforce, Fault> {
    choice(value, &[("always", Enforce::Always), ("when-enabled", Enforce::WhenEnabled)])
}

fn tolerance(value: &Value<'_>) -> Result<Tolerance, Fault> {
    let duration = duration(value)?;
    let odd = duration.is_zero() || duration > Duration::from_secs(3600);
    let wrong = || Fault::at(value.span(), "tolerance must be from 1s to 1h".into());
    (!odd).then_some(Tolerance::new(duration)).ok_or_else(wrong)
}
