//! A knock in a file: made by who has the keys (`spa knock --save`), sent by
//! whoever is where it is needed (`spa send`).

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::Path;

use serde::{Deserialize, Serialize};
use spa_keys::{date, document, files};
use spa_proto::{PACKET_LEN, Timestamp, Tolerance};
use zeroize::Zeroizing;

use crate::cli::SendOptions;
use crate::exit::{Exit, Failure};
use crate::field::{self, Host, Sealed};
use crate::reporter::{Manner, Reporter};
use crate::resolve::{Family, resolve};
use crate::{os, report, send};

/// Far more than such a file.
const MAX_INPUT: u64 = 64 * 1024;
const COMMENT: &str = "\
# One knock, for `spa send`. Whoever has it can use it: once, at one address of the server, and
# only while the server's clock is near the time below (30 s unless the server says otherwise).
";

/// One datagram, and where it is to go.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedKnock {
    /// Name or address of the server.
    #[serde(with = "field")]
    pub(crate) host: Host,
    /// UDP port there.
    pub(crate) port: NonZeroU16,
    /// Of the addresses that may be knocked at; any where it is for the address seen.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "field::optional")]
    pub(crate) family: Option<Family>,
    /// What the datagram says that the time is.
    #[serde(with = "field")]
    pub(crate) time: Timestamp,
    #[serde(with = "field")]
    pub(crate) datagram: Sealed,
}

impl SavedKnock {
    /// Writes it to a new file, or to standard output for `-`.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self).map_err(Failure::keys)?;
        let text = Zeroizing::new(format!("{COMMENT}{text}"));
        if path.as_os_str() == "-" {
            return report::print(text.trim_end());
        }
        files::create_new(path, &text).map_err(Failure::keys)?;
        report::note(&format!(
            "{}: works once, {}; to be sent with: spa send {0}",
            path.display(),
            self.while_fresh()
        ));
        Ok(())
    }

    fn while_fresh(&self) -> String {
        let tolerance = Tolerance::DEFAULT.as_duration();
        let (from, to) = (self.time.minus(tolerance), self.time.plus(tolerance));
        format!(
            "from {} to {} by the server's clock, unless that server allows more or less",
            date::format(from),
            date::format(to)
        )
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let unreadable =
            |error| Failure::keys(format!("cannot read a knock from {}: {error}", path.display()));
        let text = if path.as_os_str() == "-" {
            read_all(io::stdin().lock())
        } else {
            if os::others_can_read(path) {
                let path = path.display();
                report::note(&format!("others on this machine can read {path}, and use it first"));
            }
            File::open(path).and_then(read_all)
        };
        document::parse(path, &text.map_err(unreadable)?).map_err(|fault| {
            Failure::keys(format!("{fault}\n  expected what `spa knock --save` writes"))
        })
    }
}

fn read_all(input: impl Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    input.take(MAX_INPUT).read_to_string(&mut text)?;
    Ok(text)
}

/// Sends what was saved, as it is, to the first address that it can leave for:
/// it works at one of them only.
pub(crate) fn send(options: &SendOptions) -> Result<Exit, Failure> {
    let saved = SavedKnock::read(&options.file)?;
    let host = options.to.as_deref().unwrap_or(saved.host.as_str());
    let port = options.port.unwrap_or(saved.port);
    let addresses = resolve(host, port.get(), saved.family.unwrap_or_default())?;
    if !Tolerance::DEFAULT.admits(saved.time, date::now()) {
        report::note(&format!(
            "most servers will refuse this knock: it is good {}",
            saved.while_fresh()
        ));
    }
    let reporter = Reporter::new(Manner::new(options.verbose, false, false, 1), host);
    send_to_first(host, &addresses, &saved.datagram, &reporter)?;
    Ok(Exit::Done)
}

fn send_to_first(
    host: &str,
    addresses: &[SocketAddr],
    datagram: &Sealed,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let mut faults = String::new();
    for to in addresses {
        match send::send_datagram(*to, datagram.as_bytes()) {
            Ok(local) => {
                let from = local.ip();
                reporter.step(|| format!("{to}: {PACKET_LEN} bytes from {from}"));
                reporter.line(|| format!("{host}: sent the knock to {to}\n"));
                return Ok(());
            }
            Err(why) => faults += &format!("\n  not sent to {to}: {why}"),
        }
    }
    Err(Failure::not_sent(format!("the knock could not be sent to {host}{faults}")))
}
