//! Whether this machine's clock can be right.
//!
//! Nobody is asked for the time but a server that the user has named for it.

use std::fs;
use std::future::{Future, ready};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use sntpc::{NtpContext, NtpUdpSocket, StdTimestampGen};
use spa_keys::date;
use spa_proto::{Timestamp, Tolerance};

use super::finding::{Finding, Findings};
use crate::config::ConfigDir;
use crate::door::EARLIEST;
use crate::resolve::{Family, host_and_port, resolve};

const NTP: NonZeroU16 = NonZeroU16::MIN.saturating_add(122);
const PATIENCE: Duration = Duration::from_secs(2);
/// systemd-timesyncd makes it once it has set the clock.
const SET_BY_TIMESYNCD: &str = "/run/systemd/timesync/synchronized";
const ADVICE: &str =
    "set the clock, and keep it set by a time service such as systemd-timesyncd or chrony";

pub(super) fn look(config: &ConfigDir, keys: &Path, findings: &mut Findings) {
    let now = date::now();
    let written = fs::metadata(keys).and_then(|file| file.modified()).ok().map(timestamp);
    findings.add(plausible(now, written));
    if now < EARLIEST {
        return;
    }
    match config.settings().map(|settings| settings.time_server) {
        Err(failure) => findings.add(Finding::bad("settings", failure.to_string(), "correct the file, or delete it")),
        Ok(Some(server)) => findings.add(match ask(server.as_str()) {
            Ok(offset) => compared(server.as_str(), offset),
            Err(why) => Finding::note("clock", format!("the time server {} cannot be asked: {why}", server.as_str())),
        }),
        Ok(None) if Path::new(SET_BY_TIMESYNCD).exists() => findings.add(Finding::ok(
            "clock",
            "set from the network since this machine started (systemd-timesyncd)",
        )),
        Ok(None) => findings.add(Finding::note("clock", format!(
            "nothing here says how exact it is; to have it compared, write time-server = \"NAME\" into {}",
            config.settings_path().display()
        ))),
    }
}

fn timestamp(time: std::time::SystemTime) -> Timestamp {
    let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO.plus(since)
}

/// As far as the machine itself can tell. `written` is when the keys were.
fn plausible(now: Timestamp, written: Option<Timestamp>) -> Finding {
    let shown = date::format(now);
    match written {
        _ if now < EARLIEST => {
            Finding::bad("clock", format!("it shows {shown}: it was never set"), ADVICE)
        }
        Some(written) if now < written => Finding::bad(
            "clock",
            format!(
                "it shows {shown}, which is before {}, when the keys were written",
                date::format(written)
            ),
            ADVICE,
        ),
        _ => Finding::ok("clock", format!("it shows {shown}")),
    }
}

/// By how much the clock is off, in milliseconds, as somebody else has it.
fn compared(server: &str, offset: i64) -> Finding {
    let (off, tolerance) =
        (Duration::from_millis(offset.unsigned_abs()), Tolerance::DEFAULT.as_duration());
    let way = if offset > 0 { "behind" } else { "ahead of" };
    let text = format!("{:.1} s {way} {server}", off.as_secs_f64());
    if off > tolerance {
        return Finding::bad(
            "clock",
            format!("{text}: servers allow {} s", tolerance.as_secs()),
            ADVICE,
        );
    }
    if off > tolerance / 3 { Finding::note("clock", text) } else { Finding::ok("clock", text) }
}

/// One question by SNTP (RFC 4330), to the first address that can be asked.
fn ask(server: &str) -> Result<i64, String> {
    let (host, port) = host_and_port(server);
    let port = port.unwrap_or(NTP);
    let addresses =
        resolve(host, port.get(), Family::Any).map_err(|failure| failure.to_string())?;
    let mut why = String::new();
    for to in addresses {
        match ask_at(to) {
            Ok(offset) => return Ok(offset),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn ask_at(to: SocketAddr) -> Result<i64, String> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let open = || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let socket = Asking(open().map_err(|error| error.to_string())?);
    let answer = sntpc::sync::get_time(to, &socket, NtpContext::new(StdTimestampGen::default()));
    answer.map(|answer| answer.offset() / 1000).map_err(|error| match error {
        sntpc::Error::Network => "no answer".to_owned(),
        other => format!("its answer is of no use ({other:?})"),
    })
}

/// A socket as `sntpc` wants it: what blocks is done when it comes back.
struct Asking(UdpSocket);

impl NtpUdpSocket for Asking {
    fn send_to(&self, bytes: &[u8], to: SocketAddr) -> impl Future<Output = sntpc::Result<usize>> {
        ready(self.0.send_to(bytes, to).map_err(|_| sntpc::Error::Network))
    }

    fn recv_from(
        &self,
        bytes: &mut [u8],
    ) -> impl Future<Output = sntpc::Result<(usize, SocketAddr)>> {
        ready(self.0.recv_from(bytes).map_err(|_| sntpc::Error::Network))
    }
}
