//! How the daemon is, for people. Pure.

use std::fmt::Write;

use spa_keys::date;
use spa_proto::{Reason, Timestamp};

use super::style::{Style, Tone};
use super::{columns, time};
use crate::control::report::{
    Audit, Capture, Clock, FirstKnocks, Foreign, Grant, Journal, Process, Ruleset, Status,
};
use crate::log::line;

/// Columns of the names at the left.
const NAMES: usize = 11;
/// Columns of a bar, where there is room for it.
const BAR: std::ops::RangeInclusive<usize> = 5..=20;

/// A page, line by line.
struct Page<'a> {
    style: &'a Style,
    text: String,
}

impl Page<'_> {
    /// One fact; one that is not as it should be stands out.
    fn line(&mut self, name: &str, tone: Option<Tone>, value: &str) {
        let name = self.style.paint(Tone::Faint, &format!("{name:<NAMES$}"));
        let value = tone.map_or(value.to_owned(), |tone| self.style.paint(tone, value));
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{}", format!("{name}{value}").trim_end());
    }

    /// Words behind a name, on as many lines as they take.
    fn list(&mut self, name: &str, words: &[String]) {
        let room = self.style.width.saturating_sub(NAMES);
        let mut name = name;
        for line in wrapped(words, room) {
            self.line(name, None, &line);
            name = "";
        }
    }

    /// A row of a table under a name.
    fn row(&mut self, text: &str) {
        let text = self.style.cut(text, self.style.width.saturating_sub(2));
        let _ = writeln!(self.text, "  {text}");
    }
}

/// The whole page.
#[must_use]
pub(super) fn text(status: &Status, style: &Style) -> String {
    let mut page = Page { style, text: String::new() };
    let (tone, hears) = capture(&status.capture);
    page.line("capture", Some(tone), &hears);
    let (tone, held) = ruleset(&status.mode, &status.ruleset);
    page.line("ruleset", Some(tone), &held);
    foreign(&status.foreign).for_each(|found| page.line("foreign", Some(Tone::Notice), &found));
    let (tone, durable) = journal(&status.journal);
    page.line("journal", Some(tone), &durable);
    let (tone, kept) = clock(&status.clock);
    page.line("clock", tone, &kept);
    let (tone, written) = audit(&status.audit);
    page.line("audit", tone, &written);
    if let Some(until) = status.old_keys_until_unix_ms {
        let until = date::local(Timestamp::from_millis(until));
        page.line(
            "keys",
            Some(Tone::Notice),
            &format!("the server's old ones too until {until}: spa-keys rotate --status"),
        );
    }
    page.line("clients", None, &status.clients.to_string());
    let FirstKnocks { waiting, oldest_ms } = status.first_knocks;
    if waiting > 0 {
        let wait = if waiting == 1 { "first knock waits" } else { "first knocks wait" };
        let long = time(oldest_ms);
        let said = format!("{waiting} {wait} for the disk of the keys, for {long}");
        page.line("", Some(Tone::Notice), &said);
    }
    for broken in &status.broken_records {
        page.line("", Some(Tone::Bad), &format!("NOT USED: {broken}"));
    }
    status.faults.iter().for_each(|fault| page.line("fault", Some(Tone::Bad), fault));
    for it in &status.processes {
        page.line(&it.role, None, &process(it));
    }
    page.line(
        "running",
        None,
        &format!("version {}, for {}", status.version, time(status.uptime_ms)),
    );
    knocks(&mut page, status);
    let Status { grants, sessions, bans, .. } = status;
    page.line(
        "grants",
        None,
        &format!("{grants} in force, {sessions} open connections, {bans} bans"),
    );
    for row in self::grants(&status.next_to_end, style) {
        page.row(&row);
    }
    let more = grants.saturating_sub(status.next_to_end.len());
    if more > 0 && !status.next_to_end.is_empty() {
        page.row(&format!("and {more} that end later: spad grants"));
    }
    if !status.last_knocks.is_empty() {
        page.line("last knocks", None, "");
        status.last_knocks.iter().for_each(|event| page.row(&line::text(event)));
    }
    page.text
}

fn capture(capture: &Capture) -> (Tone, String) {
    let missing = match capture.missing.as_slice() {
        [] => String::new(),
        missing => format!("; not there: {}", missing.join(", ")),
    };
    let (tone, hears) = match capture.in_force {
        true if capture.missing.is_empty() => (Tone::Good, "listening"),
        true => (Tone::Notice, "listening"),
        false => (Tone::Bad, "NOT LISTENING"),
    };
    let on = capture.interfaces.join(", ");
    (tone, format!("{hears} on {on} for udp/{}{missing}", capture.port))
}

fn ruleset(mode: &str, ruleset: &Ruleset) -> (Tone, String) {
    let (tone, state) = match &ruleset.fault {
        None => (Tone::Good, "in force".to_owned()),
        Some(fault) => (Tone::Bad, format!("NOT IN FORCE: {fault}")),
    };
    let owned = if ruleset.owned { "the kernel keeps others out" } else { "watched" };
    let repairs = match ruleset.repairs {
        0 => String::new(),
        times => format!(", put back {times} times"),
    };
    let trial = ruleset.opens_in_ms.map_or(String::new(), |left| {
        format!(", OPEN AGAIN in {} s unless you run: spad confirm", left.div_ceil(1000))
    });
    (tone, format!("{mode}, {state}{trial} ({owned}{repairs})"))
}

