//! The script for the linker: names of functions in their order, without what differs from one
//! build to the next.

use std::collections::HashSet;
use std::fmt;

/// Names of functions, some parts of them `*`.
#[derive(Debug, PartialEq)]
pub(super) struct Script(Vec<String>);

/// In bytes.
const LONGEST: usize = 300;

const HEAD: &str = "\
/* The functions that a knock runs in spad, in the order of their first turn, next to each
 * other: code that the caches have forgotten is found sooner on few pages. Names that a
 * program does not have change nothing. Made by `make order`; docs/performance.md says what
 * it gains. */
SECTIONS
{
  .text.knock :
  {
";
const TAIL: &str = "  }
}
INSERT BEFORE .text;
";
const LINE: &str = "    *(.text.";

impl Script {
    /// Each name once; those that spell out half of the program are left out, since any change
    /// of it makes them others.
    pub(super) fn of(names: &[String]) -> Self {
        let mut seen = HashSet::new();
        let general = names.iter().map(|name| general(name)).filter(|name| name.len() < LONGEST);
        Self(general.filter(|name| seen.insert(name.clone())).collect())
    }

    /// What [`fmt::Display`] has written.
    pub(super) fn parse(text: &str) -> Self {
        let name = |line: &str| Some(line.strip_prefix(LINE)?.strip_suffix(')')?.to_owned());
        Self(text.lines().filter_map(name).collect())
    }

    /// How many are among these names, and how many there are.
    pub(super) fn found<'a>(&self, names: impl Iterator<Item = &'a str>) -> (usize, usize) {
        let names: HashSet<_> = names.map(general).collect();
        (self.0.iter().filter(|name| names.contains(*name)).count(), self.0.len())
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        self.0.iter().try_for_each(|name| writeln!(f, "{LINE}{name})"))?;
        f.write_str(TAIL)
    }
}

/// A name without the hashes in it: that of the function at the end of older names
/// (`17h492b568adb6aaf87E`), that of each crate in newer ones (`Cs3Mk5_3std`), and the number that
/// tells two of one name apart.
fn general(name: &str) -> String {
    if let Some((path, number)) = name.rsplit_once('.')
        && number.parse::<u32>().is_ok()
    {
        return general(path) + ".*";
    }
    if let Some((path, hash)) = name.rsplit_once("17h")
        && hash.len() == 17
    {
        return format!("{path}17h*");
    }
    let mut parts = name.split("Cs");
    let mut general = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_hash = |end: usize| part[..end].bytes().all(|byte| byte.is_ascii_alphanumeric());
        match part.find('_').filter(|end| *end > 0 && is_hash(*end)) {
            Some(end) => general.extend(["Cs*", &part[end..]]),
            None => general.extend(["Cs", part]),
        }
    }
    general
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: &str = "_ZN4spad5clock4wall17h492b568adb6aaf87E";
    const NEWER: &str = "_RNvMNtNtCsjrHSEGnQ3l9_3std3sys4timeNtB2_8Timespec3now";

    #[test]
    fn names_go_without_what_differs_between_builds() {
        assert_eq!(general(OLDER), "_ZN4spad5clock4wall17h*");
        assert_eq!(general(NEWER), "_RNvMNtNtCs*_3std3sys4timeNtB2_8Timespec3now");
        assert_eq!(general("CsrHS_3std2Cs9_4core"), "Cs*_3std2Cs*_4core");
        assert_eq!(general(&format!("{NEWER}.1258")), general(NEWER) + ".*");
        for whole in ["main", "Cs_3std", "aCs", "a17h49E", "a.b"] {
            assert_eq!(general(whole), whole);
        }
    }

    #[test]
    fn a_script_is_read_as_it_was_written_and_finds_its_functions_in_another_build() {
        let names = [OLDER, NEWER, "main", OLDER].map(str::to_owned);
        let script = Script::of(&names);
        let text = script.to_string();
        assert_eq!(Script::parse(&text), script);
        assert_eq!(text.matches(LINE).count(), 3, "each once: {text}");
        let another = OLDER.replace("492b", "0000");
        assert_eq!(script.found([another.as_str(), "main", "else"].into_iter()), (2, 3));
        assert_eq!(Script::parse("SECTIONS").found(["main"].into_iter()), (0, 0));
    }
}
