//! What was to be reached, beside what was measured (pure).

use super::Figures;
use super::table::{markdown, short};
use crate::measure::latency::{AWAKE, SEEN};
use crate::measure::life;

/// One line of the table.
#[derive(Debug, PartialEq)]
struct Line {
    what: String,
    reach: String,
    ours: String,
    peer: String,
    met: bool,
}

/// The table; of what was measured, and nothing else.
pub(crate) fn table(figures: &Figures) -> String {
    let lines = [latency, client, floods, refused, clients, rate, idle, whole_life];
    let lines: Vec<_> = lines.into_iter().flat_map(|lines| lines(figures)).collect();
    let rows = lines.into_iter().map(|line| {
        let met = if line.met { "yes" } else { "**no**" };
        vec![line.what, line.reach, line.ours, line.peer, met.to_owned()]
    });
    markdown(&["what", "reach", "ours", "fwknop", "met"], rows.collect())
}

fn line(what: &str, reach: &str, ours: String, peer: String, met: bool) -> Line {
    Line { what: what.to_owned(), reach: reach.to_owned(), ours, peer, met }
}

/// Microseconds as people read them.
pub(crate) fn time(us: f64) -> String {
    if us < 1.0 {
        format!("{} ns", short(us * 1e3))
    } else if us < 10_000.0 {
        format!("{} µs", short(us))
    } else {
        format!("{} ms", short(us / 1e3))
    }
}

const SHIPPED: &str = "fwknop as shipped";
const UDP: &str = "fwknop, UDP mode";

fn latency(figures: &Figures) -> Vec<Line> {
    let quantile = |name, p| figures.row("latency", name).and_then(|row| row.percentile(p));
    let Some(p50) = quantile("spa", 0.5) else { return vec![] };
    let lost = figures.number("latency", "spa", "lost").unwrap_or(0.0);
    let what = "knock on the wire → connection accepted";
    let p99 = quantile("spa", 0.99);
    let late =
        |us| line(&format!("{what}, p99"), "< 1.5 ms", time(us), String::new(), us < 1_500.0);
    let median = |name, what: &str, us| {
        let seen = figures.number("latency", name, SEEN);
        let seen = seen.map(|us| format!(" (by the asker's clock {})", time(us)));
        let ours = format!("{}{}", time(us), seen.unwrap_or_default());
        line(&format!("{what}, p50"), "< 400 µs", ours, String::new(), us < 400.0)
    };
    let mut lines = vec![median("spa", what, p50)];
    let awake = quantile(AWAKE, 0.5)
        .map(|us| median(AWAKE, "… where the processor is not asleep between knocks", us));
    lines.extend(awake);
    lines.extend(p99.map(late));
    lines.push(line("… and never lost", "0", short(lost), String::new(), lost == 0.0));
    for (name, times, reach) in [(SHIPPED, 100.0, "100 times"), (UDP, 20.0, "20 times")] {
        if let Some(theirs) = quantile(name, 0.5) {
            let ratio = theirs / p50;
            lines.push(line(
                &format!("… beside {name}, p50"),
                &format!("{reach} faster"),
                format!("{} times", short(ratio)),
                time(theirs),
                ratio >= times,
            ));
        }
    }
    lines
}

fn client(figures: &Figures) -> Vec<Line> {
    let times = figures.median("client", "spa knock").zip(figures.median("client", "fwknop"));
    let Some((ours, theirs)) = times else { return vec![] };
    let what = "`spa knock ADDRESS`, the whole process, p50";
    vec![line(what, "no slower", time(ours), time(theirs), ours <= theirs)]
}

fn floods(figures: &Figures) -> Vec<Line> {
    let ours = figures.rows("flood").iter().filter(|row| row.name.starts_with("spa: "));
    ours.filter_map(|row| {
        let sent = row.get("flood per second")?;
        let (tries, honoured) = (row.get("tries")?, row.get("honoured")?);
        let p95 = row.percentile(0.95)?;
        let name = row.name.trim_start_matches("spa: ");
        Some(line(
            &format!("knocks honoured in a flood: {name}"),
            "all, p95 < 5 ms",
            format!(
                "{} of {}, p95 {}, at {}/s",
                short(honoured),
                short(tries),
                time(p95),
                short(sent)
            ),
            String::new(),
            honoured >= tries && p95 < 5_000.0,
        ))
    })
    .collect()
}

