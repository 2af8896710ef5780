//! Fields of our TOML files: each kind of value has one way to be written.
//! To be used as `#[serde(with = "field")]`.

use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use spa_keys::encoding::{from_base64, from_hex, to_base64};
use spa_keys::{check_host, date, duration};
use spa_proto::{
    Cloak, Datagram, EnrolSecret, GrantMode, Kid, Psk, ServerPublic, SigningKey, Timestamp,
};
use zeroize::Zeroizing;

use crate::kept::Keyring;
use crate::lock::SEALED_LEN;
use crate::resolve::Family;

/// A value that is written as text.
pub(crate) trait Field: Sized {
    /// Its text.
    fn write(&self) -> Zeroizing<String>;

    /// Reads it, or says what is wrong without quoting what may be secret.
    fn read(text: &str) -> Result<Self, String>;
}

pub(crate) fn serialize<T: Field, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&value.write())
}

pub(crate) fn deserialize<'de, T: Field, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let text = Zeroizing::new(String::deserialize(from)?);
    T::read(&text).map_err(D::Error::custom)
}

macro_rules! fields {
    ($($kind:ty: $write:expr, $read:expr;)*) => {$(
        impl Field for $kind {
            fn write(&self) -> Zeroizing<String> {
                let write: fn(&Self) -> Zeroizing<String> = $write;
                write(self)
            }

            fn read(text: &str) -> Result<Self, String> {
                let read = $read;
                read(text).map_err(|error| error.to_string())
            }
        }
    )*};
}

fields! {
    Host: |host| Zeroizing::new(host.0.clone()), Host::new;
    AddressUrl: |url| Zeroizing::new(url.0.clone()), str::parse::<Self>;
    KeepUnlocked: |time| Zeroizing::new(duration::format(time.0)), str::parse::<Self>;
    Keyring: |keyring| Zeroizing::new(keyring.name().to_owned()), str::parse::<Self>;
    Salt: |salt| to_base64(&salt.0), |text| from_base64(text).map(|bytes| Self(*bytes));
    SealedKeys: |sealed| to_base64(&sealed.0), |text| from_base64(text).map(|bytes| Self(*bytes));
    Family: |family| Zeroizing::new(family.name().to_owned()), Family::of_name;
    Sealed: |sealed| to_base64(&*sealed.0), |text| from_base64(text).map(Self);
    GrantMode: |mode| Zeroizing::new(mode.to_string()), str::parse::<Self>;
    Timestamp: |time| Zeroizing::new(date::format(*time)), date::parse;
    Kid: |kid| Zeroizing::new(kid.to_string()),
        |text| from_hex(text).map(|bytes| Self::from_bytes(*bytes));
    ServerPublic: |key| to_base64(key.as_bytes()),
        |text| from_base64(text).map(|bytes| Self::from_bytes(*bytes));
    Cloak: |cloak| to_base64(cloak.expose()),
        |text| from_base64(text).map(|bytes| Self::from_bytes(*bytes));
    Psk: |psk| to_base64(psk.expose()),
        |text| from_base64(text).map(|bytes| Self::from_bytes(*bytes));
    EnrolSecret: |secret| to_base64(secret.expose()),
        |text| from_base64(text).map(|bytes| Self::from_bytes(*bytes));
    SigningKey: |key| to_base64(key.expose().as_slice()),
        |text| from_base64(text).map(|bytes| Self::from_seed(&bytes));
}

/// Name or address of a server, fit for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host(String);

impl Host {
    pub(crate) fn new(text: &str) -> Result<Self, spa_keys::InvalidHost> {
        check_host(text).map(|()| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where this machine's address can be asked for: only `https`, lest somebody on the way put in
/// his own; or this machine itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddressUrl(String);

impl AddressUrl {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AddressUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let safe = ["https://", "http://127.0.0.1:", "http://[::1]:"];
        // What stands before an @ is no host, but a name to log in with.
        let plain = text.chars().all(|c| c.is_ascii_graphic() && c != '@');
        if plain && safe.iter().any(|start| text.starts_with(start)) {
            return Ok(Self(text.to_owned()));
        }
        Err("expected an address that begins with https://")
    }
}

/// For how long keys stay unlocked after the passphrase was given; zero for not at all.
pub(crate) struct KeepUnlocked(pub(crate) Duration);

impl FromStr for KeepUnlocked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = duration::parse(text).map_err(|error| error.to_string())?;
        // The kernel counts them in 32 bits, and takes what is beyond for less, or for ever.
        if u32::try_from(time.as_secs()).is_err() {
            return Err("longer than the kernel keeps anything: at most 49710d".into());
        }
        Ok(Self(time))
    }
}

/// What makes the keys of two files with one passphrase different.
pub(crate) struct Salt([u8; 16]);

impl Salt {
    pub(crate) fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Keys that nobody can read without the passphrase.
pub(crate) struct SealedKeys([u8; SEALED_LEN]);

impl SealedKeys {
    pub(crate) fn new(bytes: [u8; SEALED_LEN]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; SEALED_LEN] {
        &self.0
    }
}

/// A datagram that has not been used: it opens for whoever sends it.
pub(crate) struct Sealed(Zeroizing<Datagram>);

impl Sealed {
    pub(crate) fn new(datagram: Datagram) -> Self {
        Self(Zeroizing::new(datagram))
    }

    pub(crate) fn as_bytes(&self) -> &Datagram {
        &self.0
    }
}

/// Values that may be missing. To be used as `#[serde(with = "field::optional")]`,
/// beside `default` and `skip_serializing_if`.
pub(crate) mod optional {
    use serde::{Deserializer, Serializer};

    use super::Field;

    pub(crate) fn serialize<T: Field, S: Serializer>(
        value: &Option<T>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, out),
            None => out.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T: Field, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        super::deserialize(from).map(Some)
    }
}

/// Names of services. To be used as `#[serde(with = "field::services")]`.
pub(crate) mod services {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use spa_proto::ServiceName;

    pub(crate) fn serialize<S: Serializer>(
        services: &[ServiceName],
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_seq(services.iter().map(ServiceName::as_str))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<ServiceName>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        names.iter().map(|name| name.parse().map_err(D::Error::custom)).collect()
    }
}

/// For how long services open, in seconds. To be used as `#[serde(with = "field::times")]`.
pub(crate) mod times {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use spa_keys::duration;
    use spa_proto::ServiceName;

    pub(crate) fn serialize<S: Serializer>(
        times: &BTreeMap<ServiceName, NonZeroU32>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        let text = |time: &NonZeroU32| duration::format(Duration::from_secs(time.get().into()));
        out.collect_map(times.iter().map(|(name, time)| (name.as_str(), text(time))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<ServiceName, NonZeroU32>, D::Error> {
        let times = BTreeMap::<String, String>::deserialize(from)?;
        let read = |(name, time): (String, String)| {
            let name = name.parse().map_err(D::Error::custom)?;
            let time = duration::parse(&time).map_err(D::Error::custom)?.as_secs();
            let time = u32::try_from(time).ok().and_then(NonZeroU32::new);
            let time = time.ok_or_else(|| D::Error::custom("a time from 1s to 49710d"))?;
            Ok((name, time))
        };
        times.into_iter().map(read).collect()
    }
}
