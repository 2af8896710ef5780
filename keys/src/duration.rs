//! Durations as people write them: `30s`, `5m`, `2h`, `1d`.

use std::fmt;
use std::time::Duration;

/// Units with their lengths in seconds, the longest first.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDuration(String);

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a duration: write 30s, 5m, 2h or 1d", self.0)
    }
}

impl std::error::Error for InvalidDuration {}

/// Reads a whole number with its unit: `s`, `m`, `h` or `d`.
///
/// # Errors
/// [`InvalidDuration`] for anything else.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    seconds(text).map(Duration::from_secs).ok_or_else(|| InvalidDuration(text.to_owned()))
}

fn seconds(text: &str) -> Option<u64> {
    let (unit, length) = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit))?;
    let number = text.strip_suffix(unit)?;
    // `u64::from_str` takes a plus sign as well.
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(length)
}

/// Writes a duration so that [`parse`] reads it, in the longest unit that fits;
/// parts of a second are dropped.
#[must_use]
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let fits = |length: &u64| seconds >= *length && seconds.is_multiple_of(*length);
    let unit = UNITS.into_iter().find(|(_, length)| fits(length));
    unit.map_or("0s".to_owned(), |(unit, length)| format!("{}{unit}", seconds / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, seconds) in
            [("0s", 0), ("30s", 30), ("90s", 90), ("5m", 300), ("2h", 7_200), ("7d", 604_800)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
            assert_eq!(format(Duration::from_secs(seconds)), text);
        }
        assert_eq!(parse("120s").map(format).as_deref(), Ok("2m"));
        assert_eq!(format(Duration::from_millis(1999)), "1s");
    }

    #[test]
    fn refuses_the_rest() {
        let too_long = format!("{}d", u64::MAX / 86_400 + 1);
        for text in ["", "s", "30", "+30s", "-1s", "1.5h", "30 s", " 30s", "1h30m", "5M", &too_long]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
