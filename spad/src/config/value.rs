//! Reading single values, so that each fault has its line.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use spa_proto::{Prefix, Protocol};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// What is wrong, and at which bytes of the text.
pub(super) struct Fault {
    pub(super) span: Option<Range<usize>>,
    pub(super) what: String,
}

impl Fault {
    pub(super) fn at(span: Range<usize>, what: String) -> Self {
        Self { span: Some(span), what }
    }

    /// Number of the line, from 1.
    pub(super) fn line(&self, text: &str) -> Option<usize> {
        let before = text.as_bytes().get(..self.span.as_ref()?.start)?;
        Some(before.iter().filter(|byte| **byte == b'\n').count() + 1)
    }
}

pub(super) fn directory(top: &DeTable<'_>, key: &str, default: &str) -> Result<PathBuf, Fault> {
    let Some(value) = top.get(key) else { return Ok(default.into()) };
    let path = Path::new(string(value)?);
    let relative = || Fault::at(value.span(), format!("{key} must be an absolute path"));
    path.is_absolute().then(|| path.to_owned()).ok_or_else(relative)
}

pub(super) fn protocol(value: &Value<'_>) -> Result<Protocol, Fault> {
    choice(value, &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)])
}

pub(super) fn network(value: &Value<'_>) -> Result<Prefix, Fault> {
    spa_keys::cidr::parse(string(value)?)
        .map_err(|error| Fault::at(value.span(), error.to_string()))
}

pub(super) fn duration(value: &Value<'_>) -> Result<Duration, Fault> {
    let text = value.get_ref().as_str();
    let text =
        text.ok_or_else(|| Fault::at(value.span(), "expected a duration such as \"30s\"".into()))?;
    spa_keys::duration::parse(text).map_err(|error| Fault::at(value.span(), error.to_string()))
}

pub(super) fn port(value: &Value<'_>) -> Result<u16, Fault> {
    let number = value.get_ref().as_integer().and_then(|int| {
        u16::from_str_radix(int.as_str(), int.radix()).ok().filter(|port| *port != 0)
    });
    number.ok_or_else(|| Fault::at(value.span(), "expected a port number, 1 to 65535".into()))
}

pub(super) fn each<T>(
    list: &Value<'_>,
    read: impl Fn(&Value<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let wrong = || Fault::at(list.span(), "expected a list, such as [\"…\"]".into());
    list.get_ref().as_array().ok_or_else(wrong)?.iter().map(read).collect()
}

pub(super) fn string<'a>(value: &'a Value<'_>) -> Result<&'a str, Fault> {
    let wrong = || Fault::at(value.span(), "expected a text in quotes".into());
    value.get_ref().as_str().ok_or_else(wrong)
}

pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(
    text: &str,
    span: Range<usize>,
) -> Result<T, Fault> {
    text.parse().map_err(|error: T::Err| Fault::at(span, error.to_string()))
}

pub(super) fn flag(value: &Value<'_>) -> Result<bool, Fault> {
    let wrong = || Fault::at(value.span(), "expected true or false".into());
    value.get_ref().as_bool().ok_or_else(wrong)
}

/// A whole number of this range.
pub(super) fn number(
    value: &Value<'_>,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, Fault> {
    let number = value.get_ref().as_integer().and_then(|int| {
        u32::from_str_radix(int.as_str(), int.radix()).ok().filter(|n| range.contains(n))
    });
    let expected = || format!("expected a number, {} to {}", range.start(), range.end());
    number.ok_or_else(|| Fault::at(value.span(), expected()))
}

/// The same for numbers that fit a byte.
pub(super) fn small(value: &Value<'_>, range: std::ops::RangeInclusive<u8>) -> Result<u8, Fault> {
    let wide = u32::from(*range.start())..=u32::from(*range.end());
    number(value, wide).map(|number| u8::try_from(number).unwrap_or_default())
}

/// One of these words.
pub(super) fn choice<T: Copy>(value: &Value<'_>, words: &[(&str, T)]) -> Result<T, Fault> {
    let given = string(value)?;
    let found = words.iter().find(|(word, _)| *word == given);
    let expected = || {
        let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("expected {}", words.join(" or "))
    };
    found.map(|(_, meaning)| *meaning).ok_or_else(|| Fault::at(value.span(), expected()))
}
