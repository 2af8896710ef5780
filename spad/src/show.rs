//! Answers of the daemon, for people and for programs.

mod plain;
mod status;
pub mod style;

use std::fmt::Write;

use crate::control::Answer;
use crate::control::report::{Ban, Banned, Chain, Enabled, Grant, Rate, Session, Stopped};
use crate::disable;
pub use plain::plain;
use spa_proto::Timestamp;
use style::Style;

/// As JSON: the list or object itself.
#[must_use]
pub fn json(answer: &Answer) -> String {
    let value = match answer {
        Answer::Status(status) => serde_json::to_string_pretty(status),
        Answer::Grants(grants) => serde_json::to_string_pretty(grants),
        Answer::Rules(chains) => serde_json::to_string_pretty(chains),
        Answer::Sessions(sessions) => serde_json::to_string_pretty(sessions),
        Answer::Revoked { ended, cut } => {
            serde_json::to_string_pretty(&serde_json::json!({ "ended": ended, "cut": cut }))
        }
        Answer::Banned(banned) => serde_json::to_string_pretty(banned),
        Answer::Unbanned(bans) | Answer::Bans(bans) => serde_json::to_string_pretty(bans),
        Answer::Rates(rates) => serde_json::to_string_pretty(rates),
        Answer::Metrics(metrics) => serde_json::to_string_pretty(metrics),
        Answer::Cleared(count) => {
            serde_json::to_string_pretty(&serde_json::json!({ "cleared": count }))
        }
        Answer::Reloaded => serde_json::to_string_pretty(&serde_json::json!({ "reloaded": true })),
        Answer::Enabled(enabled) => serde_json::to_string_pretty(enabled),
        Answer::Disabled(disabled) => serde_json::to_string_pretty(disabled),
        Answer::Stopped(left) => serde_json::to_string_pretty(left),
        Answer::Failed(why) => serde_json::to_string_pretty(&serde_json::json!({ "error": why })),
    };
    value.unwrap_or_default() + "\n"
}

/// As text, wherever it goes.
#[must_use]
pub fn text(answer: &Answer) -> String {
    text_in(answer, &Style::PLAIN)
}

/// As text, for this place.
#[must_use]
pub fn text_in(answer: &Answer, style: &Style) -> String {
    match answer {
        Answer::Status(status) => status::text(status, style),
        Answer::Grants(list) => grants(list),
        Answer::Rules(chains) => chains.iter().map(chain).collect::<Vec<_>>().join("\n"),
        Answer::Sessions(list) => sessions(list),
        Answer::Revoked { ended, cut } => {
            format!("{ended} grants ended, {cut} connections cut\n")
        }
        Answer::Banned(banned) => self::banned(banned),
        Answer::Unbanned(list) => {
            list.iter().map(|ban| format!("{} lifted\n", ban.network)).collect()
        }
        Answer::Bans(list) => bans(list),
        Answer::Rates(list) => rates(list),
        Answer::Metrics(metrics) => {
            crate::metrics::text::text((**metrics).clone()).unwrap_or_default()
        }
        Answer::Cleared(count) => format!("{count} cleared\n"),
        Answer::Reloaded => "configuration read again\n".into(),
        Answer::Enabled(enabled) => self::enabled(enabled),
        Answer::Disabled(disabled) => disable::text(disabled),
        Answer::Stopped(left) => stopped(left),
        Answer::Failed(why) => format!("{why}\n"),
    }
}

fn enabled(enabled: &Enabled) -> String {
    let services = enabled.services.join(", ");
    let state = if enabled.already { "in force already" } else { "in force" };
    let until = match enabled.opens_in_ms {
        None if enabled.always => "always, as the configuration has it (enforce)\n".into(),
        Some(left) => {
            format!("open again in {} s unless you run: spad confirm\n", left.div_ceil(1000))
        }
        None => "from now on, after a reboot too; spad disable is the way back\n".into(),
    };
    format!("{state}: {services} shut to everybody who has not knocked\n{until}")
}

