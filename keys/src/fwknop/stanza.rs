//! Lines and stanzas.

use super::Note;

/// One line of a stanza.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(super) line: usize,
    pub(super) variable: String,
    /// Empty for keys.
    pub(super) value: String,
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
    let variable = variable.trim_end_matches([';', ':']).to_owned();
    let secret = KEYS.contains(&variable.as_str());
    let value = if secret { "" } else { value.split(';').next().unwrap_or_default().trim() };
    Some(Setting { line, variable, value: value.to_owned() })
}
