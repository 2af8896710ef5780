//! Times of day at which a client may be let in: `mon-fri 08:00-18:00 Europe/Berlin`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use spa_proto::Timestamp;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTES_OF_A_DAY: u16 = 24 * 60;
/// Who may come at every moment of so long a time may always come.
const A_WEEK: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// One span of time that comes back each week, by the clocks of one place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hours {
    /// The days on which it begins, from Monday as 0; the first may come after the last.
    days: (u8, u8),
    /// Minutes of the day, the first below 24:00.
    from: u16,
    /// Where it is no later than `from`: on the day after.
    to: u16,
    zone: Zone,
}

/// A time zone and what it is called: two are the same if their names are.
#[derive(Clone, Debug)]
struct Zone {
    name: Box<str>,
    rules: TimeZone,
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// Text that is no [`Hours`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidHours {
    /// Nothing like it.
    Syntax(String),
    /// A time zone that this system does not have.
    Zone(String),
}

impl fmt::Display for InvalidHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) => write!(
                f,
                "{text:?} is no time of day: write \"mon-fri 08:00-18:00 Europe/Berlin\" or \
                 \"daily 22:00-06:00\", which is UTC"
            ),
            Self::Zone(name) => write!(
                f,
                "{name:?} is no time zone here: write one such as Europe/Berlin or UTC, and \
                 install tzdata if there is none"
            ),
        }
    }
}

impl std::error::Error for InvalidHours {}

impl FromStr for Hours {
    type Err = InvalidHours;

    fn from_str(text: &str) -> Result<Self, InvalidHours> {
        let syntax = || InvalidHours::Syntax(text.to_owned());
        let parts: Vec<_> = text.split(' ').collect();
        let (days, times, zone) = match parts.as_slice() {
            [days, times] => (days, times, "UTC"),
            [days, times, zone] => (days, times, *zone),
            _ => return Err(syntax()),
        };
        let days = read_days(days).ok_or_else(syntax)?;
        let (from, to) = read_times(times).ok_or_else(syntax)?;
        Ok(Self { days, from, to, zone: Zone::named(zone)? })
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |at: u8| DAYS.get(usize::from(at)).copied().unwrap_or_default();
        match self.days {
            (0, 6) => f.write_str("daily")?,
            (first, last) if first == last => f.write_str(day(first))?,
            (first, last) => write!(f, "{}-{}", day(first), day(last))?,
        }
        let [from, to] = [self.from, self.to].map(|at| format!("{:02}:{:02}", at / 60, at % 60));
        write!(f, " {from}-{to} {}", self.zone.name)
    }
}

impl Zone {
    fn named(name: &str) -> Result<Self, InvalidHours> {
        let invalid = || InvalidHours::Zone(name.to_owned());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+/-".contains(&byte);
        // It stands in files between quotes, and is looked up as a path.
        if !name.bytes().all(plain) || name.starts_with('/') {
            return Err(invalid());
        }
        let rules = match name {
            "UTC" => TimeZone::UTC,
            name => TimeZone::get(name).map_err(|_| invalid())?,
        };
        Ok(Self { name: name.into(), rules })
    }
}

impl Hours {
    /// When the span ends that `now` lies in, if it does. By the clocks of the
    /// place: what does not happen there, as when clocks go forward, is not in
    /// it, and what happens twice is in it twice.
    fn end_at(&self, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let local = self.zone.rules.to_datetime(now);
        let begun = [Some(local.date()), local.date().yesterday().ok()];
        let end = begun.into_iter().flatten().find_map(|day| self.span_of(day, local))?;
        let instants = self.zone.rules.to_ambiguous_timestamp(end);
        let first = instants.compatible().ok()?;
        let end = if first > now { first } else { instants.later().ok()? };
        // What comes after clocks have changed is looked at when it comes.
        let change = self.zone.rules.following(now).next().map(|change| change.timestamp());
        Some(change.map_or(end, |change| change.min(end)))
    }

    /// The end of the span that begins on this day, if `local` is in it.
    fn span_of(&self, day: Date, local: DateTime) -> Option<DateTime> {
        let next = day.tomorrow().ok()?;
        let begin = at(day, self.from)?;
        let end = match self.to {
            MINUTES_OF_A_DAY => at(next, 0)?,
            to if to <= self.from => at(next, to)?,
            to => at(day, to)?,
        };
        (self.is_on(day.weekday()) && begin <= local && local < end).then_some(end)
    }

