//! Which keys there are. An unknown one is refused: a setting that is not
//! understood is a door that somebody believes shut.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::Fault;

/// Keys at the top.
pub(super) const TOP: &[&str] = &[
    "audit-file",
    "control-group",
    "control-group-may",
    "enforce",
    "firewall",
    "hooks",
    "interfaces",
    "keys-dir",
    "listen-port",
    "managed",
    "metrics",
    "run-dir",
    "service",
    "state-dir",
    "tolerance",
    "trusted",
    "user",
];

/// Keys of `[service.NAME]`.
pub(super) const SERVICE: &[&str] = &[
    "cut-on-expiry",
    "max-ttl",
    "mode",
    "port",
    "ports",
    "protocol",
    "public",
    "rate",
    "source-nat",
    "target",
    "ttl",
];

/// Keys of `[firewall]`.
pub(super) const FIREWALL: &[&str] = &[
    "attach",
    "bans",
    "cut-label-bit",
    "grant-destination",
    "label-bit",
    "mark-bit",
    "max-grants",
    "mode",
    "own-table",
    "widths-ipv4",
    "widths-ipv6",
];

/// Keys of `[hooks]`.
pub(super) const HOOKS: &[&str] = &["on-end", "on-grant", "timeout", "user"];

/// Keys of `[managed]`.
pub(super) const MANAGED: &[&str] =
    &["helpers", "inside", "masquerade", "masquerade-ipv6", "outside", "source-nat", "strict"];

/// All tables, by name, with their keys; `service` for any service.
const TABLES: &[(&str, &[&str])] = &[
    ("", TOP),
    ("firewall", FIREWALL),
    ("hooks", HOOKS),
    ("managed", MANAGED),
    ("service", SERVICE),
];

/// Refuses the first key of `table` that is not among `known`.
pub(super) fn check(table: &DeTable<'_>, known: &[&str]) -> Result<(), Fault> {
    let unknown = table.keys().find(|key| !known.contains(&key.get_ref().as_ref()));
    let Some(key) = unknown else { return Ok(()) };
    let name: &str = key.get_ref();
    Err(Fault::at(key.span(), format!("unknown key '{name}'; {}", advice(name, known))))
}

/// What else may be meant, if anything that is known comes near to it.
fn advice(name: &str, known: &[&str]) -> String {
    if TABLES.iter().any(|(table, _)| *table == name) {
        return format!("it is a table of its own: {}", head(name));
    }
    let elsewhere = TABLES.iter().filter(|(_, keys)| *keys != known && keys.contains(&name));
    let places: Vec<_> = elsewhere.map(|(table, _)| place(table)).collect();
    if !places.is_empty() {
        return format!("it belongs {}", places.join(", or "));
    }
    let far = |known: &&str| strsim::damerau_levenshtein(name, known);
    match known.iter().copied().min_by_key(far).filter(|known| far(known) <= known.len() / 2) {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => format!("there are: {}", known.join(", ")),
    }
}

fn place(table: &str) -> String {
    match table {
        "" => "at the top, before all tables".to_owned(),
        table => format!("under {}", head(table)),
    }
}

fn head(table: &str) -> String {
    match table {
        "service" => "[service.NAME]".to_owned(),
        table => format!("[{table}]"),
    }
}

/// The sub-table of a key.
pub(super) fn table<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Result<&'a DeTable<'i>, Fault> {
    let wrong = || Fault::at(value.span(), "expected a table, such as [service.ssh]".into());
    value.get_ref().as_table().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::collections::{BTreeMap, BTreeSet};

    /// The file that the packages bring, with an explanation for each key.
    const EXAMPLE: &str = include_str!("../../../packaging/example/spad.toml");

    /// With all keys in force: a comment begins with a space.
    fn with_all_keys() -> String {
        let in_force = |line: &str| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key.to_owned(),
            _ => line.to_owned(),
        };
        EXAMPLE.lines().map(in_force).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn man_page_of_the_file_is_current() {
        let page = spa_man::File {
            name: "spad.toml",
            about: "what spad protects, for whom, and how",
            description: "The file, in TOML, that spad(1) reads at the start and at spad reload, \
                          unless another is named with --config. Here are all keys that there \
                          are; one that is not known is an error.",
            see_also: &["spad(1)", "spad-check(1)", "spad-reload(1)", "spa-keys(1)"],
            example: EXAMPLE,
        };
        assert_eq!(spa_man::check_file(&page), Ok(()));
    }

    /// The names of tables are keys too; services differ in their names.
    fn keys(text: &str) -> BTreeMap<String, BTreeSet<String>> {
        let file: toml::Table = text.parse().unwrap();
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut take = |name: &str, table: &toml::Table| {
            all.entry(name.to_owned()).or_default().extend(table.keys().cloned());
        };
        take("", &file);
        for (name, table) in file.iter().filter_map(|(name, value)| Some((name, value.as_table()?)))
        {
            match name.as_str() {
                "service" => {
                    table.values().filter_map(|t| t.as_table()).for_each(|t| take(name, t))
                }
                _ => take(name, table),
            }
        }
        all
    }

    #[test]
    fn the_example_explains_every_key_and_no_other() {
        let set = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let known: BTreeMap<_, _> =
            TABLES.iter().map(|(name, keys)| ((*name).to_owned(), set(keys))).collect();
        assert_eq!(keys(&with_all_keys()), known);
    }

    #[test]
    fn an_unknown_key_is_told_where_it_belongs() {
        for (name, known, said) in [
            ("listen-prot", TOP, "did you mean 'listen-port'?"),
            ("mode", TOP, "it belongs under [firewall], or under [service.NAME]"),
            ("listen-port", SERVICE, "it belongs at the top, before all tables"),
            ("service", FIREWALL, "it is a table of its own: [service.NAME]"),
            ("user", HOOKS, "it belongs at the top, before all tables"),
            ("zzz", HOOKS, "there are: on-end, on-grant, timeout, user"),
        ] {
            assert_eq!(advice(name, known), said, "{name}");
        }
    }

    /// A key is explained by the comment above it.
    #[test]
    fn no_key_of_the_example_stands_without_a_word() {
        let lines: Vec<_> = EXAMPLE.lines().collect();
        for pair in lines.windows(2) {
            let is_key = |line: &str| {
                line.trim_start_matches('#').starts_with(|c: char| c.is_ascii_lowercase())
            };
            let explained = pair[0].starts_with("# ") || pair[0].contains('[');
            assert!(!is_key(pair[1]) || explained, "{}", pair[1]);
        }
    }

    #[test]
    fn the_example_is_a_configuration_as_it_is_and_with_its_keys_in_force() {
        assert_eq!(
            Config::parse(EXAMPLE),
            Config::parse("[service.ssh]\nport = 22\n"),
            "what it says by default is the default"
        );
        let all = with_all_keys();
        let all = all.replace("mode = \"guard\"", "mode = \"managed\"");
        // What is for another mode, and keys that exclude each other.
        for without in [["attach = ", "source-nat = \""], ["attach = ", "masquerade"]] {
            let left = |line: &&str| !without.iter().any(|key| line.starts_with(key));
            let text = all.lines().filter(left).collect::<Vec<_>>().join("\n");
            Config::parse(&text).unwrap();
        }
    }
}
