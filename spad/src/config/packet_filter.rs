//! The table `[firewall]`.

use toml::Spanned;
use toml::de::DeTable;

use super::value::{Fault, Value, choice, each, flag, number, parsed, small, string};
use super::{FirewallConfig, known};
use crate::firewall::ChainName;
use crate::firewall::plan::{Labels, Mode};

/// What is written, with the defaults filled in.
pub(super) fn read(top: &DeTable<'_>) -> Result<FirewallConfig, Fault> {
    let default = FirewallConfig::default();
    let Some(value) = top.get("firewall") else { return Ok(default) };
    let table = known::table(value)?;
    known::check(table, known::FIREWALL)?;
    let or = |key: &str, default: u8, last: u8| {
        table.get(key).map_or(Ok(default), |value| small(value, 0..=last))
    };
    let config = FirewallConfig {
        mode: table.get("mode").map_or(Ok(default.mode), mode)?,
        own: table.get("own-table").map_or(Ok(default.own), flag)?,
        labels: Labels {
            granted: or("label-bit", default.labels.granted, 127)?,
            cut: or("cut-label-bit", default.labels.cut, 127)?,
        },
        mark_bit: or("mark-bit", default.mark_bit, 31)?,
        set_size: table
            .get("max-grants")
            .map_or(Ok(default.set_size), |value| number(value, 1..=10_000_000))?,
        destination: table.get("grant-destination").map_or(Ok(default.destination), destination)?,
        widths4: widths(table, "widths-ipv4", &default.widths4, 8..=31)?,
        widths6: widths(table, "widths-ipv6", &default.widths6, 32..=127)?,
        absolute_bans: table.get("bans").map_or(Ok(default.absolute_bans), bans)?,
        attach: table.get("attach").map_or(Ok(Vec::new()), |list| each(list, chain))?,
    };
    only_attached(&config, table)?;
    match table.get("cut-label-bit").or_else(|| table.get("label-bit")) {
        Some(value) if config.labels.granted == config.labels.cut => {
            Err(Fault::at(value.span(), "label-bit and cut-label-bit must differ".into()))
        }
        _ => Ok(config),
    }
}

/// Chains are named in mode `attach`, and then at least one.
fn only_attached(config: &FirewallConfig, table: &DeTable<'_>) -> Result<(), Fault> {
    match (config.mode, table.get("attach")) {
        (Mode::Attach, _) if !config.attach.is_empty() => Ok(()),
        (Mode::Attach, list) => {
            let value = list.or_else(|| table.get("mode"));
            let what = "mode \"attach\" needs the chains that drop now: add a line such as \
                        attach = [\"ip filter INPUT\", \"ip6 filter INPUT\"]";
            Err(Fault { span: value.map(Spanned::span), what: what.into() })
        }
        (_, Some(list)) => Err(Fault::at(list.span(), "attach is for mode = \"attach\"".into())),
        (_, None) => Ok(()),
    }
}

fn chain(value: &Value<'_>) -> Result<ChainName, Fault> {
    parsed(string(value)?, value.span())
}

fn mode(value: &Value<'_>) -> Result<Mode, Fault> {
    choice(value, &[("guard", Mode::Guard), ("managed", Mode::Managed), ("attach", Mode::Attach)])
}

fn destination(value: &Value<'_>) -> Result<bool, Fault> {
    choice(value, &[("knocked", true), ("any", false)])
}

fn bans(value: &Value<'_>) -> Result<bool, Fault> {
    choice(value, &[("yield", false), ("absolute", true)])
}

/// Lengths of prefixes, the narrowest first, none twice.
fn widths(
    table: &DeTable<'_>,
    key: &str,
    default: &[u8],
    range: std::ops::RangeInclusive<u8>,
) -> Result<Vec<u8>, Fault> {
    let Some(list) = table.get(key) else { return Ok(default.to_vec()) };
    let mut widths = each(list, |value| small(value, range.clone()))?;
    widths.sort_unstable_by(|one, other| other.cmp(one));
    widths.dedup();
    Ok(widths)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const SSH: &str = "[service.ssh]\nport = 22\n";

    #[test]
    fn chains_are_named_in_mode_attach_and_nowhere_else() {
        let text = format!("[firewall]\nmode = \"attach\"\nattach = [\"ip filter INPUT\"]\n{SSH}");
        let config = Config::parse(&text).unwrap();
        assert_eq!(config.firewall.attach, ["ip filter INPUT".parse().unwrap()]);
        assert_eq!(config.attachment().chains(), config.firewall.attach);
        for (lines, line, part) in [
            ("mode = \"attach\"", 2, "attach = ["),
            ("mode = \"attach\"\nattach = []", 3, "attach = ["),
            ("mode = \"attach\"\nattach = [\"INPUT\"]", 3, "family"),
            ("mode = \"attach\"\nattach = [\"inet spad guard\"]", 3, "spad's own"),
            ("attach = [\"ip filter INPUT\"]", 2, "mode = \"attach\""),
        ] {
            let (at, what) = Config::parse(&format!("[firewall]\n{lines}\n{SSH}")).unwrap_err();
            assert!(at == Some(line) && what.contains(part), "{lines}: line {at:?}: {what}");
        }
    }
}
