//! What people and programs get to see of a client: all of its policy, none of
//! its secrets.

use std::fmt::{Display, Write};
use std::time::Duration;

use serde::Serialize;
use spa_keys::{
    ClientName, ClientRecord, ClientState, LastKnocks, Modes, Person, Policy, RevokedClient,
    Widest, date, duration, encoding,
};
use spa_proto::{Prefix, Timestamp, Verifier, VerifyingKey};

/// One client, or a person; the names are those of the JSON.
#[derive(Serialize)]
pub(crate) struct View {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    state: &'static str,
    created: Option<String>,
    #[serde(flatten)]
    rights: Rights,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<String>,
    /// Of the person whose device it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<PersonView>,
    /// Of the person that this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<Vec<Device>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_knock: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
}

/// What may be done.
#[derive(Serialize)]
struct Rights {
    services: Vec<String>,
    expires: Option<String>,
    sources: Vec<String>,
    hours: Vec<String>,
    address: String,
    modes: Vec<String>,
    widest_ipv4: u8,
    widest_ipv6: u8,
    ttl_seconds: Option<u64>,
    max_ttl_seconds: Option<u64>,
}

/// What limits a device beside its own record.
#[derive(Serialize)]
struct PersonView {
    name: String,
    #[serde(flatten)]
    rights: Rights,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<String>,
}

/// One device of a person.
#[derive(Serialize)]
pub(crate) struct Device {
    name: String,
    state: &'static str,
}

impl Device {
    /// All that a person has.
    pub(crate) fn all_of(
        records: &[ClientRecord],
        person: &ClientName,
        now: Timestamp,
    ) -> Vec<Self> {
        let own = records.iter().filter(|record| record.name != *person);
        let devices = own.filter(|record| record.name.is_of(person));
        let device =
            |one: &ClientRecord| Self { name: one.name.to_string(), state: one.state(now).name() };
        devices.map(device).collect()
    }
}

impl Rights {
    fn of(policy: &Policy, expires: Option<Timestamp>) -> Self {
        Self {
            services: texts(&policy.services),
            expires: expires.map(date::format),
            sources: texts(&policy.sources),
            hours: texts(&policy.hours),
            address: policy.address.to_string(),
            modes: mode_names(policy.modes),
            widest_ipv4: policy.widest.v4,
            widest_ipv6: policy.widest.v6,
            ttl_seconds: policy.ttl.map(|ttl| ttl.as_secs()),
            max_ttl_seconds: policy.max_ttl.map(|max| max.as_secs()),
        }
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let widest = Widest { v4: self.widest_ipv4, v6: self.widest_ipv6 };
        vec![
            ("services", or(&self.services, "as its person or devices say")),
            ("ttl", lifetime(self.ttl_seconds)),
            ("max ttl", lifetime(self.max_ttl_seconds)),
            ("sources", or(&self.sources, "anywhere")),
            ("hours", or(&self.hours, "any")),
            ("address", self.address.clone()),
            ("modes", self.modes.join(", ")),
            ("widest", width(widest)),
            ("expires", never_or(self.expires.as_ref())),
        ]
    }
}

impl View {
    pub(crate) fn of_client(client: &ClientRecord, now: Timestamp) -> Self {
        let (key, token_expires) = match &client.verifier {
            Verifier::Bound(key) => (Some(*key), None),
            Verifier::Pending { expires, .. } => (None, Some(*expires)),
        };
        Self {
            kid: Some(client.kid.to_string()),
            disabled: client.disabled.map(date::format),
            person: client.person.as_deref().map(PersonView::of),
            public_key: key.map(public_key),
            token_expires: token_expires.map(date::format),
            ..Self::plain(
                &client.name,
                client.state(now),
                Some(client.created),
                Rights::of(&client.policy, client.expires),
            )
        }
    }

    pub(crate) fn of_revoked(client: &RevokedClient) -> Self {
        Self {
            kid: Some(client.kid.to_string()),
            public_key: client.key.map(public_key),
            revoked: Some(date::format(client.revoked)),
            ..Self::plain(
                &client.name,
                ClientState::Revoked,
                Some(client.created),
                Rights::of(&client.policy, client.expires),
            )
        }
    }

    /// A person, of whom perhaps nothing was ever `said`.
    pub(crate) fn of_person(
        name: &ClientName,
        said: Option<&Person>,
        devices: Vec<Device>,
    ) -> Self {
        let nothing = Person::new(name.clone(), Timestamp::ZERO);
        let person = said.unwrap_or(&nothing);
        let state = match person.disabled {
            Some(_) => ClientState::Disabled.name(),
            None => "person",
        };
        let rights = Rights::of(&person.policy, person.expires);
        let created = said.map(|person| person.created);
        Self {
            state,
            disabled: person.disabled.map(date::format),
            devices: Some(devices),
            ..Self::plain(name, ClientState::Disabled, created, rights)
        }
    }

    fn plain(
        name: &ClientName,
        state: ClientState,
        created: Option<Timestamp>,
        rights: Rights,
    ) -> Self {
        Self {
            name: name.to_string(),
            kid: None,
            state: state.name(),
            created: created.map(date::format),
            rights,
            disabled: None,
            person: None,
            devices: None,
            last_knock: None,
            public_key: None,
            token_expires: None,
            revoked: None,
        }
    }

    pub(crate) fn with_last_knock(self, client: &ClientRecord, knocks: &LastKnocks) -> Self {
        Self { last_knock: last_knock(client, knocks).map(date::format), ..self }
    }

