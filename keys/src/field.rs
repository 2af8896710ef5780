//! Fields of our TOML files: each kind of value has one way to be written.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use spa_proto::{
    Cloak, EnrolHash, GrantMode, Kid, Prefix, Psk, ServerPublic, ServerSecret, ServiceName,
    Timestamp, VerifyingKey,
};

use crate::encoding::{from_base64, from_hex};
use crate::hours::Hours;
use crate::limits::Modes;
use crate::record::{AddressRule, ClientName};
use crate::{cidr, date, duration};

/// A value that is written as text.
pub(crate) trait Field: Sized {
    /// Reads it, or says what is wrong, without quoting what may be secret.
    fn read(text: &str) -> Result<Self, String>;
}

macro_rules! fields {
    ($($kind:ty: $read:expr;)*) => {$(
        impl Field for $kind {
            fn read(text: &str) -> Result<Self, String> {
                let read = $read;
                read(text).map_err(|error| error.to_string())
            }
        }
    )*};
}

fields! {
    ClientName: str::parse::<ClientName>;
    AddressRule: str::parse::<AddressRule>;
    GrantMode: str::parse::<GrantMode>;
    ServiceName: service;
    Duration: duration::parse;
    Hours: str::parse::<Hours>;
    Prefix: cidr::parse;
    Timestamp: date::parse;
    Kid: |text| from_hex(text).map(|bytes| Self::from_bytes(*bytes));
    Psk: |text| from_base64(text).map(|bytes| Self::from_bytes(*bytes));
    Cloak: |text| from_base64(text).map(|bytes| Self::from_bytes(*bytes));
    ServerSecret: |text| from_base64(text).map(|bytes| Self::from_bytes(*bytes));
    ServerPublic: |text| from_base64(text).map(|bytes| Self::from_bytes(*bytes));
    EnrolHash: |text| from_base64(text).map(|bytes| Self::from_bytes(*bytes));
    VerifyingKey: verifying_key;
}

/// Reads the name of a service.
///
/// # Errors
/// What is wrong with it: protocols with ports, which a knock can name too, are
/// not among what a record allows.
pub(crate) fn service(text: &str) -> Result<ServiceName, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is not the name of a service: expected at most 16 lower-case letters, \
             digits and hyphens, the first a letter"
        )
    })
}

fn verifying_key(text: &str) -> Result<VerifyingKey, String> {
    let bytes = from_base64(text).map_err(|error| error.to_string())?;
    VerifyingKey::from_bytes(&bytes).map_err(|error| error.to_string())
}

/// For `deserialize_with`.
pub(crate) fn required<'de, T: Field, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Text::deserialize(from).map(|Text(value)| value)
}

/// For `deserialize_with`, beside `default`.
pub(crate) fn optional<'de, T: Field, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    required(from).map(Some)
}

/// For `deserialize_with`.
pub(crate) fn list<'de, T: Field, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::<Text<T>>::deserialize(from)?;
    Ok(list.into_iter().map(|Text(value)| value).collect())
}

/// For `deserialize_with`, beside `default`.
pub(crate) fn modes<'de, D: Deserializer<'de>>(from: D) -> Result<Modes, D::Error> {
    Ok(list(from)?.into_iter().collect())
}

struct Text<T>(T);

impl<'de, T: Field> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextVisitor(PhantomData)).map(Text)
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<'de, T: Field> Visitor<'de> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::read(text).map_err(E::custom)
    }

    /// TOML has dates of its own, which people may leave without quotes; they
    /// come as a map.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let date = toml::value::Datetime::deserialize(MapAccessDeserializer::new(map))?;
        T::read(&date.to_string()).map_err(A::Error::custom)
    }
}