    fn is_on(&self, day: Weekday) -> bool {
        let day = u8::try_from(day.to_monday_zero_offset()).unwrap_or(u8::MAX);
        let (first, last) = self.days;
        if first <= last { (first..=last).contains(&day) } else { day >= first || day <= last }
    }
}

/// For how long from `now` on it is within these hours without a break; `None`
/// where it is not within them now. Without any hours it always is.
#[must_use]
pub fn left(hours: &[Hours], now: Timestamp) -> Option<Duration> {
    if hours.is_empty() {
        return Some(Duration::MAX);
    }
    let begin = i64::try_from(now.as_millis()).ok()?;
    let begin = jiff::Timestamp::from_millisecond(begin).ok()?;
    let mut end = begin;
    // Each span that is gone through ends later than the one before.
    while let Some(next) = hours.iter().filter_map(|one| one.end_at(end)).max() {
        end = next;
        if since(begin, end) >= A_WEEK {
            return Some(Duration::MAX);
        }
    }
    (end > begin).then(|| since(begin, end))
}

fn since(begin: jiff::Timestamp, end: jiff::Timestamp) -> Duration {
    Duration::try_from(end.duration_since(begin)).unwrap_or_default()
}

fn at(day: Date, minutes: u16) -> Option<DateTime> {
    let [hour, minute] = [minutes / 60, minutes % 60].map(|part| i8::try_from(part).ok());
    DateTime::new(day.year(), day.month(), day.day(), hour?, minute?, 0, 0).ok()
}

fn read_days(text: &str) -> Option<(u8, u8)> {
    let day = |name: &str| {
        let at = DAYS.iter().position(|day| *day == name)?;
        u8::try_from(at).ok()
    };
    match text.split_once('-') {
        Some((first, last)) => day(first).zip(day(last)),
        None if text == "daily" => Some((0, 6)),
        None => day(text).map(|day| (day, day)),
    }
}

fn read_times(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (read_time(from)?, read_time(to)?);
    (from < MINUTES_OF_A_DAY && to > 0 && from != to).then_some((from, to))
}

