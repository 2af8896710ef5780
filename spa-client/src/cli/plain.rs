//! `spa knock HOST` without options, read without clap: to define all that a knock can be
//! told takes a tenth of its time.

use std::ffi::OsString;

use super::{Cli, Command, KnockOptions};

/// The knock that these arguments ask for, the program's own name left out; `None`
/// where there is anything else in them, for [`Cli`] to parse or to refuse.
pub(super) fn knock(words: impl Iterator<Item = OsString>) -> Option<Cli> {
    let mut words = words.map(OsString::into_string);
    if words.next()?.ok()? != "knock" {
        return None;
    }
    let mut options = KnockOptions::default();
    let mut config_dir = None;
    while let Some(word) = words.next() {
        let word = word.ok()?;
        if word == "--config-dir" && config_dir.is_none() {
            config_dir = Some(plain(words.next()?.ok()?)?.into());
        } else {
            options.host.push(plain(word)?);
        }
    }
    let is_whole = !options.host.is_empty();
    is_whole.then(|| Cli { config_dir, command: Command::Knock(Box::new(options)) })
}

/// A word that cannot be an option.
fn plain(word: String) -> Option<String> {
    (!word.is_empty() && !word.starts_with('-')).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn plainly(words: &[&str]) -> Option<Cli> {
        knock(words.iter().map(OsString::from))
    }

    #[test]
    fn plain_knocks_are_what_clap_makes_of_them() {
        for words in [
            &["knock", "fw"][..],
            &["knock", "fw", "2001:db8::1", "fw"],
            &["knock", "--config-dir", "/x y", "fw"],
            &["knock", "fw", "--config-dir", "x"],
        ] {
            let parsed = Cli::try_parse_from(["spa"].iter().chain(words)).unwrap();
            let plain = plainly(words).unwrap();
            assert_eq!(plain.config_dir, parsed.config_dir, "{words:?}");
            let (Command::Knock(plain), Command::Knock(parsed)) = (plain.command, parsed.command)
            else {
                panic!("{words:?}");
            };
            assert_eq!(plain, parsed, "{words:?}");
        }
    }

    #[test]
    fn anything_else_is_left_to_clap() {
        for words in [
            &[][..],
            &["knock"],
            &["hosts"],
            &["--config-dir", "x", "knock", "fw"],
            &["knock", "fw", "-v"],
            &["knock", "fw", "--"],
            &["knock", "-"],
            &["knock", ""],
            &["knock", "--help"],
            &["knock", "fw", "--config-dir"],
            &["knock", "fw", "--config-dir", "--json"],
            &["knock", "fw", "--config-dir=x"],
            &["knock", "--config-dir", "x"],
            &["knock", "fw", "--config-dir", "x", "--config-dir", "y"],
        ] {
            assert!(plainly(words).is_none(), "{words:?}");
        }
    }
}
