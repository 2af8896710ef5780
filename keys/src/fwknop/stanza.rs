//! Lines and stanzas.

use super::Note;
use super::take_over::TAKEN;

/// One line of a stanza.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(super) line: usize,
    pub(super) variable: String,
    /// Empty for keys.
    pub(super) value: String,
    /// Not a variable, white space and a value: fwknopd does not start with it.
    pub(super) broken: bool,
}

/// One `SOURCE`, and what follows it.
#[derive(Clone, Debug)]
pub(crate) struct Stanza {
    pub(super) source: Setting,
    pub(super) settings: Vec<Setting>,
}

/// Values of these are secrets, and are not kept.
const KEYS: [&str; 5] = ["KEY", "KEY_BASE64", "HMAC_KEY", "HMAC_KEY_BASE64", "GPG_DECRYPT_PW"];

impl Stanza {
    /// What was said last of a variable.
    pub(super) fn get(&self, variable: &str) -> Option<&Setting> {
        self.settings.iter().rfind(|setting| setting.variable == variable)
    }
}

/// The stanzas of a file, and what is to be said of the lines outside of them.
pub(crate) fn parse(text: &str) -> (Vec<Stanza>, Vec<Note>) {
    let (mut stanzas, mut notes): (Vec<Stanza>, Vec<Note>) = (Vec::new(), Vec::new());
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    for setting in lines.filter_map(|(line, text)| setting(line, text)) {
        let Setting { line, variable, .. } = &setting;
        match variable.as_str() {
            "SOURCE" => stanzas.push(Stanza { source: setting, settings: Vec::new() }),
            include if include.starts_with('%') => {
                let what = "not read: run import-fwknop on what it names as well";
                notes.push(Note::new(*line, include, what));
            }
            _ => match stanzas.last_mut() {
                Some(stanza) => stanza.settings.push(setting),
                None => notes.push(Note::new(*line, variable, "before the first SOURCE: left out")),
            },
        }
    }
    (stanzas, notes)
}

/// A variable and its value, which a semicolon ends; nothing for a remark.
fn setting(line: usize, text: &str) -> Option<Setting> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let (variable, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let value = value.split(';').next().unwrap_or_default().trim();
    let variable = variable.strip_suffix(':').unwrap_or(variable);
    let name = name_in(variable);
    let broken = name != variable || value.is_empty();
    // What is no variable may be part of a key.
    let shown = if broken && !is_known(name) { UNKNOWN } else { name };
    let secret = broken || KEYS.contains(&name);
    let value = if secret { "" } else { value };
    Some(Setting { line, variable: shown.to_owned(), value: value.to_owned(), broken })
}

/// In place of what may be no variable.
const UNKNOWN: &str = "?";

/// What a line begins with, up to where no variable goes on.
fn name_in(text: &str) -> &str {
    let include = text.starts_with('%');
    let goes_on = |c: char| {
        c.is_ascii_uppercase()
            || c.is_ascii_digit()
            || "_%".contains(c)
            || (include && c.is_ascii_lowercase())
    };
    text.split(|c| !goes_on(c)).next().unwrap_or_default()
}

fn is_known(name: &str) -> bool {
    name == "SOURCE" || KEYS.contains(&name) || TAKEN.contains(&name)
}