fn refused(figures: &Figures) -> Vec<Line> {
    let Some(ns) = figures.micro.get("refuse_unknown_pseudonym 1") else { return vec![] };
    let what = "a refused packet, unknown pseudonym, beyond receiving: the gate alone";
    let mut lines = vec![line(what, "< 0.3 µs", time(ns / 1e3), String::new(), ns < 300.0)];
    let refused = "spa, refused: unknown pseudonym";
    let whole = figures.number("cpu", refused, "ns each");
    let outside = figures.number("cpu", refused, "ns each, outside of the kernel");
    if let Some((whole, outside)) = whole.zip(outside) {
        let theirs = figures.number("cpu", "fwknop as shipped, refused", "ns each");
        lines.push(line(
            "… in a flood: all that the gatekeeper does outside of the kernel",
            "< 0.3 µs",
            format!("{} (of {} with receiving)", time(outside / 1e3), time(whole / 1e3)),
            theirs.map(|ns| time(ns / 1e3)).unwrap_or_default(),
            outside < 300.0,
        ));
    }
    lines
}

fn clients(figures: &Figures) -> Vec<Line> {
    let rows = figures.rows("clients");
    let (Some(one), Some(many)) = (rows.first(), rows.last().filter(|_| rows.len() > 1)) else {
        return vec![];
    };
    let size = many.get("clients").unwrap_or(1.0);
    let name = format!("1 → {} clients", short(size));
    let mut lines = Vec::new();
    for (number, what) in [("refused ns", "a refused packet"), ("accepted µs", "an accepted knock")]
    {
        if let (Some(low), Some(high)) = (one.get(number), many.get(number)) {
            let scale = if number.ends_with("ns") { 1e3 } else { 1.0 };
            lines.push(line(
                &format!("{name}: CPU of {what}"),
                "the same within 20 %",
                format!("{} → {}", time(low / scale), time(high / scale)),
                String::new(),
                high <= low * 1.2,
            ));
        }
    }
    if let Some(start) = many.get("start s") {
        let ours = format!("{} s", short(start));
        lines.push(line(&format!("{name}: start-up"), "< 2 s", ours, String::new(), start < 2.0));
    }
    if let (Some(low), Some(high)) = (one.get("private bytes"), many.get("private bytes")) {
        let record = many.get("record bytes").unwrap_or(0.0);
        let each = (high - low) / (size - 1.0);
        lines.push(line(
            &format!("{name}: memory for each, both processes"),
            &format!("< 100 bytes beyond the record's {}", short(record)),
            format!("{} bytes", short(each)),
            String::new(),
            each < record + 100.0,
        ));
    }
    if let Some(added) = many.percentile(0.5) {
        let ours = format!("{} ms", short(added));
        let what = format!("{name}: a new one, from its record to its connection");
        lines.push(line(&what, "< 50 ms", ours, String::new(), added < 50.0));
    }
    lines
}

fn rate(figures: &Figures) -> Vec<Line> {
    let reaches = [
        ("burst of 10 000", "none lost", "distinct knocks, 10 000 at once"),
        ("5 000 a second", "a grant each", "distinct knocks, 5 000 a second for 10 s"),
    ];
    let lines = reaches.into_iter().filter_map(|(name, reach, what)| {
        let row = figures.row("rate", name)?;
        let (sent, granted) = (row.get("sent")?, row.get("granted")?);
        let ours = format!("{} of {} granted", short(granted), short(sent));
        Some(line(what, reach, ours, String::new(), granted >= sent))
    });
    lines.collect()
}

fn idle(figures: &Figures) -> Vec<Line> {
    const OURS: &str = "spa, warden and gatekeeper";
    /// One tick, which comes every 20 s and so once after the settling: the warden is woken by its
    /// timer, by the gatekeeper's answer and by the lease's thread (two or three times, as they
    /// come together), the gatekeeper by the warden (once or twice), and the thread is told,
    /// and waits for the disk (four times).
    const TICK: f64 = 9.0;
    let number = |name, number| figures.number("idle", name, number);
    let both = |what| {
        let theirs = [SHIPPED, UDP].into_iter().filter_map(|name| number(name, what));
        theirs.map(short).collect::<Vec<_>>().join(", in UDP mode ")
    };
    let mut lines = Vec::new();
    if let Some(count) = number(OURS, "wake-ups in 30 s") {
        let met = count <= TICK;
        let reach = format!("one tick: {} at most", short(TICK));
        lines.push(line(
            "idle: wake-ups in 30 s",
            &reach,
            short(count),
            both("wake-ups in 30 s"),
            met,
        ));
    }
    if let Some(memory) = number(OURS, "memory MB") {
        let ours = format!("{} MB", short(memory));
        let theirs = format!("{} MB", both("memory MB"));
        lines.push(line("idle: memory, all processes", "< 8 MB", ours, theirs, memory < 8.0));
    }
    lines
}

