//! The page of a file that is explained by an example.

use roff::{Roff, bold, roman};

/// What a page says beside the example.
pub struct File<'a> {
    /// `spad.toml`
    pub name: &'a str,
    /// In a few words.
    pub about: &'a str,
    /// A sentence or two.
    pub description: &'a str,
    /// Pages, as `spad(1)`.
    pub see_also: &'a [&'a str],
    /// A whole file, with all that may stand in it. Its tables begin with `[`, or with `#[` where
    /// they are not in force.
    pub example: &'a str,
}

impl File<'_> {
    /// Of section 5.
    pub(super) fn file_name(&self) -> String {
        format!("{}.5", self.name)
    }

    /// The page: what the example says, a heading for each table.
    pub(super) fn page(&self) -> String {
        let mut page = Roff::new();
        page.control("TH", [self.name, "5", "", self.name, ""]);
        page.control("SH", ["NAME"]);
        page.text([roman(format!("{} - {}", self.name, self.about))]);
        page.control("SH", ["DESCRIPTION"]).text([roman(self.description)]);
        for (table, lines) in tables(self.example) {
            page.control("SH", [table.unwrap_or("AT THE TOP")]).control("nf", []);
            for line in lines {
                let is_words = line.starts_with("# ") || line.is_empty();
                page.text([if is_words { roman(line) } else { bold(line) }]);
            }
            page.control("fi", []);
        }
        page.control("SH", ["SEE ALSO"]).text([roman(self.see_also.join(", "))]);
        page.to_roff()
    }
}

/// The lines of each table, with the words before its head, and its name.
fn tables(example: &str) -> Vec<(Option<&str>, Vec<&str>)> {
    let mut tables: Vec<(Option<&str>, Vec<&str>)> = vec![(None, Vec::new())];
    let mut words = Vec::new();
    for line in example.lines() {
        let head =
            line.trim_start_matches('#').strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        match (head, tables.last_mut()) {
            (Some(name), _) => tables.push((Some(name), std::mem::take(&mut words))),
            (None, Some(_)) if line.starts_with("# ") => words.push(line),
            (None, Some((_, lines))) => {
                lines.append(&mut words);
                lines.push(line);
            }
            (None, None) => {}
        }
        if let (Some(_), Some((_, lines))) = (head, tables.last_mut()) {
            lines.push(line);
        }
    }
    tables
}
