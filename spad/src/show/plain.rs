//! Words of others, as a terminal may have them. Pure.

/// Without what a terminal would obey, and what is not seen or changes the order in which
/// it is read: that much is written as an escape, such as `\u{202e}`.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, symbol| {
        match symbol {
            // Can be seen, and would be escaped as in a string.
            '\'' | '"' | '\\' => plain.push(symbol),
            _ => plain.extend(symbol.escape_debug()),
        }
        plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_stays_and_the_rest_is_escaped() {
        let seen = r#"alice's "key" \ zoë 日本 → 7"#;
        assert_eq!(plain(seen), seen);
        for hidden in "\u{1b}\n\r\u{7f}\u{9b}\u{ad}\u{200b}\u{200f}\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}\u{e0041}".chars() {
            let text = plain(&format!("a{hidden}b"));
            assert!(text.starts_with("a\\") && !text.contains(hidden), "{text}");
        }
        assert_eq!(plain("a\u{202e}b"), r"a\u{202e}b");
    }
}
