//! Which keys there are. An unknown one is refused: a setting that is not
//! understood is a door that somebody believes shut.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::Fault;

/// Keys at the top.
pub(super) const TOP: &[&str] = &[
    "audit-file",
    "control-group",
    "control-group-may",
    "firewall",
    "hooks",
    "interfaces",
    "keys-dir",
    "listen-port",
    "managed",
    "metrics",
    "run-dir",
    "service",
    "state-dir",
    "tolerance",
    "trusted",
    "user",
];

/// Keys of `[service.NAME]`.
pub(super) const SERVICE: &[&str] = &[
    "cut-on-expiry",
    "max-ttl",
    "mode",
    "port",
    "ports",
    "protocol",
    "public",
    "rate",
    "source-nat",
    "target",
    "ttl",
];

/// Keys of `[firewall]`.
pub(super) const FIREWALL: &[&str] = &[
    "attach",
    "bans",
    "cut-label-bit",
    "grant-destination",
    "label-bit",
    "mark-bit",
    "max-grants",
    "mode",
    "own-table",
    "widths-ipv4",
    "widths-ipv6",
];

/// Keys of `[hooks]`.
pub(super) const HOOKS: &[&str] = &["on-end", "on-grant", "timeout", "user"];

/// Keys of `[managed]`.
pub(super) const MANAGED: &[&str] =
    &["helpers", "inside", "masquerade", "masquerade-ipv6", "outside", "source-nat", "strict"];

/// Refuses the first key of `table` that is not among `known`.
pub(super) fn check(table: &DeTable<'_>, known: &[&str]) -> Result<(), Fault> {
    let unknown = table.keys().find(|key| !known.contains(&key.get_ref().as_ref()));
    let Some(key) = unknown else { return Ok(()) };
    let name: &str = key.get_ref();
    let nearest = nearest(name, known);
    Err(Fault::at(key.span(), format!("unknown key '{name}'; did you mean '{nearest}'?")))
}

/// The sub-table of a key.
pub(super) fn table<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Result<&'a DeTable<'i>, Fault> {
    let wrong = || Fault::at(value.span(), "expected a table, such as [service.ssh]".into());
    value.get_ref().as_table().ok_or_else(wrong)
}

fn nearest<'a>(name: &str, known: &[&'a str]) -> &'a str {
    known.iter().min_by_key(|known| strsim::damerau_levenshtein(name, known)).copied().unwrap_or("")
}
