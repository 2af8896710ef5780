//! What was found: printed at once, line by line, or together as JSON.

use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::report;

/// How it looks.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// In order.
    Ok,
    /// To be known; nothing is wrong with it as such.
    Note,
    /// Not in order.
    Bad,
}

/// One thing that was looked at.
#[derive(Serialize)]
pub(super) struct Finding {
    check: &'static str,
    verdict: Verdict,
    text: String,
    /// What to do, where something is wrong.
    advice: Option<&'static str>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, text: text.into(), advice: None }
    }

    pub(super) fn note(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Note, text: text.into(), advice: None }
    }

    pub(super) fn bad(check: &'static str, text: impl Into<String>, advice: &'static str) -> Self {
        Self { check, verdict: Verdict::Bad, text: text.into(), advice: Some(advice) }
    }

    fn lines(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Bad => "BAD",
        };
        let line = format!("{verdict:<5} {:<10} {}", self.check, self.text);
        self.advice.map_or(line.clone(), |advice| format!("{line}\n{:17}-> {advice}", ""))
    }
}

/// All of one server.
#[derive(Serialize)]
pub(super) struct Findings {
    name: String,
    findings: Vec<Finding>,
    #[serde(skip)]
    json: bool,
    #[serde(skip)]
    unheard: Option<Failure>,
}

impl Findings {
    pub(super) fn new(name: String, json: bool) -> Self {
        Self { name, findings: Vec::new(), json, unheard: None }
    }

    /// Prints it, unless all is printed together at the end.
    pub(super) fn add(&mut self, finding: Finding) {
        if !self.json && self.unheard.is_none() {
            self.unheard = report::print(&finding.lines()).err();
        }
        self.findings.push(finding);
    }

    /// How it all looks.
    pub(super) fn finish(self) -> Result<Exit, Failure> {
        if self.json {
            report::print(&serde_json::to_string(&self).map_err(Failure::keys)?)?;
        }
        let bad = self.findings.iter().any(|finding| finding.verdict == Verdict::Bad);
        match self.unheard {
            Some(failure) => Err(failure),
            None => Ok(if bad { Exit::NotOpen } else { Exit::Done }),
        }
    }
}
