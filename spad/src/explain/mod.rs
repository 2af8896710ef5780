//! `spad explain`: why packets were refused, or would be, for whoever is asked why
//! somebody cannot get in. Needs the keys and no daemon; writes nothing, opens nothing.

mod capture_file;
mod frame;
mod judge;
mod report;
mod words;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use spa_keys::{ServerIdentity, Store, note, wipe};
use spa_proto::{Arrival, Datagram, Timestamp};

use crate::bans::{BanFile, Bans};
use crate::clock;
use crate::config::Config;
use crate::gatekeeper::sandbox;
use crate::show::plain;
use crate::warden::host;
use capture_file::{Packet, Rest, What};
use frame::Found;
pub use judge::Server;
use judge::{Case, Judge, Label};
use report::Explanation;
use words::Known;

/// What is to be explained, and how.
#[derive(Debug)]
pub struct Options {
    /// Captures and knocks; `-` for standard input.
    pub files: Vec<PathBuf>,
    /// As of when; else when each was captured, or now.
    pub at: Option<Timestamp>,
    /// The UDP port of knocks, if it is not the configuration's.
    pub port: Option<u16>,
    /// Where a knock comes from that was not captured.
    pub source: Option<IpAddr>,
    /// One JSON object a line.
    pub json: bool,
    /// All that is known, on several lines.
    pub verbose: bool,
}

/// Explains what is in the files, with the configuration at `path` and its keys. The
/// calling thread opens no file any more.
///
/// # Errors
/// What could not be read, and why; what came before it is explained.
pub fn run(path: &Path, options: &Options, out: &mut impl Write) -> Result<(), String> {
    let config = Config::load(path).map_err(|error| error.to_string())?;
    let server = wipe::stack_after(|| server(config))?;
    let inputs = options.files.iter().map(|file| open(file)).collect::<Result<Vec<_>, _>>()?;
    // Whoever holds the keys reads what others have written: that much they cannot
    // make of it.
    if !sandbox::reach_nothing().map_err(|error| format!("Landlock: {error}"))? {
        note!(
            "spad: this kernel has no Landlock: a process that could open others reads these files"
        );
    }
    explain(server, options, inputs, out)
}

/// Explains what is in these inputs, which are those of the options' files.
///
/// # Errors
/// As [`run`].
pub fn explain<I: Read + Send>(
    server: Server,
    options: &Options,
    inputs: Vec<I>,
    out: &mut impl Write,
) -> Result<(), String> {
    let port = options.port.unwrap_or(server.config.listen_port);
    let now = options.at.unwrap_or_else(clock::wall);
    let judge = wipe::stack_after(|| Judge::new(server, now));
    let mut explainer = Explainer { judge, options, now, out, unread: false };
    for (file, input) in inputs.into_iter().enumerate() {
        explainer.file(file, input, port)?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, String> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|error| format!("{}: {error}", name(path)))?;
    Ok(Box::new(file))
}

/// As it can be shown: files are others', and so may their names be.
fn name(path: &Path) -> String {
    plain(&path.display().to_string())
}

/// What the daemon would go by if it started now.
fn server(config: Config) -> Result<Server, String> {
    let keys = &config.keys_dir;
    let cannot = |error: spa_keys::StoreError| {
        format!("{error}\n  spad explain needs to read the keys, as root does")
    };
    let identity = ServerIdentity::load(keys).map_err(cannot)?;
    let listing = Store::open(keys).clients().map_err(cannot)?;
    for broken in &listing.broken {
        note!("spad: {broken}: no knock of this client is known");
    }
    let revoked = Store::open(keys).revoked().map_or(0, |listing| listing.records.len());
    let bans = match config.firewall.absolute_bans {
        true => BanFile::new(&config.state_dir).read().unwrap_or_else(|error| {
            note!("spad: {error}: bans are not looked at");
            Bans::default()
        }),
        false => Bans::default(),
    };
    let own = host::addresses().unwrap_or_else(|error| {
        note!(
            "spad: this host's addresses cannot be read: {error}: a knock for one of them, which \
             is never granted, is not told from others"
        );
        HashSet::new()
    });
    Ok(Server { config, identity, records: listing.records, revoked, own, bans })
}

struct Explainer<'a, W> {
    judge: Judge,
    options: &'a Options,
    now: Timestamp,
    out: &'a mut W,
    /// Nobody reads on.
    unread: bool,
}

impl<W: Write> Explainer<'_, W> {
    fn file(&mut self, file: usize, input: impl Read + Send, port: u16) -> Result<(), String> {
        let name = self.name(file);
        let mut count = 0_u64;
        let told = capture_file::each(input, port, |packet| {
            count += 1;
            let explanation = self.explain(file, &packet);
            self.print(&explanation);
        });
        let rest = told.map_err(|what| format!("{name}: {what}"))?;
        if !self.unread {
            note(&name, port, count, rest);
        }
        Ok(())
    }

    fn name(&self, file: usize) -> String {
        self.options.files.get(file).map_or(String::new(), |path| name(path))
    }

    fn explain(&mut self, file: usize, packet: &Packet<'_>) -> Explanation {
        let label = Label { file, number: packet.number };
        let at = self.options.at.or(packet.captured).unwrap_or(self.now);
        let captured = self.options.at.is_none() && packet.captured.is_some();
        let (arrival, datagram) = match &packet.what {
            What::Captured(Found::Unheard(arrival, why)) => {
                return Explanation::unheard(self.call(label), at, *arrival, why);
            }
            What::Captured(Found::Datagram(arrival, bytes)) => (Some(*arrival), *bytes),
            What::Alone(bytes) => (self.options.source.map(from), *bytes),
        };
        let Ok(datagram) = <&Datagram>::try_from(datagram) else {
            return Explanation::unheard(
                self.call(label),
                at,
                arrival.unwrap_or(from(Ipv4Addr::UNSPECIFIED.into())),
                "it is no knock",
            );
        };
        let finding = self.judge.judge(Case { label, at, captured, arrival, datagram });
        let copy_of = finding.copy_of.map(|label| self.call(label));
        let known = Known {
            judge: &self.judge,
            finding: &finding,
            at,
            arrival,
            copy_of: copy_of.as_deref(),
        };
        Explanation::of(self.call(label), &known)
    }

    /// How a packet is called.
    fn call(&self, label: Label) -> String {
        match self.options.files.len() {
            1 => format!("packet {}", label.number),
            _ => format!("{} packet {}", self.name(label.file), label.number),
        }
    }

    fn print(&mut self, explanation: &Explanation) {
        let text = match (self.options.json, self.options.verbose) {
            (true, _) => explanation.json(),
            (_, true) => explanation.block(),
            _ => explanation.line(),
        };
        self.unread |= self.out.write_all(text.as_bytes()).is_err();
    }
}

/// From an address to this host, over its family.
fn from(source: IpAddr) -> Arrival {
    let destination = match source {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Arrival { source, destination }
}

/// What was not explained.
fn note(name: &str, port: u16, count: u64, rest: Rest) {
    if count == 0 {
        note!("spad: {name}: no packet for udp/{port}");
    }
    if rest.others > 0 {
        note!("spad: {name}: {} other packets left out: not UDP to port {port}", rest.others);
    }
    if let Some((count, link)) = rest.strange {
        note!(
            "spad: {name}: {count} packets left out: links of type {link} are not understood; \
             capture on one interface"
        );
    }
}

#[cfg(test)]
mod tests;