fn foreign(foreign: &Foreign) -> impl Iterator<Item = String> {
    foreign.chains.iter().map(ToString::to_string).chain(foreign.notices.iter().cloned())
}

fn journal(journal: &Journal) -> (Tone, String) {
    match &journal.fault {
        None => (Tone::Good, "durable".into()),
        Some(fault) => (Tone::Bad, format!("NOT DURABLE, nothing is granted: {fault}")),
    }
}

fn clock(clock: &Clock) -> (Option<Tone>, String) {
    let now = date::local(Timestamp::from_millis(clock.unix_ms));
    let differ = format!("tolerance {}", time(clock.tolerance_ms));
    match (&clock.fault, clock.synchronised, clock.max_error_ms) {
        (Some(fault), ..) => {
            (Some(Tone::Notice), format!("{now}, NOT SYNCHRONISED: {fault}; {differ}"))
        }
        (None, Some(true), Some(error)) => {
            (None, format!("{now}, synchronised to {error} ms; {differ}"))
        }
        _ => (None, format!("{now}; {differ}")),
    }
}

fn audit(audit: &Audit) -> (Option<Tone>, String) {
    let to = audit.to.join(", ");
    let lost = match audit.lost {
        0 => String::new(),
        lost => format!("; {lost} events lost"),
    };
    match &audit.fault {
        Some(fault) => (Some(Tone::Bad), format!("{to}{lost}: {fault}")),
        None if audit.lost > 0 => (Some(Tone::Notice), to + &lost),
        None => (None, to),
    }
}

fn process(process: &Process) -> String {
    let held = process.capabilities.as_ref().map(|held| match held.len() {
        0 => "no capabilities".to_owned(),
        count => format!("{count} capabilities"),
    });
    let filter = process.seccomp.filter(|filter| *filter).map(|_| "seccomp".to_owned());
    let memory = process.resident_bytes.map(line::bytes);
    let restarts = Some(process.restarts)
        .filter(|count| *count > 0)
        .map(|count| format!("started again {count} times"));
    let known = [held, filter, memory, restarts].into_iter().flatten();
    let ids = format!("pid {}, uid {}", process.pid, process.uid);
    std::iter::once(ids).chain(known).collect::<Vec<_>>().join(", ")
}

/// What was granted, what was refused though it was authentic, and what was not even
/// that, or a copy: by reason, the most frequent first.
fn knocks(page: &mut Page<'_>, status: &Status) {
    let granted = Reason::Granted.name();
    let (mut refused, mut ignored) = (Vec::new(), Vec::new());
    for (reason, count) in &status.counters {
        let known = Reason::ALL.iter().find(|known| known.name() == reason);
        let is_told = known.is_some_and(|known| known.index() >= Reason::NoRecord.index());
        match (reason, count) {
            (_, 0) => {}
            (reason, _) if reason == granted => {}
            _ if is_told => refused.push((*count, reason)),
            _ => ignored.push((*count, reason)),
        }
    }
    let words = |list: &mut Vec<(u64, &String)>| -> Vec<String> {
        list.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        list.iter().map(|(count, reason)| format!("{reason} {count}")).collect()
    };
    let count = status.counters.get(granted).copied().unwrap_or_default();
    let none = count == 0 && refused.is_empty() && ignored.is_empty();
    page.line("knocks", None, &if none { "none yet".into() } else { format!("granted {count}") });
    page.list("  refused", &words(&mut refused));
    page.list("  ignored", &words(&mut ignored));
}

/// Rows with the time left; on a terminal as a bar too, if there is room.
pub(super) fn grants(grants: &[Grant], style: &Style) -> Vec<String> {
    let row = |grant: &Grant| {
        let left = format!("{} left of {}", time(grant.expires_in_ms), time(grant.lasts_ms));
        [grant.client.clone(), grant.service.clone(), grant.source.clone(), left]
    };
    let rows: Vec<_> = columns(&grants.iter().map(row).collect::<Vec<_>>());
    let used = rows.iter().map(|row| row.chars().count()).max().unwrap_or(0);
    // Two columns before the row, two before the bar.
    let room = style.width.saturating_sub(used + 4).min(*BAR.end());
    if !style.terminal || !BAR.contains(&room) {
        return rows;
    }
    let with_bar = |(row, grant): (String, &Grant)| {
        format!("{row:<used$}  {}", style.bar(grant.expires_in_ms, grant.lasts_ms, room))
    };
    rows.into_iter().zip(grants).map(with_bar).collect()
}

/// Joined by commas, broken between words alone.
fn wrapped(words: &[String], room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() + 3 <= room => {
                line.push_str(", ");
                line.push_str(word);
            }
            Some(line) => {
                line.push(',');
                lines.push(word.clone());
            }
            None => lines.push(word.clone()),
        }
    }
    lines
}

#[cfg(test)]
mod tests;