/// Exactly `hh:mm`, up to 24:00.
fn read_time(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = |text: &str| text.parse::<u16>().ok().filter(|_| two(text));
    let (hour, minute) = (parsed(hour)?, parsed(minute)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= MINUTES_OF_A_DAY).then_some(minutes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::date;

    fn hours(texts: &[&str]) -> Vec<Hours> {
        texts.iter().map(|text| text.parse().unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    /// Minutes left; `None` where it is not the time.
    fn minutes(texts: &[&str], now: &str) -> Option<u64> {
        left(&hours(texts), date::parse(now).unwrap()).map(|left| left.as_secs() / 60)
    }

    #[test]
    fn reads_and_writes() {
        for (text, written) in [
            ("mon-fri 08:00-18:00", "mon-fri 08:00-18:00 UTC"),
            ("daily 00:00-24:00 Europe/Berlin", "daily 00:00-24:00 Europe/Berlin"),
            ("mon-sun 22:30-06:00", "daily 22:30-06:00 UTC"),
            ("sat 10:00-14:00 UTC", "sat 10:00-14:00 UTC"),
            ("sat-mon 10:00-14:00", "sat-mon 10:00-14:00 UTC"),
        ] {
            let read: Hours = text.parse().unwrap();
            assert_eq!(read.to_string(), written);
            assert_eq!(written.parse(), Ok(read));
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "mon",
            "08:00-18:00",
            "mon-fri",
            "mo 08:00-18:00",
            "Mon 08:00-18:00",
            "mon,tue 08:00-18:00",
            "mon-fri 8:00-18:00",
            "mon-fri 08:00-18:60",
            "mon-fri 08:00-24:01",
            "mon-fri 24:00-08:00",
            "mon-fri 08:00-00:00 UTC x",
            "mon-fri 08:00-08:00",
            "mon-fri  08:00-18:00",
            "mon-fri 08:00-+9:00",
            "mon-fri 08:00-18:00 Europe/Nowhere",
            "mon-fri 08:00-18:00 ../UTC",
            "mon-fri 08:00-18:00 /etc/localtime",
            "mon-fri 08:00-18:00 \"UTC\"",
        ] {
            assert!(text.parse::<Hours>().is_err(), "{text:?}");
        }
    }

    /// 2026-11-21 is a Saturday.
    #[test]
    fn the_week_and_its_days() {
        let office = ["mon-fri 08:00-18:00"];
        assert_eq!(minutes(&office, "2026-11-20T07:59:59Z"), None);
        assert_eq!(minutes(&office, "2026-11-20T08:00:00Z"), Some(600));
        assert_eq!(minutes(&office, "2026-11-20T17:59:00Z"), Some(1));
        assert_eq!(minutes(&office, "2026-11-20T18:00:00Z"), None);
        assert_eq!(minutes(&office, "2026-11-21T12:00:00Z"), None, "Saturday");
        assert_eq!(minutes(&["sat-mon 12:00-13:00"], "2026-11-23T12:00:00Z"), Some(60));
        assert_eq!(minutes(&["sat-mon 12:00-13:00"], "2026-11-24T12:00:00Z"), None);
        assert_eq!(left(&[], date::parse("2026-11-21T12:00:00Z").unwrap()), Some(Duration::MAX));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let friday = ["fri 22:00-06:00"];
        assert_eq!(minutes(&friday, "2026-11-20T21:59:00Z"), None);
        assert_eq!(minutes(&friday, "2026-11-20T23:00:00Z"), Some(7 * 60));
        assert_eq!(minutes(&friday, "2026-11-21T05:00:00Z"), Some(60));
        assert_eq!(minutes(&friday, "2026-11-20T05:00:00Z"), None, "that is Thursday's night");
    }

    #[test]
    fn spans_that_meet_are_one() {
        let day = ["sat 08:00-12:00", "sat 12:00-18:00", "sat 17:00-24:00", "sun 00:00-01:00"];
        assert_eq!(minutes(&day, "2026-11-21T11:00:00Z"), Some(14 * 60));
        let always = hours(&["daily 00:00-12:00", "daily 12:00-24:00"]);
        let now = date::parse("2026-11-21T11:00:00Z").unwrap();
        assert_eq!(left(&always, now), Some(Duration::MAX));
    }

    #[test]
    fn clocks_of_the_place_go_forward_and_back() {
        let berlin = ["daily 08:00-18:00 Europe/Berlin"];
        assert_eq!(minutes(&berlin, "2026-07-01T06:00:00Z"), Some(600), "summer time");
        assert_eq!(minutes(&berlin, "2026-12-01T06:00:00Z"), None, "winter");
        assert_eq!(minutes(&berlin, "2026-12-01T07:00:00Z"), Some(600));
        // 2026-03-29, 01:00 UTC: 02:00 becomes 03:00.
        let night = ["daily 01:00-06:00 Europe/Berlin"];
        assert_eq!(minutes(&night, "2026-03-29T00:00:00Z"), Some(4 * 60), "an hour less");
        assert_eq!(minutes(&["daily 02:10-02:50 Europe/Berlin"], "2026-03-29T01:10:00Z"), None);
        // 2026-10-25, 01:00 UTC: 03:00 becomes 02:00 again.
        assert_eq!(minutes(&night, "2026-10-24T23:00:00Z"), Some(6 * 60), "an hour more");
        let twice = ["daily 02:10-02:50 Europe/Berlin"];
        for now in ["2026-10-25T00:10:00Z", "2026-10-25T01:10:00Z"] {
            assert_eq!(minutes(&twice, now), Some(40), "{now}");
        }
    }

    proptest::proptest! {
        /// What is said to be left is, to its last second and not longer.
        #[test]
        fn what_is_left_is_left(
            days in (0_u8..7, 0_u8..7), from in 0_u16..1440, to in 1_u16..=1440,
            more in 0_u16..1440, millis in 1_700_000_000_000_u64..1_900_000_000_000,
            berlin: bool,
        ) {
            proptest::prop_assume!(from != to && more != to);
            let zone = Zone::named(if berlin { "Europe/Berlin" } else { "UTC" }).unwrap();
            let hours = [from, more].map(|from| Hours { days, from, to, zone: zone.clone() });
            let now = Timestamp::from_millis(millis);
            let inside = |after: Duration| left(&hours, now.plus(after)).is_some();
            match left(&hours, now) {
                None => proptest::prop_assert!(!inside(Duration::ZERO)),
                Some(Duration::MAX) => proptest::prop_assert!(inside(Duration::from_secs(600_000))),
                Some(left) => {
                    proptest::prop_assert!(inside(left / 2) && !inside(left));
                    proptest::prop_assert!(inside(left - Duration::from_millis(1)));
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", days in "[a-z-]{0,8}", rest in "[0-9:-]{0,12}") {
            let _ = (text.parse::<Hours>(), format!("{days} {rest} UTC").parse::<Hours>());
        }
    }
}
