//! The parts of the page that are made (pure).

use std::collections::BTreeMap;

use spa_tests::Result;
use spa_tests::lab::fail;

use super::reach::{self, time};
use super::table::{markdown, short};
use super::{Figures, plot};
use crate::measure::way;
use crate::results::{Row, Source};

type Part = fn(&Figures) -> String;

/// By the name of their markers.
const PARTS: [(&str, Part); 8] = [
    ("machine", machine),
    ("reach", reach::table),
    ("floods", floods),
    ("capture", capture),
    ("clients", clients),
    ("rate", rate),
    ("micro", micro),
    ("way", way),
];

/// The page with each part between `<!-- NAME -->` and `<!-- /NAME -->` made anew.
pub(crate) fn filled(page: &str, figures: &Figures) -> Result<String> {
    let mut page = page.to_owned();
    for (name, part) in PARTS {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let Some((before, rest)) = page.split_once(&begin) else {
            return fail(format!("the page has no {begin}"));
        };
        let Some((_, after)) = rest.split_once(&end) else {
            return fail(format!("the page has no {end}"));
        };
        page = format!("{before}{begin}{}{end}{after}", part(figures));
    }
    Ok(page)
}

/// The plots, by the name of their file.
pub(crate) fn plots(figures: &Figures) -> Vec<(&'static str, String)> {
    let series: Vec<_> = figures
        .rows("latency")
        .iter()
        .map(|row| (row.name.clone(), row.samples.as_slice()))
        .collect();
    let title = "From the knock on the wire to an accepted connection: share of tries";
    let latency = plot::distribution(title, "µs", &series);
    let late: Vec<_> = figures
        .rows("flood")
        .iter()
        .filter_map(|row| Some((row.name.clone(), row.percentile(0.95)?)))
        .collect();
    let floods = plot::bars("Knocks honoured in a flood: p95", "µs", &late);
    let received: Vec<_> = figures
        .rows("cpu")
        .iter()
        .filter_map(|row| Some((row.name.clone(), row.get("ns each")?)))
        .filter(|(_, ns)| *ns > 0.0)
        .collect();
    let cpu = plot::bars("Processor time for each packet", "ns", &received);
    let all = [("latency.svg", latency), ("floods.svg", floods), ("cpu.svg", cpu)];
    all.into_iter().filter_map(|(name, svg)| Some((name, svg?))).collect()
}

fn machine(figures: &Figures) -> String {
    let Some((_, last)) = figures.measured.iter().max_by_key(|(_, one)| one.machine.time) else {
        return "Nothing has been measured.\n".to_owned();
    };
    let machine = &last.machine;
    let date = i64::try_from(machine.time).unwrap_or_default() / 86_400;
    let loads = figures.measured.iter().map(|(name, one)| {
        let minutes = one.machine.time / 60 % 1440;
        format!("{name} {:02}:{:02} ({})", minutes / 60, minutes % 60, one.machine.load)
    });
    format!(
        "Last run: {}. {} {} × {}, Linux {}. When each measurement ended (UTC), \
         and the load average then: {}.\n",
        civil(date),
        sources(figures),
        machine.cpus,
        machine.processor,
        machine.kernel,
        loads.collect::<Vec<_>>().join(", "),
    )
}

/// Which source was measured; where it was not one and the same, which by what.
fn sources(figures: &Figures) -> String {
    let mut measured: BTreeMap<&Source, Vec<&str>> = BTreeMap::new();
    for (name, one) in &figures.measured {
        measured.entry(&one.machine.source).or_default().push(name);
    }
    let commit = |source: &Source| match (source.commit.as_str(), source.changed) {
        ("", _) => "a commit that was not recorded".to_owned(),
        (commit, false) => format!("`{commit}`"),
        (commit, true) => format!("`{commit}` with changes"),
    };
    if let [source] = measured.keys().collect::<Vec<_>>()[..] {
        return format!("All of {}.", commit(source));
    }
    let each =
        measured.iter().map(|(source, by)| format!("{} by {}", commit(source), by.join(", ")));
    format!("**Of different commits**: {}.", each.collect::<Vec<_>>().join("; "))
}

