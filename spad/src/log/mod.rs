//! `spad log`: the audit, read back.

pub mod filter;
pub mod line;
mod source;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use spa_keys::cidr;
use spa_proto::{Prefix, Timestamp};

use crate::audit::Event;
use crate::clock;
use crate::config::Config;
use filter::Filter;
use source::{Place, Source};

/// What `spad log` is asked.
#[derive(Debug, Args)]
pub struct Options {
    /// Events of this client only, or of all devices of a person
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Of this address or network only
    #[arg(long, value_name = "ADDRESS", value_parser = cidr::parse)]
    source: Option<Prefix>,
    /// Of this service only
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Knocks refused for this reason only, such as service-not-allowed; "any" for whichever
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// From then on: 2026-12-31, 2026-12-31T18:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = filter::since)]
    since: Option<filter::Moment>,
    /// Until then
    #[arg(long, value_name = "TIME", value_parser = filter::until)]
    until: Option<filter::Moment>,
    /// The last so many of them only
    #[arg(long, short = 'n', value_name = "COUNT")]
    lines: Option<usize>,
    /// Go on with what comes
    #[arg(long, short = 'f', conflicts_with = "until")]
    follow: bool,
    /// From this file of audit lines; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Each as a line of JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Options {
    fn filter(&self, now: Timestamp) -> Filter {
        Filter {
            client: self.client.clone(),
            source: self.source,
            service: self.service.clone(),
            reason: self.reason.clone(),
            since: self.since.map(|moment| moment.at(now)),
            until: self.until.map(|moment| moment.at(now)),
        }
    }
}

/// Prints what is asked for.
///
/// # Errors
/// Says what cannot be read, and what to do.
pub fn run(options: &Options, config: &Path) -> Result<(), String> {
    let configured = match options.file {
        None => Config::audit_file(config),
        Some(_) => Ok(None),
    };
    let place = match (&options.file, &configured) {
        (Some(file), _) | (None, Ok(Some(file))) => Place::File(file),
        (None, Ok(None)) => Place::Journal { unread: None },
        (None, Err(error)) if error.denied() => Place::Journal {
            unread: Some(format!(
                "the systemd journal has no audit line that you may read, and {error}: say where \
                 the audit-file is, with --file"
            )),
        },
        (None, Err(error)) => return Err(error.to_string()),
    };
    match print_all(options, place) {
        // Whoever reads may stop reading.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| error.to_string()),
    }
}

fn print_all(options: &Options, place: Place<'_>) -> io::Result<()> {
    let filter = options.filter(clock::wall());
    let mut source = Source::open(place, &filter)?;
    let mut out = io::stdout().lock();
    let mut print = |event: &Event| -> io::Result<()> {
        match options.json {
            true => writeln!(out, "{}", serde_json::to_string(event)?)?,
            false => writeln!(out, "{}", line::text(event))?,
        }
        out.flush()
    };
    let mut last = VecDeque::new();
    source.past(&mut |event| {
        match options.lines {
            _ if !filter.takes(&event) => {}
            None => print(&event)?,
            Some(lines) => {
                last.push_back(event);
                last.drain(..last.len().saturating_sub(lines));
            }
        }
        Ok(())
    })?;
    last.iter().try_for_each(&mut print)?;
    if options.follow {
        source.coming(&mut |event| if filter.takes(&event) { print(&event) } else { Ok(()) })?;
    }
    Ok(())
}
