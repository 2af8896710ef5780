//! `spa hosts` and `spa forget`.

use serde::Serialize;
use spa_keys::date;

use crate::alias::Alias;
use crate::config::ConfigDir;
use crate::exit::{Exit, Failure};
use crate::field::Field;
use crate::host_file::{HostEntry, KeysInFile};
use crate::{report, unlock};

/// One server, as `--json` shows it: no secrets.
#[derive(Serialize)]
struct Row {
    name: String,
    host: String,
    port: u16,
    services: Vec<String>,
    kid: String,
    server_key: String,
    /// Whether the keys take a passphrase.
    locked: bool,
    /// Whether the server is known to have this machine's key: no knock has to enrol it.
    confirmed: bool,
    /// Up to when the token can be used first, where one has to.
    token_expires: Option<String>,
}

impl Row {
    fn new(alias: &Alias, entry: &HostEntry) -> Self {
        Self {
            name: alias.to_string(),
            host: entry.host().to_owned(),
            port: entry.port().get(),
            services: entry.services().iter().map(ToString::to_string).collect(),
            kid: entry.key_id().to_string(),
            server_key: entry.server_key().write().to_string(),
            locked: matches!(entry.keys(), KeysInFile::Locked(_)),
            confirmed: entry.token_expires().is_none(),
            token_expires: entry.token_expires().map(date::format),
        }
    }

    fn cells(&self) -> [String; 7] {
        let kid: String = self.kid.chars().take(8).collect();
        let enrolled = match &self.token_expires {
            None => "yes".to_owned(),
            Some(expires) => format!("not confirmed; token until {expires}"),
        };
        let Self { name, host, port, services, .. } = self;
        let keys = if self.locked { "passphrase" } else { "in clear" };
        let services = services.join(",");
        [name.clone(), host.clone(), port.to_string(), services, kid, keys.into(), enrolled]
    }
}

/// Lists all servers; files that cannot be used are named on standard error.
pub(crate) fn list(config: &ConfigDir, json: bool) -> Result<Exit, Failure> {
    let known = config.known()?;
    let rows: Vec<_> = known.entries.iter().map(|(alias, entry)| Row::new(alias, entry)).collect();
    if json {
        report::print(&serde_json::to_string_pretty(&rows).map_err(Failure::keys)?)?;
    } else if rows.is_empty() && known.broken.is_empty() {
        report::note(&format!("no servers in {} yet: spa enroll", config.path().display()));
    } else if !rows.is_empty() {
        report::print(&table(&rows))?;
    }
    known.broken.iter().for_each(report::complain);
    Ok(if known.broken.is_empty() { Exit::Done } else { Exit::Keys })
}

fn table(rows: &[Row]) -> String {
    let head =
        ["NAME", "HOST", "PORT", "SERVICES", "KEY-ID", "KEYS", "ENROLLED"].map(str::to_owned);
    let lines: Vec<_> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let mut widths = [0; 7];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.len().max(*width);
        }
    }
    let pad = |line: &[String; 7]| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(pad).collect::<Vec<_>>().join("\n")
}

/// Deletes the keys for a server, also where its file is damaged.
pub(crate) fn forget(config: &ConfigDir, host: &str) -> Result<Exit, Failure> {
    let alias = config.find(host)?;
    // Without the file nobody finds them any more.
    if let Ok(entry) = config.load(&alias) {
        unlock::forget(&alias, &entry);
    }
    config.remove(&alias)?;
    report::note(&format!(
        "forgot {alias}; the server still has this machine's key until it is revoked there"
    ));
    Ok(Exit::Done)
}
