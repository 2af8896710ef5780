//! The format of the test vectors (protocol §14): `key: value` lines.

use std::fmt;
use std::net::IpAddr;

use spa_proto::{Address, Kind, Mode, Request};

/// One case, its lines in order.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Case {
    about: String,
    lines: Vec<(String, String)>,
}

impl Case {
    /// A case that says in words what it is about.
    pub(crate) fn about(text: &str) -> Self {
        Self { about: text.to_owned(), lines: Vec::new() }
    }

    pub(crate) fn parse(text: &str) -> Self {
        let about = text.lines().map_while(|line| line.strip_prefix("# "));
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pair = |line: &str| {
            let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("no key: {line}"));
            (key.to_owned(), value.trim().to_owned())
        };
        Self { about: about.collect::<Vec<_>>().join("\n"), lines: lines.map(pair).collect() }
    }

    /// Adds a line.
    pub(crate) fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.lines.push((key.to_owned(), value.to_string()));
        self
    }

    /// Adds an empty line, for the eye.
    pub(crate) fn gap(mut self) -> Self {
        self.lines.push(Default::default());
        self
    }

    /// Adds a line of bytes.
    pub(crate) fn with_bytes(self, key: &str, bytes: &[u8]) -> Self {
        self.with(key, hex(bytes))
    }

    /// Every value of a key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |line| line.0 == key).map(|line| line.1.as_str())
    }

    /// The one value of a key, if it has any.
    pub(crate) fn get<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        let mut values = self.all(key);
        let value = values.next();
        assert!(values.next().is_none(), "{key}: more than one value");
        value
    }

    /// The one value of a key.
    pub(crate) fn one<'a>(&'a self, key: &'a str) -> &'a str {
        self.get(key).unwrap_or_else(|| panic!("{key}: missing"))
    }

    pub(crate) fn bytes<const N: usize>(&self, key: &str) -> [u8; N] {
        unhex(self.one(key)).try_into().unwrap_or_else(|_| panic!("{key}: not {N} bytes"))
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        self.one(key).parse().unwrap_or_else(|_| panic!("{key}: not a number"))
    }

    pub(crate) fn address(&self, key: &str) -> IpAddr {
        self.one(key).parse().unwrap_or_else(|_| panic!("{key}: not an address"))
    }

    /// Adds the fields of a request in words, and its body.
    pub(crate) fn with_request(self, request: &Request) -> Self {
        self.with("kind", kind(&request.kind))
            .with("mode", mode(request.mode))
            .with("address", address(request.address))
            .with("width", request.width.unwrap_or(0))
            .with("seconds", request.seconds.map_or(0, u32::from))
            .with("services", words(request.services.iter()))
            .with_bytes("body", &request.encode().unwrap())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.about.lines().try_for_each(|line| writeln!(f, "# {line}"))?;
        self.lines.iter().try_for_each(|(key, value)| match key.as_str() {
            "" => writeln!(f),
            _ => writeln!(f, "{}", format!("{key}: {value}").trim_end()),
        })
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Knock => "knock".to_owned(),
        Kind::Enrol(enrolment) => {
            let key = hex(&enrolment.verifying_key.to_bytes());
            format!("enrol {key} {}", hex(enrolment.secret.expose()))
        }
    }
}

fn mode(mode: Mode) -> String {
    match mode {
        Mode::Default => "default".to_owned(),
        Mode::Window => "window".to_owned(),
        Mode::Once => "once".to_owned(),
        Mode::Bound { source_port } => format!("bound {source_port}"),
    }
}

fn address(address: Address) -> String {
    match address {
        Address::Seen => "seen".to_owned(),
        Address::SeenWithin(prefix) => format!("seen {prefix}"),
        Address::Explicit(address) => address.to_string(),
    }
}

fn words(items: impl Iterator<Item = impl fmt::Display>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "half a byte: {text}");
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(byte).collect()
}
