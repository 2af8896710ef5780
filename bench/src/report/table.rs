//! Tables: as text for whoever measures, as Markdown for the page.

use std::fmt::Write;

use crate::results::Row;

/// A number with three figures that count.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value.fract() == 0.0 {
        let digits = format!("{value:.0}");
        return grouped(&digits);
    }
    if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// With a space between thousands, from ten thousand on.
fn grouped(digits: &str) -> String {
    let plain = digits.trim_start_matches('-');
    if plain.len() < 5 {
        return digits.to_owned();
    }
    let mut out = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    if digits.starts_with('-') { format!("-{out}") } else { out }
}

/// What a measurement found, for the terminal.
pub(crate) fn of_rows(name: &str, rows: &[Row]) -> String {
    let mut text = format!("{name}\n");
    for row in rows {
        // Writing to a String cannot fail.
        let _ = write!(text, "  {:28}", row.name);
        for (label, p) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            if let Some(value) = row.percentile(p) {
                let _ = write!(text, " {label} {} {}", short(value), row.unit);
            }
        }
        for (name, value) in &row.numbers {
            let _ = write!(text, "  {name} {}", short(*value));
        }
        text.push('\n');
    }
    text
}

/// A table of Markdown.
pub(crate) fn markdown(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_head_and_a_row_for_each() {
        let table = markdown(&["a", "b"], vec![vec!["1".into(), "2".into()]]);
        assert_eq!(table, "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }

    #[test]
    fn numbers_are_as_long_as_they_are_worth() {
        let cases = [
            (0.0, "0"),
            (0.123_45, "0.123"),
            (1.0, "1"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.0, "1234"),
            (12_345.0, "12 345"),
            (1_234_567.0, "1 234 567"),
            (-12_345.0, "-12 345"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }
}
