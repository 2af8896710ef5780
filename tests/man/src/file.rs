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
    let (mut tables, mut name) = (Vec::new(), None);
    let (mut lines, mut words) = (Vec::new(), Vec::new());
    for line in example.lines() {
        let head = line.trim_start_matches('#').strip_prefix('[');
        if let Some(next) = head.and_then(|head| head.strip_suffix(']')) {
            tables.push((name.replace(next), std::mem::take(&mut lines)));
        }
        words.push(line);
        if !line.starts_with("# ") {
            lines.append(&mut words);
        }
    }
    tables.push((name, lines));
    tables
}
