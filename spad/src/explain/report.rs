//! An explanation, as one line, as a block, as JSON. Pure.

use std::fmt::Write;

use serde::Serialize;
use spa_keys::date;
use spa_proto::{Address, Arrival, Kind, Mode, Request, Timestamp};

use super::judge::{Verdict, Who};
use super::words::{Known, span};

/// What is said of one packet; the names are those of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    packet: String,
    /// As of when it was judged.
    time: String,
    source: Option<String>,
    destination: Option<String>,
    /// `granted`, a reason as `spad status` counts it, `unheard` for what is left out
    /// before that, or `depends`.
    verdict: &'static str,
    client: Option<String>,
    /// Whether the HMAC shows that it is this client's.
    proven: bool,
    /// The client's clock when it was made.
    sent: Option<String>,
    /// How far that is ahead of the server's; behind, if it is negative.
    clock_off_ms: Option<i64>,
    asks: Option<Asks>,
    /// The verdict if it came at the time that it bears, and for the first time.
    otherwise: Option<&'static str>,
    why: String,
    advice: String,
}

/// What is asked for.
#[derive(Debug, Serialize)]
struct Asks {
    services: Vec<String>,
    address: String,
    mode: String,
    seconds: Option<u32>,
    width: Option<u8>,
    enrols: bool,
}

impl Explanation {
    /// Of what the daemon never hears.
    pub(super) fn unheard(packet: String, at: Timestamp, arrival: Arrival, why: &str) -> Self {
        Self {
            packet,
            time: date::format(at),
            source: Some(arrival.source.to_string()),
            destination: destination(&arrival),
            verdict: "unheard",
            client: None,
            proven: false,
            sent: None,
            clock_off_ms: None,
            asks: None,
            otherwise: None,
            why: why.to_owned(),
            advice: "the kernel leaves it out, so that no counter shows it".to_owned(),
        }
    }

    pub(super) fn of(packet: String, known: &Known<'_>) -> Self {
        let (finding, words) = (known.finding, known.words());
        let (kid, sender) = match finding.who {
            Who::Proven(kid, sender) => (Some(kid), Some(sender)),
            Who::Claimed(kid) => (Some(kid), None),
            Who::Nobody | Who::NotLookedFor => (None, None),
        };
        let client = kid.and_then(|kid| known.judge.record(&kid));
        Self {
            packet,
            time: date::format(known.at),
            source: known.arrival.map(|arrival| arrival.source.to_string()),
            destination: known.arrival.and_then(|arrival| destination(&arrival)),
            verdict: finding.verdict.name(),
            client: client.map(|record| record.name.to_string()),
            proven: sender.is_some(),
            sent: sender.map(|sender| date::format(sender.time)),
            clock_off_ms: sender.map(|sender| ahead(sender.time, known.at)),
            asks: finding.request.as_ref().map(Asks::of),
            otherwise: finding.in_time.as_ref().map(Verdict::name),
            why: words.why,
            advice: words.advice,
        }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// All that matters, on one line.
    pub(super) fn line(&self) -> String {
        let Self { packet, time, why, advice, .. } = self;
        let source = self.source.as_deref().unwrap_or("from anywhere");
        let client = match (&self.client, self.proven) {
            (Some(client), true) => format!("{client}: "),
            (Some(client), false) => format!("{client}?: "),
            (None, _) => String::new(),
        };
        let asks = self.asks.as_ref().map(|asks| format!(" for {}", asks.services.join(", ")));
        let asks = asks.unwrap_or_default();
        format!("{packet} {time} {source}: {client}{}{asks}: {why}. To do: {advice}\n", self.said())
    }

    fn said(&self) -> String {
        match self.verdict {
            "granted" => "would be granted".to_owned(),
            "depends" => "not decided".to_owned(),
            "unheard" => "not heard".to_owned(),
            reason => format!("refused ({reason})"),
        }
    }

    /// All that is known.
    pub(super) fn block(&self) -> String {
        let mut out = format!("{}\n", self.packet);
        let mut line = |name: &str, value: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "  {name:<8} {value}");
        };
        line("judged", &format!("as of {}", self.time));
        match (&self.source, &self.destination) {
            (Some(source), Some(to)) => line("way", &format!("from {source} to {to}")),
            (Some(source), None) => line("source", source),
            (None, _) => {}
        }
        match (&self.client, self.proven) {
            (Some(client), true) => line("client", client),
            (Some(client), false) => {
                line("client", &format!("{client}, says the name in it; not proven"))
            }
            (None, _) => line("client", "not known"),
        }
        if let (Some(sent), Some(off)) = (&self.sent, self.clock_off_ms) {
            let how = if off < 0 { "behind" } else { "ahead" };
            let off = span(std::time::Duration::from_millis(off.unsigned_abs()));
            line("made", &format!("{sent}: {off} {how}"));
        }
        if let Some(asks) = &self.asks {
            line("asks", &asks.text());
        }
        line("verdict", &self.said());
        line("why", &self.why);
        line("to do", &self.advice);
        out + "\n"
    }
}

/// Where it has come to, if anybody has said so.
fn destination(arrival: &Arrival) -> Option<String> {
    let known = !arrival.destination.is_unspecified();
    known.then(|| arrival.destination.to_string())
}

/// How far `one` is ahead of the other, in milliseconds.
fn ahead(one: Timestamp, other: Timestamp) -> i64 {
    let difference = i128::from(one.as_millis()) - i128::from(other.as_millis());
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}

impl Verdict {
    fn name(&self) -> &'static str {
        match self {
            Self::Granted(_) => "granted",
            Self::Refused(reason) => reason.name(),
            Self::Depends => "depends",
        }
    }
}

impl Asks {
    fn of(request: &Request) -> Self {
        Self {
            services: request.services.iter().map(|service| service.to_string()).collect(),
            address: match request.address {
                Address::Seen => "seen".to_owned(),
                Address::SeenWithin(prefix) => format!("seen within {prefix}"),
                Address::Explicit(address) => address.to_string(),
            },
            mode: match request.mode {
                Mode::Default => "default".to_owned(),
                Mode::Window => "window".to_owned(),
                Mode::Once => "once".to_owned(),
                Mode::Bound { source_port } => format!("bound to port {source_port}"),
            },
            seconds: request.seconds.map(u32::from),
            width: request.width,
            enrols: matches!(request.kind, Kind::Enrol(_)),
        }
    }

    fn text(&self) -> String {
        let address = match self.address.as_str() {
            "seen" => "the address that it comes from",
            address => address,
        };
        let mut text = format!("{} for {address}", self.services.join(", "));
        if let Some(width) = self.width {
            let _ = write!(text, ", /{width}");
        }
        if let Some(seconds) = self.seconds {
            let _ = write!(text, ", for {seconds} s");
        }
        if self.mode != "default" {
            let _ = write!(text, ", {}", self.mode);
        }
        if self.enrols {
            text += ", and enrols";
        }
        text
    }
}
