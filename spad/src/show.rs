//! Answers of the daemon, for people and for programs.

use std::fmt::Write;

use crate::control::Answer;
use crate::control::report::{Foreign, Grant, Journal, Ruleset, Status};

/// As JSON: the list or object itself.
#[must_use]
pub fn json(answer: &Answer) -> String {
    let value = match answer {
        Answer::Status(status) => serde_json::to_string_pretty(status),
        Answer::Grants(grants) => serde_json::to_string_pretty(grants),
        Answer::Revoked(count) => {
            serde_json::to_string_pretty(&serde_json::json!({ "ended": count }))
        }
        Answer::Reloaded => serde_json::to_string_pretty(&serde_json::json!({ "reloaded": true })),
        Answer::Failed(why) => serde_json::to_string_pretty(&serde_json::json!({ "error": why })),
    };
    value.unwrap_or_default() + "\n"
}

/// As text.
#[must_use]
pub fn text(answer: &Answer) -> String {
    match answer {
        Answer::Status(status) => self::status(status),
        Answer::Grants(list) => grants(list),
        Answer::Revoked(0) => "no grant was in force\n".into(),
        Answer::Revoked(count) => format!("{count} ended\n"),
        Answer::Reloaded => "configuration read again\n".into(),
        Answer::Failed(why) => format!("{why}\n"),
    }
}

fn status(status: &Status) -> String {
    let capture = &status.capture;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{name:<9} {value}");
    };
    let missing = match capture.missing.as_slice() {
        [] => String::new(),
        missing => format!("; not there: {}", missing.join(", ")),
    };
    let hears = if capture.in_force { "listening" } else { "NOT LISTENING" };
    line(
        "capture",
        format!("{hears} on {} for udp/{}{missing}", capture.interfaces.join(", "), capture.port),
    );
    line("ruleset", ruleset(&status.mode, &status.ruleset));
    foreign(&status.foreign).for_each(|found| line("foreign", found));
    line("journal", journal(&status.journal));
    line("clients", status.clients.to_string());
    status.broken_records.iter().for_each(|broken| line("", format!("NOT USED: {broken}")));
    for process in &status.processes {
        let restarts = if process.restarts == 0 {
            String::new()
        } else {
            format!(", started again {} times", process.restarts)
        };
        line(&process.role, format!("pid {}, uid {}{restarts}", process.pid, process.uid));
    }
    let counted = status.counters.iter().filter(|(_, count)| **count > 0);
    let counted: Vec<_> = counted.map(|(reason, count)| format!("{reason} {count}")).collect();
    line("knocks", if counted.is_empty() { "none yet".into() } else { counted.join(", ") });
    out + "grants\n" + &grants(&status.grants)
}

fn ruleset(mode: &str, ruleset: &Ruleset) -> String {
    let state = match &ruleset.fault {
        None => "in force".to_owned(),
        Some(fault) => format!("NOT IN FORCE: {fault}"),
    };
    let owned = if ruleset.owned { "the kernel keeps others out" } else { "watched" };
    let repairs = if ruleset.repairs == 0 {
        String::new()
    } else {
        format!(", put back {} times", ruleset.repairs)
    };
    format!("{mode}, {state} ({owned}{repairs})")
}

fn foreign(foreign: &Foreign) -> impl Iterator<Item = String> {
    foreign.chains.iter().map(ToString::to_string).chain(foreign.notices.iter().cloned())
}

fn journal(journal: &Journal) -> String {
    match &journal.fault {
        None => "durable".into(),
        Some(fault) => format!("NOT DURABLE, nothing is granted: {fault}"),
    }
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

fn mode(grant: &Grant) -> String {
    let port = grant.source_port.map(|port| format!(" to {port}"));
    format!("{}{}", grant.mode, port.unwrap_or_default())
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
