//! The table `[managed]`, and what else depends on the mode.

use std::net::IpAddr;

use toml::Spanned;
use toml::de::DeTable;

use super::parse::interface;
use super::value::{Fault, Value, each, flag, string};
use super::{Config, known, service};
use crate::firewall::plan::{Access, KnownHelper, Managed, Mode, Source};

/// What is written, with the defaults filled in.
pub(super) fn read(top: &DeTable<'_>) -> Result<Managed, Fault> {
    let Some(value) = top.get("managed") else { return Ok(Managed::default()) };
    let table = known::table(value)?;
    known::check(table, known::MANAGED)?;
    let inside = interfaces(table, "inside")?.unwrap_or_default();
    let outside = interfaces(table, "outside")?.unwrap_or_default();
    apart(table, &inside, &outside)?;
    let (source4, source6) = sources(table)?;
    only_with_networks(table, &inside)?;
    Ok(Managed {
        strict: interfaces(table, "strict")?
            .unwrap_or_else(|| [&inside[..], &outside[..]].concat()),
        inside,
        outside,
        source4,
        source6,
        helpers: read_key(table, "helpers", |list| each(list, helper))?.unwrap_or_default(),
    })
}

/// A setting that has no effect in this mode is a door that somebody believes
/// shut, or open.
pub(super) fn fits_mode(config: &Config, top: &DeTable<'_>) -> Result<(), Fault> {
    let mode = config.firewall.mode;
    if let Some(value) = top.get("managed").filter(|_| mode != Mode::Managed) {
        let what = format!(
            "[managed] has no effect in mode {}: write mode = \"managed\" under [firewall], or take the table out",
            mode.name()
        );
        return Err(Fault::at(value.span(), what));
    }
    let mut services = config.services.iter();
    let forwarded =
        services.find(|(_, service)| service.access != Access::Knock && service.target.is_some());
    match forwarded {
        Some((name, _)) if mode == Mode::Attach => {
            let what = "target: a public service cannot be sent on in mode attach, where only granted packets carry the mark";
            Err(Fault::at(service::target_span(top, name), what.into()))
        }
        _ => Ok(()),
    }
}

