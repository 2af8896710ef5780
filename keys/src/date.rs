//! Dates: the clock, and times as text (RFC 3339).

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use spa_proto::Timestamp;

/// Text that is no date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDate {
    text: String,
    expected: &'static str,
}

impl fmt::Display for InvalidDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a date from 1970 on: write {}", self.text, self.expected)
    }
}

impl std::error::Error for InvalidDate {}

/// The system's wall clock; 1970 where it is before that.
#[must_use]
pub fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp::ZERO.plus(since_1970.unwrap_or(Duration::ZERO))
}

/// Without fractions of a second, for dates that people read.
#[must_use]
pub fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis() / 1000 * 1000)
}

/// RFC 3339 in UTC: `2026-11-21T02:11:00Z`. Times after the year 9999, which
/// [`parse`] does not read either, come out as its end.
#[must_use]
pub fn format(time: Timestamp) -> String {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// Reads RFC 3339, with any offset.
///
/// # Errors
/// [`InvalidDate`] for anything else, and for times before 1970.
pub fn parse(text: &str) -> Result<Timestamp, InvalidDate> {
    let instant = text.parse().ok().and_then(from_jiff);
    instant.ok_or_else(|| InvalidDate { text: text.to_owned(), expected: "2026-12-31T18:00:00Z" })
}

/// Reads what `--expires` takes: RFC 3339, or a day, which stands for its last
/// second in the system's time zone.
///
/// # Errors
/// [`InvalidDate`] for anything else, and for times before 1970.
pub fn parse_end(text: &str) -> Result<Timestamp, InvalidDate> {
    let expected = "2026-12-31 or 2026-12-31T18:00:00Z";
    end_of_day(text, TimeZone::system())
        .or_else(|| parse(text).ok())
        .ok_or_else(|| InvalidDate { text: text.to_owned(), expected })
}

/// Reads what `--since` takes: RFC 3339, or a day, which stands for its first second
/// in the system's time zone.
///
/// # Errors
/// [`InvalidDate`] for anything else, and for times before 1970.
pub fn parse_begin(text: &str) -> Result<Timestamp, InvalidDate> {
    let expected = "2026-12-31 or 2026-12-31T18:00:00Z";
    let begin = || from_jiff(day(text)?.to_zoned(TimeZone::system()).ok()?.timestamp());
    begin()
        .or_else(|| parse(text).ok())
        .ok_or_else(|| InvalidDate { text: text.to_owned(), expected })
}

/// As people read it where they are: `2026-12-31 18:00:00`.
#[must_use]
pub fn local(time: Timestamp) -> String {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let instant = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    let whole = instant.as_second();
    let instant = jiff::Timestamp::from_second(whole).unwrap_or(jiff::Timestamp::MAX);
    instant.to_zoned(TimeZone::system()).datetime().to_string().replace('T', " ")
}

/// The length tells a day from a local time, which would be read as its day.
fn end_of_day(text: &str, zone: TimeZone) -> Option<Timestamp> {
    from_jiff(day(text)?.at(23, 59, 59, 0).to_zoned(zone).ok()?.timestamp())
}

fn day(text: &str) -> Option<Date> {
    text.parse().ok().filter(|_| text.len() == "2026-12-31".len())
}

fn from_jiff(instant: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(instant.as_millisecond()).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        let time = parse("2026-11-21T03:11:00+01:00").unwrap();
        assert_eq!(format(time), "2026-11-21T02:11:00Z");
        assert_eq!(parse(&format(time)), Ok(time));
        assert_eq!(format(Timestamp::from_millis(1_500)), "1970-01-01T00:00:01.5Z");
        assert!(format(Timestamp::from_millis(u64::MAX)).starts_with("9999-"));
    }

    #[test]
    fn a_day_lasts_until_its_end_where_we_are() {
        let zone = TimeZone::fixed(jiff::tz::offset(-5));
        let end = end_of_day("2026-12-31", zone).unwrap();
        assert_eq!(format(end), "2027-01-01T04:59:59Z");
    }

    #[test]
    fn a_day_begins_before_it_ends() {
        let (begin, end) = (parse_begin("2026-12-31").unwrap(), parse_end("2026-12-31").unwrap());
        assert_eq!(end.since(begin), Duration::from_secs(86_399));
        assert_eq!(local(begin), "2026-12-31 00:00:00");
        assert_eq!(parse_begin("2026-12-31T18:00:00Z"), parse("2026-12-31T18:00:00Z"));
        assert!(parse_begin("yesterday").is_err());
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "tomorrow",
            "2026-02-30",
            "2026-13-01",
            "31.12.2026",
            "2026-12-31T18:00:00",
            "1969-12-31T23:59:59Z",
            "1969-12-30",
        ] {
            assert!(parse_end(text).is_err(), "{text:?}");
        }
    }
}
