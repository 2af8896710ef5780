//! How the story is told: 80 columns, colour on a terminal only.

use std::env;
use std::io::{IsTerminal, stdout};
use std::time::Instant;

/// Columns of a line.
const WIDTH: usize = 80;
const INDENT: &str = "     ";

/// Prints the steps and counts those that failed.
pub(crate) struct Narrator {
    colour: bool,
    start: Instant,
    steps: usize,
    failed: usize,
}

/// What a part of a line is, and so how it is coloured.
#[derive(Clone, Copy)]
enum Style {
    Title,
    Command,
    Good,
    Bad,
    Quiet,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Title => "1",
            Self::Command => "36",
            Self::Good => "32",
            Self::Bad => "1;31",
            Self::Quiet => "2",
        }
    }
}

impl Narrator {
    pub(crate) fn new() -> Self {
        let colour = stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
        Self { colour, start: Instant::now(), steps: 0, failed: 0 }
    }

    /// A paragraph that is no step.
    pub(crate) fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, title: &str) {
        self.steps += 1;
        println!("\n{:>3}  {}", self.steps, self.paint(title, Style::Title));
    }

    /// A command, with the host it was given on.
    pub(crate) fn did(&self, host: &str, command: &str) {
        let prompt = format!("{host}$ ");
        let room = WIDTH - INDENT.len() - prompt.len();
        let command = self.paint(&cut(command, room), Style::Command);
        println!("{INDENT}{}{command}", self.paint(&prompt, Style::Quiet));
    }

    /// What a command printed, or what was found on the wire.
    pub(crate) fn saw(&self, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            println!("{INDENT}  {}", cut(line.trim_end(), WIDTH - INDENT.len() - 2));
        }
    }

    /// Whether it came out as it should.
    pub(crate) fn check(&mut self, holds: bool, expected: &str) {
        let (word, style) = if holds { ("ok    ", Style::Good) } else { ("FAILED", Style::Bad) };
        println!("{INDENT}{} {expected}", self.paint(word, style));
        self.failed += usize::from(!holds);
    }

    /// Ends the story early.
    pub(crate) fn broke_off(&mut self, error: &str) {
        self.failed += 1;
        println!(
            "\n{}",
            self.paint("FAILED: the story could not be played to its end", Style::Bad)
        );
        println!("{error}");
    }

    /// The last line, and whether all is well.
    pub(crate) fn verdict(&self) -> bool {
        let seconds = self.start.elapsed().as_secs();
        let (text, style) = if self.failed == 0 {
            let text = format!("All {} steps came out as they should ({seconds} s).", self.steps);
            (text, Style::Good)
        } else {
            (format!("FAILED: {} of the things expected did not happen.", self.failed), Style::Bad)
        };
        println!("\n{}", self.paint(&text, style));
        self.failed == 0
    }

    fn paint(&self, text: &str, style: Style) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_owned() }
    }
}

/// At most so many characters; what is left out is marked.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width - 1).collect();
    kept + "…"
}
