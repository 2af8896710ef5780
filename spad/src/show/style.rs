//! How text is laid out where it is printed.

use std::env;
use std::io::{IsTerminal, stdout};

/// Width where nobody says another.
const WIDTH: usize = 80;
/// Narrower than this nothing is made to fit.
const NARROWEST: usize = 40;

/// What the place can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// Whether a person looks at it: bars, and lines that fit.
    pub terminal: bool,
    /// Whether it shows colours.
    pub colour: bool,
    /// Whether it shows more than ASCII.
    pub utf8: bool,
}

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Notice,
    /// Not as it should be.
    Bad,
    /// Of less weight.
    Faint,
}

impl Style {
    /// For programs, pipes and files.
    pub const PLAIN: Self = Self { width: WIDTH, terminal: false, colour: false, utf8: false };

    /// What standard output can show.
    #[must_use]
    pub fn of_stdout() -> Self {
        if !stdout().is_terminal() {
            return Self::PLAIN;
        }
        let told = rustix::termios::tcgetwinsize(stdout()).ok().map(|size| size.ws_col.into());
        let width = told.filter(|width| *width > 0).unwrap_or(WIDTH).max(NARROWEST);
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let dumb = text("TERM").is_none_or(|term| term == "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(text).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        Self {
            width,
            terminal: true,
            colour: !dumb && text("NO_COLOR").is_none(),
            utf8: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    /// In the colour of its meaning.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.colour => return text.to_owned(),
            Tone::Good => "32",
            Tone::Notice => "33",
            Tone::Bad => "1;31",
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// What is left of a whole, in so many columns.
    #[must_use]
    pub fn bar(&self, left: u64, whole: u64, columns: usize) -> String {
        let (full, empty) = if self.utf8 { ("█", "░") } else { ("#", ".") };
        let all = u64::try_from(columns).unwrap_or(0);
        let filled = (left.min(whole) * all).div_ceil(whole.max(1)).min(all);
        let filled = usize::try_from(filled).unwrap_or(0);
        full.repeat(filled) + &empty.repeat(columns - filled)
    }

    /// No wider than this; where something is cut, one can see it.
    #[must_use]
    pub fn cut(&self, text: &str, width: usize) -> String {
        if !self.terminal || text.chars().count() <= width {
            return text.to_owned();
        }
        let mark = if self.utf8 { "…" } else { "~" };
        text.chars().take(width.saturating_sub(1)).chain(mark.chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_empty_or_between() {
        let ascii = Style::PLAIN;
        for (left, whole, expected) in [
            (30, 30, "##########"),
            (15, 30, "#####....."),
            (1, 30_000, "#........."),
            (0, 30, ".........."),
            (40, 30, "##########"),
            (0, 0, ".........."),
        ] {
            assert_eq!(ascii.bar(left, whole, 10), expected);
        }
        assert_eq!(Style { utf8: true, ..ascii }.bar(1, 2, 4), "██░░");
    }

    #[test]
    fn colour_and_cutting_are_for_terminals() {
        let terminal = Style { terminal: true, colour: true, ..Style::PLAIN };
        assert_eq!(Style::PLAIN.paint(Tone::Bad, "x"), "x");
        assert_eq!(terminal.paint(Tone::Bad, "x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Style::PLAIN.cut("abcdef", 3), "abcdef");
        assert_eq!(
            (terminal.cut("abcdef", 4), terminal.cut("abc", 3)),
            ("abc~".into(), "abc".into())
        );
    }
}
