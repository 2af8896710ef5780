//! TOML files that hold secrets: parsed strictly, complained about by file and
//! line, never quoted.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A file whose text is not what it should be.
#[derive(Debug)]
pub struct Malformed {
    path: PathBuf,
    line: Option<usize>,
    message: String,
}

impl Malformed {
    /// Of the file as a whole.
    #[must_use]
    pub fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, message: without_secrets(&message.into()) }
    }

    /// Which file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which line of it, from 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Malformed {}

/// Reads `text`, the contents of `path`, into `T`.
///
/// # Errors
/// [`Malformed`] with the line, where there is one. Unlike the parser's own
/// error it does not show that line.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Malformed> {
    toml::from_str(text).map_err(|error| {
        let message = without_secrets(error.message());
        // What is missing is on no line, though the parser names the first.
        let span = error.span().filter(|_| !message.starts_with("missing field"));
        let line = span.map(|span| line_at(text, span.start));
        Malformed { path: path.to_owned(), line, message }
    })
}

/// So many letters of base64 in a row are not shown: a secret under another name than its own, or
/// in place of a name, is what the parser quotes. Longer than any word, shorter than any secret.
const SECRET: usize = 16;

/// The message with `…` for whatever may be a secret.
fn without_secrets(message: &str) -> String {
    let is_other = |letter: char| !(letter.is_ascii_alphanumeric() || "+/=".contains(letter));
    let hidden = |run: &str| {
        let word = run.trim_end_matches(is_other);
        if word.len() < SECRET { run.to_owned() } else { format!("…{}", &run[word.len()..]) }
    };
    message.split_inclusive(is_other).map(hidden).collect()
}

/// Number of the line that the byte at `offset` is in, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[expect(dead_code, reason = "only read")]
        key: String,
    }

    fn complain(text: &str) -> String {
        parse::<Example>(Path::new("/x.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn names_file_and_line_and_no_more() {
        assert!(complain("\n\nkeey = 'hush'\n").starts_with("/x.toml:3: unknown field `keey`"));
        assert!(complain("key = 'hush\n").starts_with("/x.toml:1: "));
        assert!(complain("\nkey = 5\n").starts_with("/x.toml:2: "));
        assert!(complain("key = 'a'\nkey = 'b'\n").starts_with("/x.toml:2: "));
        assert_eq!(complain(""), "/x.toml: missing field `key`");
        for text in
            ["key = 'hush", "key = hush", "keey = 'hush'", "key == 'hush'", "key = 'hush' x"]
        {
            assert!(!complain(text).contains("hush"), "{text:?}: {}", complain(text));
        }
    }

    #[test]
    fn does_not_quote_what_may_be_a_secret_in_the_wrong_place() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Port {
            #[expect(dead_code, reason = "only read")]
            port: u16,
        }
        let secret = "uRzzugWuf0Qvavitj5+yGw==";
        for text in [
            format!("port = '{secret}'"),
            format!("port = 'a \" {secret}'"),
            format!("'{secret}' = 1"),
            format!("port = 1\n{}='a'", secret.replace(['+', '='], "x")),
        ] {
            let said = parse::<Port>(Path::new("/x.toml"), &text).unwrap_err().to_string();
            assert!(!said.contains(&secret[..8]) && said.contains('…'), "{text}: {said}");
        }
        let said = parse::<Port>(Path::new("/x.toml"), "port = 'ssh'").unwrap_err().to_string();
        assert!(said.contains("string \"ssh\", expected u16"), "{said}");
        let long = "port = 'mon-fri 8:00-18:00 Europe/Berlin'";
        let said = parse::<Port>(Path::new("/x.toml"), long).unwrap_err().to_string();
        assert!(said.contains("mon-fri 8:00-18:00 Europe/Berlin"), "{said}");
        let said = parse::<Port>(Path::new("/x.toml"), "prt = 1").unwrap_err().to_string();
        assert!(said.contains("unknown field `prt`, expected `port`"), "{said}");
    }
}