/// Days since 1970 as a date of the Gregorian calendar (Hinnant, `civil_from_days`).
fn civil(days: i64) -> String {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

fn number(row: &Row, name: &str) -> String {
    row.get(name).map(short).unwrap_or_default()
}

fn quantile(row: &Row, p: f64) -> String {
    row.percentile(p).map(time).unwrap_or_default()
}

fn floods(figures: &Figures) -> String {
    let rows = figures.rows("flood").iter().map(|row| {
        let honoured = format!("{} of {}", number(row, "honoured"), number(row, "tries"));
        let sent = number(row, "flood per second");
        vec![row.name.clone(), sent, honoured, quantile(row, 0.5), quantile(row, 0.95)]
    });
    markdown(&["server: what comes", "a second", "honoured", "p50", "p95"], rows.collect())
}

fn capture(figures: &Figures) -> String {
    let rows = figures.rows("cpu").iter().map(|row| {
        let each = row.get("ns each").map(|ns| time(ns / 1e3)).unwrap_or_default();
        let heard = row.get("heard").zip(row.get("packets"));
        let heard = heard.map(|(heard, sent)| format!("{:.0} %", 100.0 * heard / sent));
        vec![row.name.clone(), each, heard.unwrap_or_default(), quantile(row, 0.5)]
    });
    markdown(&["who", "CPU a packet", "heard", "sender to receiver, p50"], rows.collect())
}

fn clients(figures: &Figures) -> String {
    let rows = figures.rows("clients").iter().map(|row| {
        let names = ["clients", "start s", "memory of both MB", "refused ns", "accepted µs"];
        let mut cells: Vec<_> = names.iter().map(|name| number(row, name)).collect();
        cells.push(row.percentile(0.5).map(short).unwrap_or_default());
        cells
    });
    let head = [
        "clients",
        "start, s",
        "memory, MB",
        "a refused packet, ns",
        "an accepted knock, µs",
        "a new client, ms",
    ];
    markdown(&head, rows.collect())
}

fn rate(figures: &Figures) -> String {
    let names =
        ["sent", "granted", "lost", "granted per second", "gatekeeper µs each", "warden µs each"];
    let rows = figures.rows("rate").iter().map(|row| {
        let cells = names.iter().map(|name| number(row, name));
        [row.name.clone()].into_iter().chain(cells).collect()
    });
    let head = [&["sent as"], &names[..]].concat();
    markdown(&head, rows.collect())
}

fn micro(figures: &Figures) -> String {
    let rows = figures.micro.all().map(|(name, ns)| vec![format!("`{name}`"), time(ns / 1e3)]);
    markdown(&["step", "median"], rows.collect())
}

/// Where the time of one knock goes.
fn way(figures: &Figures) -> String {
    let cell = |us: Option<f64>| us.map(time).unwrap_or_default();
    let cells = |name| {
        let awake = figures.number("way", name, way::AWAKE);
        [cell(awake), cell(figures.median("way", name))]
    };
    let mut rows: Vec<_> = way::STEPS
        .iter()
        .map(|(name, micro)| {
            let alone = micro.and_then(|micro| figures.micro.get(micro));
            let [awake, asleep] = cells(name);
            vec![(*name).to_owned(), cell(alone.map(|ns| ns / 1e3)), awake, asleep]
        })
        .collect();
    let [awake, asleep] = cells(way::ALL).map(|cell| format!("**{cell}**"));
    rows.push(vec![format!("**{}**", way::ALL), String::new(), awake, asleep]);
    markdown(&["step", "again and again", "processor awake", "asleep"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Machine, Measured};

    #[test]
    fn only_what_is_between_markers_changes() {
        let page = PARTS.iter().map(|(name, _)| {
            format!("prose of {name}\n<!-- {name} -->\nof before\n<!-- /{name} -->\n")
        });
        let page: String = page.collect();
        let filled = filled(&page, &Figures::default()).unwrap();
        assert!(!filled.contains("of before"));
        for (name, _) in PARTS {
            assert!(filled.contains(&format!("prose of {name}\n<!-- {name} -->\n")), "{filled}");
        }
        assert_eq!(super::filled(&filled, &Figures::default()).unwrap(), filled, "again");
    }

    #[test]
    fn figures_of_different_commits_are_said_to_be() {
        let of = |commits: &[(&str, bool)]| {
            let measured = commits.iter().zip(["latency", "rate", "idle"]);
            let measured = measured.map(|((commit, changed), name)| {
                let source = Source { commit: (*commit).to_owned(), changed: *changed };
                let machine = Machine { source, ..Machine::default() };
                (name, Measured { machine, rows: vec![] })
            });
            machine(&Figures { measured: measured.collect(), ..Figures::default() })
        };
        let one = of(&[("aa", false), ("aa", false)]);
        assert!(one.contains("All of `aa`.") && one.contains("1970-01-01"), "{one}");
        let several = of(&[("aa", false), ("aa", true), ("", true)]);
        let each =
            "a commit that was not recorded by idle; `aa` by latency; `aa` with changes by rate";
        assert!(several.contains(&format!("**Of different commits**: {each}.")), "{several}");
    }

    #[test]
    fn a_page_without_a_marker_is_refused() {
        assert!(filled("nothing", &Figures::default()).is_err());
    }

    #[test]
    fn dates() {
        assert_eq!([0, 19_782, 20_819].map(civil), ["1970-01-01", "2024-02-29", "2027-01-01"]);
    }
}
