//! What people and programs get to see of a client: all of its policy, none of
//! its secrets.

use std::fmt::{Display, Write};
use std::time::Duration;

use serde::Serialize;
use spa_keys::{ClientRecord, ClientState, Modes, RevokedClient, Widest, date, duration, encoding};
use spa_proto::{Prefix, Timestamp, Verifier, VerifyingKey};

/// One client; the names are those of the JSON.
#[derive(Serialize)]
pub(crate) struct View {
    name: String,
    kid: String,
    state: &'static str,
    services: Vec<String>,
    created: String,
    expires: Option<String>,
    sources: Vec<String>,
    address: String,
    modes: Vec<String>,
    widest_ipv4: u8,
    widest_ipv6: u8,
    ttl_seconds: Option<u64>,
    max_ttl_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
}

impl View {
    pub(crate) fn of_client(client: &ClientRecord, now: Timestamp) -> Self {
        let (key, token_expires) = match &client.verifier {
            Verifier::Bound(key) => (Some(*key), None),
            Verifier::Pending { expires, .. } => (None, Some(*expires)),
        };
        Self {
            name: client.name.to_string(),
            kid: client.kid.to_string(),
            state: client.state(now).name(),
            services: texts(&client.services),
            created: date::format(client.created),
            expires: client.expires.map(date::format),
            sources: texts(&client.sources),
            address: client.address.to_string(),
            modes: mode_names(client.modes),
            widest_ipv4: client.widest.v4,
            widest_ipv6: client.widest.v6,
            ttl_seconds: client.ttl.map(|ttl| ttl.as_secs()),
            max_ttl_seconds: client.max_ttl.map(|max| max.as_secs()),
            public_key: key.map(public_key),
            token_expires: token_expires.map(date::format),
            revoked: None,
        }
    }

    pub(crate) fn of_revoked(client: &RevokedClient) -> Self {
        Self {
            name: client.name.to_string(),
            kid: client.kid.to_string(),
            state: ClientState::Revoked.name(),
            services: texts(&client.services),
            created: date::format(client.created),
            expires: client.expires.map(date::format),
            sources: texts(&client.sources),
            address: client.address.to_string(),
            modes: mode_names(client.modes),
            widest_ipv4: client.widest.v4,
            widest_ipv6: client.widest.v6,
            ttl_seconds: client.ttl.map(|ttl| ttl.as_secs()),
            max_ttl_seconds: client.max_ttl.map(|max| max.as_secs()),
            public_key: client.key.map(public_key),
            token_expires: None,
            revoked: Some(date::format(client.revoked)),
        }
    }

    /// All of it, a line each.
    pub(crate) fn to_text(&self) -> String {
        let lines = [
            ("name", Some(self.name.clone())),
            ("key-id", Some(self.kid.clone())),
            ("state", Some(self.state.replace('-', " "))),
            ("services", Some(self.services.join(", "))),
            ("ttl", Some(lifetime(self.ttl_seconds))),
            ("max ttl", Some(lifetime(self.max_ttl_seconds))),
            ("sources", Some(any_or(&self.sources))),
            ("address", Some(self.address.clone())),
            ("modes", Some(self.modes.join(", "))),
            ("widest", Some(width(Widest { v4: self.widest_ipv4, v6: self.widest_ipv6 }))),
            ("created", Some(self.created.clone())),
            ("expires", Some(never_or(self.expires.as_ref()))),
            ("token until", self.token_expires.clone()),
            ("revoked", self.revoked.clone()),
            ("public key", self.public_key.clone()),
        ];
        let said = lines.into_iter().filter_map(|(label, value)| Some((label, value?)));
        said.map(|(label, value)| format!("{label:<12} {value}\n")).collect()
    }

    fn row(&self) -> [String; 5] {
        [
            self.name.clone(),
            self.kid.chars().take(8).collect(),
            self.services.join(","),
            self.state.replace('-', " "),
            never_or(self.expires.as_ref()),
        ]
    }
}

/// An aligned table with a heading; nothing at all without clients.
pub(crate) fn table(views: &[View]) -> String {
    if views.is_empty() {
        return String::new();
    }
    let heading = ["NAME", "KEY-ID", "SERVICES", "STATE", "EXPIRES"].map(str::to_owned);
    columns(&[heading].into_iter().chain(views.iter().map(View::row)).collect::<Vec<_>>())
}

/// Rows under each other.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].len()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    rows.iter().map(|row| aligned(row, widths)).collect()
}

fn aligned<const N: usize>(row: &[String; N], widths: [usize; N]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        // Writing to a string does not fail.
        let _ = write!(line, "{cell:<width$}  ");
    }
    format!("{}\n", line.trim_end())
}

pub(crate) fn to_json(value: &(impl Serialize + ?Sized)) -> String {
    // Strings, numbers and lists always serialise.
    let json = serde_json::to_string_pretty(value).unwrap_or_default();
    format!("{json}\n")
}

pub(crate) fn comma_separated<T: Display>(values: &[T]) -> String {
    texts(values).join(", ")
}

pub(crate) fn sources(prefixes: &[Prefix]) -> String {
    any_or(&texts(prefixes))
}

fn texts<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn any_or(sources: &[String]) -> String {
    if sources.is_empty() { "anywhere".to_owned() } else { sources.join(", ") }
}

pub(crate) fn mode_names(modes: Modes) -> Vec<String> {
    texts(&modes.iter().collect::<Vec<_>>())
}

/// The widest that a client is let in with.
pub(crate) fn width(widest: Widest) -> String {
    if widest == Widest::ADDRESS {
        return "one address".to_owned();
    }
    format!("IPv4 /{}, IPv6 /{}", widest.v4, widest.v6)
}

fn never_or(date: Option<&String>) -> String {
    date.map_or("never", String::as_str).to_owned()
}

fn lifetime(seconds: Option<u64>) -> String {
    let given = seconds.map(|seconds| duration::format(Duration::from_secs(seconds)));
    given.unwrap_or_else(|| "as the service says".to_owned())
}

fn public_key(key: VerifyingKey) -> String {
    encoding::to_base64(&key.to_bytes()).as_str().to_owned()
}