fn stopped(left: &Stopped) -> String {
    let services = match left.services.as_slice() {
        [] => "what it has shut".to_owned(),
        services => services.join(", "),
    };
    let daemon = if left.was_running { "spad has ended" } else { "no spad is running" };
    if left.open {
        return format!(
            "{daemon}; its table is gone, and nothing of it shuts {services} any more\n"
        );
    }
    let grants = match (left.grants, left.grants_end_in_ms.div_ceil(1000)) {
        (0, _) => "no grant is in force".to_owned(),
        (1, seconds) => format!("1 grant ends within {seconds} s"),
        (count, seconds) => {
            format!("{count} grants end in their time, the last within {seconds} s")
        }
    };
    let state = if left.shuts { "still shut" } else { "left to the host's own ruleset" };
    format!(
        "{daemon}; {services}: {state}; {grants}\n\
         nobody hears knocks, and others can remove the table, until spad runs again\n"
    )
}

fn grants(grants: &[Grant]) -> String {
    if grants.is_empty() {
        return "  none\n".into();
    }
    let rows = grants.iter().map(|grant| {
        [
            grant.id.to_string(),
            grant.client.clone(),
            grant.service.clone(),
            grant.source.clone(),
            grant.ports.join(","),
            grant.destination.clone().unwrap_or_else(|| "any".into()),
            mode(grant),
            format!("{} s", grant.expires_in_ms.div_ceil(1000)),
        ]
    });
    let head = ["id", "client", "service", "source", "ports", "to", "mode", "time left"]
        .map(str::to_owned);
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// As people know it from `iptables -L -vn`.
fn chain(chain: &Chain) -> String {
    let hook = chain.hook.as_ref().map(|hook| format!(" ({})", hook.trim_end_matches(';')));
    let mut out = format!("chain {}{}\n", chain.name, hook.unwrap_or_default());
    let _ = writeln!(out, "{:>10} {:>12}  rule", "packets", "bytes");
    for rule in &chain.rules {
        let _ = writeln!(out, "{:>10} {:>12}  {}", rule.packets, rule.bytes, rule.text);
    }
    out
}

fn sessions(sessions: &[Session]) -> String {
    if sessions.is_empty() {
        return "  none\n".into();
    }
    let rows = sessions.iter().map(|session| {
        [
            session.grant.to_string(),
            session.client.clone(),
            session.service.clone(),
            session.protocol.clone(),
            session.source.clone(),
            session.destination.clone(),
            spa_keys::date::format(Timestamp::from_millis(session.since_unix_ms)),
        ]
    });
    let head = ["grant", "client", "service", "", "source", "to", "since"].map(str::to_owned);
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn banned(banned: &Banned) -> String {
    let Banned { ban, grants, connections } = banned;
    let until =
        ban.expires_in_ms.map_or("until it is lifted".into(), |ms| format!("for {}", time(ms)));
    format!(
        "{} banned {until}; {grants} grants ended, {connections} connections cut\n",
        ban.network
    )
}

fn bans(bans: &[Ban]) -> String {
    let row = |ban: &Ban| {
        let by = ban.by_uid.map_or("-".into(), |uid| uid.to_string());
        let left = ban.expires_in_ms.map_or("no end".into(), time);
        [ban.network.clone(), ban.since.clone(), left, by, ban.why.clone()]
    };
    list(["network", "since", "time left", "by uid", "why"], bans.iter().map(row))
}

fn rates(rates: &[Rate]) -> String {
    let row =
        |rate: &Rate| [rate.service.clone(), rate.source.clone(), time(rate.begins_anew_in_ms)];
    list(["service", "source", "begins anew in"], rates.iter().map(row))
}

/// In the largest unit that leaves two digits or more.
fn time(ms: u64) -> String {
    let seconds = ms.div_ceil(1000);
    let units = [("d", 86_400), ("h", 3600), ("min", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= 10 * length);
    let (unit, length) = unit.unwrap_or(("s", 1));
    format!("{} {unit}", seconds.div_ceil(length))
}

fn list<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    if rows.len() == 1 { "  none\n".into() } else { table(&rows) }
}

fn mode(grant: &Grant) -> String {
    let port = grant.source_port.map(|port| format!(" to {port}"));
    format!("{}{}", grant.mode, port.unwrap_or_default())
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    columns(rows).into_iter().map(|row| format!("  {row}\n")).collect()
}

/// Grants with the time left, a row each; as bars too, where a person looks and there is
/// room.
pub(crate) fn grant_rows(grants: &[Grant], style: &Style) -> Vec<String> {
    status::grants(grants, style)
}

/// Columns as wide as their widest cell.
fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