fn whole_life(figures: &Figures) -> Vec<Line> {
    let Some(row) = figures.row("life", "spa") else { return vec![] };
    let number = |name| row.get(name).map_or_else(|| "?".to_owned(), short);
    vec![line(
        &format!("a life of {} knocks", number("knocks")),
        &format!(
            "memory flat from half way (within 5 %), journal within {} KiB",
            number(life::JOURNAL_BOUND)
        ),
        format!(
            "{} granted; {} → {} KiB; journal at most {} KiB",
            number("granted"),
            number(life::HALF),
            number(life::END),
            number(life::JOURNAL)
        ),
        String::new(),
        life::shortcomings(row).is_empty(),
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Machine, Measured, Row};

    fn figures(name: &'static str, rows: Vec<Row>) -> Figures {
        let measured = Measured { machine: Machine::default(), rows };
        Figures { measured: vec![(name, measured)], ..Figures::default() }
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        assert_eq!(table(&Figures::default()).lines().count(), 2, "only the head");
    }

    #[test]
    fn a_slow_knock_is_not_what_was_to_be_reached() {
        let row = |name: &str, us| Row::new(name).samples("µs", vec![us; 200]).number("lost", 0.0);
        let met = |ours, theirs| -> Vec<bool> {
            let figures = figures("latency", vec![row("spa", ours), row(SHIPPED, theirs)]);
            latency(&figures).iter().map(|line| line.met).collect()
        };
        assert_eq!(met(399.0, 40_000.0), [true, true, true, true]);
        assert_eq!(met(401.0, 40_000.0), [false, true, true, false]);
        assert_eq!(met(1_600.0, 400_000.0), [false, false, true, true]);
        let awake = figures("latency", vec![row("spa", 500.0), row(AWAKE, 399.0)]);
        let met: Vec<_> = latency(&awake).iter().map(|line| line.met).collect();
        assert_eq!(met, [false, true, true, true], "a row of its own");
    }

    #[test]
    fn one_lost_knock_or_one_late_one_in_twenty_is_too_many() {
        let row = |honoured, us| {
            let row = Row::new("spa: junk").samples("µs", vec![us; 90]);
            let row = row.number("tries", 90.0).number("honoured", honoured);
            figures("flood", vec![row.number("flood per second", 200_000.0)])
        };
        assert!(floods(&row(90.0, 4_999.0))[0].met);
        assert!(!floods(&row(89.0, 4_999.0))[0].met);
        assert!(!floods(&row(90.0, 5_001.0))[0].met);
    }

    #[test]
    fn a_life_is_as_it_should_be_where_all_of_it_was_measured() {
        let row = [("knocks", 9.0), ("granted", 9.0), (life::HALF, 9.0), (life::END, 9.0)]
            .into_iter()
            .fold(Row::new("spa"), |row, (name, value)| row.number(name, value));
        let met = |row: &Row| whole_life(&figures("life", vec![row.clone()]))[0].met;
        assert!(!met(&row), "nothing is known of the journal");
        let row = row.number(life::JOURNAL, 9.0).number(life::JOURNAL_BOUND, 9.0);
        assert!(met(&row));
        assert!(!met(&row.number(life::JOURNAL, 10.0)));
    }

    #[test]
    fn one_wake_up_more_than_a_tick_takes_is_too_many() {
        let row = |count| Row::new("spa, warden and gatekeeper").number("wake-ups in 30 s", count);
        let met = |count| idle(&figures("idle", vec![row(count)]))[0].met;
        assert_eq!([met(9.0), met(10.0)], [true, false]);
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        assert_eq!(
            [time(0.05), time(12.34), time(9_999.0), time(114_000.0)],
            ["50 ns", "12.3 µs", "9999 µs", "114 ms"]
        );
    }
}