/// The value of a key; what is wrong with it names the key.
fn read_key<T>(
    table: &DeTable<'_>,
    key: &str,
    read: impl Fn(&Value<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let named = |fault: Fault| Fault { what: format!("{key}: {}", fault.what), ..fault };
    table.get(key).map(read).transpose().map_err(named)
}

fn interfaces(table: &DeTable<'_>, key: &str) -> Result<Option<Vec<String>>, Fault> {
    read_key(table, key, |list| each(list, interface))
}

/// A network is behind this host or before it, and there is none without the other.
fn apart(table: &DeTable<'_>, inside: &[String], outside: &[String]) -> Result<(), Fault> {
    if let Some(both) = inside.iter().find(|name| outside.contains(name)) {
        return Err(fault(table, "outside", format!("'{both}' is inside already")));
    }
    match (inside.is_empty(), outside.is_empty()) {
        (false, true) => Err(fault(table, "inside", "goes with outside: name both".into())),
        (true, false) => Err(fault(table, "outside", "goes with inside: name both".into())),
        _ => Ok(()),
    }
}

/// Nothing is translated of what is not forwarded.
fn only_with_networks(table: &DeTable<'_>, inside: &[String]) -> Result<(), Fault> {
    let keys = ["masquerade", "masquerade-ipv6", "source-nat"];
    match keys.iter().find(|key| table.contains_key(**key)) {
        Some(key) if inside.is_empty() => {
            let what = "is for the networks behind this host: name them with inside and outside";
            Err(fault(table, key, what.into()))
        }
        _ => Ok(()),
    }
}

/// As what the networks behind this host appear, over IPv4 and over IPv6.
fn sources(table: &DeTable<'_>) -> Result<(Source, Source), Fault> {
    let masquerade = |key| {
        let flag = read_key(table, key, flag)?;
        Ok(if flag == Some(true) { Source::Interface } else { Source::Own })
    };
    let (mut source4, mut source6) = (masquerade("masquerade")?, masquerade("masquerade-ipv6")?);
    for address in read_key(table, "source-nat", addresses)?.unwrap_or_default() {
        let source = if address.is_ipv4() { &mut source4 } else { &mut source6 };
        if *source != Source::Own {
            let what = format!("{address} beside another address or masquerade of its family");
            return Err(fault(table, "source-nat", what));
        }
        *source = Source::Address(address);
    }
    Ok((source4, source6))
}

/// One address, or one of each family.
fn addresses(value: &Value<'_>) -> Result<Vec<IpAddr>, Fault> {
    match value.get_ref().as_array() {
        Some(_) => each(value, address),
        None => Ok(vec![address(value)?]),
    }
}

fn address(value: &Value<'_>) -> Result<IpAddr, Fault> {
    let usable = |a: &IpAddr| !a.is_unspecified() && !a.is_multicast() && !a.is_loopback();
    let address = string(value)?.parse().ok().filter(usable);
    let what = || "expected an address of this host such as \"198.51.100.7\"".to_owned();
    address.ok_or_else(|| Fault::at(value.span(), what()))
}

fn helper(value: &Value<'_>) -> Result<KnownHelper, Fault> {
    let name = string(value)?;
    let found = KnownHelper::ALL.into_iter().find(|helper| helper.name == name);
    let names = || KnownHelper::ALL.map(|helper| helper.name).join(", ");
    let what = || format!("there is no helper '{name}'; expected some of {}", names());
    found.ok_or_else(|| Fault::at(value.span(), what()))
}

/// A fault of a key that is there.
fn fault(table: &DeTable<'_>, key: &str, what: String) -> Fault {
    let span = table.get(key).map_or(0..0, Spanned::span);
    Fault::at(span, format!("{key}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const MANAGED: &str = "[service.ssh]\nport = 22\n[firewall]\nmode = \"managed\"\n[managed]\n";

    fn managed(lines: &str) -> Result<Managed, (Option<usize>, String)> {
        Config::parse(&format!("{MANAGED}{lines}")).map(|config| config.managed)
    }

    #[test]
    fn every_key_is_read() {
        let read = managed(
            "inside = [\"lan0\", \"lan1\"]\noutside = [\"wan0\"]\nmasquerade = true\n\
             source-nat = \"2001:db8::7\"\nhelpers = [\"ftp\", \"tftp\"]\nstrict = [\"lan0\"]\n",
        )
        .unwrap();
        assert_eq!((read.inside.len(), read.outside.len()), (2, 1));
        assert_eq!(read.source4, Source::Interface);
        assert_eq!(read.source6, Source::Address("2001:db8::7".parse().unwrap()));
        assert_eq!(read.strict, ["lan0"]);
        let helpers: Vec<_> = read.helpers.iter().map(|helper| helper.name).collect();
        assert_eq!(helpers, ["ftp", "tftp"]);
    }

    #[test]
    fn nothing_is_translated_and_helped_unless_it_is_written() {
        let read = managed("inside = [\"lan0\"]\noutside = [\"wan0\"]\n").unwrap();
        assert_eq!((read.source4, read.source6), (Source::Own, Source::Own));
        assert_eq!(read.strict, ["lan0", "wan0"]);
        assert!(read.helpers.is_empty());
        assert_eq!(managed(""), Ok(Managed::default()));
    }

    #[test]
    fn wrong_values_name_key_and_line() {
        let networks = "inside = [\"lan0\"]\noutside = [\"wan0\"]\n";
        for (lines, line, parts) in [
            ("inside = \"lan0\"\n", 6, ["inside", "list"]),
            ("inside = [\"lan 0\"]\n", 6, ["inside", "interface"]),
            ("inside = [\"lan0\"]\n", 6, ["inside", "outside"]),
            ("outside = [\"lan0\"]\n", 6, ["outside", "inside"]),
            ("inside = [\"a\"]\noutside = [\"b\", \"a\"]\n", 7, ["outside", "'a'"]),
            ("masquerade = true\n", 6, ["masquerade", "inside"]),
            ("strict = [5]\n", 6, ["strict", "text"]),
            ("helpers = [\n\"ftp\",\n\"ftps\"]\n", 8, ["helpers", "tftp"]),
            ("masqerade = true\n", 6, ["masqerade", "masquerade"]),
            (&format!("{networks}masquerade = 1\n"), 8, ["masquerade", "true or false"]),
            (&format!("{networks}source-nat = \"lan0\"\n"), 8, ["source-nat", "198.51.100.7"]),
            (&format!("{networks}source-nat = \"::\"\n"), 8, ["source-nat", "address"]),
            (
                &format!("{networks}masquerade = true\nsource-nat = \"192.0.2.1\"\n"),
                9,
                ["source-nat", "masquerade"],
            ),
            (
                &format!("{networks}source-nat = [\"192.0.2.1\", \"192.0.2.2\"]\n"),
                8,
                ["source-nat", "192.0.2.2"],
            ),
        ] {
            let (at, what) = managed(lines).expect_err(lines);
            let named = parts.iter().all(|part| what.contains(part));
            assert!(at == Some(line) && named, "{lines:?}: line {at:?}: {what}");
        }
    }

    #[test]
    fn settings_of_other_modes_are_refused() {
        let guard = MANAGED.replace("mode = \"managed\"\n", "");
        let (line, what) = Config::parse(&guard).expect_err("mode guard");
        assert!(line == Some(4) && what.contains("mode = \"managed\""), "{line:?}: {what}");
        let public = "[service.web]\nport = 80\npublic = true\ntarget = \"10.0.0.5\"\n";
        assert!(Config::parse(public).is_ok());
        let attached =
            format!("{public}[firewall]\nmode = \"attach\"\nattach = [\"ip filter INPUT\"]\n");
        let (line, what) = Config::parse(&attached).expect_err("mode attach");
        assert!(line == Some(4) && what.contains("target"), "{line:?}: {what}");
    }
}