    pub(crate) fn is_disabled(&self) -> bool {
        self.state == ClientState::Disabled.name()
    }

    /// All of it, a line each.
    pub(crate) fn to_text(&self) -> String {
        let head = [
            ("name", Some(self.name.clone())),
            ("key-id", self.kid.clone()),
            ("state", Some(self.state.replace('-', " "))),
        ];
        let tail = [
            ("created", self.created.clone()),
            ("disabled", self.disabled.clone()),
            ("last knock", self.last_knock.clone()),
            ("token until", self.token_expires.clone()),
            ("revoked", self.revoked.clone()),
            ("public key", self.public_key.clone()),
        ];
        let rights = self.rights.lines().into_iter().map(|(label, value)| (label, Some(value)));
        let lines = head.into_iter().chain(rights).chain(tail);
        let lines = lines.filter_map(|(label, value)| Some((label.to_owned(), value?)));
        let text: String = lines.map(line).collect();
        text + &self.person_lines() + &self.device_lines()
    }

    /// What its person may do, where something is said of that.
    fn person_lines(&self) -> String {
        let Some(person) = &self.person else { return String::new() };
        let state = person.disabled.as_ref().map(|since| ("disabled", since.clone()));
        let name = [("person", person.name.clone())];
        let lines = name.into_iter().chain(person.rights.lines()).chain(state);
        lines
            .enumerate()
            .map(|(at, (label, value))| {
                line((if at == 0 { label.to_owned() } else { format!("  {label}") }, value))
            })
            .collect()
    }

    fn device_lines(&self) -> String {
        let devices = self.devices.iter().flatten();
        let text = |device: &Device| format!("{}, {}", device.name, device.state.replace('-', " "));
        devices.map(|device| line(("device".to_owned(), text(device)))).collect()
    }
}

fn line((label, value): (String, String)) -> String {
    format!("{label:<12} {value}\n")
}

impl PersonView {
    fn of(person: &Person) -> Self {
        Self {
            name: person.name.to_string(),
            rights: Rights::of(&person.policy, person.expires),
            disabled: person.disabled.map(date::format),
        }
    }
}

const HEADINGS: [&str; 6] = ["NAME", "KEY-ID", "SERVICES", "STATE", "EXPIRES", "LAST KNOCK"];

/// A row of the table: of a device, what it may do together with its person.
pub(crate) type Row = [String; HEADINGS.len()];

pub(crate) fn row(client: &ClientRecord, knocks: &LastKnocks, now: Timestamp) -> Row {
    let services = client.services().iter().map(ToString::to_string).collect::<Vec<_>>();
    [
        client.name.to_string(),
        short(&client.kid.to_string()),
        or(&[services.join(",")], "-"),
        client.state(now).name().replace('-', " "),
        never_or(client.ends().map(date::format).as_ref()),
        last_knock(client, knocks).map_or_else(|| "-".to_owned(), date::format),
    ]
}

pub(crate) fn revoked_row(client: &RevokedClient) -> Row {
    let services = texts(&client.policy.services).join(",");
    [
        client.name.to_string(),
        short(&client.kid.to_string()),
        or(&[services], "-"),
        ClientState::Revoked.name().to_owned(),
        never_or(client.expires.map(date::format).as_ref()),
        "-".to_owned(),
    ]
}

/// With whichever of its keys.
fn last_knock(client: &ClientRecord, knocks: &LastKnocks) -> Option<Timestamp> {
    client.kids().filter_map(|kid| knocks.of(&kid)).max()
}

fn short(kid: &str) -> String {
    kid.chars().take(8).collect()
}

/// Clients as a table; nothing at all without any.
pub(crate) fn table(rows: Vec<Row>) -> String {
    aligned_table(HEADINGS, rows)
}

/// Columns as wide as their widest cell; nothing at all without rows.
pub(crate) fn aligned_table<const N: usize>(heading: [&str; N], rows: Vec<[String; N]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = [heading.map(str::to_owned)].into_iter().chain(rows).collect();
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

/// From where, and what else limits a new client, in one line.
pub(crate) fn limits(policy: &Policy, expires: Option<Timestamp>) -> String {
    let mut text = format!("from {}", sources(&policy.sources));
    let limits = [
        (!policy.hours.is_empty()).then(|| comma_separated(&policy.hours)),
        policy.ttl.map(|ttl| format!("for {} each time", duration::format(ttl))),
        policy.max_ttl.map(|max| format!("for {} at most", duration::format(max))),
        expires.map(|expires| format!("until {}", date::format(expires))),
        (policy.modes != Modes::ALL)
            .then(|| format!("only {}", mode_names(policy.modes).join(" or "))),
        (policy.widest != Widest::ADDRESS).then(|| format!("as wide as {}", width(policy.widest))),
    ];
    limits.into_iter().flatten().for_each(|limit| text.extend([", ", &limit]));
    text
}

pub(crate) fn comma_separated<T: Display>(values: &[T]) -> String {
    texts(values).join(", ")
}

fn sources(prefixes: &[Prefix]) -> String {
    or(&texts(prefixes), "anywhere")
}

fn texts<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// What there is, or else these words.
fn or(values: &[String], none: &str) -> String {
    let joined = values.join(", ");
    if joined.is_empty() { none.to_owned() } else { joined }
}

fn mode_names(modes: Modes) -> Vec<String> {
    texts(&modes.iter().collect::<Vec<_>>())
}

/// The widest that a client is let in with.
fn width(widest: Widest) -> String {
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
